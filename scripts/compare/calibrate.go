package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/train"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// rounds of calibration: every network is measured once before any is measured
// again, since a shared machine is not equally fast all the time.
const rounds = 2

// calibrateAll measures what a training step of each experiment costs.
func (s *settings) calibrateAll(ctx context.Context) error {
	jobs, err := s.all()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	best := make([]calibration, len(jobs))
	done := make([]bool, len(jobs))
	for i, j := range jobs {
		if done[i], err = lab.Load(s.calibrationPath(j), &best[i]); err != nil {
			return err
		}
	}
	for round := range rounds {
		for i, j := range jobs {
			if done[i] {
				continue
			}
			c := lab.Command(ctx, self, "step", "-data", s.trainDir, "-seconds", fmt.Sprint(s.calibrate/rounds), j.config)
			c.Stderr = s.Stderr
			out, err := c.Output()
			if err != nil {
				return fmt.Errorf("%s: %w", j.id(), err)
			}
			var m calibration
			if err := json.Unmarshal(out, &m); err != nil {
				return fmt.Errorf("%s: %w", j.id(), err)
			}
			if round > 0 {
				m.Steps += best[i].Steps
				m.Seconds = min(m.Seconds, best[i].Seconds)
				m.Held = min(m.Held, best[i].Held)
			}
			best[i] = m
			if round == rounds-1 {
				if err := lab.Save(s.calibrationPath(j), m); err != nil {
					return err
				}
			}
		}
	}
	for i, j := range jobs {
		b := best[i]
		s.Say("%-20s %8d parameters  %.3f CPU s a step  %.1f MB for a patch  %d steps in %g min", j.id(), b.Params, b.Seconds, float64(b.Held)/1e6,
			steps(s.budget[j.comparison.name], b.Seconds), s.budget[j.comparison.name])
	}
	return nil
}

// steps returns how many steps of some CPU seconds a budget of CPU minutes holds.
func steps(minutes, seconds float64) int { return max(int(minutes*60/seconds), 20) }

// errMeasured ends a training that has been measured.
var errMeasured = errors.New("measured")

// stepMain measures the steps of one experiment and prints a calibration.
func stepMain(ctx context.Context, args []string, w io.Writer) error {
	f := flag.NewFlagSet("step", flag.ContinueOnError)
	dir := f.String("data", "", "")
	seconds := f.Float64("seconds", 10, "")
	if err := f.Parse(args); err != nil || f.NArg() != 1 {
		return fmt.Errorf("usage: compare step -data DIR -seconds S CONFIG")
	}
	c := calibration{Kernel: kernel.Active().String()}
	// Memory first, while the heap holds nothing else: one patch, drawn pictures.
	cfg, err := config.Load(f.Arg(0), append(quiet(1000), "data.train="+config.Generated, "data.cache_mb=4", "train.batch=1", "train.micro_batch=1"))
	if err != nil {
		return err
	}
	net, err := model.New(cfg.Model, 1)
	if err != nil {
		return err
	}
	c.Params = net.Params().Count()
	net = nil
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	err = steppedRun(ctx, cfg, func(n int) bool {
		if n < 3 {
			return false
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		return true
	})
	if err != nil {
		return err
	}
	c.Held = int64(after.HeapAlloc) - int64(before.HeapAlloc)

	if cfg, err = config.Load(f.Arg(0), append(quiet(1000000), "data.train="+*dir)); err != nil {
		return err
	}
	c.Batch = cfg.Train.Batch
	var start, last time.Duration
	err = steppedRun(ctx, cfg, func(n int) bool {
		now := lab.CPUTime()
		if n == 1 {
			start = now
		} else if took := (now - last).Seconds(); c.Seconds == 0 || took < c.Seconds {
			c.Seconds = took
		}
		last = now
		c.Steps = n - 1
		return n > 3 && (now-start).Seconds() > *seconds
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(c)
}

// quiet makes an experiment one that only steps.
func quiet(steps int) []string {
	return []string{fmt.Sprint("train.steps=", steps), "train.workers=1", "eval.every=0", fmt.Sprint("log.every=", steps), "checkpoint.every=0", "checkpoint.minutes=0"}
}

// steppedRun trains in a run folder of its own until enough, called after step n,
// says so.
func steppedRun(ctx context.Context, cfg config.Experiment, enough func(n int) bool) error {
	dir, err := os.MkdirTemp("", "unrollnet-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	err = train.Run(ctx, cfg, train.Options{RunDir: dir, Resume: "none", Hooks: []train.Hook{func(ev train.Event) error {
		if enough(ev.Step) {
			return errMeasured
		}
		return nil
	}}})
	if errors.Is(err, errMeasured) {
		return nil
	}
	if err == nil {
		return fmt.Errorf("training ended before it was measured")
	}
	return err
}
