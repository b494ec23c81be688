package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// SquaredError adds scale/2 times the sum of (x - y)^2 over all elements of two
// tensors of one shape, a scalar, summed in float64. The target y has no
// gradient.
func SquaredError(e *Env, x, y *G.Node, scale float64) (*G.Node, error) {
	return applyAny(e, &squaredError[float32]{scale: scale}, &squaredError[float64]{scale: scale}, x, y)
}

type squaredError[T kernel.Float] struct{ scale float64 }

func (f *squaredError[T]) String() string { return "squaredError" }

func (f *squaredError[T]) wants() []bool { return []bool{true, false} }

func (f *squaredError[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if !(f.scale > 0) {
		return nil, fmt.Errorf("scale is %v, expected above 0", f.scale)
	}
	return tensor.ScalarShape(), sameShape("target", in[1], in[0])
}

func (f *squaredError[T]) forward(e *Env, in [][]T, out []T) {
	var sum float64
	for i, v := range in[0] {
		d := float64(v) - float64(in[1][i])
		sum += d * d
	}
	out[0] = T(f.scale / 2 * sum)
}

func (f *squaredError[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	k := dout[0] * T(f.scale)
	for i, v := range in[0] {
		din[0][i] = k * (v - in[1][i])
	}
}

// SoftmaxError adds scale times the sum over the rows of logits (n,R,c) of the
// cross-entropy of their softmax with labels (n,R), whole numbers from 0 to c-1:
//
//	scale * sum_i ( log sum_k exp(logits[i,k]) - logits[i,label_i] )
//
// a scalar, natural logarithm, summed in float64. Labels have no gradient; one
// that is no class makes the result NaN.
func SoftmaxError(e *Env, logits, labels *G.Node, scale float64) (*G.Node, error) {
	return applyAny(e, &softmaxError[float32]{scale: scale}, &softmaxError[float64]{scale: scale}, logits, labels)
}

type softmaxError[T kernel.Float] struct {
	scale   float64
	classes int
	p       []float64
}

func (f *softmaxError[T]) String() string { return "softmaxError" }

func (f *softmaxError[T]) wants() []bool { return []bool{true, false} }

func (f *softmaxError[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if !(f.scale > 0) {
		return nil, fmt.Errorf("scale is %v, expected above 0", f.scale)
	}
	if err := rank("logits", in[0], 3); err != nil {
		return nil, err
	}
	f.classes = in[0][2]
	f.p = make([]float64, f.classes)
	return tensor.ScalarShape(), sameShape("labels", in[1], tensor.Shape{in[0][0], in[0][1]})
}

// Softmax writes exp(x[k])/sum exp(x) to p and returns log sum exp(x).
func Softmax[T kernel.Float](x []T, p []float64) float64 {
	top := math.Inf(-1)
	for _, v := range x {
		top = math.Max(top, float64(v))
	}
	var sum float64
	for k, v := range x {
		p[k] = math.Exp(float64(v) - top)
		sum += p[k]
	}
	for k := range p[:len(x)] {
		p[k] /= sum
	}
	return top + math.Log(sum)
}

// label returns the class of row i, or -1.
func (f *softmaxError[T]) label(labels []T, i int) int {
	l := int(labels[i])
	if l < 0 || l >= f.classes || T(l) != labels[i] {
		return -1
	}
	return l
}

func (f *softmaxError[T]) forward(e *Env, in [][]T, out []T) {
	var sum float64
	for i := range in[1] {
		row := in[0][i*f.classes:][:f.classes]
		log := Softmax(row, f.p)
		if l := f.label(in[1], i); l >= 0 {
			sum += log - float64(row[l])
		} else {
			sum = math.NaN()
		}
	}
	out[0] = T(f.scale * sum)
}

func (f *softmaxError[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := float64(dout[0]) * f.scale
	for i := range in[1] {
		Softmax(in[0][i*f.classes:][:f.classes], f.p)
		d := din[0][i*f.classes:][:f.classes]
		l := f.label(in[1], i)
		for k, p := range f.p {
			switch {
			case l < 0:
				p = math.NaN()
			case k == l:
				p--
			}
			d[k] = T(s * p)
		}
	}
}

// WeightDecay adds loss + beta/2 (|a|^2 + |b|^2), a scalar, summed in float64.
func WeightDecay(e *Env, loss, a, b *G.Node, beta float64) (*G.Node, error) {
	return applyAny(e, &weightDecay[float32]{beta: beta}, &weightDecay[float64]{beta: beta}, loss, a, b)
}

type weightDecay[T kernel.Float] struct{ beta float64 }

func (f *weightDecay[T]) String() string { return "weightDecay" }

func (f *weightDecay[T]) wants() []bool { return []bool{true, true, true} }

func (f *weightDecay[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if !(f.beta >= 0) {
		return nil, fmt.Errorf("beta is %v, expected at least 0", f.beta)
	}
	return tensor.ScalarShape(), sameShape("loss", in[0], tensor.ScalarShape())
}

func (f *weightDecay[T]) forward(e *Env, in [][]T, out []T) {
	var sum float64
	for _, w := range in[1:] {
		for _, v := range w {
			sum += float64(v) * float64(v)
		}
	}
	out[0] = T(float64(in[0][0]) + f.beta/2*sum)
}

func (f *weightDecay[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	din[0][0] = dout[0]
	k := dout[0] * T(f.beta)
	for i, w := range in[1:] {
		for j, v := range w {
			din[i+1][j] = k * v
		}
	}
}
