package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// NeuTRENO adds the pull of attention's output out (B,C,R,n) towards the values of
// the first layer (Nguyen et al., "Mitigating Over-smoothing in Transformers via
// Regularized Nonlocal Functionals", NeurIPS 2023): with v and v_first the last C of
// 3C channels of qkv and first (B,3C,R,n),
//
//	out + lambda (v_first - v)                                           (B,C,R,n)
func NeuTRENO(e *Env, out, qkv, first *G.Node, lambda float64) (*G.Node, error) {
	if math.IsNaN(lambda) || math.IsInf(lambda, 0) {
		return nil, fmt.Errorf("neutreno: lambda is %g, expected a number", lambda)
	}
	return applyAny(e, &neutreno[float32]{lambda: lambda}, &neutreno[float64]{lambda: lambda}, out, qkv, first)
}

type neutreno[T kernel.Float] struct {
	lambda       float64
	batch, image int // elements of an image of out
}

func (f *neutreno[T]) String() string { return fmt.Sprintf("neutreno(%g)", f.lambda) }

func (f *neutreno[T]) wants() []bool { return []bool{true, true, true} }

func (f *neutreno[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("output", x, 4); err != nil {
		return nil, err
	}
	f.batch, f.image = x[0], x[1]*x[2]*x[3]
	wide := tensor.Shape{x[0], 3 * x[1], x[2], x[3]}
	if err := sameShape("queries, keys and values", in[1], wide); err != nil {
		return nil, err
	}
	return x.Clone(), sameShape("those of the first layer", in[2], wide)
}

// values returns the values of image b in x (B,3C,R,n).
func (f *neutreno[T]) values(x []T, b int) []T { return x[(3*b+2)*f.image:][:f.image] }

func (f *neutreno[T]) forward(e *Env, in [][]T, out []T) {
	k := T(f.lambda)
	for b := range f.batch {
		at := b * f.image
		kernel.LinearCombination(out[at:][:f.image], []T{1, k, -k}, in[0][at:], f.values(in[2], b), f.values(in[1], b))
	}
}

func (f *neutreno[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	k := T(f.lambda)
	copy(din[0], dout)
	for b := range f.batch {
		d := dout[b*f.image:][:f.image]
		clear(din[1][3*b*f.image:][:2*f.image])
		clear(din[2][3*b*f.image:][:2*f.image])
		kernel.LinearCombination(f.values(din[1], b), []T{-k}, d)
		kernel.LinearCombination(f.values(din[2], b), []T{k}, d)
	}
}
