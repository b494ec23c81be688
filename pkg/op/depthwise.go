package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Depthwise adds the convolution of each channel of x (B,C,H,W) with a kernel of
// its own, weight (C,KH,KW) of odd sides, zero padding, stride 1 and no bias; see
// kernel.DepthwiseForward. A weight (C,K) is one of (C,1,K). The result has x's
// shape. Nothing is kept.
func Depthwise(e *Env, x, weight *G.Node) (*G.Node, error) {
	return applyAny(e, &depthwise[float32]{}, &depthwise[float64]{}, x, weight)
}

type depthwise[T kernel.Float] struct{ d kernel.Depthwise }

func (f *depthwise[T]) String() string { return "depthwise" }

func (f *depthwise[T]) wants() []bool { return []bool{true, true} }

func (f *depthwise[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x, w := in[0], in[1]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	kh, kw := 1, 0
	switch {
	case w.Dims() == 2:
		kw = w[1]
	case w.Dims() == 3:
		kh, kw = w[1], w[2]
	default:
		return nil, fmt.Errorf("kernels have shape %v, expected (C,KH,KW) or (C,K)", w)
	}
	if w[0] != x[1] || kh%2 == 0 || kw%2 == 0 {
		return nil, fmt.Errorf("kernels have shape %v, expected %d of them, one for each channel, with odd sides", w, x[1])
	}
	f.d = kernel.Depthwise{Batch: x[0], Channels: x[1], H: x[2], W: x[3], KH: kh, KW: kw}
	return x.Clone(), nil
}

func (f *depthwise[T]) forward(e *Env, in [][]T, out []T) {
	kernel.DepthwiseForward(scratch[T](e), e.Workers, f.d, in[0], in[1], out)
}

func (f *depthwise[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	kernel.DepthwiseInputGrad(s, e.Workers, f.d, dout, in[1], din[0])
	kernel.DepthwiseWeightGrad(s, e.Workers, f.d, in[0], dout, din[1])
}
