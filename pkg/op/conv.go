package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Conv adds the convolution of x (B,I,H,W) with weight (O,I,K,K), K 1 or 3, zero
// padding K/2, stride 1 or 2, plus bias (O) unless it is nil, then max(0, .) if relu; see
// kernel.ConvForward. The result is (B,O,ceil(H/stride),ceil(W/stride)). The
// backward pass needs the input and the output, and nothing else is stored.
func Conv(e *Env, x, weight, bias *G.Node, stride int, relu bool) (*G.Node, error) {
	in := []*G.Node{x, weight}
	if bias != nil {
		in = append(in, bias)
	}
	return applyAny(e, &conv[float32]{stride: stride, relu: relu, bias: bias != nil},
		&conv[float64]{stride: stride, relu: relu, bias: bias != nil}, in...)
}

type conv[T kernel.Float] struct {
	stride int
	relu   bool
	bias   bool
	c      kernel.Conv
}

func (f *conv[T]) String() string { return fmt.Sprintf("conv(stride %d, relu %v)", f.stride, f.relu) }

func (f *conv[T]) wants() []bool {
	if f.bias {
		return []bool{true, true, true}
	}
	return []bool{true, true}
}

func (f *conv[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x, w := in[0], in[1]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	if err := rank("weight", w, 4); err != nil {
		return nil, err
	}
	if w[1] != x[1] || w[2] != w[3] || w[2] != 1 && w[2] != 3 {
		return nil, fmt.Errorf("weight has shape %v, expected (O,%d,K,K) with K 1 or 3", w, x[1])
	}
	if f.stride != 1 && f.stride != 2 {
		return nil, fmt.Errorf("stride is %d, expected 1 or 2", f.stride)
	}
	if f.bias {
		if err := sameShape("bias", in[2], tensor.Shape{w[0]}); err != nil {
			return nil, err
		}
	}
	f.c = kernel.Conv{Batch: x[0], In: x[1], Out: w[0], H: x[2], W: x[3], Size: w[2], Stride: f.stride}
	return tensor.Shape{x[0], w[0], f.c.OutH(), f.c.OutW()}, nil
}

func (f *conv[T]) forward(e *Env, in [][]T, out []T) {
	var bias []T
	if f.bias {
		bias = in[2]
	}
	kernel.ConvForward(scratch[T](e), e.Workers, f.c, in[0], in[1], bias, out, f.relu)
}

func (f *conv[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	m := s.Mark()
	defer s.Release(m)
	if f.relu {
		d := s.Take(len(dout))
		kernel.ReLUGrad(d, out, dout)
		dout = d
	}
	kernel.ConvInputGrad(s, e.Workers, f.c, dout, in[1], din[0])
	var dbias []T
	if f.bias {
		dbias = din[2]
	}
	kernel.ConvWeightGrad(s, e.Workers, f.c, in[0], dout, din[1], dbias)
}

// ConvSkip adds a convolution with a learned skip: c_k0 x + c_k1 relu(conv(x)),
// for x (B,I,H,W), weight (I,I,K,K), bias (I) and row k of the coefficients c
// (rows,2); see Conv. One operation instead of two, so that the gradient of x
// needs one buffer. It keeps relu(conv(x)).
func ConvSkip(e *Env, x, weight, bias, c *G.Node, k int) (*G.Node, error) {
	return applyAny(e, &convSkip[float32]{conv: conv[float32]{stride: 1, relu: true, bias: true}, row: k},
		&convSkip[float64]{conv: conv[float64]{stride: 1, relu: true, bias: true}, row: k}, x, weight, bias, c)
}

type convSkip[T kernel.Float] struct {
	conv[T]
	row int // of the coefficients
	r   []T // relu(conv(x))
}

func (f *convSkip[T]) String() string { return "convSkip" }

func (f *convSkip[T]) wants() []bool { return []bool{true, true, true, true} }

func (f *convSkip[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	out, err := f.conv.shape(in[:3])
	if err != nil {
		return nil, err
	}
	if err := sameShape("convolution", out, in[0]); err != nil {
		return nil, err
	}
	if err := rank("coefficients", in[3], 2); err != nil {
		return nil, err
	}
	return out, sameShape("coefficients", in[3], tensor.Shape{max(in[3][0], f.row+1), 2})
}

func (f *convSkip[T]) forward(e *Env, in [][]T, out []T) {
	r := f.r
	switch {
	case e.Inference:
		s := scratch[T](e)
		m := s.Mark()
		defer s.Release(m)
		r = s.Take(len(out))
	case r == nil:
		r = make([]T, len(out))
		f.r = r
	}
	f.conv.forward(e, in[:3], r)
	kernel.LinearCombination(out, in[3][2*f.row:][:2], in[0], r)
}

func (f *convSkip[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	m := s.Mark()
	defer s.Release(m)
	c, dc := in[3][2*f.row:][:2], din[3]
	dr := s.Take(len(dout))
	kernel.LinearCombination(dr, c[1:], dout)
	f.conv.backward(e, in[:3], f.r, dr, din[:3])
	kernel.Axpy(c[0], dout, din[0])
	clear(dc)
	dc[2*f.row], dc[2*f.row+1] = T(kernel.Dot(dout, in[0])), T(kernel.Dot(dout, f.r))
}
