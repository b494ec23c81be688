package train

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/task"
)

// interval is the part of a run between two log rows. It is state, so that the
// rows of a resumed run are those of a run never interrupted.
type interval struct {
	Steps    int     `json:"steps"`
	Good     int     `json:"good"` // steps not skipped
	Loss     float64 `json:"loss"` // sums over good steps
	GradNorm float64 `json:"grad_norm"`
	Examples int     `json:"examples"`
	Seconds  float64 `json:"seconds"`
}

const metricsHeader = "step,loss,lr,grad_norm,skipped,examples_per_s,seconds\n"

// attach opens the logs at the present step and sets the hooks, in the order in
// which they are called.
func (r *runner) attach() error {
	open := func(name, header string, stepOf func([]byte) (int, bool)) (*rows, error) {
		f, err := openRows(r.opt.FS, filepath.Join(r.opt.RunDir, name), header, r.state.Step, stepOf)
		if err == nil {
			r.closers = append(r.closers, f.close)
		}
		return f, err
	}
	metrics, err := open("metrics.csv", metricsHeader, csvStep)
	if err != nil {
		return err
	}
	header := "step," + strings.Join(r.task.Columns(), ",") + ",best\n"
	validation, err := open("validation.csv", header, csvStep)
	if err != nil {
		return err
	}
	events, err := open("log.jsonl", "", jsonStep)
	if err != nil {
		return err
	}
	tb, err := newBoard(r.opt.FS, r.opt.RunDir, r.state.Step, r.opt.Now)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, tb.close)
	show := r.progress()
	r.hooks = []Hook{r.logHook(metrics, events, tb, show), r.validateHook(validation, events, tb, show)}
	if r.cfg.Log.SamplesEvery > 0 {
		show, ok := r.task.(task.Sampler)
		if !ok {
			return fmt.Errorf("log.samples_every: found %d, expected 0: there is nothing to draw", r.cfg.Log.SamplesEvery)
		}
		if err := r.opt.FS.MkdirAll(filepath.Join(r.opt.RunDir, "samples"), 0o755); err != nil {
			return err
		}
		r.hooks = append(r.hooks, r.sampleHook(show))
	}
	r.hooks = append(r.hooks, r.opt.Hooks...)
	r.hooks = append(r.hooks, r.saveHook)
	return nil
}

// csvStep reads the step of a CSV row: its first field.
func csvStep(row []byte) (int, bool) {
	first, _, ok := bytes.Cut(row, []byte(","))
	n, err := strconv.Atoi(string(first))
	return n, ok && err == nil
}

// jsonStep reads the step of a JSON row.
func jsonStep(row []byte) (int, bool) {
	var v struct{ Step *int }
	if json.Unmarshal(row, &v) != nil || v.Step == nil {
		return 0, false
	}
	return *v.Step, true
}

// due says whether something done every n steps is to be done now; the last
// step counts always, and with n = 0 alone.
func due(ev Event, every int) bool {
	return ev.Step == ev.Steps || every > 0 && ev.Step%every == 0
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 8, 64) }

// logHook writes a row every log.every steps: means over the steps since the
// row before, the last learning rate, and the seconds of the whole run.
func (r *runner) logHook(metrics, events *rows, tb *board, show *display) Hook {
	return func(ev Event) error {
		s := &r.state.Interval
		s.Steps++
		s.Examples += ev.Examples
		s.Seconds += ev.Seconds
		if ev.Skipped == "" {
			s.Good++
			s.Loss += ev.Loss
			s.GradNorm += ev.GradNorm
		} else if err := events.event(map[string]any{"event": "skipped", "step": ev.Step, "tensor": ev.Skipped}); err != nil {
			return err
		}
		show.step(ev)
		if !due(ev, r.cfg.Log.Every) {
			return nil
		}
		row := map[string]any{"event": "train", "step": ev.Step, "loss": nil, "lr": ev.LR, "grad_norm": nil,
			"skipped": s.Steps - s.Good, "examples_per_s": nil, "seconds": r.state.Seconds}
		loss, norm, rate := "", "", ""
		if s.Good > 0 {
			l, g := s.Loss/float64(s.Good), s.GradNorm/float64(s.Good)
			row["loss"], row["grad_norm"] = l, g
			loss, norm = number(l), number(g)
			if err := tb.scalars(ev.Step, []string{"train/loss", "train/grad_norm", "train/lr"}, []float64{l, g, ev.LR}); err != nil {
				return err
			}
		}
		if s.Seconds > 0 {
			v := float64(s.Examples) / s.Seconds
			row["examples_per_s"] = v
			rate = number(v)
		}
		csv := strings.Join([]string{strconv.Itoa(ev.Step), loss, number(ev.LR), norm, strconv.Itoa(s.Steps - s.Good), rate, number(r.state.Seconds)}, ",")
		if err := metrics.write(csv); err != nil {
			return err
		}
		if err := events.event(row); err != nil {
			return err
		}
		show.linef("step %d/%d  loss %s  lr %.3g  grad %s  %s examples/s  %s", ev.Step, ev.Steps, short(loss), ev.LR, short(norm), short(rate),
			time.Duration(r.state.Seconds*float64(time.Second)).Round(time.Second))
		*s = interval{}
		return nil
	}
}

// short cuts a formatted number to four digits for people.
func short(s string) string {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return "-"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// event writes a JSON row with its keys in alphabetical order.
func (r *rows) event(v map[string]any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return r.write(string(b))
}

// validateHook measures the averaged weights every eval.every steps and keeps
// the best ones in best.safetensors.
func (r *runner) validateHook(validation, events *rows, tb *board, show *display) Hook {
	return func(ev Event) error {
		if !due(ev, r.cfg.Eval.Every) {
			return nil
		}
		// A stop request waits for the validation that is due: the row belongs to
		// this step, and a resumed run starts at the next.
		rep, err := r.task.Validate(context.Background(), r.average)
		if err != nil {
			return fmt.Errorf("validation at step %d: %w", ev.Step, err)
		}
		isBest := r.state.Best == nil || rep.Better(r.state.Best.Value)
		if isBest {
			r.state.Best = &best{Name: rep.Name, Value: rep.Value, Step: ev.Step}
			if err := r.export("best.safetensors"); err != nil {
				return err
			}
		}
		for _, row := range rep.Rows {
			if err := validation.write(fmt.Sprintf("%d,%s,%t", ev.Step, strings.Join(row.Fields, ","), isBest)); err != nil {
				return err
			}
			if err := tb.scalars(ev.Step, []string{"validation/" + row.Name}, []float64{row.Value}); err != nil {
				return err
			}
		}
		line := map[string]any{"event": "validation", "step": ev.Step, "score": task.Score(rep.Value), "best": isBest}
		maps.Copy(line, rep.Event)
		if err := events.event(line); err != nil {
			return err
		}
		show.linef("step %d/%d  validation  %s %.*f on %d %s, best %.*f at step %d", ev.Step, ev.Steps, rep.Name, rep.Digits, rep.Value,
			rep.Examples, rep.Unit, rep.Digits, r.state.Best.Value, r.state.Best.Step)
		return nil
	}
}

// sampleHook saves pictures of the first validation examples.
func (r *runner) sampleHook(show task.Sampler) Hook {
	const pictures = 4
	return func(ev Event) error {
		if !due(ev, r.cfg.Log.SamplesEvery) {
			return nil
		}
		for i := range pictures {
			img, err := show.Sample(r.average, i)
			if err != nil {
				return fmt.Errorf("sample at step %d: %w", ev.Step, err)
			}
			path := filepath.Join(r.opt.RunDir, "samples", fmt.Sprintf("step-%08d-%d.png", ev.Step, i))
			err = checkpoint.AtomicWrite(r.opt.FS, path, func(w io.Writer) error { return imageio.Encode(w, img, "png") })
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// saveHook saves every checkpoint.every steps and checkpoint.minutes minutes.
func (r *runner) saveHook(ev Event) error {
	c := r.cfg.Checkpoint
	late := c.Minutes > 0 && r.opt.Now().Sub(r.savedAt) >= time.Duration(c.Minutes*float64(time.Minute))
	if !late && (c.Every <= 0 || ev.Step%c.Every != 0) {
		return nil
	}
	return r.save()
}

// display shows progress to people: a bar on a terminal, lines elsewhere.
type display struct {
	out io.Writer
	bar *progressbar.ProgressBar
}

func (r *runner) progress() *display {
	d := &display{out: r.opt.Out}
	if r.opt.Terminal {
		d.bar = progressbar.NewOptions(r.cfg.Train.Steps, progressbar.OptionSetWriter(r.opt.Out),
			progressbar.OptionSetItsString("steps"), progressbar.OptionShowIts(), progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30), progressbar.OptionThrottle(200*time.Millisecond),
			progressbar.OptionSetDescription("training"), progressbar.OptionOnCompletion(func() { fmt.Fprintln(r.opt.Out) }))
		// What cannot be drawn is no reason to stop training.
		_ = d.bar.Set(r.state.Step)
		r.closers = append(r.closers, d.bar.Exit)
	}
	return d
}

func (d *display) step(ev Event) {
	if d.bar != nil {
		d.bar.Describe(fmt.Sprintf("loss %.4g", ev.Loss))
		_ = d.bar.Set(ev.Step)
	}
}

// linef writes a line, above the bar where there is one.
func (d *display) linef(format string, args ...any) {
	if d.bar != nil {
		_ = d.bar.Clear()
	}
	fmt.Fprintf(d.out, format+"\n", args...)
	if d.bar != nil {
		_ = d.bar.RenderBlank()
	}
}
