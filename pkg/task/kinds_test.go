package task

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// bright is a classifier that is known by hand: images of one channel, 2 x 2
// pixels, whose logit of class k is pixel k, with gain.
type bright struct {
	params *nn.Params
	k      int
}

func newBright(k int, gain float32) *bright {
	b := &bright{nn.NewParams(), k}
	b.params.Add("gain", func(i int) float32 {
		if i/4 == i%4 {
			return gain
		}
		return 0
	}, k, 4, 1, 1)
	b.params.Add("bias", nn.Constant(0), k)
	return b
}

func (b *bright) Config() model.Config { return model.Config{Type: "plat-vit"} }
func (b *bright) Params() *nn.Params   { return b.params }
func (b *bright) Input() (c, h, w int) { return 1, 2, 2 }
func (b *bright) Classes() int         { return b.k }
func (b *bright) Classify(bb *nn.Builder, x *G.Node) (*G.Node, error) {
	t, err := op.Patches(bb.Env, x, 2, 2) // (1,4,B,1), 2x-1
	if err == nil {
		t, err = op.Conv(bb.Env, t, bb.Param("gain"), bb.Param("bias"), 1, false)
	}
	if err != nil {
		return nil, err
	}
	return op.PoolTokens(bb.Env, t, true)
}

// labelled is a set made by a function.
type labelled struct {
	n, k    int
	example func(i int, x []float32) int
	calls   atomic.Int64
}

func (l *labelled) Len() int             { return l.n }
func (l *labelled) Shape() (c, h, w int) { return 1, 2, 2 }
func (l *labelled) Classes() []string {
	var s []string
	for k := range l.k {
		s = append(s, fmt.Sprint("class", k))
	}
	return s
}
func (l *labelled) Example(i int, x []float32) (int, error) {
	l.calls.Add(1)
	clear(x)
	return l.example(i, x), nil
}

// TestEvaluateClassifier holds every figure to what is known by hand.
func TestEvaluateClassifier(t *testing.T) {
	// Pixel i%4 is bright; every fifth image is labelled with the next class.
	set := &labelled{n: 150, k: 4, example: func(i int, x []float32) int {
		x[i%4] = 1
		if i%5 == 0 {
			return (i + 1) % 4
		}
		return i % 4
	}}
	net := newBright(4, 1.5)
	z := math.Exp(1.5) + 3*math.Exp(-1.5)
	right, wrong := math.Log(z)-1.5, math.Log(z)+1.5
	var want Classification
	for _, workers := range []int{1, 2, 5} {
		var done atomic.Int64
		r, err := EvaluateClassifier(context.Background(), net, set, ClassifyOptions{Workers: workers, Done: func(n int) { done.Add(int64(n)) }})
		if err != nil {
			t.Fatal(err)
		}
		if r.Images != 150 || done.Load() != 150 || float64(r.Top1) != .8 || float64(r.Top5) != 1 || r.Params != 20 {
			t.Errorf("%d workers: %+v", workers, r)
		}
		if l := .8*right + .2*wrong; math.Abs(float64(r.Loss)-l) > 1e-6 {
			t.Errorf("loss %v, expected %v", r.Loss, l)
		}
		sum := 0
		for i, row := range r.Confusion {
			for j, n := range row {
				sum += n
				if n > 0 && j != i && j != (i+3)%4 {
					t.Errorf("confusion %v", r.Confusion)
				}
			}
		}
		if sum != 150 || r.Confusion[1][0] != 8 { // i = 0, 20, 40, ... 140
			t.Errorf("confusion %v", r.Confusion)
		}
		if workers == 1 {
			want = r
		} else if float64(r.Loss) != float64(want.Loss) {
			t.Errorf("%d workers: loss %v, expected %v as with one", workers, r.Loss, want.Loss)
		}
	}
	// Some, spread evenly.
	var seen [150]atomic.Bool
	some := &labelled{n: 150, k: 4, example: func(i int, x []float32) int { seen[i].Store(true); return 0 }}
	r, err := EvaluateClassifier(context.Background(), net, some, ClassifyOptions{Limit: 10, Workers: 2})
	if err != nil || r.Images != 10 {
		t.Fatalf("%+v, %v", r, err)
	}
	for i := range seen {
		if seen[i].Load() != (i%15 == 0) {
			t.Errorf("image %d: measured %v", i, seen[i].Load())
		}
	}
	// All logits alike: the first class wins, five of six are among the first five.
	even := &labelled{n: 60, k: 6, example: func(i int, x []float32) int { return i % 6 }}
	if r, err = EvaluateClassifier(context.Background(), newBright(6, 0), even, ClassifyOptions{}); err != nil {
		t.Fatal(err)
	}
	if float64(r.Top1) != 10./60 || float64(r.Top5) != 50./60 || math.Abs(float64(r.Loss)-math.Log(6)) > 1e-6 {
		t.Errorf("of equals: %+v", r)
	}
}

// TestNoiseAndOcclusion checks what is done to images before they are classified,
// by a classifier that says what it saw through its loss.
func TestNoiseAndOcclusion(t *testing.T) {
	set := &labelled{n: 400, k: 4, example: func(i int, x []float32) int { x[0], x[1], x[2], x[3] = .5, .5, .5, .5; return 0 }}
	net := newBright(4, 1)
	opt := ClassifyOptions{Workers: 2, Noise: 255 * .1, Seed: 3}
	a, err := EvaluateClassifier(context.Background(), net, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	// Without noise all logits are 0; noise of sigma 0.1 gives each one of 0.2, and
	// the mean of log(sum exp) rises by (0.2^2)(1-1/4)/2.
	if rise := float64(a.Loss) - math.Log(4); math.Abs(rise-.015) > .02 || rise == 0 {
		t.Errorf("loss rose by %v, expected about 0.015", rise)
	}
	if n := float64(a.Top1) * 400; n < 70 || n > 130 {
		t.Errorf("%v of 400 right by chance, expected about 100", n)
	}
	opt.Workers = 1
	if b, err := EvaluateClassifier(context.Background(), net, set, opt); err != nil || b.Loss != a.Loss {
		t.Errorf("one worker: %v (%v), expected %v", b.Loss, err, a.Loss)
	}
	opt.Seed = 4
	if b, err := EvaluateClassifier(context.Background(), net, set, opt); err != nil || b.Loss == a.Loss {
		t.Errorf("another seed gave the same noise (%v)", err)
	}

	var places [16]int
	for i := range 1600 {
		x := make([]float32, 2*5*5)
		occlude(x, 2, 5, 5, .16, 7, uint64(i)) // 2 x 2 of 5 x 5
		at := slices.Index(x, .5)
		places[at/5*4+at%5]++
		n := 0
		for j, v := range x[:25] {
			if v != x[25+j] {
				t.Fatal("channels differ")
			}
			if y, c := j/5-at/5, j%5-at%5; v == .5 {
				if n++; y < 0 || y > 1 || c < 0 || c > 1 {
					t.Fatalf("found %v", x)
				}
			}
		}
		if n != 4 {
			t.Fatalf("%d pixels occluded, expected 4", n)
		}
	}
	for at, n := range places {
		if n < 60 || n > 140 {
			t.Errorf("place %d: %d of 1600, expected about 100", at, n)
		}
	}
}

func TestEvaluateClassifierErrors(t *testing.T) {
	fine := func(i int, x []float32) int { return 0 }
	for name, c := range map[string]struct {
		set  data.LabelledImages
		net  model.Classifier
		want string
	}{
		"classes": {&labelled{n: 3, k: 5, example: fine}, newBright(4, 1), "found 5, expected 4"},
		"label":   {&labelled{n: 3, k: 4, example: func(i int, x []float32) int { return 4 }}, newBright(4, 1), "found label 4, expected 0 to 3"},
		"empty":   {&labelled{n: 0, k: 4, example: fine}, newBright(4, 1), "found no images"},
		"nan":     {&labelled{n: 3, k: 4, example: fine}, newBright(4, float32(math.NaN())), "outputs are not finite"},
		"failing": {failing{&labelled{n: 3, k: 4, example: fine}}, newBright(4, 1), "disk on fire"},
	} {
		if _, err := EvaluateClassifier(context.Background(), c.net, c.set, ClassifyOptions{Workers: 2}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: found %v, expected %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := EvaluateClassifier(ctx, newBright(4, 1), &labelled{n: 3, k: 4, example: fine}, ClassifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("found %v, expected context.Canceled", err)
	}
}

type failing struct{ data.LabelledImages }

func (failing) Example(int, []float32) (int, error) { return 0, errors.New("disk on fire") }

// TestClassifyTask runs a task on the smallest transformer: its loss is that of
// its own measurement, samples are sheets, a language model is refused.
func TestClassifyTask(t *testing.T) {
	m, err := model.Build(model.Config{Type: "plat-vit", Preset: "tiny", Plat: model.Plat{Image: []int{2, 4}, Patch: []int{1, 2}}}, 3)
	if err != nil {
		t.Fatal(err)
	}
	set := wide{&labelled{n: 70, k: 3, example: nil}}
	s, err := data.NewLabelledSampler(set, data.LabelledSamplerConfig{Seed: 1, Batch: 4})
	if err != nil {
		t.Fatal(err)
	}
	c := &Classify{Channels: 1, Height: 2, Width: 4, Sampler: s, Images: set, Workers: 2}
	rep, err := c.Validate(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Validate(context.Background(), m)
	if err != nil || again.Value != rep.Value || rep.Examples != 70 || rep.Name != "top1" || rep.Lower || len(rep.Rows) != 3 {
		t.Errorf("%+v, then %+v (%v)", rep, again, err)
	}
	for _, r := range rep.Rows {
		if len(r.Fields) != len(c.Columns()) {
			t.Errorf("row %v of columns %v", r, c.Columns())
		}
	}
	// The loss of the training graph on all images in one batch is that of the
	// measurement.
	got := graphLoss(t, c, m, 70, func(x, labels []float32) error {
		for i := range 70 {
			l, err := set.Example(i, x[i*8:(i+1)*8])
			if err != nil {
				return err
			}
			labels[i] = float32(l)
		}
		return nil
	})
	if loss := rep.Rows[2].Value; math.Abs(got-loss) > 1e-5 {
		t.Errorf("loss of the graph %v, of the measurement %v", got, loss)
	}
	img, err := c.Sample(m, 1) // the last six of 70
	if err != nil || img.C != 1 || img.H != 8*6 || img.W != 8*8 {
		t.Fatalf("sheet %+v, %v", img, err)
	}
	if rest := img.Pix[6*img.W:]; slices.Min(rest) != 1 {
		t.Error("something is drawn below the six images")
	}
	lm, err := model.Build(model.Config{Type: "plat-lm", Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Validate(context.Background(), lm); err == nil || !strings.Contains(err.Error(), "plat-lm") {
		t.Errorf("a language model: %v", err)
	}
	if _, err := c.Sample(lm, 0); err == nil {
		t.Error("a language model gave a sheet")
	}
}

// wide are images of 2 x 4 pixels.
type wide struct{ *labelled }

func (wide) Shape() (c, h, w int) { return 1, 2, 4 }
func (wide) Example(i int, x []float32) (int, error) {
	rng := data.Rand(9, 0, uint64(i))
	for j := range x {
		x[j] = rng.Float32()
	}
	return i % 3, nil
}

// graphLoss is the loss of a task's graph on n examples.
func graphLoss(t *testing.T, task Task, m model.Model, n int, fill func(x, y []float32) error) float64 {
	t.Helper()
	g := G.NewGraph()
	b := nn.NewBuilder(g, op.NewEnv(1), m.Params())
	var arrays [][]float32
	var in []*G.Node
	for _, x := range task.Inputs() {
		arrays = append(arrays, make([]float32, n*x.Size()))
		in = append(in, b.Input(x.Name, arrays[len(arrays)-1], x.Of(n)...))
	}
	if err := fill(arrays[0], arrays[1]); err != nil {
		t.Fatal(err)
	}
	loss, err := task.Loss(b, m, in)
	if err != nil {
		t.Fatal(err)
	}
	var v G.Value
	G.Read(loss, &v)
	vm := G.NewTapeMachine(g)
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	switch d := v.Data().(type) {
	case float32:
		return float64(d)
	case []float32:
		return float64(d[0])
	}
	t.Fatalf("loss is %T", v.Data())
	return 0
}

// corpus opens a text of n characters of five kinds.
func corpus(t *testing.T, n, block, every int) *data.Corpus {
	t.Helper()
	rng := data.Rand(4, 0, 0)
	var b strings.Builder
	b.WriteString("abcde")
	for b.Len() < n {
		b.WriteByte("abcde"[rng.IntN(5)])
	}
	path := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := data.OpenText(path, data.Text{Block: block}, every, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLanguageTask does for a language model what TestClassifyTask does.
func TestLanguageTask(t *testing.T) {
	m, err := model.Build(model.Config{Type: "plat-lm", Preset: "tiny"}, 3) // 5 symbols, 7 at a time
	if err != nil {
		t.Fatal(err)
	}
	net, ok := m.(model.LanguageModel)
	if !ok {
		t.Fatalf("found %T", m)
	}
	c := corpus(t, 3000, 100, 4)
	s, err := data.NewTextSampler(c, 1, 4, 7)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Part(data.PartVal)
	if err != nil {
		t.Fatal(err)
	}
	l := &Language{Context: 7, Sampler: s, Text: text, Workers: 2}
	rep, err := l.Validate(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	windows := text.Windows(7)
	if rep.Examples != 7*windows || rep.Name != "nats" || !rep.Lower || len(rep.Rows) != 3 || len(rep.Rows[0].Fields) != len(l.Columns()) {
		t.Errorf("%+v", rep)
	}
	nats := rep.Value
	if rep.Rows[1].Value != nats/math.Ln2 || rep.Rows[2].Value != math.Exp(nats) || math.Abs(nats-math.Log(5)) > .5 {
		t.Errorf("%+v", rep.Rows)
	}
	got := graphLoss(t, l, m, windows, func(x, next []float32) error {
		for i := range windows {
			if err := text.Window(i, x[i*7:(i+1)*7], next[i*7:(i+1)*7]); err != nil {
				return err
			}
		}
		return nil
	})
	if math.Abs(got-nats) > 1e-5 {
		t.Errorf("loss of the graph %v, of the measurement %v", got, nats)
	}
	for _, workers := range []int{1, 3} {
		p, err := EvaluateLanguage(context.Background(), net, text, LanguageOptions{Workers: workers})
		if err != nil || float64(p.Nats) != nats {
			t.Errorf("%d workers: %v nats (%v), expected %v", workers, p.Nats, err, nats)
		}
	}
	var done int
	p, err := EvaluateLanguage(context.Background(), net, text, LanguageOptions{Context: 3, Limit: 11, Done: func(n int) { done += n }})
	if err != nil || p.Symbols != 33 || p.Context != 3 || done != 11 {
		t.Errorf("%+v, %d done, %v", p, done, err)
	}
	if _, err := EvaluateLanguage(context.Background(), net, text, LanguageOptions{Context: 8}); err == nil || !strings.Contains(err.Error(), "found 8 symbols, expected 1 to 7") {
		t.Errorf("a context beyond the network's: %v", err)
	}
	small, err := corpus(t, 6, 6, 0).Part(data.PartAll)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := EvaluateLanguage(context.Background(), net, small, LanguageOptions{}); err == nil || !strings.Contains(err.Error(), "found no stretch of 8 symbols") {
		t.Errorf("a text shorter than the context: %v", err)
	}
	vit, err := model.Build(model.Config{Type: "plat-vit", Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Validate(context.Background(), vit); err == nil || !strings.Contains(err.Error(), "plat-vit") {
		t.Errorf("a classifier: %v", err)
	}
}

func TestBetter(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		r    Report
		v    float64
		want bool
	}{
		{Report{Value: 2}, 1, true}, {Report{Value: 1}, 1, false}, {Report{Value: 1, Lower: true}, 2, true},
		{Report{Value: 2, Lower: true}, 1, false}, {Report{Value: nan}, 1, false}, {Report{Value: 1}, nan, true}, {Report{Value: nan}, nan, false},
	} {
		if got := c.r.Better(c.v); got != c.want {
			t.Errorf("%+v better than %v: %v", c.r, c.v, got)
		}
	}
}
