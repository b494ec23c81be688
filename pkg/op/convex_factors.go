package op

import (
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// FactorProduct adds the weights z (h.Size()) of a convex head from the layers
// w1 (J,m,a) and w2 (J,m,b) of m heads for each of its blocks:
//
//	Z_j = sum_r w1[j,r] w2[j,r]^T
//
// ConvexProduct of it is ConvexNetwork without relu, at a cost that does not grow
// with m where features are held.
func FactorProduct(e *Env, h ConvexHead, w1, w2 *G.Node) (*G.Node, error) {
	return applyAny(e, &factorProduct[float32]{h: h}, &factorProduct[float64]{h: h}, w1, w2)
}

type factorProduct[T kernel.Float] struct {
	h    ConvexHead
	m    int
	a, b int
}

func (f *factorProduct[T]) String() string { return "factorProduct" }

func (f *factorProduct[T]) wants() []bool { return []bool{true, true} }

func (f *factorProduct[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if err := f.h.Check(); err != nil {
		return nil, err
	}
	if err := rank("first layers", in[0], 3); err != nil {
		return nil, err
	}
	f.a, f.b = f.h.BlockShape()
	f.m = in[0][1]
	if err := sameShape("first layers", in[0], tensor.Shape{f.h.BlockCount(), f.m, f.a}); err != nil {
		return nil, err
	}
	return tensor.Shape{f.h.Size()}, sameShape("second layers", in[1], tensor.Shape{f.h.BlockCount(), f.m, f.b})
}

// rows calls do for rows i of the blocks' matrices and the heads that add to
// them; k numbers the heads of all blocks.
func (f *factorProduct[T]) rows(do func(k, i int, row int)) {
	for k := range f.h.BlockCount() * f.m {
		for i := range f.a {
			do(k, i, (k/f.m*f.a+i)*f.b)
		}
	}
}

func (f *factorProduct[T]) forward(e *Env, in [][]T, out []T) {
	clear(out)
	f.rows(func(k, i, row int) { fastAxpy(in[0][k*f.a+i], in[1][k*f.b:][:f.b], out[row:][:f.b]) })
}

func (f *factorProduct[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	clear(din[1])
	f.rows(func(k, i, row int) {
		d := dout[row:][:f.b]
		din[0][k*f.a+i] = fastDot(d, in[1][k*f.b:][:f.b])
		fastAxpy(in[0][k*f.a+i], d, din[1][k*f.b:][:f.b])
	})
}
