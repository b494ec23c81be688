package infer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// LanguageModel is a trained network ready to go on with a text. It may be used
// by several goroutines at once.
type LanguageModel struct {
	name       string
	net        model.LanguageModel
	vocabulary data.Vocabulary
	passes     passes
}

// GenerateOptions says how a text goes on.
type GenerateOptions struct {
	Length int // symbols to add, at least 1

	// Temperature divides the logits before a symbol is drawn: the smaller, the
	// likelier what is likely. At 0 the likeliest symbol is taken, of several the
	// first of the vocabulary.
	Temperature float64
	// TopK keeps only so many of the likeliest symbols to draw from; 0 keeps all.
	TopK int
	Seed uint64

	// Each, if set, is called with each symbol's text as it comes; an error ends the
	// text and is returned. Of a vocabulary of bytes it gets a byte at a time.
	Each func(text string) error
}

// PromptError says what of a prompt a language model has no symbol for.
type PromptError struct{ err error }

// Error names the symbol and its place.
func (e *PromptError) Error() string {
	return "prompt: " + strings.TrimPrefix(e.err.Error(), "text: ")
}

// Unwrap returns the vocabulary's error.
func (e *PromptError) Unwrap() error { return e.err }

// OpenLanguageModel returns the language model called nameOrPath: the name of an
// embedded one or the path of a safetensors file, which describes itself. A name
// that is neither gives a *NotFoundError, a network of another kind a *KindError;
// a file that is damaged gives an error that names what was found.
func OpenLanguageModel(nameOrPath string) (*LanguageModel, error) {
	m, trained, err := open(nameOrPath, model.Language)
	if err != nil {
		return nil, err
	}
	net, ok := m.(model.LanguageModel)
	if !ok {
		return nil, fmt.Errorf("%s: found type %s, which writes no text", nameOrPath, m.Config().Type)
	}
	if err := trained.Validate(net.Symbols()); err != nil {
		return nil, fmt.Errorf("%s: metadata %q: %w", nameOrPath, model.MetaTask, err)
	}
	return NewLanguageModel(nameOrPath, net, *trained.Vocabulary)
}

// NewLanguageModel wraps a network that is already built; v is what its symbols
// stand for. The parameters are read in place: they may be changed between texts,
// not during one.
func NewLanguageModel(name string, net model.LanguageModel, v data.Vocabulary) (*LanguageModel, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	if v.Len() != net.Symbols() {
		return nil, fmt.Errorf("vocabulary: found %d symbols, expected %d, as many as the network has", v.Len(), net.Symbols())
	}
	return &LanguageModel{name: name, net: net, vocabulary: v}, nil
}

// Name returns the name or path the model was opened by.
func (m *LanguageModel) Name() string { return m.name }

// Vocabulary returns what the symbols of the model stand for.
func (m *LanguageModel) Vocabulary() data.Vocabulary { return m.vocabulary }

// Params returns the number of learned scalars.
func (m *LanguageModel) Params() int { return m.net.Params().Count() }

// Model returns the network itself: configuration, parameters, context.
func (m *LanguageModel) Model() model.LanguageModel { return m.net }

// Generate returns what follows prompt: o.Length symbols, each drawn by the
// probability the network gives it after the symbols before, of which it sees the
// last Context. The same seed gives the same text, with the same kernels.
//
// An empty prompt stands for the beginning of a line: the network sees a newline,
// or its symbol 0 where the vocabulary has none, which is no part of the result.
// A prompt with a symbol that is not in the vocabulary is a *PromptError that says
// which and where. When the context ends or Each fails, the text so far is
// returned beside the error.
//
// Every symbol costs one pass over the text seen: nothing is kept from the symbol
// before.
func (m *LanguageModel) Generate(ctx context.Context, prompt string, o GenerateOptions) (string, error) {
	switch {
	case o.Length < 1:
		return "", fmt.Errorf("length: found %d, expected at least 1", o.Length)
	case !(o.Temperature >= 0) || math.IsInf(o.Temperature, 0):
		return "", fmt.Errorf("temperature: found %v, expected 0 (the likeliest) or more", o.Temperature)
	case o.TopK < 0:
		return "", fmt.Errorf("top-k: found %d, expected 0 (all) or more", o.TopK)
	}
	text, err := m.vocabulary.Encode(prompt)
	if err != nil {
		return "", &PromptError{err}
	}
	if len(text) == 0 {
		text = []int{m.Start()}
	}
	// Only the end is ever looked at.
	text = slices.Clone(text[max(len(text)-m.net.Context(), 0):])
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	var out strings.Builder
	for range o.Length {
		if err := context.Cause(ctx); err != nil {
			return out.String(), err
		}
		logits, err := m.Next(text)
		if err != nil {
			return out.String(), err
		}
		s := draw(logits, o.Temperature, o.TopK, rng)
		if len(text) == m.net.Context() {
			copy(text, text[1:])
			text = text[:len(text)-1]
		}
		text = append(text, s)
		piece := m.vocabulary.Decode([]int{s})
		out.WriteString(piece)
		if o.Each != nil {
			if err := o.Each(piece); err != nil {
				return out.String(), err
			}
		}
	}
	return out.String(), nil
}

// Start returns the symbol that stands for an empty prompt: a newline, or symbol 0.
func (m *LanguageModel) Start() int {
	if s, err := m.vocabulary.Encode("\n"); err == nil && len(s) == 1 {
		return s[0]
	}
	return 0
}

// Next returns the logits (S) of the symbol after a text, of which the last
// Context symbols are seen; it has at least one.
func (m *LanguageModel) Next(text []int) ([]float32, error) {
	if len(text) == 0 {
		return nil, fmt.Errorf("text: found no symbol, expected at least one")
	}
	text = text[max(len(text)-m.net.Context(), 0):]
	for i, s := range text {
		if s < 0 || s >= m.net.Symbols() {
			return nil, fmt.Errorf("text: found symbol %d at place %d, expected 0 to %d", s, i, m.net.Symbols()-1)
		}
	}
	// Lengths double, so that few graphs are compiled. No symbol sees those after
	// it, so what the rest of the input holds has no effect.
	n := min(16, m.net.Context())
	for n < len(text) {
		n = min(2*n, m.net.Context())
	}
	logits := make([]float32, m.net.Symbols())
	err := m.passes.with(n, func() (*pass, error) {
		return newPass(m.net.Params(), m.net.Predict, 1, n)
	}, func(one *pass) error {
		clear(one.in)
		for i, s := range text {
			one.in[i] = float32(s)
		}
		all, err := one.run(len(logits) * n) // (1,S,1,n)
		if err != nil {
			return err
		}
		for s := range logits {
			logits[s] = all[s*n+len(text)-1]
		}
		if i := notFinite(logits); i >= 0 {
			return fmt.Errorf("found the logit %v of symbol %d, expected a finite number: the weights are damaged", logits[i], i)
		}
		return nil
	})
	return logits, err
}

// draw returns a symbol by its logits; see GenerateOptions.
func draw(logits []float32, temperature float64, topK int, rng *rand.Rand) int {
	order := make([]int, len(logits))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return 0
	})
	if temperature == 0 {
		return order[0]
	}
	if topK > 0 {
		order = order[:min(topK, len(order))]
	}
	kept := make([]float32, len(order))
	for i, s := range order {
		kept[i] = logits[s]
	}
	u := rng.Float64()
	for i, p := range softmax(kept, temperature) {
		if u -= p; u < 0 {
			return order[i]
		}
	}
	return order[0] // what rounding left over
}
