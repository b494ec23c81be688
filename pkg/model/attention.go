package model

import "github.com/unrollnet/unrollnet/pkg/op"

// AttentionOf returns what the attention of layer l of a transformer with
// p-Laplacian attention computes, P being that of each head, learned or fixed;
// false for other networks.
func AttentionOf(m Model, l int) (op.AttentionConfig, bool) {
	p := Exponents(m)
	if l < 0 || l >= len(p) {
		return op.AttentionConfig{}, false
	}
	cfg := m.Config()
	a := cfg.attention(cfg.Kind() == Language, l)
	a.P = p[l]
	return a, true
}
