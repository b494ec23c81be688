package task

import (
	"context"
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// Language is the task of predicting each next symbol of a text: input symbols
// (n) is a window of it, next (n) the symbols that follow each.
type Language struct {
	Context   int // n
	Sampler   *data.TextSampler
	Smoothing float64 // of the next symbol's probability, as Classify's

	// How a network is measured while it trains.
	Text    *data.Sequences
	Limit   int // windows used, spread evenly over Text; 0 for all
	Workers int

	forward forwardCache
}

// Inputs implements Task.
func (l *Language) Inputs() []Input {
	return []Input{{Name: "symbols", Shape: []int{l.Context}}, {Name: "next", Shape: []int{l.Context}}}
}

// Batch implements Task.
func (l *Language) Batch(step int, dst [][]float32) error {
	return l.Sampler.Batch(step, dst[0], dst[1])
}

// Loss implements Task: the mean over windows and places of the cross-entropy of
// the next symbol, in nats.
func (l *Language) Loss(b *nn.Builder, m model.Model, in []*G.Node) (*G.Node, error) {
	net, ok := m.(model.LanguageModel)
	if !ok {
		return nil, wrongKind(m, model.Language)
	}
	logits, err := net.Predict(b, in[0])
	if err != nil {
		return nil, err
	}
	return op.CrossEntropy(b.Env, logits, in[1], l.Smoothing)
}

// Columns implements Task.
func (l *Language) Columns() []string { return figureColumns }

// Validate implements Task; networks are compared by nats, fewer being better.
func (l *Language) Validate(ctx context.Context, m model.Model) (Report, error) {
	net, ok := m.(model.LanguageModel)
	if !ok {
		return Report{}, wrongKind(m, model.Language)
	}
	r, err := evaluateLanguage(ctx, &l.forward, net, l.Text, LanguageOptions{Context: l.Context, Limit: l.Limit, Workers: l.Workers})
	if err != nil {
		return Report{}, err
	}
	return Report{Examples: r.Symbols, Unit: "symbols", Name: "nats", Value: float64(r.Nats), Lower: true, Digits: 4,
		Rows:  figureRows(r.Symbols, []string{"nats", "bits", "perplexity"}, []float64{float64(r.Nats), float64(r.Bits), float64(r.Perplexity)}),
		Event: map[string]any{"examples": r.Symbols, "nats": r.Nats, "bits": r.Bits, "perplexity": r.Perplexity}}, nil
}

// Prediction is what EvaluateLanguage measured.
type Prediction struct {
	Model   string `json:"model"`
	Task    string `json:"task"` // language
	Data    string `json:"data"`
	Part    string `json:"part,omitempty"`
	Symbols int    `json:"symbols"` // predicted
	Context int    `json:"context"` // of a window
	Params  int    `json:"params"`
	// Nats is the mean of -log p(next symbol), Bits the same to base 2, Perplexity
	// exp(Nats): as hard as to guess among so many symbols.
	Nats       Score   `json:"nats"`
	Bits       Score   `json:"bits"`
	Perplexity Score   `json:"perplexity"`
	Unit       string  `json:"unit"`    // of text that is a symbol: characters | bytes
	Seconds    float64 `json:"seconds"` // on the clock
}

// LanguageOptions says how EvaluateLanguage measures.
type LanguageOptions struct {
	Context int // of the windows, at most the network's; 0 for the network's
	Limit   int // windows measured, spread evenly over the text; 0 for all
	Workers int // graphs at work, at least 1
	Done    func(n int)
}

// EvaluateLanguage measures net on windows of a text that do not overlap, the
// first symbol of each being predicted from nothing before it but itself. The
// result does not depend on opt.Workers. Model, Data, Part, Unit and Seconds are
// left to the caller.
func EvaluateLanguage(ctx context.Context, net model.LanguageModel, text *data.Sequences, opt LanguageOptions) (Prediction, error) {
	return evaluateLanguage(ctx, &forwardCache{}, net, text, opt)
}

// languageBatch returns how many windows of n symbols of s there are go through
// a graph at once: about 2048 symbols, fewer where logits would be many.
func languageBatch(n, s int) int { return max(min(2048, 1<<22/s)/n, 1) }

func evaluateLanguage(ctx context.Context, cache *forwardCache, net model.LanguageModel, text *data.Sequences, opt LanguageOptions) (Prediction, error) {
	n := opt.Context
	if n == 0 {
		n = net.Context()
	}
	if n < 1 || n > net.Context() {
		return Prediction{}, fmt.Errorf("context: found %d symbols, expected 1 to %d, those of the network", n, net.Context())
	}
	total := text.Windows(n)
	windows := total
	if opt.Limit > 0 {
		windows = min(windows, opt.Limit)
	}
	if windows == 0 {
		return Prediction{}, fmt.Errorf("text: found no stretch of %d symbols, expected at least one, the context and one more", n+1)
	}
	s := net.Symbols()
	batch := min(languageBatch(n, s), windows)
	build := func() (*forward, error) {
		return newForward(net, func(b *nn.Builder, in []*G.Node) (*G.Node, error) {
			return net.Predict(b, in[0])
		}, Input{Name: "symbols", Shape: []int{batch, n}})
	}
	losses := make([]float64, windows) // sums over a window
	err := parallel(ctx, (windows+batch-1)/batch, opt.Workers, func(j int) error {
		from := j * batch
		count := min(batch, windows-from)
		x, next, logits := make([]float32, batch*n), make([]float32, batch*n), make([]float32, s*batch*n)
		for i := range count {
			if err := text.Window((from+i)*total/windows, x[i*n:(i+1)*n], next[i*n:(i+1)*n]); err != nil {
				return err
			}
		}
		for i, v := range x {
			if int(v) >= s || int(next[i]) >= s {
				return fmt.Errorf("text: found symbol %d, expected 0 to %d, those of the network", max(int(v), int(next[i])), s-1)
			}
		}
		if err := cache.run(net, [2]int{batch, n}, build, logits, x); err != nil {
			return err
		}
		one := make([]float64, s)
		for i := range count {
			for t := i * n; t < (i+1)*n; t++ {
				for k := range one {
					one[k] = float64(logits[k*batch*n+t])
				}
				loss, _ := surprise(one, int(next[t]))
				if math.IsNaN(loss) || math.IsInf(loss, 0) {
					return fmt.Errorf("window %d: the network's outputs are not finite", (from+i)*total/windows)
				}
				losses[from+i] += loss
			}
		}
		return nil
	}, func(j int) {
		if opt.Done != nil {
			opt.Done(min(batch, windows-j*batch))
		}
	})
	if err != nil {
		return Prediction{}, err
	}
	var sum float64
	for _, l := range losses {
		sum += l
	}
	nats := sum / float64(windows*n)
	return Prediction{Task: string(model.Language), Symbols: windows * n, Context: n, Params: net.Params().Count(),
		Nats: Score(nats), Bits: Score(nats / math.Ln2), Perplexity: Score(math.Exp(nats))}, nil
}
