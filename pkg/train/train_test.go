package train

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	"github.com/unrollnet/unrollnet/pkg/task"
	G "gorgonia.org/gorgonia"
)

// twoLayers is the smallest network worth training: two convolutions on the
// interpolated image.
type twoLayers struct {
	params *nn.Params
	cfg    model.Config
}

func newTwoLayers(t testing.TB, seed uint64) *twoLayers {
	t.Helper()
	cfg, err := model.Config{Preset: "tiny"}.Resolved()
	if err != nil {
		t.Fatal(err)
	}
	n := &twoLayers{nn.NewParams(), cfg}
	rng := data.Rand(seed, 0, 0)
	n.params.Add("first.weight", nn.Uniform(rng, 0.3), 6, 3, 3, 3)
	n.params.Add("first.bias", nn.Constant(0.01), 6).NoDecay = true
	n.params.Add("second.weight", nn.Uniform(rng, 0.2), 3, 6, 3, 3)
	n.params.Add("second.bias", nn.Constant(0), 3).NoDecay = true
	return n
}

func (n *twoLayers) Config() model.Config { return n.cfg }
func (n *twoLayers) Params() *nn.Params   { return n.params }
func (n *twoLayers) Channels() int        { return 3 }
func (n *twoLayers) Blocks() int          { return 1 }
func (n *twoLayers) Reach(int) int        { return 2 }
func (n *twoLayers) Align() int           { return 1 }
func (n *twoLayers) State(int) (int, int) { return 0, 1 }
func (n *twoLayers) Block(b *nn.Builder, _ int, x, _, _, _ *G.Node) (*G.Node, *G.Node, error) {
	h, err := op.Conv(b.Env, x, b.Param("first.weight"), b.Param("first.bias"), 1, true)
	if err != nil {
		return nil, nil, err
	}
	out, err := op.Conv(b.Env, h, b.Param("second.weight"), b.Param("second.bias"), 1, false)
	return out, nil, err
}
func (n *twoLayers) Forward(b *nn.Builder, y, mask *G.Node) (*G.Node, error) {
	x, err := op.Initial(b.Env, y, mask)
	if err != nil {
		return nil, err
	}
	out, _, err := n.Block(b, 0, x, y, mask, nil)
	return out, err
}

// spoiled puts a value into the target of chosen steps.
type spoiled struct {
	task.Task
	value float32
	steps func(int) bool
}

func (s spoiled) Batch(step int, dst [][]float32) error {
	err := s.Task.Batch(step, dst)
	if s.steps(step) {
		dst[2][0] = s.value
	}
	return err
}

// experiment is a run of a few steps on generated pictures.
func experiment(steps int) config.Experiment {
	cfg := config.Default()
	cfg.Seed = 7
	var err error
	if cfg.Model, err = (model.Config{Preset: "tiny"}).Resolved(); err != nil {
		panic(err)
	}
	cfg.Data.Train = data.SyntheticName
	cfg.Data.Degradation = data.Degradation{Task: "demosaic", Pattern: "any"}
	cfg.Data.Patch = 16
	cfg.Train.Steps, cfg.Train.Batch, cfg.Train.MicroBatch, cfg.Train.Workers = steps, 8, 2, 2
	cfg.Schedule.LR, cfg.Schedule.Warmup = 5e-3, 2
	cfg.Eval.Every = 0
	cfg.Log.Every = 3
	cfg.Checkpoint.Every, cfg.Checkpoint.Minutes = 4, 0
	return cfg
}

// tinyParts is build with the network of these tests.
func tinyParts(t testing.TB, cfg config.Experiment) parts {
	t.Helper()
	net := newTwoLayers(t, cfg.Seed)
	images, err := data.Synthetic(5, 32, 3, data.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := data.NewSampler(images, data.SamplerConfig{Seed: cfg.Seed, Batch: cfg.Train.Batch, Channels: 3,
		Patch: cfg.Data.Patch, Augment: true, Degradation: cfg.Data.Degradation})
	if err != nil {
		t.Fatal(err)
	}
	return parts{net: net, average: newTwoLayers(t, cfg.Seed), seen: "{}", task: &task.Restore{
		Degradation: cfg.Data.Degradation, Channels: 3, Patch: cfg.Data.Patch, Sampler: s, LossName: "l2",
		Validation: task.Validation{Images: images, Crop: 24, Protocols: []metric.Protocol{"rgb"}, Workers: 2},
	}}
}

// digests returns the sha256 of all tensors of a run's newest checkpoint.
func digests(t testing.TB, dir string) [3]string {
	t.Helper()
	s, err := checkpoint.NewRun(checkpoint.OS, dir, 0, nil).Latest()
	if err != nil {
		t.Fatal(err)
	}
	var d [3]string
	for i, f := range []*checkpoint.File{s.Model, s.EMA, s.Optimizer} {
		if d[i], err = f.Hash(); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func mustRun(t testing.TB, cfg config.Experiment, opt Options, p parts) {
	t.Helper()
	if err := run(context.Background(), cfg, opt, p); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// withoutTimes cuts the columns of a metrics.csv that depend on the clock.
func withoutTimes(csv string) string {
	var out []string
	for _, line := range strings.Split(csv, "\n") {
		f := strings.Split(line, ",")
		out = append(out, strings.Join(f[:min(len(f), 5)], ","))
	}
	return strings.Join(out, "\n")
}

func TestSameBitsForAnyNumberOfWorkers(t *testing.T) {
	var want [3]string
	for i, n := range []int{1, 2, 3, 8} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
			cfg := experiment(5)
			cfg.Train.Workers = n
			dir := t.TempDir()
			mustRun(t, cfg, Options{RunDir: dir}, tinyParts(t, cfg))
			got := digests(t, dir)
			if i == 0 {
				want = got
			} else if got != want {
				t.Errorf("%d workers: tensors %v, expected those of one worker %v", n, got, want)
			}
		}()
	}
}

// TestSameBitsOfARealNetwork does the same for the smallest uGLR, both with
// replicas (more micro-batches than threads) and with threads inside the
// kernels (one micro-batch).
func TestSameBitsOfARealNetwork(t *testing.T) {
	for _, micro := range []int{1, 4} {
		var want [3]string
		for i, n := range []int{1, 2, 8} {
			cfg := experiment(3)
			cfg.Train.Batch, cfg.Train.MicroBatch, cfg.Train.Workers = 4, micro, n
			cfg.Data.Patch = 32
			p, err := build(cfg)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			mustRun(t, cfg, Options{RunDir: dir}, p)
			got := digests(t, dir)
			if i == 0 {
				want = got
			} else if got != want {
				t.Errorf("micro-batches of %d, %d workers: tensors %v, expected those of one worker %v", micro, n, got, want)
			}
		}
	}
}

func TestGradientIsTheOrderedMeanOfMicroBatches(t *testing.T) {
	cfg := experiment(1)
	p := tinyParts(t, cfg)
	var batch [][]float32
	for _, x := range p.task.Inputs() {
		batch = append(batch, make([]float32, 8*x.Size()))
	}
	if err := p.task.Batch(0, batch); err != nil {
		t.Fatal(err)
	}
	all, err := newPool(p.net, p.task, 8, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := all.gradient(batch)
	if err != nil {
		t.Fatal(err)
	}
	// By hand: each micro-batch alone on a replica of its own.
	var sum []float32
	var losses float64
	for j := range 4 {
		one, err := newPool(p.net, p.task, 2, 2, 1)
		if err != nil {
			t.Fatal(err)
		}
		var part [][]float32
		for i, x := range p.task.Inputs() {
			part = append(part, batch[i][2*j*x.Size():2*(j+1)*x.Size()])
		}
		l, err := one.gradient(part)
		if err != nil {
			t.Fatal(err)
		}
		losses += l
		if j == 0 {
			sum = slices.Clone(one.sum)
			continue
		}
		for i, v := range one.sum {
			sum[i] += v
		}
	}
	for i := range sum {
		if got, want := all.sum[i], sum[i]*0.25; got != want {
			t.Fatalf("gradient[%d] = %v, expected %v", i, got, want)
		}
	}
	if loss != losses/4 {
		t.Errorf("loss %v, expected %v", loss, losses/4)
	}
	// And the mean over micro-batches is the gradient of the mean over the batch.
	whole, err := newPool(p.net, p.task, 8, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole.gradient(batch); err != nil {
		t.Fatal(err)
	}
	for i, v := range whole.sum {
		if d := math.Abs(float64(v - all.sum[i])); d > 1e-5*(1+math.Abs(float64(v))) {
			t.Errorf("gradient[%d]: whole batch %v, micro-batches %v", i, v, all.sum[i])
		}
	}
}

// TestGradientAgainstDifferences checks the whole path, graph to slots, once.
func TestGradientAgainstDifferences(t *testing.T) {
	cfg := experiment(1)
	p := tinyParts(t, cfg)
	var batch [][]float32
	for _, x := range p.task.Inputs() {
		batch = append(batch, make([]float32, 8*x.Size()))
	}
	if err := p.task.Batch(0, batch); err != nil {
		t.Fatal(err)
	}
	all, err := newPool(p.net, p.task, 8, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	at := func() float64 {
		l, err := all.gradient(batch)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	at()
	for k, q := range p.net.Params().All() {
		want := float64(all.grads[k][1])
		old, eps := q.Data[1], float32(1e-2)
		q.Data[1] = old + eps
		up := at()
		q.Data[1] = old - eps
		down := at()
		q.Data[1] = old
		got := (up - down) / float64(2*eps)
		at()
		if math.Abs(got-want) > 2e-2*math.Abs(want)+2e-4 {
			t.Errorf("%s: gradient %v, difference quotient %v", q.Name, want, got)
		}
	}
}

// testResume trains N+M steps at once, stopped at N, and killed after N, and
// expects the same tensors and rows.
func testResume(t *testing.T, cfg config.Experiment, make func() parts, stopAt, killAt int) {
	t.Helper()
	whole := t.TempDir()
	mustRun(t, cfg, Options{RunDir: whole}, make())
	want := digests(t, whole)
	for _, how := range []string{"stopped", "killed"} {
		dir := t.TempDir()
		if how == "stopped" {
			stop := stopAfter(stopAt)
			err := run(context.Background(), cfg, Options{RunDir: dir, Stop: stop.ch, Hooks: []Hook{stop.hook}}, make())
			if !errors.Is(err, ErrStopped) {
				t.Fatalf("found %v, expected ErrStopped", err)
			}
			if read(t, dir, "model.safetensors") == "" {
				t.Error("a stopped run left no weights")
			}
		} else {
			// As kill -9: no save on the way out, rows beyond the checkpoint, one torn.
			boom := errors.New("killed")
			err := run(context.Background(), cfg, Options{RunDir: dir, Hooks: []Hook{func(ev Event) error {
				if ev.Step == killAt {
					return boom
				}
				return nil
			}}}, make())
			if !errors.Is(err, boom) {
				t.Fatal(err)
			}
			f, err := os.OpenFile(filepath.Join(dir, "metrics.csv"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("2,0.1"); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		mustRun(t, cfg, Options{RunDir: dir}, make())
		if got := digests(t, dir); got != want {
			t.Errorf("%s and resumed: tensors %v, expected %v", how, got, want)
		}
		if read(t, dir, "model.safetensors") != read(t, whole, "model.safetensors") {
			t.Errorf("%s and resumed: exported weights differ", how)
		}
		if got, want := withoutTimes(read(t, dir, "metrics.csv")), withoutTimes(read(t, whole, "metrics.csv")); got != want {
			t.Errorf("%s and resumed: rows\n%s\nexpected\n%s", how, got, want)
		}
		if got, want := read(t, dir, "validation.csv"), read(t, whole, "validation.csv"); got != want {
			t.Errorf("%s and resumed: validation rows\n%s\nexpected\n%s", how, got, want)
		}
	}
}

// stopper asks a run to stop after a step.
type stopper struct {
	ch chan struct{}
	at int
}

func stopAfter(at int) *stopper { return &stopper{make(chan struct{}), at} }

func (s *stopper) hook(ev Event) error {
	if ev.Step == s.at {
		close(s.ch)
	}
	return nil
}

func TestResumeIsBitExact(t *testing.T) {
	for _, workers := range []int{1, 2} {
		cfg := experiment(11)
		cfg.Train.Workers = workers
		cfg.Eval.Every = 5
		testResume(t, cfg, func() parts { return tinyParts(t, cfg) }, 7, 6)
	}
}

// TestResumeOfARealNetwork does the same for the smallest uGLR.
func TestResumeOfARealNetwork(t *testing.T) {
	for _, workers := range []int{1, 2} {
		cfg := experiment(6)
		cfg.Train.Workers, cfg.Train.Batch, cfg.Train.MicroBatch = workers, 4, 1
		cfg.Log.Every, cfg.Checkpoint.Every = 1, 2
		testResume(t, cfg, func() parts {
			p, err := build(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}, 3, 3)
	}
}

func TestStopRequests(t *testing.T) {
	cfg := experiment(50)
	clock := time.Unix(0, 0)
	tick := func() time.Time { clock = clock.Add(time.Second); return clock }
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx context.Context
		opt Options
		max int // steps it may have done
	}{
		"context":  {ctx, Options{}, 0},
		"max time": {context.Background(), Options{Now: tick, MaxTime: 10 * time.Second}, 8},
	} {
		c.opt.RunDir = t.TempDir()
		if err := run(c.ctx, cfg, c.opt, tinyParts(t, cfg)); !errors.Is(err, ErrStopped) {
			t.Errorf("%s: found %v, expected ErrStopped", name, err)
		}
		s, err := checkpoint.NewRun(checkpoint.OS, c.opt.RunDir, 0, nil).Latest()
		if err != nil {
			t.Fatal(err)
		}
		if s.Step > c.max {
			t.Errorf("%s: stopped after %d steps, expected at most %d", name, s.Step, c.max)
		}
	}
}

func TestBadStepsAreSkipped(t *testing.T) {
	cfg := experiment(9)
	cfg.Log.Every, cfg.Train.MaxBadSteps = 3, 3
	nan := float32(math.NaN())
	p := tinyParts(t, cfg)
	p.task = spoiled{p.task, nan, func(step int) bool { return step == 4 || step == 5 }}
	var before, after []float32
	dir := t.TempDir()
	mustRun(t, cfg, Options{RunDir: dir, Hooks: []Hook{func(ev Event) error {
		flat := slices.Concat(p.net.Params().All()[0].Data, p.net.Params().All()[3].Data)
		switch ev.Step {
		case 4:
			before = flat
		case 6:
			after = flat
		}
		if (ev.Skipped != "") != (ev.Step == 5 || ev.Step == 6) {
			t.Errorf("step %d: skipped %q", ev.Step, ev.Skipped)
		}
		return nil
	}}}, p)
	if !slices.Equal(before, after) {
		t.Error("a skipped step changed the weights")
	}
	if log := read(t, dir, "log.jsonl"); strings.Count(log, `"event":"skipped"`) != 2 || !strings.Contains(log, `"tensor":"loss"`) {
		t.Errorf("log without the two skipped steps:\n%s", log)
	}
	if !strings.Contains(read(t, dir, "checkpoints", "step-00000009", "state.json"), `"skipped": 2`) {
		t.Error("state does not count the skipped steps")
	}

	p = tinyParts(t, cfg)
	p.task = spoiled{p.task, nan, func(step int) bool { return step >= 4 }}
	err := run(context.Background(), cfg, Options{RunDir: t.TempDir()}, p)
	var bad *DivergedError
	if !errors.As(err, &bad) || bad.Count != 3 || bad.Step != 7 || bad.Tensor != "loss" {
		t.Errorf("found %v, expected a DivergedError at step 7", err)
	}
}

func TestBadGradientIsNamed(t *testing.T) {
	cfg := experiment(3)
	r, err := newRun(cfg, Options{}.withDefaults(), tinyParts(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	r.pool.grads[2][5] = float32(math.Inf(-1))
	if got := r.notFinite(Event{Loss: 1, GradNorm: math.Inf(1)}); got != "second.weight" {
		t.Errorf("found %q, expected second.weight", got)
	}
}

func TestRowsOfTheLog(t *testing.T) {
	cfg := experiment(8)
	cfg.Eval.Every = 4
	cfg.Log.SamplesEvery = 8
	dir := t.TempDir()
	var losses []float64
	var out bytes.Buffer
	mustRun(t, cfg, Options{RunDir: dir, Out: &out, Hooks: []Hook{func(ev Event) error {
		losses = append(losses, ev.Loss)
		return nil
	}}}, tinyParts(t, cfg))
	rows := strings.Split(strings.TrimSpace(read(t, dir, "metrics.csv")), "\n")
	if len(rows) != 4 || rows[0]+"\n" != metricsHeader {
		t.Fatalf("found rows %q, expected a header and steps 3, 6, 8", rows)
	}
	for i, want := range []struct {
		step   int
		losses []float64
	}{{3, losses[:3]}, {6, losses[3:6]}, {8, losses[6:]}} {
		var sum float64
		for _, l := range want.losses {
			sum += l
		}
		prefix := fmt.Sprintf("%d,%s,", want.step, number(sum/float64(len(want.losses))))
		if !strings.HasPrefix(rows[i+1], prefix) {
			t.Errorf("row %q, expected %q...", rows[i+1], prefix)
		}
	}
	val := strings.Split(strings.TrimSpace(read(t, dir, "validation.csv")), "\n")
	if len(val) != 3 || !strings.HasPrefix(val[1], "4,5,rgb,") || !strings.HasPrefix(val[2], "8,5,rgb,") {
		t.Errorf("found validation rows %q", val)
	}
	if n := strings.Count(read(t, dir, "log.jsonl"), "\n"); n != 5 {
		t.Errorf("found %d events, expected 3 training and 2 validation rows", n)
	}
	if n := strings.Count(out.String(), "\n"); n != 5 {
		t.Errorf("found progress %q, expected 5 lines", out.String())
	}
	if m, _ := filepath.Glob(filepath.Join(dir, "samples", "*.png")); len(m) != 4 {
		t.Errorf("found samples %v, expected four", m)
	}
	for _, name := range []string{"config.yaml", "runs.jsonl", "best.safetensors"} {
		read(t, dir, name)
	}
	back, err := config.Load(filepath.Join(dir, "config.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if back.Train != cfg.Train {
		t.Errorf("config.yaml gives %+v, expected %+v", back.Train, cfg.Train)
	}
}

// TestTensorBoardEvents reads the file back record by record.
func TestTensorBoardEvents(t *testing.T) {
	// The CRC-32C of "123456789" is e3069283; masked it is
	// ((crc >> 15) | (crc << 17)) + a282ead8 modulo 2^32.
	if got, want := mask([]byte("123456789")), uint32((0xe3069283>>15|0xe3069283<<17&0xffffffff)+0xa282ead8&0xffffffff); got != want {
		t.Errorf("masked CRC %08x, expected %08x", got, want)
	}
	cfg := experiment(6)
	dir := t.TempDir()
	mustRun(t, cfg, Options{RunDir: dir}, tinyParts(t, cfg))
	files, _ := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if len(files) != 1 {
		t.Fatalf("found %v, expected one events file", files)
	}
	b := []byte(read(t, files[0]))
	var records [][]byte
	for len(b) > 0 {
		n := int(binary.LittleEndian.Uint64(b))
		if binary.LittleEndian.Uint32(b[8:]) != mask(b[:8]) || binary.LittleEndian.Uint32(b[12+n:]) != mask(b[12:12+n]) {
			t.Fatal("a record's checksum is wrong")
		}
		records = append(records, b[12:12+n])
		b = b[16+n:]
	}
	if len(records) != 4 || !bytes.Contains(records[0], []byte("brain.Event:2")) {
		t.Fatalf("found %d records, expected the version, two rows and a validation", len(records))
	}
	// Row of step 3: tag 1 (double), tag 2 step, tag 5 summary { tag 1 value { tag 1 "train/loss", tag 2 float } ... }.
	r := records[1]
	if r[0] != 0x09 || r[9] != 0x10 || r[10] != 3 || r[11] != 0x2a || r[13] != 0x0a || string(r[17:27]) != "train/loss" || r[27] != 0x15 {
		t.Fatalf("found record % x", r)
	}
	loss := math.Float32frombits(binary.LittleEndian.Uint32(r[28:]))
	if row := strings.Split(read(t, dir, "metrics.csv"), "\n")[1]; !strings.HasPrefix(row, "3,"+number(float64(loss))[:6]) {
		t.Errorf("loss %v, expected that of row %q", loss, row)
	}
}

func TestTerminalGetsABar(t *testing.T) {
	cfg := experiment(4)
	var out bytes.Buffer
	mustRun(t, cfg, Options{RunDir: t.TempDir(), Out: &out, Terminal: true}, tinyParts(t, cfg))
	if !strings.Contains(out.String(), "4/4") {
		t.Errorf("found %q, expected a bar at 4/4", out.String())
	}
}

func TestExportedWeightsAreTheAverage(t *testing.T) {
	cfg := experiment(12)
	cfg.Train.EMA = 0.9
	p := tinyParts(t, cfg)
	first := p.net.Params().All()[0]
	avg := make([]float64, len(first.Data))
	for i, v := range first.Data {
		avg[i] = float64(v)
	}
	dir := t.TempDir()
	mustRun(t, cfg, Options{RunDir: dir, Hooks: []Hook{func(ev Event) error {
		d := min(0.9, float64(ev.Step)/float64(ev.Step+9))
		for i, v := range first.Data {
			avg[i] = d*avg[i] + (1-d)*float64(v)
		}
		return nil
	}}}, p)
	f, err := checkpoint.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Metadata["unrollnet.model"] == "" || f.Metadata["unrollnet.format"] != "1" {
		t.Errorf("metadata %v does not describe the weights", f.Metadata)
	}
	got := f.Get(first.Name).Data
	moved := 0.0
	for i, v := range got {
		if math.Abs(float64(v)-avg[i]) > 1e-6 {
			t.Fatalf("average[%d] = %v, expected %v", i, v, avg[i])
		}
		moved = max(moved, math.Abs(float64(v-first.Data[i])))
	}
	if moved == 0 {
		t.Error("the average is the last value")
	}
}

func TestSolverCoefficientsHaveTheirOwnRate(t *testing.T) {
	cfg := experiment(3)
	cfg.Optim.WeightDecay, cfg.Optim.SolverRate = 0, 4
	moved := func(solver bool) float64 {
		p := tinyParts(t, cfg)
		q := p.net.Params().All()[3]
		q.Solver = solver
		before := q.Data[0]
		r, err := newRun(cfg, Options{}.withDefaults(), p)
		if err != nil {
			t.Fatal(err)
		}
		var inputs [][]float32
		for _, n := range r.inputSizes() {
			inputs = append(inputs, make([]float32, n))
		}
		if err := r.fill(0, inputs); err != nil {
			t.Fatal(err)
		}
		if _, err := r.step(inputs); err != nil {
			t.Fatal(err)
		}
		return float64(q.Data[0] - before)
	}
	if got, want := moved(true), 4*moved(false); want == 0 || math.Abs(got/want-1) > 1e-4 {
		t.Errorf("a solver coefficient moved by %v, expected %v", got, want)
	}
}

func TestRunDirectoryGuards(t *testing.T) {
	cfg := experiment(4)
	dir := t.TempDir()
	held := checkpoint.NewRun(checkpoint.OS, dir, 0, nil)
	if err := held.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), cfg, Options{RunDir: dir}, tinyParts(t, cfg)); !errors.Is(err, checkpoint.ErrLocked) {
		t.Errorf("found %v, expected ErrLocked", err)
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	mustRun(t, cfg, Options{RunDir: dir}, tinyParts(t, cfg))
	if err := run(context.Background(), cfg, Options{RunDir: dir, Resume: "none"}, tinyParts(t, cfg)); err == nil {
		t.Error("a second fresh run in a used directory was let in")
	}
	if err := run(context.Background(), cfg, Options{RunDir: t.TempDir(), Resume: filepath.Join(dir, "nowhere")}, tinyParts(t, cfg)); !errors.Is(err, checkpoint.ErrNotFound) {
		t.Errorf("found %v, expected ErrNotFound", err)
	}
	// From another run, by directory and by checkpoint.
	longer := experiment(6)
	for _, from := range []string{dir, filepath.Join(dir, "checkpoints", "step-00000004")} {
		var log bytes.Buffer
		to := t.TempDir()
		mustRun(t, longer, Options{RunDir: to, Resume: from, Log: slog.New(slog.NewTextHandler(&log, nil))}, tinyParts(t, longer))
		if !strings.Contains(log.String(), "train.steps") {
			t.Errorf("no word of the changed number of steps: %q", log.String())
		}
		if rows := strings.Split(strings.TrimSpace(read(t, to, "metrics.csv")), "\n"); len(rows) != 2 || !strings.HasPrefix(rows[1], "6,") {
			t.Errorf("found rows %q, expected step 6 alone", rows)
		}
	}
	other := cfg
	other.Model.Blocks = 9
	if err := run(context.Background(), other, Options{RunDir: dir}, tinyParts(t, cfg)); err == nil || !strings.Contains(err.Error(), "model.blocks") {
		t.Errorf("found %v, expected an error that names model.blocks", err)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	cfg := experiment(4)
	dir := filepath.Join(t.TempDir(), "run")
	p := tinyParts(t, cfg)
	before := slices.Clone(p.net.Params().All()[0].Data)
	var out bytes.Buffer
	mustRun(t, cfg, Options{RunDir: dir, DryRun: true, Out: &out}, p)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a dry run made the run directory")
	}
	if !slices.Equal(before, p.net.Params().All()[0].Data) {
		t.Error("a dry run changed the weights")
	}
	for _, want := range []string{fmt.Sprint(p.net.Params().Count()), "examples/s", "gradient norm"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("found %q, expected it to say %q", out.String(), want)
		}
	}
}

func TestOverfitUsesOneBatch(t *testing.T) {
	cfg := experiment(150)
	cfg.Log.Every, cfg.Checkpoint.Every = 150, 0
	cfg.Schedule.LR = 2e-2
	p := tinyParts(t, cfg)
	var first, last float64
	mustRun(t, cfg, Options{RunDir: t.TempDir(), Overfit: true, Hooks: []Hook{func(ev Event) error {
		if ev.Step == 1 {
			first = ev.Loss
		}
		last = ev.Loss
		return nil
	}}}, p)
	if !(last < first/20) {
		t.Errorf("loss went from %v to %v on one batch, expected less than a twentieth", first, last)
	}
}

// fullDisk fails writes to files of one name.
type fullDisk struct {
	checkpoint.FS
	name string
}

type fullFile struct{ checkpoint.Handle }

var errFull = errors.New("no space left on device")

func (fullFile) Write([]byte) (int, error) { return 0, errFull }

func (d fullDisk) OpenFile(name string, flag int, perm fs.FileMode) (checkpoint.Handle, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err == nil && strings.Contains(filepath.Base(name), d.name) {
		return fullFile{f}, nil
	}
	return f, err
}

func TestFullDisk(t *testing.T) {
	cfg := experiment(4)
	for _, name := range []string{"metrics.csv", "optimizer.safetensors", "model.safetensors", "config.yaml"} {
		dir := t.TempDir()
		err := run(context.Background(), cfg, Options{RunDir: dir, FS: fullDisk{checkpoint.OS, name}}, tinyParts(t, cfg))
		if !errors.Is(err, errFull) {
			t.Errorf("%s: found %v, expected the disk's error", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err == nil {
			t.Errorf("%s: weights were exported all the same", name)
		}
	}
}

func TestDifferences(t *testing.T) {
	a := map[string]any{"x": map[string]any{"y": 1.0, "z": "s"}, "only": true}
	b := map[string]any{"x": map[string]any{"y": 2.0, "z": "s"}}
	var keys []string
	for _, d := range differences("", a, b) {
		keys = append(keys, d.key)
	}
	if !slices.Equal(keys, []string{"only", "x.y"}) {
		t.Errorf("found %v, expected [only x.y]", keys)
	}
}
