package infer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// built returns a network whose outputs differ enough to be told apart.
func built[M model.Model](t *testing.T, cfg model.Config) M {
	t.Helper()
	m, err := model.Build(cfg, 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params().All() {
		for i := range p.Data {
			p.Data[i] += float32(math.Sin(float64(7*i+len(p.Name)))) / 3
		}
	}
	return m.(M)
}

func vit(t *testing.T, channels int) model.Classifier {
	return built[model.Classifier](t, model.Config{Type: "plat-vit", Preset: "tiny", Channels: channels})
}

func lm(t *testing.T) model.LanguageModel {
	return built[model.LanguageModel](t, model.Config{Type: "plat-lm", Preset: "tiny"})
}

// outputs runs a network on one input in a graph of its own.
func outputs(t *testing.T, m model.Model, add func(b *nn.Builder, in *G.Node) (*G.Node, error), in []float32, shape ...int) []float32 {
	t.Helper()
	g := G.NewGraph()
	b := nn.NewBuilder(g, op.NewEnv(1), m.Params())
	out, err := add(b, b.Input("in", slices.Clone(in), shape...))
	if err != nil {
		t.Fatal(err)
	}
	var v G.Value
	G.Read(out, &v)
	vm := G.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	return v.Data().([]float32)
}

var names = []string{"cat", "dog", "tree"}

func task(t *testing.T, v data.Trained) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// saved writes the weight file of m.
func saved(t *testing.T, m model.Model, task string) string {
	t.Helper()
	b, err := model.Save(m, task, nil).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "net.safetensors")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func shown(c, h, w int) *imageio.Image {
	m := imageio.New(c, h, w)
	for i := range m.Pix {
		m.Pix[i] = float32(i*37%256) / 255
	}
	return m
}

// The probabilities are the softmax of the network's logits, on repeated runs and
// on several goroutines at once.
func TestClassifierPredicts(t *testing.T) {
	ctx := context.Background()
	for _, ch := range []int{1, 3} {
		net := vit(t, ch)
		c, err := OpenClassifier(saved(t, net, task(t, data.Trained{Task: "classify", Classes: names})))
		if err != nil {
			t.Fatal(err)
		}
		_, h, w := net.Input()
		img := shown(ch, h, w)
		logits := outputs(t, net, net.Classify, img.Pix, 1, ch, h, w)
		sum := 0.
		for _, v := range logits {
			sum += math.Exp(float64(v))
		}
		want := map[string]float64{}
		for k, v := range logits {
			want[names[k]] = math.Exp(float64(v)) / sum
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 3 {
					got, err := c.Predict(ctx, img.ToImage())
					if err != nil {
						t.Error(err)
						return
					}
					if len(got) != len(names) || !slices.IsSortedFunc(got, func(a, b Probability) int { return int(math.Copysign(1, b.P-a.P)) }) {
						t.Errorf("found %v, expected %d classes, the likeliest first", got, len(names))
					}
					for _, p := range got {
						if math.Abs(p.P-want[p.Class]) > 1e-6 {
							t.Errorf("%s has %v, expected %v", p.Class, p.P, want[p.Class])
						}
					}
				}
			})
		}
		all.Wait()
		if got := logits[0]; got == logits[1] || got == logits[2] {
			t.Errorf("logits %v: expected a network that tells classes apart", logits)
		}
	}
}

// Images of other sizes, depths and numbers of channels are brought to the
// network's input.
func TestClassifierTakesAnyImage(t *testing.T) {
	c, err := NewClassifier("net", vit(t, 1), names)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range []image.Image{
		image.NewGray16(image.Rect(0, 0, 50, 3)),
		image.NewNRGBA(image.Rect(0, 0, 1, 1)),
		image.NewPaletted(image.Rect(2, 3, 40, 99), color.Palette{color.Black, color.White}),
	} {
		if _, err := c.Predict(context.Background(), img); err != nil {
			t.Errorf("%T: %v", img, err)
		}
	}
}

func TestClassifierRefuses(t *testing.T) {
	ctx := context.Background()
	net := vit(t, 1)
	if _, err := NewClassifier("net", net, names[:2]); err == nil || !strings.Contains(err.Error(), "found 2 names, expected 3") {
		t.Errorf("two names: %v", err)
	}
	c, err := NewClassifier("net", net, names)
	if err != nil {
		t.Fatal(err)
	}
	_, h, w := net.Input()
	if _, err := c.PredictPlanar(ctx, make([]float32, 7)); err == nil {
		t.Error("seven samples: expected an error")
	}
	x := make([]float32, h*w)
	x[w+2] = float32(math.Inf(1))
	if _, err := c.PredictPlanar(ctx, x); err == nil || !strings.Contains(err.Error(), "pixel (2,1)") {
		t.Errorf("an infinite sample: %v", err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.PredictPlanar(stopped, make([]float32, h*w)); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	net.Params().Get("head.bias").Data[1] = float32(math.NaN())
	if _, err := c.PredictPlanar(ctx, make([]float32, h*w)); err == nil || !strings.Contains(err.Error(), `"dog"`) {
		t.Errorf("a damaged network: %v", err)
	}
}

// Each kind of file is refused where another is asked for, and what is wrong with
// the description of its task is said.
func TestOpenTellsKindsApart(t *testing.T) {
	restorer, err := model.New(model.Config{Preset: "tiny"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	v := data.Vocabulary{Unit: "characters", Symbols: "\nabcd"}
	good := map[model.Kind]string{
		model.Restore:  saved(t, restorer, `{"task":"fill","missing":0.5}`),
		model.Classify: saved(t, vit(t, 1), task(t, data.Trained{Task: "classify", Classes: names})),
		model.Language: saved(t, lm(t), task(t, data.Trained{Task: "language", Vocabulary: &v})),
	}
	open := map[model.Kind]func(string) error{
		model.Restore:  func(s string) error { _, err := Open(s); return err },
		model.Classify: func(s string) error { _, err := OpenClassifier(s); return err },
		model.Language: func(s string) error { _, err := OpenLanguageModel(s); return err },
	}
	for want, f := range open {
		for kind, path := range good {
			err := f(path)
			if kind == want {
				if err != nil {
					t.Errorf("%s: %v", kind, err)
				}
				continue
			}
			var k *KindError
			if !errors.As(err, &k) || k.Kind != kind || k.Want != want || !strings.Contains(k.Error(), path) {
				t.Errorf("%s where %s is asked for: %v", kind, want, err)
			}
		}
		var missing *NotFoundError
		if err := f("nothing-here"); !errors.As(err, &missing) {
			t.Errorf("%s: no file: %v", want, err)
		}
	}
	var k *KindError
	if err := open[model.Classify]("bicubic"); !errors.As(err, &k) || k.Type != "classical method" {
		t.Errorf("a classical method as a classifier: %v", err)
	}
	if _, err := Resolve("", good[model.Classify]); !errors.As(err, &k) || k.Want != model.Restore {
		t.Errorf("a classifier as a restorer: %v", err)
	}
	for _, bad := range []string{
		``, `{`, `{"task":"fill"}`, `{"task":"classify","classes":["a","b"]}`, `{"task":"language"}`, `{"task":"classify","classes":["a","b","c"],"more":1}`,
		`{"task":"language","vocabulary":{"unit":"characters","symbols":"abcd"}}`, `{"task":"language","vocabulary":{"unit":"words","symbols":"abcde"}}`,
	} {
		for kind, m := range map[model.Kind]model.Model{model.Classify: vit(t, 1), model.Language: lm(t)} {
			if err := open[kind](saved(t, m, bad)); err == nil || !strings.Contains(err.Error(), model.MetaTask) {
				t.Errorf("%s trained on %q: %v", kind, bad, err)
			}
		}
	}
}

func speaker(t *testing.T) (*LanguageModel, model.LanguageModel) {
	t.Helper()
	net := lm(t)
	m, err := NewLanguageModel("net", net, data.Vocabulary{Unit: "characters", Symbols: "\nabcd"})
	if err != nil {
		t.Fatal(err)
	}
	return m, net
}

// What comes next does not depend on the length of the graph it is computed in,
// and only the last Context symbols count.
func TestNextIsTheNetworks(t *testing.T) {
	net := built[model.LanguageModel](t, model.Config{Type: "plat-lm", Preset: "tiny", Plat: model.Plat{Context: 40}})
	m, err := NewLanguageModel("net", net, data.Vocabulary{Unit: "characters", Symbols: "\nabcd"})
	if err != nil {
		t.Fatal(err)
	}
	text := make([]int, 60)
	for i := range text {
		text[i] = i * i % 5
	}
	for _, n := range []int{1, 2, 15, 16, 17, 33, 40, 41, 60} {
		got, err := m.Next(text[:n])
		if err != nil {
			t.Fatal(err)
		}
		seen := text[max(0, n-40):n]
		in := make([]float32, len(seen))
		for i, s := range seen {
			in[i] = float32(s)
		}
		all := outputs(t, net, net.Predict, in, 1, len(in))
		for s, v := range got {
			if want := all[s*len(in)+len(in)-1]; math.Abs(float64(v-want)) > 1e-5 {
				t.Errorf("after %d symbols: logit %d is %v, expected %v", n, s, v, want)
			}
		}
	}
	if _, err := m.Next([]int{1, 5}); err == nil || !strings.Contains(err.Error(), "symbol 5 at place 1") {
		t.Errorf("a symbol that is none: %v", err)
	}
	if _, err := m.Next(nil); err == nil {
		t.Error("no text: expected an error")
	}
}

// Temperature 0 takes the likeliest symbol each time; a seed is a text; pieces add
// up to it.
func TestGenerate(t *testing.T) {
	ctx := context.Background()
	m, net := speaker(t)
	const prompt = "abba"
	got, err := m.Generate(ctx, prompt, GenerateOptions{Length: 20})
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.Vocabulary().Encode(prompt)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		l, err := m.Next(text)
		if err != nil {
			t.Fatal(err)
		}
		best := 0
		for s, v := range l {
			if v > l[best] {
				best = s
			}
		}
		text = append(text, best)
	}
	if want := m.Vocabulary().Decode(text[len(prompt):]); got != want {
		t.Errorf("the likeliest text: found %q, expected %q", got, want)
	}
	if top, err := m.Generate(ctx, prompt, GenerateOptions{Length: 20, Temperature: 3, TopK: 1, Seed: 4}); err != nil || top != got {
		t.Errorf("top-k 1: found %q, %v, expected %q", top, err, got)
	}

	texts := map[string]bool{}
	for seed := range uint64(6) {
		o := GenerateOptions{Length: 30, Temperature: 1, Seed: seed}
		a, err := m.Generate(ctx, prompt, o)
		if err != nil {
			t.Fatal(err)
		}
		var pieces strings.Builder
		o.Each = func(s string) error { pieces.WriteString(s); return nil }
		b, err := m.Generate(ctx, prompt, o)
		if err != nil {
			t.Fatal(err)
		}
		if a != b || pieces.String() != a || len(a) != 30 {
			t.Errorf("seed %d: %q, then %q in pieces %q", seed, a, b, &pieces)
		}
		texts[a] = true
	}
	if len(texts) < 5 {
		t.Errorf("six seeds gave %d texts", len(texts))
	}

	// An empty prompt is a newline.
	empty, err := m.Generate(ctx, "", GenerateOptions{Length: 9})
	if err != nil {
		t.Fatal(err)
	}
	if line, err := m.Generate(ctx, "\n", GenerateOptions{Length: 9}); err != nil || line != empty {
		t.Errorf("after nothing %q, after a newline %q, %v", empty, line, err)
	}
	if m, err := NewLanguageModel("net", net, data.Vocabulary{Unit: "characters", Symbols: "abcde"}); err != nil || m.Start() != 0 {
		t.Errorf("without a newline: %v", err)
	}
}

// Symbols are drawn as often as their probability says.
func TestDrawFollowsProbabilities(t *testing.T) {
	m, _ := speaker(t)
	l, err := m.Next([]int{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	const n = 4000
	for _, temperature := range []float64{.5, 1, 2} {
		want := softmax(l, temperature)
		count := make([]float64, len(l))
		for seed := range uint64(n) {
			s, err := m.Generate(context.Background(), "ab", GenerateOptions{Length: 1, Temperature: temperature, Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			k, err := m.Vocabulary().Encode(s)
			if err != nil {
				t.Fatal(err)
			}
			count[k[0]]++
		}
		for k, p := range want {
			if sigma := math.Sqrt(p * (1 - p) * n); math.Abs(count[k]-p*n) > 4*sigma+1 {
				t.Errorf("temperature %v: symbol %d came %v times of %d, expected about %.0f", temperature, k, count[k], n, p*n)
			}
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	ctx := context.Background()
	m, net := speaker(t)
	var p *PromptError
	if _, err := m.Generate(ctx, "abxd", GenerateOptions{Length: 1}); !errors.As(err, &p) || !strings.Contains(err.Error(), `'x'`) || !strings.Contains(err.Error(), "at byte 2") {
		t.Errorf("an unknown symbol: %v", err)
	}
	for _, o := range []GenerateOptions{{}, {Length: 1, Temperature: -1}, {Length: 1, Temperature: math.NaN()}, {Length: 1, TopK: -1}} {
		if _, err := m.Generate(ctx, "a", o); err == nil {
			t.Errorf("%+v: expected an error", o)
		}
	}
	if _, err := NewLanguageModel("net", net, data.Vocabulary{Unit: "bytes"}); err == nil || !strings.Contains(err.Error(), "found 256 symbols, expected 5") {
		t.Errorf("a vocabulary of bytes: %v", err)
	}

	// The text so far comes with the error.
	full := errors.New("full")
	k := 0
	text, err := m.Generate(ctx, "a", GenerateOptions{Length: 9, Each: func(string) error {
		if k++; k == 3 {
			return full
		}
		return nil
	}})
	if !errors.Is(err, full) || len(text) != 3 {
		t.Errorf("stopped at the third symbol: %q, %v", text, err)
	}
	stopped, cancel := context.WithCancel(ctx)
	text, err = m.Generate(stopped, "a", GenerateOptions{Length: 9, Each: func(string) error { cancel(); return nil }})
	if !errors.Is(err, context.Canceled) || len(text) != 1 {
		t.Errorf("cancelled after a symbol: %q, %v", text, err)
	}
	net.Params().Get("head.bias").Data[2] = float32(math.NaN())
	if _, err := m.Generate(ctx, "a", GenerateOptions{Length: 1}); err == nil || !strings.Contains(err.Error(), "symbol 2") {
		t.Errorf("a damaged network: %v", err)
	}
}

func ExampleClassifier_Predict() {
	// In place of infer.OpenClassifier("digits.safetensors"):
	m, err := model.Build(model.Config{Type: "plat-vit", Preset: "tiny"}, 0)
	if err != nil {
		panic(err)
	}
	net, err := NewClassifier("digits", m.(model.Classifier), []string{"one", "two", "three"})
	if err != nil {
		panic(err)
	}
	classes, err := net.Predict(context.Background(), image.NewGray(image.Rect(0, 0, 28, 28)))
	if err != nil {
		panic(err)
	}
	fmt.Println(len(classes))
	// Output: 3
}

func ExampleLanguageModel_Generate() {
	// In place of infer.OpenLanguageModel("go.safetensors"):
	m, err := model.Build(model.Config{Type: "plat-lm", Preset: "tiny"}, 0)
	if err != nil {
		panic(err)
	}
	net, err := NewLanguageModel("letters", m.(model.LanguageModel), data.Vocabulary{Unit: "characters", Symbols: "abcde"})
	if err != nil {
		panic(err)
	}
	var out bytes.Buffer
	text, err := net.Generate(context.Background(), "ab", GenerateOptions{
		Length: 12, Temperature: .8, Seed: 1,
		Each: func(s string) error { _, err := out.WriteString(s); return err },
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(len(text), out.String() == text)
	// Output: 12 true
}
