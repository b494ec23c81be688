package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// L1Loss adds the mean of |x - y| over all elements of two tensors of one shape,
// a scalar. Its gradient at 0 is 0. The target y has none.
func L1Loss(e *Env, x, y *G.Node) (*G.Node, error) { return addLoss(e, lossL1, 0, x, y) }

// L2Loss adds the mean of (x - y)^2 over all elements, a scalar.
func L2Loss(e *Env, x, y *G.Node) (*G.Node, error) { return addLoss(e, lossL2, 0, x, y) }

// CharbonnierLoss adds the mean of sqrt((x - y)^2 + eps^2) over all elements, a
// scalar: L1 rounded off within eps of 0.
func CharbonnierLoss(e *Env, x, y *G.Node, eps float64) (*G.Node, error) {
	if !(eps > 0) {
		return nil, fmt.Errorf("charbonnier loss: eps is %g, expected above 0", eps)
	}
	return addLoss(e, lossCharbonnier, eps, x, y)
}

type lossKind string

const (
	lossL1          lossKind = "l1"
	lossL2          lossKind = "l2"
	lossCharbonnier lossKind = "charbonnier"
)

func addLoss(e *Env, kind lossKind, eps float64, x, y *G.Node) (*G.Node, error) {
	return applyAny(e, &loss[float32]{kind: kind, eps: eps}, &loss[float64]{kind: kind, eps: eps}, x, y)
}

type loss[T kernel.Float] struct {
	kind lossKind
	eps  float64
}

func (f *loss[T]) String() string { return fmt.Sprintf("loss(%s, eps %g)", f.kind, f.eps) }

func (f *loss[T]) wants() []bool { return []bool{true, false} }

func (f *loss[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	return tensor.ScalarShape(), sameShape("target", in[1], in[0])
}

// forward sums in float64, in order.
func (f *loss[T]) forward(e *Env, in [][]T, out []T) {
	var sum float64
	x, y := in[0], in[1]
	switch f.kind {
	case lossL1:
		for i, v := range x {
			sum += math.Abs(float64(v) - float64(y[i]))
		}
	case lossL2:
		for i, v := range x {
			d := float64(v) - float64(y[i])
			sum += d * d
		}
	case lossCharbonnier:
		for i, v := range x {
			d := float64(v) - float64(y[i])
			sum += math.Sqrt(d*d + f.eps*f.eps)
		}
	}
	out[0] = T(sum / float64(len(x)))
}

func (f *loss[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	x, y, dx := in[0], in[1], din[0]
	k := dout[0] / T(len(x))
	switch f.kind {
	case lossL1:
		for i, v := range x {
			switch d := v - y[i]; {
			case d > 0:
				dx[i] = k
			case d < 0:
				dx[i] = -k
			default:
				dx[i] = d * k // 0, or NaN
			}
		}
	case lossL2:
		for i, v := range x {
			dx[i] = 2 * k * (v - y[i])
		}
	case lossCharbonnier:
		for i, v := range x {
			d := float64(v) - float64(y[i])
			dx[i] = k * T(d/math.Sqrt(d*d+f.eps*f.eps))
		}
	}
}
