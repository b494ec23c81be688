package op

import (
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Gelu adds x*Phi(x) element by element, Phi being the normal distribution; see
// kernel.Gelu. The backward pass recomputes the exponential from x.
func Gelu(e *Env, x *G.Node) (*G.Node, error) {
	return applyAny(e, &gelu[float32]{}, &gelu[float64]{}, x)
}

type gelu[T kernel.Float] struct{}

func (f *gelu[T]) String() string { return "gelu" }

func (f *gelu[T]) wants() []bool { return []bool{true} }

func (f *gelu[T]) shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

func (f *gelu[T]) forward(e *Env, in [][]T, out []T) { kernel.Gelu(out, in[0]) }

func (f *gelu[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	kernel.GeluGrad(din[0], in[0], dout)
}
