package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// NormalizeChannels adds (x - mean[c])/deviation[c] for x (B,C,H,W) and C constants
// of each kind, such as those of a set of images.
func NormalizeChannels(e *Env, x *G.Node, mean, deviation []float64) (*G.Node, error) {
	return applyAny(e, &normalizeChannels[float32]{mean: mean, deviation: deviation}, &normalizeChannels[float64]{mean: mean, deviation: deviation}, x)
}

type normalizeChannels[T kernel.Float] struct {
	mean, deviation []float64
	hw              int
}

func (f *normalizeChannels[T]) String() string {
	return fmt.Sprintf("normalizeChannels(%v, %v)", f.mean, f.deviation)
}

func (f *normalizeChannels[T]) wants() []bool { return []bool{true} }

func (f *normalizeChannels[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	if len(f.mean) != x[1] || len(f.deviation) != x[1] {
		return nil, fmt.Errorf("%d means and %d deviations, expected %d, one for each channel", len(f.mean), len(f.deviation), x[1])
	}
	for _, d := range f.deviation {
		if !(d > 0) {
			return nil, fmt.Errorf("deviations are %v, expected them above 0", f.deviation)
		}
	}
	f.hw = x[2] * x[3]
	return x.Clone(), nil
}

func (f *normalizeChannels[T]) forward(e *Env, in [][]T, out []T) {
	for i, v := range in[0] {
		c := i / f.hw % len(f.mean)
		out[i] = (v - T(f.mean[c])) / T(f.deviation[c])
	}
}

func (f *normalizeChannels[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	for i, d := range dout {
		din[0][i] = d / T(f.deviation[i/f.hw%len(f.mean)])
	}
}
