package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Rotary adds the rotary positions of Su et al. (RoFormer, 2021) to queries and keys
// of qkv (B,3C,R,n), laid out as for Attention: in each head, of even depth d, the
// channels 2k and 2k+1 of the query, and of the key, of token i are turned,
//
//	a = i * 10000^(-2k/d)
//	(x_2k, x_2k+1) <- (x_2k cos a - x_2k+1 sin a, x_2k sin a + x_2k+1 cos a)
//
// so that the products of queries and keys depend on differences of positions.
// Values stay as they are.
func Rotary(e *Env, qkv *G.Node, heads int) (*G.Node, error) {
	return applyAny(e, &rotary[float32]{heads: heads}, &rotary[float64]{heads: heads}, qkv)
}

// RotaryStep is Rotary in a branch.
func RotaryStep(heads int) Step {
	return Step{&rotary[float32]{heads: heads}, &rotary[float64]{heads: heads}, nil}
}

type rotary[T kernel.Float] struct {
	heads                    int
	batch, channels, rows, n int
	pairs                    int // of channels in a head
	cos, sin                 []T // (pairs,n)
}

func (f *rotary[T]) String() string { return fmt.Sprintf("rotary(%d heads)", f.heads) }

func (f *rotary[T]) wants() []bool { return []bool{true} }

func (f *rotary[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("queries, keys and values", x, 4); err != nil {
		return nil, err
	}
	if f.heads < 1 || x[1]%(6*f.heads) != 0 {
		return nil, fmt.Errorf("queries, keys and values have %d channels in all, expected three times an even number for each of %d heads", x[1], f.heads)
	}
	f.batch, f.channels, f.rows, f.n = x[0], x[1]/3, x[2], x[3]
	f.pairs = f.channels / f.heads / 2
	f.cos, f.sin = make([]T, f.pairs*f.n), make([]T, f.pairs*f.n)
	for k := range f.pairs {
		speed := math.Pow(10000, -float64(k)/float64(f.pairs))
		for i := range f.n {
			s, c := math.Sincos(float64(i) * speed)
			f.cos[k*f.n+i], f.sin[k*f.n+i] = T(c), T(s)
		}
	}
	return x.Clone(), nil
}

// turn sets dst to src turned by the positions, or back for direction -1.
func (f *rotary[T]) turn(dst, src []T, direction T) {
	stride := f.rows * f.n
	for b := range f.batch {
		image := b * 3 * f.channels * stride
		for pair := range f.channels { // of both queries and keys
			at := image + 2*pair*stride
			k := pair % f.pairs * f.n
			cos, sin := f.cos[k:][:f.n], f.sin[k:][:f.n]
			for r := range f.rows {
				x, y := src[at+r*f.n:][:f.n], src[at+stride+r*f.n:][:f.n]
				dx, dy := dst[at+r*f.n:][:f.n], dst[at+stride+r*f.n:][:f.n]
				kernel.Mul(dx, x, cos)
				kernel.MulAdd(dx, -direction, y, sin)
				kernel.Mul(dy, y, cos)
				kernel.MulAdd(dy, direction, x, sin)
			}
		}
		values := image + 2*f.channels*stride
		copy(dst[values:][:f.channels*stride], src[values:])
	}
}

func (f *rotary[T]) forward(e *Env, in [][]T, out []T) { f.turn(out, in[0], 1) }

func (f *rotary[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) { f.turn(din[0], dout, -1) }
