package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	G "gorgonia.org/gorgonia"
)

// The weights times the values are what Attention computes, and depend on distance
// as they should.
func TestWeightsAreThoseOfAttention(t *testing.T) {
	const heads, depth, n = 3, 5, 71
	const channels = heads * depth
	rng := rand.New(rand.NewPCG(4, 1))
	qkv := make([]float32, 3*channels*n)
	for i := range qkv {
		qkv[i] = float32(rng.NormFloat64())
	}
	for c := range channels { // an exact pair
		qkv[(2*channels+c)*n+9] = qkv[(2*channels+c)*n+4]
	}
	for _, variant := range []AttentionVariant{NormalizedAttention, UnnormalizedAttention, GraphGradientAttention} {
		for _, diagonal := range []AttentionDiagonal{LiteralDiagonal, NeutralDiagonal, ExcludedDiagonal} {
			for _, causal := range []bool{false, true} {
				for _, relative := range []bool{false, true} {
					for _, p := range [][]float64{{2}, {1.5, 2, 3.2}} {
						cfg := AttentionConfig{Heads: heads, Variant: variant, Diagonal: diagonal, Causal: causal, P: p, Eps: .2, Relative: relative}
						name := fmt.Sprintf("%+v", cfg)
						g := G.NewGraph()
						in := G.NewTensor(g, G.Float32, 4, G.WithShape(1, 3*channels, 1, n), G.WithName("qkv"), G.WithValue(dense(qkv, 1, 3*channels, 1, n)))
						out, err := Attention(NewEnv(1), cfg, in, nil, nil)
						if err != nil {
							t.Fatal(name, err)
						}
						var v G.Value
						G.Read(out, &v)
						vm := G.NewTapeMachine(g)
						if err := vm.RunAll(); err != nil {
							t.Fatal(name, err)
						}
						vm.Close()
						got := v.Data().([]float32)
						for h := range heads {
							w := cfg.Weights(qkv, channels, n, p, h)
							for i := range n {
								sum := 0.
								for j := range n {
									sum += w[i*n+j]
									if causal && j > i && w[i*n+j] != 0 {
										t.Fatalf("%s: token %d sees %d", name, i, j)
									}
								}
								if variant != UnnormalizedAttention && math.Abs(sum-1) > 1e-12 {
									t.Fatalf("%s: row %d sums to %v", name, i, sum)
								}
								for c := range depth {
									want := 0.
									for j := range n {
										want += w[i*n+j] * float64(qkv[(2*channels+h*depth+c)*n+j])
									}
									if d := math.Abs(float64(got[(h*depth+c)*n+i]) - want); !(d <= 2e-5*(1+math.Abs(want))) {
										t.Fatalf("%s: head %d, token %d, channel %d: attention gives %v, weights times values %v", name, h, i, c, got[(h*depth+c)*n+i], want)
									}
								}
							}
						}
					}
				}
			}
		}
	}
}
