package explain

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// Coefficients are the learned numbers that steer a whole block. What the
// architecture does not have is nil.
type Coefficients struct {
	Gamma []float64 // ugtv: penalty of each ADMM layer, as it takes effect
	Mix   []float64 // weight of each head where the mixture is the same everywhere
	Skip  []float64 // block_skip: the part of the new picture that is taken
}

// HeadCoefficients are the learned numbers of one graph.
type HeadCoefficients struct {
	Alpha, Beta [][]float64 // step sizes: layers, then steps

	// With coupled colours: T (3,3) row-major, each row a mixture of R, G and B
	// that is asked to be smooth, and Q = T'T scaled to unit diagonal.
	T, Q []float64

	Slope []float64 // a_0 for values and a_1 for slopes; nil where slopes are not seen
	P     []float64 // ugpl: the exponent of the prior
}

// values returns a parameter in float64, nil where the network has none of that
// name.
func values(net model.Network, t int, part string) []float64 {
	p := net.Params().Get(fmt.Sprintf("block%d.%s", t, part))
	if p == nil {
		return nil
	}
	out := make([]float64, len(p.Data))
	for i, v := range p.Data {
		out[i] = float64(v)
	}
	return out
}

func coefficients(net model.Network, t int) Coefficients {
	gamma := values(net, t, "gamma")
	for i, v := range gamma {
		gamma[i] = max(v, graph.MinGamma)
	}
	return Coefficients{Gamma: gamma, Mix: values(net, t, "mix"), Skip: values(net, t, "block_skip")}
}

func headCoefficients(net model.Network, t, head int) (c HeadCoefficients) {
	cfg := net.Config()
	// What belongs to one head of a parameter whose first axis is heads.
	of := func(part string) []float64 {
		v := values(net, t, part)
		n := len(v) / cfg.Heads
		return v[head*n:][:n]
	}
	steps := func(part string) [][]float64 {
		v := of(part)
		var out [][]float64
		for len(v) > 0 && cfg.CGLayers > 0 {
			n := max(len(v)/(cfg.CGLayers-len(out)), 1)
			out, v = append(out, v[:n]), v[n:]
		}
		return out
	}
	c.Alpha, c.Beta = steps("alpha"), steps("beta")
	if v := of("color"); len(v) == 9 {
		c.T, c.Q = v, coupling(v)
	}
	if v := of("p"); len(v) == 1 {
		c.P = []float64{graph.Exponent(v[0])}
	} else if cfg.Uses("p") {
		c.P = []float64{cfg.P}
	}
	if v := of("slope"); len(v) == 2 {
		c.Slope = []float64{softplus(v[0]), softplus(v[1]) / 4}
	}
	return c
}

// coupling returns Q = T'T scaled to unit diagonal (3,3): what the solver uses of
// T.
func coupling(t []float64) []float64 {
	q := make([]float64, 9)
	for a := range 3 {
		for b := range 3 {
			var dot, aa, bb float64
			for k := range 3 {
				dot += t[3*k+a] * t[3*k+b]
				aa += t[3*k+a] * t[3*k+a]
				bb += t[3*k+b] * t[3*k+b]
			}
			q[3*a+b] = dot / (math.Sqrt(aa+1e-12) * math.Sqrt(bb+1e-12))
		}
	}
	return q
}

// softplus is log(1 + exp(x)).
func softplus(x float64) float64 {
	if x > 30 {
		return x
	}
	return math.Log1p(math.Exp(x))
}
