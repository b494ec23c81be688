package op

import (
	"fmt"
	"math"
)

// Weights returns the weights of one head of Attention for one sequence, as an
// n x n matrix in rows: the plain loop over all pairs, in float64, of what
// Attention's comment says, without fidelity. qkv (3C,n) are queries, keys and
// values of n tokens, p the exponent of all heads or of each, in place of cfg.P.
//
//	W_ij = M_ij / z_i,  or M_ij for UnnormalizedAttention
//
// A normalised row without any weight keeps its value: W_ii = 1. Sizes that do not
// fit panic.
func (cfg AttentionConfig) Weights(qkv []float32, channels, n int, p []float64, head int) []float64 {
	if cfg.Heads < 1 || channels%cfg.Heads != 0 || len(qkv) != 3*channels*n || head < 0 || head >= cfg.Heads || len(p) != 1 && len(p) != cfg.Heads {
		panic(fmt.Sprintf("op: weights of head %d of %d: %d values for 3x%d channels of %d tokens, %d exponents", head, cfg.Heads, len(qkv), channels, n, len(p)))
	}
	d := channels / cfg.Heads
	q, k, v := make([]float64, n*d), make([]float64, n*d), make([]float64, n*d) // (n,d)
	for part, dst := range [][]float64{q, k, v} {
		for c := range d {
			for i := range n {
				dst[i*d+c] = float64(qkv[(part*channels+head*d+c)*n+i])
			}
		}
	}
	exponent := p[head%len(p)]
	kappa := 1.
	if cfg.Variant == GraphGradientAttention {
		kappa = exponent / 2
	}
	square := 0. // of eps
	out := make([]float64, n*n)
	s := make([]float64, n)
	for i := range n {
		seen := n
		if cfg.Causal {
			seen = i + 1
		}
		if cfg.Causal || i == 0 {
			square = cfg.squaredEps(v[:seen*d], d)
		}
		top := math.Inf(-1)
		for j := range seen {
			s[j] = 0
			for c := range d {
				s[j] += q[i*d+c] * k[j*d+c]
			}
			s[j] /= math.Sqrt(float64(d))
			top = max(top, s[j])
		}
		sum := 0. // of exp(s)
		for j := range seen {
			sum += math.Exp(s[j] - top)
		}
		row, z := out[i*n:(i+1)*n], 0.
		for j := range seen {
			dist := square
			for c := range d {
				e := v[i*d+c] - v[j*d+c]
				dist += e * e
			}
			factor := 1.
			switch {
			case exponent == 2 && (i != j || cfg.Diagonal != ExcludedDiagonal):
			case i != j || cfg.Diagonal == LiteralDiagonal:
				factor = math.Pow(dist, (exponent-2)/2)
			case cfg.Diagonal == ExcludedDiagonal:
				factor = 0
			}
			row[j] = math.Pow(math.Exp(s[j]-top)/sum, kappa) * factor
			z += row[j]
		}
		switch {
		case cfg.Variant == UnnormalizedAttention:
		case z == 0:
			row[i] = 1
		default:
			for j := range seen {
				row[j] /= z
			}
		}
	}
	return out
}

// squaredEps returns the square of eps for values v (m,d).
func (cfg AttentionConfig) squaredEps(v []float64, d int) float64 {
	m := len(v) / d
	square := cfg.Eps * cfg.Eps
	if !cfg.Relative {
		return square
	}
	sum := 0. // of squared distances to the mean
	for c := range d {
		mean := 0.
		for i := range m {
			mean += v[i*d+c]
		}
		mean /= float64(m)
		for i := range m {
			e := v[i*d+c] - mean
			sum += e * e
		}
	}
	if m < 2 || sum == 0 {
		return square
	}
	return square * 2 * sum / float64(m-1)
}
