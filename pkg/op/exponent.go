package op

import (
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Positive adds a positive number for each element of x, of any shape, such as p of
// attention from a parameter that may become anything:
//
//	out = log(1 + exp(x)) + 1e-30
//
// The constant is there so that rounding does not make it 0. The gradient is
// 1/(1 + exp(-x)). RawPositive is the inverse.
func Positive(e *Env, x *G.Node) (*G.Node, error) {
	return applyAny(e, &positive[float32]{}, &positive[float64]{}, x)
}

// PositiveOf is Positive of a number.
func PositiveOf(x float64) float64 {
	return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) + leastPositive
}

// RawPositive returns x such that PositiveOf(x) is p, which must be above 1e-30.
func RawPositive(p float64) float64 {
	p -= leastPositive
	return p + math.Log(-math.Expm1(-p))
}

const leastPositive = 1e-30

type positive[T kernel.Float] struct{}

func (f *positive[T]) String() string { return "positive" }

func (f *positive[T]) wants() []bool { return []bool{true} }

func (f *positive[T]) shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

func (f *positive[T]) forward(e *Env, in [][]T, out []T) {
	for i, v := range in[0] {
		out[i] = T(PositiveOf(float64(v)))
	}
}

func (f *positive[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	for i, v := range in[0] {
		din[0][i] = dout[i] * T(1/(1+math.Exp(-float64(v))))
	}
}
