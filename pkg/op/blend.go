package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Blend adds p a + (1-p) b for two images of one shape and p (1): a block skip.
func Blend(e *Env, a, b, p *G.Node) (*G.Node, error) {
	return applyAny(e, &blend[float32]{}, &blend[float64]{}, a, b, p)
}

type blend[T kernel.Float] struct{}

func (f *blend[T]) String() string { return "blend" }

func (f *blend[T]) wants() []bool { return []bool{true, true, true} }

func (f *blend[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if err := sameShape("second image", in[1], in[0]); err != nil {
		return nil, err
	}
	return in[0].Clone(), sameShape("coefficient", in[2], tensor.Shape{1})
}

func (f *blend[T]) forward(e *Env, in [][]T, out []T) {
	kernel.LinearCombination(out, []T{in[2][0], 1 - in[2][0]}, in[0], in[1])
}

func (f *blend[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	p := in[2][0]
	kernel.LinearCombination(din[0], []T{p}, dout)
	kernel.LinearCombination(din[1], []T{1 - p}, dout)
	din[2][0] = T(kernel.Dot(dout, in[0]) - kernel.Dot(dout, in[1]))
}

// Project adds x with the samples put back: y where mask is 1, x elsewhere, all
// of one shape. y and mask have no gradient.
func Project(e *Env, x, y, mask *G.Node) (*G.Node, error) {
	return applyAny(e, &project[float32]{}, &project[float64]{}, x, y, mask)
}

type project[T kernel.Float] struct{}

func (f *project[T]) String() string { return "project" }

func (f *project[T]) wants() []bool { return []bool{true, false, false} }

func (f *project[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if err := sameShape("samples", in[1], in[0]); err != nil {
		return nil, err
	}
	return in[0].Clone(), sameShape("mask", in[2], in[0])
}

func (f *project[T]) forward(e *Env, in [][]T, out []T) {
	x, y, m := in[0], in[1], in[2]
	for i := range out {
		if m[i] != 0 {
			out[i] = y[i]
		} else {
			out[i] = x[i]
		}
	}
}

func (f *project[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	for i, m := range in[2] {
		if m != 0 {
			din[0][i] = 0
		} else {
			din[0][i] = dout[i]
		}
	}
}

// Sum adds the sum of images of one shape.
func Sum(e *Env, images ...*G.Node) (*G.Node, error) {
	return applyAny(e, &sum[float32]{}, &sum[float64]{}, images...)
}

type sum[T kernel.Float] struct{ coef []T }

func (f *sum[T]) String() string { return "sum" }

func (f *sum[T]) wants() []bool {
	w := make([]bool, len(f.coef))
	for i := range w {
		w[i] = true
	}
	return w
}

func (f *sum[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	f.coef = make([]T, len(in))
	for i, s := range in {
		f.coef[i] = 1
		if err := sameShape(fmt.Sprintf("image %d", i), s, in[0]); err != nil {
			return nil, err
		}
	}
	return in[0].Clone(), nil
}

func (f *sum[T]) forward(e *Env, in [][]T, out []T) { kernel.LinearCombination(out, f.coef, in...) }

func (f *sum[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	for _, d := range din {
		copy(d, dout)
	}
}
