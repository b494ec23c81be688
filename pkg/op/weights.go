package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// EdgeWeights adds the pixel graphs learned from features x (B,heads*D,H,W) with
// metric factors a (heads,D,D): for every image and head the operator
// graph.Weights computes, as padded planes (B,heads,planes,PlaneLen) in the
// layout of grid, which must be H x W. The backward pass keeps the D transformed features and the
// affinities of each head.
func EdgeWeights(e *Env, grid *graph.Grid, norm graph.Normalization, limit graph.Limit, x, a *G.Node) (*G.Node, error) {
	return applyAny(e, &edgeWeights[float32]{grid: grid, norm: norm, limit: limit},
		&edgeWeights[float64]{grid: grid, norm: norm, limit: limit}, x, a)
}

type edgeWeights[T kernel.Float] struct {
	grid              *graph.Grid
	norm              graph.Normalization
	limit             graph.Limit
	batch, heads, dim int
	each              []graph.Weights[T] // per image and head
}

func (f *edgeWeights[T]) String() string { return fmt.Sprintf("edgeWeights(%v)", f.norm) }

func (f *edgeWeights[T]) wants() []bool { return []bool{true, true} }

func (f *edgeWeights[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x, a := in[0], in[1]
	if err := rank("features", x, 4); err != nil {
		return nil, err
	}
	if err := rank("metric", a, 3); err != nil {
		return nil, err
	}
	f.batch, f.heads, f.dim = x[0], a[0], a[1]
	if err := sameShape("metric", a, tensor.Shape{f.heads, f.dim, f.dim}); err != nil {
		return nil, err
	}
	if err := sameShape("features", x, tensor.Shape{f.batch, f.heads * f.dim, f.grid.H, f.grid.W}); err != nil {
		return nil, err
	}
	f.each = make([]graph.Weights[T], f.batch*f.heads)
	for i := range f.each {
		f.each[i] = graph.Weights[T]{Grid: f.grid, Dim: f.dim, Limit: f.limit, Normalization: f.norm}
	}
	return tensor.Shape{f.batch, f.heads, f.norm.Planes(f.grid), f.grid.PlaneLen}, nil
}

func (f *edgeWeights[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	if e.Inference {
		clear(out) // a recycled buffer's padding is not zero
	}
	nx, na, no := f.dim*f.grid.H*f.grid.W, f.dim*f.dim, f.norm.Planes(f.grid)*f.grid.PlaneLen
	for i := range f.each {
		h := i % f.heads
		f.each[i].Inference = e.Inference
		f.each[i].Forward(s, out[i*no:][:no], in[0][i*nx:][:nx], in[1][h*na:][:na])
	}
}

func (f *edgeWeights[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	nx, na, no := f.dim*f.grid.H*f.grid.W, f.dim*f.dim, f.norm.Planes(f.grid)*f.grid.PlaneLen
	m := s.Mark()
	defer s.Release(m)
	da := s.Take(na)
	clear(din[1])
	for i := range f.each {
		h := i % f.heads
		f.each[i].Backward(s, dout[i*no:][:no], in[0][i*nx:][:nx], in[1][h*na:][:na], din[0][i*nx:][:nx], da)
		kernel.Axpy(1, da, din[1][h*na:][:na])
	}
}
