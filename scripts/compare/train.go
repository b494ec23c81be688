package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// order is one training to be done.
type order struct {
	kind, id string // kind: search or train
	job      job
	seed     uint64
	lr       float64
	minutes  float64
	cal      calibration
}

// plan returns the settings of a training of n steps: the schedule ends with the
// budget, warm-up and averaging take the same share of it for every network.
func plan(n int) []string {
	warmup := min(200, max(1, n/20))
	ema := 1 - 20/float64(max(n, 40)) // the average looks back over a twentieth
	ema = min(ema, 0.999)
	return []string{
		fmt.Sprint("train.steps=", n), fmt.Sprint("schedule.warmup=", warmup),
		"train.ema=" + strconv.FormatFloat(ema, 'g', 4, 64), fmt.Sprint("eval.every=", max(1, (n+11)/12)),
	}
}

// search trains every network shortly with each candidate of the learning rate.
func (s *settings) search(ctx context.Context) error {
	orders, err := s.searchOrders()
	if err != nil {
		return err
	}
	if err := s.trainOrders(ctx, orders); err != nil {
		return err
	}
	jobs, err := s.all()
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if slices.Contains(s.searchTasks, j.comparison.name) {
			f, all, err := s.chosen(j)
			if err != nil {
				return err
			}
			s.Say("%-20s learning rate %g: %s", j.id(), f*j.lr, all)
		}
	}
	return nil
}

func (s *settings) searchOrders() ([]order, error) {
	jobs, err := s.all()
	if err != nil {
		return nil, err
	}
	var orders []order
	for _, j := range jobs {
		if !slices.Contains(s.searchTasks, j.comparison.name) {
			continue
		}
		cal, err := s.calibrated(j)
		if err != nil {
			return nil, err
		}
		for _, f := range s.factors {
			orders = append(orders, order{
				kind: "search", id: searchID(j, f), job: j, seed: s.seeds[0], lr: f * j.lr,
				minutes: s.searchShare * s.budget[j.comparison.name], cal: cal,
			})
		}
	}
	return orders, nil
}

func searchID(j job, factor float64) string { return fmt.Sprintf("%s-x%g", j.id(), factor) }

// calibrated loads what a step of j costs.
func (s *settings) calibrated(j job) (c calibration, err error) {
	ok, err := lab.Load(s.calibrationPath(j), &c)
	if err == nil && !ok {
		err = fmt.Errorf("%s: found no calibration in %s, expected one from the stage calibrate", j.id(), s.Work)
	}
	return c, err
}

// chosen returns the factor on the learning rate that the search found best for a
// network, and all it found, in words. A task that was not searched takes the
// first one's; with no search at all it is 1.
func (s *settings) chosen(j job) (factor float64, all string, err error) {
	if !slices.Contains(s.searchTasks, j.comparison.name) {
		if len(s.searchTasks) == 0 {
			return 1, "", nil
		}
		i := slices.IndexFunc(comparisons, func(c comparison) bool { return c.name == s.searchTasks[0] })
		j.comparison = comparisons[i]
	}
	best := 0.
	var words []string
	for _, f := range s.factors {
		var t training
		ok, err := lab.Load(s.trainingPath("search", searchID(j, f)), &t)
		if err != nil {
			return 0, "", err
		}
		if !ok {
			return 0, "", fmt.Errorf("%s: found no finished search with rate x%g, expected the stage search first (or -search-tasks \"\")", j.id(), f)
		}
		v := t.last()
		if len(words) == 0 || v > best {
			best, factor = v, f
		}
		words = append(words, fmt.Sprintf("%g: %.2f dB", t.LR, v))
	}
	return factor, strings.Join(words, ", "), nil
}

// last returns the validation PSNR at the end.
func (t training) last() float64 {
	if len(t.Curve) == 0 {
		return 0
	}
	return t.Curve[len(t.Curve)-1].PSNR
}

// train does the trainings proper: all seeds of a task before the next task.
func (s *settings) train(ctx context.Context) error {
	jobs, err := s.all()
	if err != nil {
		return err
	}
	var orders []order
	for _, seed := range s.seeds {
		for _, j := range jobs {
			cal, err := s.calibrated(j)
			if err != nil {
				return err
			}
			factor, _, err := s.chosen(j)
			if err != nil {
				return err
			}
			orders = append(orders, order{
				kind: "train", id: fmt.Sprintf("%s-s%d", j.id(), seed), job: j, seed: seed, lr: factor * j.lr,
				minutes: s.budget[j.comparison.name], cal: cal,
			})
		}
	}
	return s.trainOrders(ctx, orders)
}

func (s *settings) trainOrders(ctx context.Context, orders []order) error {
	program, err := s.Build(ctx)
	if err != nil {
		return err
	}
	return s.Parallel(ctx, len(orders), func(ctx context.Context, i int) error {
		return s.trainOne(ctx, program, orders[i])
	})
}

// trainOne trains, or continues, or returns at once where it is done.
func (s *settings) trainOne(ctx context.Context, program string, o order) error {
	path := s.trainingPath(o.kind, o.id)
	t := training{}
	if ok, err := lab.Load(path, &t); err != nil {
		return err
	} else if ok {
		if t.Budget != o.minutes {
			return fmt.Errorf("%s: found a training of %g CPU minutes, expected one of %g; remove it, or use another -work", path, t.Budget, o.minutes)
		}
		return nil
	}
	dir := filepath.Join(s.Work, "runs", o.kind, o.id)
	n := steps(o.minutes, o.cal.Seconds)
	// A training begun keeps its number of steps: schedules are not stretched.
	var begun struct {
		Steps   int
		LR      float64
		Minutes float64
	}
	begunPath := filepath.Join(s.Work, "runs", o.kind, o.id+".json")
	if ok, err := lab.Load(begunPath, &begun); err != nil {
		return err
	} else if ok {
		if begun.LR != o.lr || begun.Minutes != o.minutes {
			return fmt.Errorf("%s: found a training begun with learning rate %g and %g CPU minutes, expected %g and %g; remove it and its folder, or use another -work",
				begunPath, begun.LR, begun.Minutes, o.lr, o.minutes)
		}
		n = begun.Steps
	} else {
		begun.Steps, begun.LR, begun.Minutes = n, o.lr, o.minutes
		if err := lab.Save(begunPath, begun); err != nil {
			return err
		}
	}
	s.Say("begin %s %s: %d steps, learning rate %g", o.kind, o.id, n, o.lr)
	used, err := lab.Train(ctx, program, o.job.config, dir, append(plan(n),
		"name="+o.id, fmt.Sprint("seed=", o.seed), fmt.Sprintf("schedule.lr=%g", o.lr), "data.train="+s.trainDir, "train.workers=1"))
	if err != nil {
		return err
	}
	t = training{
		ID: o.id, Task: o.job.comparison.name, Model: o.job.network.name, Seed: o.seed, LR: o.lr, Steps: n, Examples: n * o.cal.Batch,
		Budget: o.minutes, Params: o.cal.Params, Weights: filepath.Join(dir, "model.safetensors"), CPU: used,
	}
	text, err := os.ReadFile(filepath.Join(dir, "validation.csv"))
	if err != nil {
		return err
	}
	if t.Protocol, _, t.Curve, err = curve(text, o.cal.Seconds/60); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	s.Say("done  %s %s: %.1f CPU minutes, validation %s %.2f dB", o.kind, o.id, t.CPU, t.Protocol, t.last())
	return lab.Save(path, t)
}

// curve reads validation.csv, of whose protocols rgb is taken, else the first; and
// of runs that changed their number of images the rows with the most. Minutes is the
// CPU time of a step.
func curve(text []byte, minutes float64) (protocol string, images int, points []point, err error) {
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		return "", 0, nil, err
	}
	if len(rows) < 2 || rows[0][0] != "step" || rows[0][1] != "images" || rows[0][2] != "protocol" || rows[0][3] != "psnr" {
		return "", 0, nil, fmt.Errorf("validation.csv: found no rows of step, images, protocol, psnr")
	}
	protocol = rows[1][2]
	for _, r := range rows[1:] {
		if r[2] == "rgb" {
			protocol = "rgb"
		}
	}
	for _, r := range rows[1:] {
		if r[2] != protocol {
			continue
		}
		step, err1 := strconv.Atoi(r[0])
		n, err2 := strconv.Atoi(r[1])
		psnr, err3 := strconv.ParseFloat(r[3], 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return "", 0, nil, fmt.Errorf("validation.csv: %w", err)
		}
		if n > images {
			images, points = n, nil
		}
		if n == images {
			points = append(points, point{step, float64(step) * minutes, psnr})
		}
	}
	return protocol, images, points, nil
}

// longRuns reads the curves of the runs given by -long.
func (s *settings) longRuns() ([]longRun, error) {
	var all []longRun
	for _, g := range s.long {
		text, err := os.ReadFile(filepath.Join(g.ref, "validation.csv"))
		if err != nil {
			return nil, fmt.Errorf("-long %s: %w", g.label, err)
		}
		l := longRun{Name: g.label}
		if l.Protocol, l.Images, l.Curve, err = curve(text, 0); err != nil {
			return nil, fmt.Errorf("-long %s: %s: %w", g.label, g.ref, err)
		}
		all = append(all, l)
	}
	return all, nil
}
