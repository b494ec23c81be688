package explain

import (
	"context"
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// Diagnostics are means over inputs that say what the attention of a transformer
// does, layer by layer.
type Diagnostics struct {
	Inputs int `json:"inputs"`
	Tokens int `json:"tokens"`
	// Embedding is the mean pairwise cosine of the tokens that enter the first layer.
	Embedding Number           `json:"embedding_cosine"`
	Layers    []AttentionLayer `json:"layers"`
}

// AttentionLayer is one layer of Diagnostics.
type AttentionLayer struct {
	// Cosine is the mean over pairs i != j of cos(x_i, x_j) of the tokens that leave
	// the layer: 1 where all point the same way, which is over-smoothing.
	Cosine Number          `json:"cosine"`
	Heads  []AttentionHead `json:"heads"`
}

// AttentionHead is one head of a layer. Its rows of weights count as shares of
// their sums.
type AttentionHead struct {
	P       float64 `json:"p"`           // the exponent, learned or fixed
	Self    float64 `json:"self_weight"` // mean share that a token gives itself
	Entropy float64 `json:"entropy"`     // mean of -sum of w log w over rows, in nats
}

// Number is a float64 that is null in JSON where there is none (NaN).
type Number float64

// MarshalJSON writes the number, or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, "%g", float64(n)), nil
}

// NoAttentionError says that a network has no attention that could be shown.
type NoAttentionError struct{ Name, Type string }

// Error names the network and its type.
func (e *NoAttentionError) Error() string {
	return fmt.Sprintf("model %q: found type %s, which has no attention to show, expected plat-vit or plat-lm", e.Name, e.Type)
}

// Attention runs m, a transformer with p-Laplacian attention, over inputs and
// returns what its attention does: images (C,H,W) of a classifier, symbols (n) of
// a language model, all of one length, at most its context. Weights are those of op.AttentionConfig.Weights, computed from
// the queries, keys and values of the network's own graph (nn.Builder.Observe), so
// fidelity is not in them.
func Attention(ctx context.Context, m model.Model, workers int, inputs ...[]float32) (*Diagnostics, error) {
	if len(inputs) == 0 {
		return nil, fmt.Errorf("attention: found no inputs, expected at least one")
	}
	w, err := newWatcher(m, workers, len(inputs[0]))
	if err != nil {
		return nil, err
	}
	defer w.vm.Close()
	var sum *Diagnostics
	for i, in := range inputs {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if len(in) != len(w.in) {
			return nil, fmt.Errorf("attention: found %d numbers in input %d, expected %d as in the first", len(in), i, len(w.in))
		}
		if err := w.run(in); err != nil {
			return nil, fmt.Errorf("attention: input %d: %w", i, err)
		}
		one := w.diagnose()
		if sum == nil {
			sum = one
			continue
		}
		sum.add(one)
	}
	sum.scale(1 / float64(len(inputs)))
	sum.Inputs = len(inputs)
	return sum, nil
}

func (d *Diagnostics) add(e *Diagnostics) {
	d.Embedding += e.Embedding
	for l := range d.Layers {
		a, b := &d.Layers[l], &e.Layers[l]
		a.Cosine += b.Cosine
		for h := range a.Heads {
			a.Heads[h].Self += b.Heads[h].Self
			a.Heads[h].Entropy += b.Heads[h].Entropy
		}
	}
}

func (d *Diagnostics) scale(f float64) {
	d.Embedding *= Number(f)
	for l := range d.Layers {
		a := &d.Layers[l]
		a.Cosine *= Number(f)
		for h := range a.Heads {
			a.Heads[h].Self *= f
			a.Heads[h].Entropy *= f
		}
	}
}

// watched names a node inside a transformer: (-1,"tokens") enters the first layer;
// of layer l there are "qkv", "attention" and "tokens".
type watched struct {
	layer int
	part  string
}

// watcher is a transformer compiled for one input, whose inner values can be read.
type watcher struct {
	net    model.Model
	in     []float32
	values map[watched]*G.Value
	vm     G.VM

	layers, heads, channels, tokens int
}

// newWatcher compiles m for inputs of n numbers.
func newWatcher(m model.Model, workers, n int) (*watcher, error) {
	cfg := m.Config()
	if _, ok := model.AttentionOf(m, 0); !ok {
		return nil, &NoAttentionError{cfg.Type, cfg.Type}
	}
	w := &watcher{net: m, in: make([]float32, n), values: map[watched]*G.Value{}, layers: cfg.Blocks, heads: cfg.Heads, channels: cfg.Plat.Width}
	b := nn.NewBuilder(G.NewGraph(), op.NewInferenceEnv(workers), m.Params())
	b.Observe = func(t int, part string, node *G.Node) {
		op.Keep(node)
		v := new(G.Value)
		G.Read(node, v)
		w.values[watched{t, part}] = v
		if part == "tokens" {
			w.tokens = node.Shape()[3]
		}
	}
	var err error
	switch net := m.(type) {
	case model.Classifier:
		c, h, width := net.Input()
		if n != c*h*width {
			return nil, fmt.Errorf("attention: found %d samples, expected %d channels of %dx%d", n, c, width, h)
		}
		_, err = net.Classify(b, b.Input("in", w.in, 1, c, h, width))
	case model.LanguageModel:
		_, err = net.Predict(b, b.Input("in", w.in, 1, n))
	default:
		err = &NoAttentionError{cfg.Type, cfg.Type}
	}
	if err != nil {
		return nil, err
	}
	w.vm = G.NewTapeMachine(b.Graph)
	return w, nil
}

// run computes the network for one input.
func (w *watcher) run(in []float32) error {
	copy(w.in, in)
	w.vm.Reset()
	if err := w.vm.RunAll(); err != nil {
		return err
	}
	for l := range w.layers {
		for i, v := range w.value(l, "tokens") {
			if v-v != 0 {
				return fmt.Errorf("layer %d: found %v at element %d of its tokens, expected a finite number", l, v, i)
			}
		}
	}
	return nil
}

// value returns what a part of a layer computed.
func (w *watcher) value(layer int, part string) []float32 {
	return (*w.values[watched{layer, part}]).Data().([]float32)
}

// weights returns the shares of one head (n,n) in rows: weights divided by their
// sum.
func (w *watcher) weights(layer, head int) []float64 {
	cfg, _ := model.AttentionOf(w.net, layer)
	out := cfg.Weights(w.value(layer, "qkv"), w.channels, w.tokens, cfg.P, head)
	for i := range w.tokens {
		row := out[i*w.tokens:][:w.tokens]
		sum := 0.
		for _, v := range row {
			sum += v
		}
		for j := range row {
			if sum > 0 {
				row[j] /= sum
			}
		}
	}
	return out
}

// diagnose returns the diagnostics of the input that was run last.
func (w *watcher) diagnose() *Diagnostics {
	d := &Diagnostics{Inputs: 1, Tokens: w.tokens, Embedding: Number(pairwiseCosine(w.value(-1, "tokens"), w.channels, w.tokens))}
	for l := range w.layers {
		cfg, _ := model.AttentionOf(w.net, l)
		layer := AttentionLayer{Cosine: Number(pairwiseCosine(w.value(l, "tokens"), w.channels, w.tokens))}
		for h := range w.heads {
			self, entropy := describeRows(w.weights(l, h), w.tokens)
			layer.Heads = append(layer.Heads, AttentionHead{P: cfg.P[h], Self: self, Entropy: entropy})
		}
		d.Layers = append(d.Layers, layer)
	}
	return d
}

// describeRows returns the mean diagonal element and the mean entropy in nats of
// the rows of shares (n,n).
func describeRows(w []float64, n int) (self, entropy float64) {
	for i := range n {
		self += w[i*n+i]
		for _, v := range w[i*n:][:n] {
			if v > 0 {
				entropy -= v * math.Log(v)
			}
		}
	}
	return self / float64(n), entropy / float64(n)
}

// pairwiseCosine returns the mean over pairs i != j of cos(x_i, x_j) of tokens x
// (C,n), by
//
//	(|sum u_i|^2 - sum |u_i|^2) / (n (n-1)),  u_i = x_i/|x_i|, or 0 for a token of zeros
//
// NaN for a single token.
func pairwiseCosine(x []float32, channels, n int) float64 {
	if n < 2 {
		return math.NaN()
	}
	norms := make([]float64, n)
	for c := range channels {
		for i, v := range x[c*n:][:n] {
			norms[i] += float64(v) * float64(v)
		}
	}
	var squares, total float64
	for i, v := range norms {
		if v > 0 {
			squares++
			norms[i] = 1 / math.Sqrt(v)
		}
	}
	for c := range channels {
		sum := 0.
		for i, v := range x[c*n:][:n] {
			sum += float64(v) * norms[i]
		}
		total += sum * sum
	}
	return (total - squares) / (float64(n) * float64(n-1))
}
