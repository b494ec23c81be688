package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/optim"
	"github.com/unrollnet/unrollnet/pkg/task"
)

// parts are the pieces of a run that come from outside the loop.
type parts struct {
	net     model.Model // what is trained
	average model.Model // same architecture; holds the averaged weights
	task    task.Task
	seen    string // unrollnet.task, as JSON: how training examples were made, or what outputs mean
}

// state is what a run remembers beside its tensors.
type state struct {
	Step     int             `json:"step"`              // steps done; also the sampler's cursor
	Bad      int             `json:"bad,omitempty"`     // bad steps in a row
	Skipped  int             `json:"skipped,omitempty"` // bad steps in all
	Seconds  float64         `json:"seconds"`           // spent in steps
	EMA      int64           `json:"ema_updates,omitempty"`
	Best     *best           `json:"best,omitempty"`
	Interval interval        `json:"interval"` // the log row being collected
	Config   json.RawMessage `json:"config"`
}

// best is the best validation so far.
type best struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Step  int     `json:"step"`
}

// runner is a run in progress.
type runner struct {
	parts
	cfg       config.Experiment
	opt       Options
	pool      *pool
	params    [][]float32 // of net
	optimizer optim.Optimizer
	schedule  optim.Schedule
	ema       *optim.EMA // nil: the average is the network itself
	tensors   []optim.Tensor
	state     state
	hooks     []Hook
	closers   []func() error

	run     *checkpoint.Run
	started time.Time
	saved   int       // step of the newest checkpoint of this process, -1 for none
	savedAt time.Time // when
}

// newRun joins parts and optimiser; it touches no file.
func newRun(cfg config.Experiment, opt Options, p parts) (*runner, error) {
	r := &runner{parts: p, cfg: cfg, opt: opt, saved: -1}
	if err := initialise(p.net.Params(), opt.Init, opt.Log); err != nil {
		return nil, err
	}
	for _, q := range p.net.Params().All() {
		r.params = append(r.params, q.Data)
		t := optim.Tensor{Name: q.Name, Len: len(q.Data), NoDecay: q.NoDecay}
		if q.Solver {
			t.Rate = cfg.Optim.SolverRate
		}
		r.tensors = append(r.tensors, t)
	}
	var err error
	if r.optimizer, err = optim.New(optim.Config(cfg.Optim), r.tensors); err != nil {
		return nil, err
	}
	if r.schedule, err = optim.NewSchedule(optim.ScheduleConfig(cfg.Schedule), cfg.Train.Steps); err != nil {
		return nil, err
	}
	if cfg.Train.EMA > 0 {
		if r.ema, err = optim.NewEMA(cfg.Train.EMA, r.tensors, r.params); err != nil {
			return nil, err
		}
		// The averaging network reads the average where it is kept.
		for i, q := range p.average.Params().All() {
			q.Data = r.ema.Values()[i]
		}
	} else {
		r.average = p.net
	}
	if r.pool, err = newPool(p.net, p.task, cfg.Train.Batch, cfg.Train.MicroBatch, workers(cfg.Train.Workers)); err != nil {
		return nil, err
	}
	if r.state.Config, err = json.Marshal(cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// initialise copies to p every tensor of from that has the same name and shape,
// and reports the others. An error says that there was none.
func initialise(p, from *nn.Params, log *slog.Logger) error {
	if from == nil {
		return nil
	}
	taken := 0
	var fresh []string
	for _, q := range p.All() {
		if t := from.Get(q.Name); t != nil && slices.Equal(t.Shape, q.Shape) {
			copy(q.Data, t.Data)
			taken++
			continue
		}
		fresh = append(fresh, q.Name)
	}
	if taken == 0 {
		return fmt.Errorf("init: found no tensor of a name and shape that the network has, expected a network like it")
	}
	log.Info("initial weights taken over", "tensors", taken, "fresh", strings.Join(fresh, " "))
	return nil
}

// inputSizes returns the elements of each input of a batch.
func (r *runner) inputSizes() (n []int) {
	for _, s := range r.pool.strides {
		n = append(n, s*r.cfg.Train.Batch)
	}
	return n
}

// fill makes the batch of a step.
func (r *runner) fill(step int, inputs [][]float32) error {
	if r.opt.Overfit {
		step = 0
	}
	return r.task.Batch(step, inputs)
}

// open takes the run directory, resumes, and attaches the hooks.
func (r *runner) open() (err error) {
	if r.opt.RunDir == "" {
		return fmt.Errorf("run directory: found none, expected a path")
	}
	r.started = r.opt.Now()
	r.savedAt = r.started
	r.run = checkpoint.NewRun(r.opt.FS, r.opt.RunDir, r.cfg.Checkpoint.Keep, func(err error) { r.opt.Log.Warn("checkpoints", "error", err) })
	if err := r.run.Lock(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if err := r.resume(); err != nil {
		return err
	}
	if err := r.describe(); err != nil {
		return err
	}
	return r.attach()
}

// close gives everything back that open took.
func (r *runner) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(append(errs, r.run.Unlock())...)
}

// resume loads the checkpoint that opt.Resume asks for.
func (r *runner) resume() error {
	var s *checkpoint.Snapshot
	var err error
	switch how := r.opt.Resume; how {
	case "none":
		steps, err := r.run.Steps()
		if err == nil && len(steps) > 0 {
			return fmt.Errorf("run directory %s: found checkpoints up to step %d, expected none; resume them (auto) or choose another directory", r.opt.RunDir, steps[len(steps)-1])
		}
		return nil
	case "", "auto":
		if s, err = r.run.Latest(); errors.Is(err, checkpoint.ErrNotFound) {
			return nil
		}
	default:
		if strings.HasPrefix(filepath.Base(filepath.Clean(how)), "step-") {
			s, err = checkpoint.Load(r.opt.FS, how)
		} else {
			s, err = checkpoint.NewRun(r.opt.FS, how, 0, func(err error) { r.opt.Log.Warn("checkpoints", "error", err) }).Latest()
		}
	}
	if err != nil {
		return err
	}
	if err := r.restore(s); err != nil {
		return fmt.Errorf("%s: %w", s.Path, err)
	}
	fmt.Fprintf(r.opt.Out, "resuming %s at step %d of %d\n", s.Path, r.state.Step, r.cfg.Train.Steps)
	return nil
}

// restore sets everything save wrote.
func (r *runner) restore(s *checkpoint.Snapshot) error {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", checkpoint.ErrDamaged, fmt.Sprintf(format, args...))
	}
	var st state
	if err := json.Unmarshal(s.State, &st); err != nil {
		return damaged("state.json: %v", err)
	}
	if st.Step != s.Step {
		return damaged("state.json: found step %d, expected %d", st.Step, s.Step)
	}
	if err := r.compareConfig(st.Config); err != nil {
		return err
	}
	if s.Optimizer == nil || r.ema != nil && s.EMA == nil {
		return damaged("found no optimiser or no averaged weights, expected both")
	}
	values, err := arrays(s.Model, r.net)
	if err != nil {
		return err
	}
	tensors, ints, err := checkpoint.ToState(s.Optimizer)
	if err != nil {
		return err
	}
	if err := r.optimizer.Restore(optim.State{Tensors: tensors, Ints: ints}); err != nil {
		return damaged("optimizer.safetensors: %v", err)
	}
	if r.ema != nil {
		avg, err := arrays(s.EMA, r.net)
		if err != nil {
			return err
		}
		es := optim.State{Tensors: map[string][]float32{}, Ints: map[string]int64{"updates": st.EMA}}
		for i, t := range r.tensors {
			es.Tensors["ema/"+t.Name] = avg[i]
		}
		if err := r.ema.Restore(es); err != nil {
			return damaged("ema.safetensors: %v", err)
		}
	}
	for i, v := range values {
		copy(r.params[i], v)
	}
	st.Config = r.state.Config
	r.state = st
	return nil
}

// arrays returns the tensors of f in the order of net's parameters.
func arrays(f *checkpoint.File, net model.Model) ([][]float32, error) {
	all := net.Params().All()
	if len(f.Tensors) != len(all) {
		return nil, fmt.Errorf("%s: found %d tensors, expected %d", f.Name, len(f.Tensors), len(all))
	}
	var v [][]float32
	for _, p := range all {
		t := f.Get(p.Name)
		if t == nil || len(t.Data) != len(p.Data) {
			return nil, fmt.Errorf("%s: tensor %s: found none of its size, expected shape %v", f.Name, p.Name, p.Shape)
		}
		v = append(v, t.Data)
	}
	return v, nil
}

// save writes a checkpoint of the present step, once.
func (r *runner) save() error {
	if r.saved == r.state.Step {
		return nil
	}
	o := r.optimizer.State()
	s := &checkpoint.Snapshot{
		Step:      r.state.Step,
		Model:     model.Save(r.net, r.seen, nil),
		Optimizer: checkpoint.FromState(o.Tensors, o.Ints),
	}
	if r.ema != nil {
		s.EMA = model.Save(r.average, r.seen, nil)
		r.state.EMA = r.ema.State().Ints["updates"]
	}
	var err error
	if s.State, err = json.MarshalIndent(r.state, "", "  "); err != nil {
		return err
	}
	if _, err := r.run.Save(s); err != nil {
		return err
	}
	r.saved, r.savedAt = r.state.Step, r.opt.Now()
	return nil
}

// export writes the averaged weights as a file that describes itself.
func (r *runner) export(name string) error {
	f := model.Save(r.average, r.seen, nil)
	return checkpoint.AtomicWrite(r.opt.FS, filepath.Join(r.opt.RunDir, name), f.Write)
}

// dryRun computes the first step twice without updating and prints what a run
// costs.
func (r *runner) dryRun() error {
	var inputs [][]float32
	for _, n := range r.inputSizes() {
		inputs = append(inputs, make([]float32, n))
	}
	if err := r.fill(0, inputs); err != nil {
		return fmt.Errorf("batch of step 0: %w", err)
	}
	var loss float64
	var seconds float64
	for range 2 { // the first run sizes the buffers
		start := r.opt.Now()
		var err error
		if loss, err = r.pool.gradient(inputs); err != nil {
			return err
		}
		seconds = r.opt.Now().Sub(start).Seconds()
	}
	norm := optim.GlobalNorm(r.pool.grads)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	w := r.opt.Out
	fmt.Fprintf(w, "model       %s, %d parameters in %d tensors\n", r.net.Config().Type, r.net.Params().Count(), len(r.params))
	for i, x := range r.task.Inputs() {
		fmt.Fprintf(w, "input       %-8s %v x %d, %d values\n", x.Name, x.Shape, r.cfg.Train.Batch, len(inputs[i]))
	}
	fmt.Fprintf(w, "replicas    %d with %d threads each, micro-batches of %d, %d graph nodes\n",
		len(r.pool.replicas), r.pool.replicas[0].env.Workers, r.pool.micro, r.pool.replicas[0].nodes)
	fmt.Fprintf(w, "memory      %.1f MiB in use, %.1f MiB of it temporary memory of operations\n", float64(mem.HeapInuse)/(1<<20), float64(r.pool.scratch())/(1<<20))
	fmt.Fprintf(w, "step        %.3f s, %.2f examples/s, %d steps in all\n", seconds, float64(r.cfg.Train.Batch)/seconds, r.cfg.Train.Steps)
	_, err := fmt.Fprintf(w, "first step  loss %.6g, gradient norm %.6g\n", loss, norm)
	return err
}
