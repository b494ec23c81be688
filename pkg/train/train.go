package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"time"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/optim"
)

// ErrStopped says that a run ended before its last step because it was asked to,
// with its state saved.
var ErrStopped = errors.New("training stopped on request, state saved")

// DivergedError says that too many steps in a row gave a loss or gradient that
// is not finite. The weights are those of the last good step.
type DivergedError struct {
	Step   int    // steps done
	Count  int    // bad steps in a row
	Tensor string // "loss", or the parameter whose gradient is not finite
}

// Error implements error.
func (e *DivergedError) Error() string {
	return fmt.Sprintf("training: step %d: %s is not finite, the %d. bad step in a row; expected fewer than train.max_bad_steps", e.Step, e.Tensor, e.Count)
}

// Options of Run: what is not part of the experiment, and the outside world.
type Options struct {
	RunDir  string        // required unless DryRun
	Resume  string        // auto (or empty): from the newest checkpoint if there is one | none | path of a run or checkpoint
	Init    *nn.Params    // weights to begin with where there is no checkpoint: tensors of the same name and shape are taken over; nil for none
	MaxTime time.Duration // stop and save after this long; 0 for no limit
	DryRun  bool          // build everything, compute one step, change and write nothing
	Overfit bool          // train on the first batch again and again

	Stop  <-chan struct{} // closed or sent to: finish the step, save, return ErrStopped; so does the end of ctx
	Hooks []Hook          // called after each step, after the hooks that log and validate and before a checkpoint

	Out      io.Writer         // progress for people; nil for silence
	Terminal bool              // Out is a terminal: draw a bar
	Log      *slog.Logger      // what was survived: damaged checkpoints, skipped steps; nil for silence
	Command  []string          // command line, for runs.jsonl
	Versions map[string]string // of the program, for runs.jsonl

	FS  checkpoint.FS    // nil: the machine's
	Now func() time.Time // nil: the machine's clock
}

func (o Options) withDefaults() Options {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = checkpoint.OS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Event is what hooks get after each step.
type Event struct {
	Step     int     // steps done, this one included
	Steps    int     // of the whole run
	Loss     float64 // mean over the batch
	LR       float64
	GradNorm float64 // Euclidean, before clipping
	Skipped  string  // the tensor that was not finite, where the step was skipped
	Examples int
	Seconds  float64 // this step took
}

// Hook is called after each step; an error ends the run.
type Hook func(Event) error

// Run trains what cfg describes and leaves the averaged weights in
// RunDir/model.safetensors. cfg must be resolved. The error is ErrStopped where
// the run was stopped with its state saved, a *DivergedError where it gave up,
// and carries checkpoint's ErrLocked, ErrNotFound and ErrDamaged.
func Run(ctx context.Context, cfg config.Experiment, opt Options) error {
	p, err := build(cfg)
	if err != nil {
		return err
	}
	return run(ctx, cfg, opt, p)
}

// run is Run on parts already built.
func run(ctx context.Context, cfg config.Experiment, opt Options, p parts) (err error) {
	opt = opt.withDefaults()
	r, err := newRun(cfg, opt, p)
	if err != nil {
		return err
	}
	if opt.DryRun {
		return r.dryRun()
	}
	if err := r.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()

	feed := newFeed(r.state.Step, cfg.Train.Steps, r.inputSizes(), r.fill)
	defer feed.close()
	for r.state.Step < cfg.Train.Steps {
		if r.stopRequested(ctx) {
			return r.stop()
		}
		b, err := feed.next()
		if err != nil {
			return fmt.Errorf("batch of step %d: %w", b.step, err)
		}
		ev, err := r.step(b.inputs)
		feed.recycle(b)
		if err != nil {
			return err
		}
		for _, h := range r.hooks {
			if err := h(ev); err != nil {
				return err
			}
		}
	}
	return r.finish()
}

// step computes the gradient of one batch and updates the parameters with it.
func (r *runner) step(batch [][]float32) (Event, error) {
	start := r.opt.Now()
	t := r.cfg.Train
	ev := Event{Steps: t.Steps, Examples: t.Batch, LR: r.schedule.LR(r.state.Step)}
	var err error
	if ev.Loss, err = r.pool.gradient(batch); err != nil {
		return ev, fmt.Errorf("step %d: %w", r.state.Step, err)
	}
	ev.GradNorm = optim.ClipGlobalNorm(r.pool.grads, t.Clip)
	r.state.Step++
	ev.Step = r.state.Step
	if ev.Skipped = r.notFinite(ev); ev.Skipped != "" {
		r.state.Skipped++
		r.state.Bad++
		r.opt.Log.Warn("step skipped", "step", ev.Step, "not finite", ev.Skipped, "in a row", r.state.Bad)
		if t.MaxBadSteps > 0 && r.state.Bad >= t.MaxBadSteps {
			return ev, &DivergedError{Step: ev.Step, Count: r.state.Bad, Tensor: ev.Skipped}
		}
	} else {
		r.state.Bad = 0
		r.optimizer.Step(r.params, r.pool.grads, ev.LR)
		if r.ema != nil {
			r.ema.Update(r.params)
		}
	}
	ev.Seconds = r.opt.Now().Sub(start).Seconds()
	r.state.Seconds += ev.Seconds
	return ev, nil
}

// notFinite names the first tensor of a step that is not finite, "" for none.
func (r *runner) notFinite(ev Event) string {
	bad := func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }
	if bad(ev.Loss) {
		return "loss"
	}
	if !bad(ev.GradNorm) {
		return ""
	}
	for i, g := range r.pool.grads {
		for _, v := range g {
			if bad(float64(v)) {
				return r.net.Params().All()[i].Name
			}
		}
	}
	return "gradient norm"
}

// stopRequested says whether the run should end now.
func (r *runner) stopRequested(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-r.opt.Stop:
		return true
	default:
	}
	return r.opt.MaxTime > 0 && r.opt.Now().Sub(r.started) >= r.opt.MaxTime
}

// stop saves everything before the end of the run.
func (r *runner) stop() error {
	if err := r.save(); err != nil {
		return err
	}
	if err := r.export("model.safetensors"); err != nil {
		return err
	}
	return fmt.Errorf("%w: step %d of %d in %s", ErrStopped, r.state.Step, r.cfg.Train.Steps, r.opt.RunDir)
}

// finish saves and exports the result of a whole run.
func (r *runner) finish() error {
	if err := r.save(); err != nil {
		return err
	}
	return r.export("model.safetensors")
}

// workers returns how many threads a run uses.
func workers(configured int) int {
	if configured > 0 {
		return configured
	}
	return runtime.GOMAXPROCS(0)
}
