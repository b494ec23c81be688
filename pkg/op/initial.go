package op

import (
	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Initial adds the initial interpolation graph.Initial of the samples y
// (B,C,H,W) under mask. It has no gradient: nothing before it is learned.
func Initial(e *Env, y, mask *G.Node) (*G.Node, error) {
	return applyAny(e, &initial[float32]{}, &initial[float64]{}, y, mask)
}

type initial[T kernel.Float] struct{ s tensor.Shape }

func (f *initial[T]) String() string { return "initial" }

func (f *initial[T]) wants() []bool { return []bool{false, false} }

func (f *initial[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if err := rank("samples", in[0], 4); err != nil {
		return nil, err
	}
	f.s = in[0]
	return in[0].Clone(), sameShape("mask", in[1], in[0])
}

func (f *initial[T]) forward(e *Env, in [][]T, out []T) {
	graph.Initial(out, in[0], in[1], f.s[0]*f.s[1], f.s[2], f.s[3])
}

func (f *initial[T]) backward(*Env, [][]T, []T, []T, [][]T) {}
