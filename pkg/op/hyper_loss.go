package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// SlowLoss adds the slow neural loss of Zhang, arXiv 2401.17948, of two or more
// hyper-kernels k_i (C_i,...) on the same N points, a scalar: with S_i the sum of
// k_i over its channels,
//
//	loss = sum over i > j of the mean over points of (S_j - S_i)^2
//
// computed, with n kernels, from D_i = n S_i - sum of all S_j as the mean over
// points of sum D_i^2/n. The gradient of every channel of k_i is 2 D_i/N. It keeps
// the D_i, in float64.
func SlowLoss(e *Env, kernels ...*G.Node) (*G.Node, error) {
	return applyAny(e, &slowLoss[float32]{}, &slowLoss[float64]{}, kernels...)
}

type slowLoss[T kernel.Float] struct {
	kernels, points int
	off             [][]float64 // n S_i - sum of all S_j
}

func (f *slowLoss[T]) String() string { return "slowLoss" }

func (f *slowLoss[T]) wants() []bool {
	w := make([]bool, f.kernels)
	for i := range w {
		w[i] = true
	}
	return w
}

func (f *slowLoss[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if len(in) < 2 {
		return nil, fmt.Errorf("%d hyper-kernels, expected at least 2 to compare", len(in))
	}
	for i, s := range in {
		if s.Dims() < 2 || s[0] < 1 {
			return nil, fmt.Errorf("hyper-kernel %d has shape %v, expected channels of points", i, s)
		}
		if !s[1:].Eq(in[0][1:]) {
			return nil, fmt.Errorf("hyper-kernel %d has shape %v, expected the points of the first, %v", i, s, in[0][1:])
		}
	}
	f.kernels, f.points = len(in), in[0][1:].TotalSize()
	f.off = make([][]float64, len(in))
	for i := range f.off {
		f.off[i] = make([]float64, f.points)
	}
	return tensor.ScalarShape(), nil
}

func (f *slowLoss[T]) forward(e *Env, in [][]T, out []T) {
	total := make([]float64, f.points)
	for i, k := range in {
		s := f.off[i]
		clear(s)
		for at := 0; at < len(k); at += f.points {
			for p, v := range k[at:][:f.points] {
				s[p] += float64(v)
			}
		}
		for p, v := range s {
			total[p] += v
		}
	}
	// Sum over pairs of (S_j-S_i)^2 = (1/n) sum over i of (n S_i - sum S_j)^2.
	n := float64(f.kernels)
	var loss float64
	for _, s := range f.off {
		for p, v := range s {
			s[p] = n*v - total[p]
			loss += s[p] * s[p]
		}
	}
	out[0] = T(loss / n / float64(f.points))
}

func (f *slowLoss[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	scale := 2 * float64(dout[0]) / float64(f.points)
	for i, s := range f.off {
		first := din[i][:f.points]
		for p, v := range s {
			first[p] = T(scale * v)
		}
		for at := f.points; at < len(din[i]); at += f.points {
			copy(din[i][at:], first)
		}
	}
}

// NormPenalty adds the sum of weights[i] times the Euclidean norm, not squared, of
// all elements of params[i], a scalar. The gradient of a norm is p/|p|, and 0
// where p is 0.
func NormPenalty(e *Env, weights []float64, params ...*G.Node) (*G.Node, error) {
	if len(weights) != len(params) {
		return nil, fmt.Errorf("norm penalty: %d weights for %d parameters", len(weights), len(params))
	}
	return applyAny(e, &normPenalty[float32]{weights: weights}, &normPenalty[float64]{weights: weights}, params...)
}

type normPenalty[T kernel.Float] struct {
	weights []float64
	norms   []float64
}

func (f *normPenalty[T]) String() string { return fmt.Sprintf("normPenalty(%v)", f.weights) }

func (f *normPenalty[T]) wants() []bool {
	w := make([]bool, len(f.weights))
	for i := range w {
		w[i] = true
	}
	return w
}

func (f *normPenalty[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	f.norms = make([]float64, len(in))
	return tensor.ScalarShape(), nil
}

func (f *normPenalty[T]) forward(e *Env, in [][]T, out []T) {
	var sum float64
	for i, p := range in {
		f.norms[i] = math.Sqrt(kernel.Dot(p, p))
		sum += f.weights[i] * f.norms[i]
	}
	out[0] = T(sum)
}

func (f *normPenalty[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	for i, p := range in {
		var c T
		if f.norms[i] > 0 {
			c = T(float64(dout[0]) * f.weights[i] / f.norms[i])
		}
		kernel.LinearCombination(din[i], []T{c}, p)
	}
}
