package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// CrossEntropy adds the mean over R*n places of the cross entropy in nats of K
// classes with logits (1,K,R,n), against labels (R,n), whole numbers from 0 to
// K-1, of which a share smoothing, from 0 to less than 1, is spread over all
// classes alike (Szegedy et al., CVPR 2016), a scalar: with x the logits of a place
// and y its label,
//
//	log p_k = x_k - log(sum over l of exp(x_l))
//	loss = -(1-smoothing) log p_y - smoothing/K sum over k of log p_k
//
// It keeps the largest logit and the sum of exponentials of each place; sums are in
// float64, in order. A label that is no such number is an error of the run. Labels
// have no gradient.
func CrossEntropy(e *Env, logits, labels *G.Node, smoothing float64) (*G.Node, error) {
	if !(smoothing >= 0 && smoothing < 1) {
		return nil, fmt.Errorf("cross entropy: smoothing is %g, expected 0 to less than 1", smoothing)
	}
	return applyAny(e, &crossEntropy[float32]{smoothing: smoothing}, &crossEntropy[float64]{smoothing: smoothing}, logits, labels)
}

type crossEntropy[T kernel.Float] struct {
	smoothing                float64
	classes, columns, places int // K, n, R*n
	top, part                []T // of each place: the largest logit, 1 over the sum of exp(x-top)
}

func (f *crossEntropy[T]) String() string {
	return fmt.Sprintf("crossEntropy(smoothing %g)", f.smoothing)
}

func (f *crossEntropy[T]) wants() []bool { return []bool{true, false} }

func (f *crossEntropy[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("logits", x, 4); err != nil {
		return nil, err
	}
	if x[0] != 1 || x[1] < 1 || x[2] < 1 || x[3] < 1 {
		return nil, fmt.Errorf("logits have shape %v, expected (1,K,R,n) with no empty dimension", x)
	}
	f.classes, f.columns, f.places = x[1], x[3], x[2]*x[3]
	f.top, f.part = make([]T, f.places), make([]T, f.places)
	return tensor.ScalarShape(), sameShape("labels", in[1], tensor.Shape{x[2], x[3]})
}

func (f *crossEntropy[T]) examine(in [][]T) error {
	return wholeNumbers("label", in[1], f.columns, f.classes)
}

// entropyBlock is how many places are worked on at a time.
const entropyBlock = 256

func (f *crossEntropy[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	x, labels := in[0], in[1]
	row := s.Take(entropyBlock)
	var sums, logits [entropyBlock]float64
	var total float64
	for first := 0; first < f.places; first += entropyBlock {
		n := min(entropyBlock, f.places-first)
		top, row := f.top[first:][:n], row[:n]
		copy(top, x[first:])
		for k := 1; k < f.classes; k++ {
			for i, v := range x[k*f.places+first:][:n] {
				top[i] = max(top[i], v)
			}
		}
		clear(sums[:n])
		clear(logits[:n])
		for k := range f.classes {
			at := x[k*f.places+first:][:n]
			kernel.LinearCombination(row, []T{1, -1}, at, top)
			if f.smoothing > 0 {
				for i, v := range row {
					logits[i] += float64(v)
				}
			}
			kernel.Exp(row, row)
			for i, v := range row {
				sums[i] += float64(v)
			}
		}
		for i := range n {
			y := float64(x[int(labels[first+i])*f.places+first+i]) - float64(top[i])
			total += math.Log(sums[i]) - (1-f.smoothing)*y - f.smoothing*logits[i]/float64(f.classes)
			f.part[first+i] = T(1 / sums[i])
		}
	}
	out[0] = T(total / float64(f.places))
}

// backward: the gradient of x_k is (p_k - (1-smoothing) [k = y] - smoothing/K)/(R n).
func (f *crossEntropy[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	x, labels, dx := in[0], in[1], din[0]
	scale := dout[0] / T(f.places)
	spread := scale * T(f.smoothing/float64(f.classes))
	for k := range f.classes {
		at, d := x[k*f.places:][:f.places], dx[k*f.places:][:f.places]
		kernel.LinearCombination(d, []T{1, -1}, at, f.top)
		kernel.Exp(d, d)
		kernel.Mul(d, d, f.part)
		for i, v := range d {
			d[i] = scale*v - spread
		}
	}
	one := scale * T(1-f.smoothing)
	for i, y := range labels {
		dx[int(y)*f.places+i] -= one
	}
}
