package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// SiGLU adds x/(1+exp(-x)) element by element. The backward pass recomputes the
// sigmoid from x.
func SiGLU(e *Env, x *G.Node) (*G.Node, error) {
	return applyAny(e, &siGLU[float32]{}, &siGLU[float64]{}, x)
}

type siGLU[T kernel.Float] struct{}

func (f *siGLU[T]) String() string { return "siGLU" }

func (f *siGLU[T]) wants() []bool { return []bool{true} }

func (f *siGLU[T]) shape(in []tensor.Shape) (tensor.Shape, error) { return in[0].Clone(), nil }

func (f *siGLU[T]) forward(e *Env, in [][]T, out []T) {
	kernel.Parallel(e.Workers, len(out), func(_, lo, hi int) {
		x, y := in[0][lo:hi], out[lo:hi]
		sigmoid(y, x)
		kernel.Mul(y, y, x)
	})
}

func (f *siGLU[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	kernel.Parallel(e.Workers, len(dout), func(_, lo, hi int) {
		x, d := in[0][lo:hi], din[0][lo:hi]
		sigmoid(d, x)
		for i, s := range d {
			d[i] = s * (1 + x[i]*(1-s))
		}
		kernel.Mul(d, d, dout[lo:hi])
	})
}

// GeluShift adds Gelu(x) + shift, shift being one number (1).
func GeluShift(e *Env, x, shift *G.Node) (*G.Node, error) {
	return applyAny(e, &geluShift[float32]{}, &geluShift[float64]{}, x, shift)
}

type geluShift[T kernel.Float] struct{}

func (f *geluShift[T]) String() string { return "geluShift" }

func (f *geluShift[T]) wants() []bool { return []bool{true, true} }

func (f *geluShift[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	return in[0].Clone(), sameShape("shift", in[1], tensor.Shape{1})
}

func (f *geluShift[T]) forward(e *Env, in [][]T, out []T) {
	kernel.Parallel(e.Workers, len(out), func(_, lo, hi int) {
		y := out[lo:hi]
		kernel.Gelu(y, in[0][lo:hi])
		for i := range y {
			y[i] += in[1][0]
		}
	})
}

func (f *geluShift[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	kernel.Parallel(e.Workers, len(dout), func(_, lo, hi int) {
		kernel.GeluGrad(din[0][lo:hi], in[0][lo:hi], dout[lo:hi])
	})
	din[1][0] = T(kernel.Sum(dout))
}

// RecurrentGate adds Gelu(standardised k*w) + p for k and w (B,C,H,W) and offsets p
// of H*W values that channels and batch share, with instance statistics; see
// Standardise. It keeps the standardised product.
func RecurrentGate(e *Env, k, w, p *G.Node) (*G.Node, error) {
	return applyAny(e, newGate[float32](), newGate[float64](), k, w, p)
}

type gate[T kernel.Float] struct {
	std    standardise[T]
	normal []T // the standardised product
}

func newGate[T kernel.Float]() *gate[T] {
	return &gate[T]{std: standardise[T]{stat: InstanceStatistics}}
}

func (f *gate[T]) String() string { return "recurrentGate" }

func (f *gate[T]) wants() []bool { return []bool{true, true, true} }

func (f *gate[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	out, err := f.std.shape(in[:1])
	if err != nil {
		return nil, err
	}
	if err := sameShape("second factor", in[1], in[0]); err != nil {
		return nil, err
	}
	if err := sameSize("offsets", in[2], f.std.hw); err != nil {
		return nil, fmt.Errorf("%w, one for each pixel", err)
	}
	return out, nil
}

func (f *gate[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	normal := f.normal
	switch {
	case e.Inference:
		normal = s.Take(len(out))
	case normal == nil:
		normal = make([]T, len(out))
		f.normal = normal
	}
	hw := f.std.hw
	kernel.Mul(out, in[0], in[1])
	f.std.forward(e, [][]T{out}, normal)
	kernel.Parallel(e.Workers, len(out)/hw, func(_, lo, hi int) {
		for i := lo * hw; i < hi*hw; i += hw {
			kernel.Gelu(out[i:][:hw], normal[i:][:hw])
			kernel.Axpy(1, in[2], out[i:][:hw])
		}
	})
}

func (f *gate[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	hw := f.std.hw
	clear(din[2])
	for i := 0; i < len(dout); i += hw {
		kernel.Axpy(1, dout[i:][:hw], din[2])
	}
	d := s.Take(len(dout))
	kernel.Parallel(e.Workers, len(d), func(_, lo, hi int) { kernel.GeluGrad(d[lo:hi], f.normal[lo:hi], dout[lo:hi]) })
	f.std.backward(e, nil, f.normal, d, din[1:2])
	kernel.Mul(din[0], din[1], in[1])
	kernel.Mul(din[1], din[1], in[0])
}

// Gated are the parameters of RecursiveGatedUnit: 1x1 convolutions (C,C) with
// biases (C), and the offsets of its gate.
type Gated struct {
	Key, Value, Query, Out                 *G.Node
	KeyBias, ValueBias, QueryBias, OutBias *G.Node
	Offset                                 *G.Node
}

// RecursiveGatedUnit adds the gated unit of Zhang, arXiv 2401.17948, for x (B,C,H,W):
//
//	out = O(Gelu(standardised K(x) * Q(V(x))) + P)
//
// O, K, Q and V being 1x1 convolutions, the statistics an instance's and P the
// offsets. It is made of Pointwise and RecurrentGate.
func RecursiveGatedUnit(e *Env, x *G.Node, p Gated) (*G.Node, error) {
	k, err := Pointwise(e, p.Key, p.KeyBias, Part{X: x, Copies: 1})
	if err != nil {
		return nil, err
	}
	w, err := Pointwise(e, p.Value, p.ValueBias, Part{X: x, Copies: 1})
	if err == nil {
		w, err = Pointwise(e, p.Query, p.QueryBias, Part{X: w, Copies: 1})
	}
	if err == nil {
		w, err = RecurrentGate(e, k, w, p.Offset)
	}
	if err != nil {
		return nil, err
	}
	return Pointwise(e, p.Out, p.OutBias, Part{X: w, Copies: 1})
}

// ScaleChannels adds x (B,C,H,W) with each channel of each image times a number
// of factors (B,C), which have no gradient: dropout of whole channels, with 0 and
// 1/(1-rate) drawn by the caller.
func ScaleChannels(e *Env, x, factors *G.Node) (*G.Node, error) {
	return applyAny(e, &scaleChannels[float32]{}, &scaleChannels[float64]{}, x, factors)
}

type scaleChannels[T kernel.Float] struct{ hw int }

func (f *scaleChannels[T]) String() string { return "scaleChannels" }

func (f *scaleChannels[T]) wants() []bool { return []bool{true, false} }

func (f *scaleChannels[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	f.hw = x[2] * x[3]
	return x.Clone(), sameShape("factors", in[1], tensor.Shape{x[0], x[1]})
}

func (f *scaleChannels[T]) scale(dst, src, factors []T) {
	for i, v := range factors {
		kernel.LinearCombination(dst[i*f.hw:][:f.hw], []T{v}, src[i*f.hw:][:f.hw])
	}
}

func (f *scaleChannels[T]) forward(e *Env, in [][]T, out []T) { f.scale(out, in[0], in[1]) }

func (f *scaleChannels[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	f.scale(din[0], dout, in[1])
}

// GlobalMean adds the mean over the pixels of x (B,C,H,W), as tokens (1,C,1,B).
func GlobalMean(e *Env, x *G.Node) (*G.Node, error) {
	return applyAny(e, &globalMean[float32]{}, &globalMean[float64]{}, x)
}

type globalMean[T kernel.Float] struct{ batch, channels, hw int }

func (f *globalMean[T]) String() string { return "globalMean" }

func (f *globalMean[T]) wants() []bool { return []bool{true} }

func (f *globalMean[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	if x[2]*x[3] < 1 {
		return nil, fmt.Errorf("input has shape %v, expected pixels", x)
	}
	f.batch, f.channels, f.hw = x[0], x[1], x[2]*x[3]
	return tensor.Shape{1, x[1], 1, x[0]}, nil
}

func (f *globalMean[T]) forward(e *Env, in [][]T, out []T) {
	for b := range f.batch {
		for c := range f.channels {
			out[c*f.batch+b] = T(kernel.Sum(in[0][(b*f.channels+c)*f.hw:][:f.hw]) / float64(f.hw))
		}
	}
}

func (f *globalMean[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	for b := range f.batch {
		for c := range f.channels {
			constant(din[0][(b*f.channels+c)*f.hw:][:f.hw], dout[c*f.batch+b]/T(f.hw))
		}
	}
}
