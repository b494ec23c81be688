package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/train"
)

// measurement is a line of `bench --json`.
type measurement struct {
	Name    string  `json:"name"`
	Level   string  `json:"level"`
	Threads int     `json:"threads"`
	Seconds float64 `json:"seconds"` // CPU time of one step, the best of several rounds
	GFLOPs  float64 `json:"gflops"`
	OfPeak  float64 `json:"of_peak"` // gflops / peak
	Bytes   int64   `json:"bytes_per_step"`
	Allocs  int64   `json:"allocs_per_step"`
	Held    int64   `json:"held_bytes"` // heap that stays in use between steps: buffers, arenas, parameters
	Peak    float64 `json:"peak_gflops"`
	Steps   int     `json:"steps"` // measured
}

// benchmark is one thing to measure. prepare returns the step and its
// floating-point operations; each step is the same work.
type benchmark struct {
	name, what string
	run        func(ctx context.Context, budget time.Duration) (measurement, error)
}

var benchmarks = []benchmark{
	{"gemm-512", "matrix product 512x512x512", stepped(gemm(512, 512, 512))},
	{"gemm-48x432x4096", "matrix product with M=48, K=432, N=4096", stepped(gemm(48, 4096, 432))},
	{"conv3x3-48-train", "3x3 convolution 48->48 on 4x64x64: forward, input and weight gradient", stepped(conv)},
	{"uglr-forward-64", "uGLR, paper preset, one 64x64 colour patch", stepped(forward(uglrPaper))},
	{"uglr-train-64", "the same forward and backward, with the optimiser's step", trainSteps(uglrPaper)},
	{"uglr-default-forward-64", "uGLR, default preset, one 64x64 colour patch", stepped(forward(uglrDefault))},
	{"uglr-default-train-64", "the same forward and backward, with the optimiser's step", trainSteps(uglrDefault)},
	{"ugtv-forward-64", "uGTV, paper preset, one 64x64 colour patch", stepped(forward(ugtvPaper))},
	{"ugtv-train-64", "the same forward and backward, with the optimiser's step", trainSteps(ugtvPaper)},
	{"ugtv-default-forward-64", "uGTV, default preset, one 64x64 colour patch", stepped(forward(ugtvDefault))},
	{"ugtv-default-train-64", "the same forward and backward, with the optimiser's step", trainSteps(ugtvDefault)},
}

var (
	uglrPaper   = model.Config{Type: "uglr", Preset: "paper"}
	uglrDefault = model.Config{Type: "uglr", Preset: "default"}
	ugtvPaper   = model.Config{Type: "ugtv", Preset: "paper"}
	ugtvDefault = model.Config{Type: "ugtv", Preset: "default"}
)

func newBench(a *app) *cobra.Command {
	var (
		asJSON bool
		levels string
		budget time.Duration
	)
	c := &cobra.Command{
		Use:   "bench [NAME...]",
		Short: "Measure kernels and networks on this machine",
		Long: `Measure kernels and networks on this machine with one thread. Seconds are processor
time (getrusage), the best of several rounds; gflops counts a multiply-add as two
operations, for networks those of convolutions, metrics and solver (of uGTV with
its edges), backward passes as twice the forward ones; of_peak is the share of the peak that a loop of
multiply-adds on registers reaches at the same level. bytes and allocations are
those of one step after warm-up.

` + benchList(),
		ValidArgs: benchNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				if err := word("NAME", name, benchNames()); err != nil {
					return usagef("bench: %s", strings.TrimPrefix(err.Error(), "--NAME: "))
				}
			}
			use, err := benchLevels(levels)
			if err != nil {
				return err
			}
			return runBench(cmd.Context(), a.out, use, args, budget, asJSON)
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print one JSON object per line")
	f.StringVar(&levels, "levels", "", "kernel levels: all, or some of generic,avx2,avx512 (default: the one in use)")
	f.DurationVar(&budget, "time", 2*time.Second, "processor time for each measurement")
	complete(c, "levels", func() []string { return append([]string{"all"}, levelNames()...) })
	return c
}

func benchNames() []string {
	var names []string
	for _, b := range benchmarks {
		names = append(names, b.name)
	}
	return names
}

func benchList() string {
	var b strings.Builder
	for _, x := range benchmarks {
		fmt.Fprintf(&b, "  %-24s %s\n", x.name, x.what)
	}
	return b.String()
}

func levelNames() []string {
	var names []string
	for _, l := range kernel.Available() {
		names = append(names, l.String())
	}
	return names
}

// benchLevels parses --levels.
func benchLevels(s string) ([]kernel.Level, error) {
	if s == "" {
		return []kernel.Level{kernel.Active()}, nil
	}
	if s == "all" {
		return kernel.Available(), nil
	}
	var out []kernel.Level
	for name := range strings.SplitSeq(s, ",") {
		if err := word("levels", name, append(levelNames(), "all")); err != nil {
			return nil, err
		}
		for _, l := range kernel.Available() {
			if l.String() == name {
				out = append(out, l)
			}
		}
	}
	return out, nil
}

func runBench(ctx context.Context, w io.Writer, levels []kernel.Level, names []string, budget time.Duration, asJSON bool) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, level := range levels {
		restore := kernel.Force(level)
		peak := kernel.Peak(level) / 1e9
		if !asJSON {
			fmt.Fprintf(w, "%s kernels, one thread: peak %.1f GFLOP/s\n", level, peak)
			fmt.Fprintln(tw, "name\tms\tGFLOP/s\tof peak\tbytes/step\tallocs/step\tMB held\t")
		}
		for _, b := range benchmarks {
			if len(names) > 0 && !slices.Contains(names, b.name) {
				continue
			}
			m, err := b.run(ctx, budget)
			if err != nil {
				restore()
				return fmt.Errorf("%s: %w", b.name, err)
			}
			// The machine may have been slower while the peak was taken.
			peak = max(peak, kernel.Peak(level)/1e9)
			m.Name, m.Level, m.Threads, m.Peak = b.name, level.String(), 1, peak
			m.OfPeak = m.GFLOPs / peak
			if asJSON {
				if err := json.NewEncoder(w).Encode(m); err != nil {
					restore()
					return err
				}
				continue
			}
			fmt.Fprintf(tw, "%s\t%.3f\t%.1f\t%.0f %%\t%d\t%d\t%.1f\t\n",
				m.Name, 1e3*m.Seconds, m.GFLOPs, 100*m.OfPeak, m.Bytes, m.Allocs, float64(m.Held)/1e6)
		}
		restore()
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// meter turns a series of equal steps into a measurement: the best processor
// time per step over rounds, and the heap traffic per step.
type meter struct {
	flops  float64
	budget time.Duration

	base    runtime.MemStats // before the first step
	started bool
	start   time.Duration // of the whole measurement
	round   time.Duration // start of the round
	length  int           // steps a round
	inRound int
	steps   int
	best    float64
	mem     runtime.MemStats // at the start of the measurement
	out     measurement
}

func newMeter(flops float64, budget time.Duration) *meter {
	m := &meter{flops: flops, budget: budget, length: 1}
	runtime.GC()
	runtime.GC() // what finalizers held back of the benchmark before
	runtime.ReadMemStats(&m.base)
	return m
}

// warm ends the warm-up: what follows is measured.
func (m *meter) warm() {
	runtime.GC()
	runtime.ReadMemStats(&m.mem)
	m.started = true
	m.start = cpuTime()
	m.round = m.start
}

// step is called after each step; it reports whether enough are measured.
func (m *meter) step() (done bool) {
	m.steps++
	m.inRound++
	if m.inRound < m.length {
		return false
	}
	now := cpuTime()
	took := now - m.round
	const shortest = 20 * time.Millisecond // of a round
	if took < shortest && m.length < 1<<20 {
		m.length *= 2
	} else if s := took.Seconds() / float64(m.inRound); m.best == 0 || s < m.best {
		m.best = s
	}
	m.inRound = 0
	m.round = cpuTime()
	return m.best > 0 && now-m.start >= m.budget
}

// finish takes the figures while what the steps use is still held.
func (m *meter) finish() measurement {
	var after, held runtime.MemStats
	runtime.ReadMemStats(&after)
	runtime.GC()
	runtime.ReadMemStats(&held)
	n := int64(m.steps)
	return measurement{
		Seconds: m.best,
		GFLOPs:  m.flops / m.best / 1e9,
		Bytes:   int64(after.TotalAlloc-m.mem.TotalAlloc) / n,
		Allocs:  int64(after.Mallocs-m.mem.Mallocs) / n,
		Held:    int64(held.HeapAlloc) - int64(m.base.HeapAlloc),
		Steps:   m.steps,
	}
}

// stepped measures a step that prepare returns with its operations.
func stepped(prepare func(context.Context) (step func() error, flops float64, err error)) func(context.Context, time.Duration) (measurement, error) {
	return func(ctx context.Context, budget time.Duration) (measurement, error) {
		m := newMeter(0, budget)
		step, flops, err := prepare(ctx)
		if err != nil {
			return measurement{}, err
		}
		m.flops = flops
		if err := step(); err != nil {
			return measurement{}, err
		}
		m.warm()
		for done := false; !done; {
			if err := ctx.Err(); err != nil {
				return measurement{}, err
			}
			if err := step(); err != nil {
				return measurement{}, err
			}
			done = m.step()
		}
		out := m.finish()
		runtime.KeepAlive(step)
		return out, nil
	}
}

// noise returns n reproducible values in [-1,1).
func noise(n int) []float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, n)
	for i := range x {
		x[i] = 2*rng.Float32() - 1
	}
	return x
}

func gemm(m, n, k int) func(context.Context) (func() error, float64, error) {
	return func(context.Context) (func() error, float64, error) {
		a, b, c := noise(m*k), noise(k*n), make([]float32, m*n)
		var s kernel.Scratch[float32]
		step := func() error {
			kernel.Gemm(&s, 1, false, false, m, n, k, a, k, b, n, c, n, kernel.Epilogue[float32]{})
			return nil
		}
		return step, 2 * float64(m) * float64(n) * float64(k), nil
	}
}

func conv(context.Context) (func() error, float64, error) {
	shape := kernel.Conv{Batch: 4, In: 48, Out: 48, H: 64, W: 64, Size: 3, Stride: 1}
	n := 4 * 48 * 64 * 64
	x, dy := noise(n), noise(n)
	weight, bias := noise(48*48*9), noise(48)
	y, dx, dw, db := make([]float32, n), make([]float32, n), make([]float32, 48*48*9), make([]float32, 48)
	var s kernel.Scratch[float32]
	step := func() error {
		kernel.ConvForward(&s, 1, shape, x, weight, bias, y, false)
		kernel.ConvInputGrad(&s, 1, shape, dy, weight, dx)
		kernel.ConvWeightGrad(&s, 1, shape, x, dy, dw, db)
		return nil
	}
	return step, 3 * 2 * float64(shape.MACs()), nil
}

// patch is the side of the patch networks are measured on.
const patch = 64

// networkFlops returns the operations of one forward pass of a network on a patch:
// convolutions, metric, distances (each pair of opposite neighbours once), the
// products with the graph's matrix and, of uGTV, the fluxes of its edges.
func networkFlops(c model.Config) float64 {
	f := c.Features
	seen := c.Channels
	if *c.MaskInput {
		seen *= 2
	}
	dims := c.Heads * c.FeatureDim
	maps := dims
	if c.Mixing == "pixel" {
		maps += c.Heads
	}
	block := f.Pack * f.Pack // pixels in one of the CNN's
	macs := 9 * f.Channels * (seen*block + (f.Layers-1)*f.Channels) / block
	if f.Pack > 1 || f.Channels != maps {
		macs += f.Channels * maps
	}
	macs += 9 * *f.Detail * (seen + dims)
	if *f.PixelGain > 0 {
		macs += c.Channels * dims
	}
	neighbours, planes := c.Window*c.Window-1, c.Channels
	macs += dims * (c.FeatureDim + neighbours/2)
	if *c.Slope {
		planes *= 3
	}
	macs += c.CGLayers * c.CGSteps * c.Heads * planes * neighbours
	flops := 2 * macs
	if c.Type == "ugtv" {
		edges := neighbours
		if c.Normalization != "random_walk" {
			edges /= 2
		}
		for l := 1; l <= c.CGLayers; l++ {
			// Flux of the l-th right-hand side: 2 for each signal, 11 for each step
			// between two, the weight, and both ends' sums.
			flops += c.Heads * planes * edges * (2*l + 11*(l-1) + 3)
		}
	}
	return float64(flops) * float64(c.Blocks) * patch * patch
}

func forward(cfg model.Config) func(context.Context) (func() error, float64, error) {
	return func(ctx context.Context) (func() error, float64, error) { return forwardStep(ctx, cfg) }
}

func forwardStep(ctx context.Context, cfg model.Config) (func() error, float64, error) {
	net, err := model.New(cfg, 1)
	if err != nil {
		return nil, 0, err
	}
	deg := data.Degradation{Task: data.Demosaic, Pattern: "rggb"}
	images, err := data.Synthetic(1, patch, 1, data.Options{})
	if err != nil {
		return nil, 0, err
	}
	img, err := images.Image(0)
	if err != nil {
		return nil, 0, err
	}
	y, mask := deg.Apply(img.RGB().Pix, 3, patch, patch, nil)
	n := infer.New("bench", net, deg)
	step := func() error {
		_, err := n.RestorePlanar(ctx, y, mask, 3, patch, patch, infer.Options{Tile: patch, Workers: 1})
		return err
	}
	return step, networkFlops(net.Config()), nil
}

// errMeasured ends a training run that has been measured.
var errMeasured = errors.New("measured")

// trainSteps measures steps of the training loop itself, on generated images in
// a run folder of its own.
func trainSteps(net model.Config) func(context.Context, time.Duration) (measurement, error) {
	return func(ctx context.Context, budget time.Duration) (measurement, error) {
		return trainStep(ctx, net, budget)
	}
}

func trainStep(ctx context.Context, net model.Config, budget time.Duration) (measurement, error) {
	cfg, err := config.Parse("bench", nil, []string{
		"name=bench", "model.type=" + net.Type, "model.preset=" + net.Preset, "data.train=" + config.Generated, fmt.Sprint("data.patch=", patch), "data.cache_mb=4",
		"train.steps=1000000", "train.batch=1", "train.micro_batch=1", "train.workers=1", "schedule.warmup=0",
		"eval.every=0", "log.every=1000000", "checkpoint.every=0", "checkpoint.minutes=0",
	})
	if err != nil {
		return measurement{}, err
	}
	dir, err := os.MkdirTemp("", "unrollnet-bench-")
	if err != nil {
		return measurement{}, err
	}
	defer os.RemoveAll(dir)
	var out measurement
	m := newMeter(3*networkFlops(cfg.Model), budget)
	opt := train.Options{RunDir: dir, Resume: "none", Hooks: []train.Hook{func(train.Event) error {
		if !m.started {
			m.warm()
			return nil
		}
		if !m.step() {
			return nil
		}
		out = m.finish()
		return errMeasured
	}}}
	if err := train.Run(ctx, cfg, opt); ctx.Err() != nil {
		return measurement{}, ctx.Err()
	} else if !errors.Is(err, errMeasured) {
		return measurement{}, err
	}
	return out, nil
}
