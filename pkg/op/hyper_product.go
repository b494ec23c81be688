package op

import (
	"errors"
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Modulate adds Z = X * K for x (B,C,H,W) and a hyper-kernel k (C,H,W), or (C,W)
// for H = 1, that the batch shares: the context-dependent hyper-kernel, one score
// for each pixel (Zhang, arXiv 2401.17948). Nothing is kept.
func Modulate(e *Env, x, k *G.Node) (*G.Node, error) {
	return applyAny(e, &modulate[float32]{}, &modulate[float64]{}, x, k)
}

type modulate[T kernel.Float] struct{ batch, size int }

func (f *modulate[T]) String() string { return "modulate" }

func (f *modulate[T]) wants() []bool { return []bool{true, true} }

func (f *modulate[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x, k := in[0], in[1]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	f.batch, f.size = x[0], x[1]*x[2]*x[3]
	if x[2] == 1 && k.Dims() == 2 {
		return x.Clone(), sameShape("hyper-kernel", k, tensor.Shape{x[1], x[3]})
	}
	return x.Clone(), sameShape("hyper-kernel", k, tensor.Shape{x[1], x[2], x[3]})
}

func (f *modulate[T]) forward(e *Env, in [][]T, out []T) {
	for b := range f.batch {
		kernel.Mul(out[b*f.size:][:f.size], in[0][b*f.size:][:f.size], in[1])
	}
}

func (f *modulate[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	clear(din[1])
	for b := range f.batch {
		d := dout[b*f.size:][:f.size]
		kernel.Mul(din[0][b*f.size:][:f.size], d, in[1])
		kernel.MulAdd(din[1], 1, d, in[0][b*f.size:][:f.size])
	}
}

// Product is how GlobalProduct multiplies.
type Product string

// The products of a channel's z and v.
const (
	MatrixProduct      Product = "matrix"      // of two square images, as matrices
	FoldProduct        Product = "fold"        // of two sequences of n*n values, as n x n matrices, row by row
	ElementwiseProduct Product = "elementwise" // of any two, value by value
)

// GlobalProduct adds the products of z (B,C,H,W) with each of the m images v_j of
// its shape, (mB,C,H,W), those with v_0 first:
//
//	out[jB+b,c] = z[b,c] v_j[b,c]
//
// with z times v as product says. For matrices an output pixel sees a row of z and
// a column of v. All products that share z[b,c] are computed together. Nothing is
// kept. The gradients are
//
//	dz = sum over j of dout_j v_j^T,  dv_j = z^T dout_j
func GlobalProduct(e *Env, product Product, z *G.Node, v ...*G.Node) (*G.Node, error) {
	return applyAny(e, &globalProduct[float32]{product: product}, &globalProduct[float64]{product: product}, append([]*G.Node{z}, v...)...)
}

type globalProduct[T kernel.Float] struct {
	product Product
	factors int // m
	planes  int // B*C
	hw, n   int // of a plane, and the side of a matrix
	ld      int // n rounded up to what kernel.SmallGemm multiplies
}

func (f *globalProduct[T]) String() string { return fmt.Sprintf("globalProduct(%s)", f.product) }

func (f *globalProduct[T]) wants() []bool {
	w := make([]bool, 1+f.factors)
	for i := range w {
		w[i] = true
	}
	return w
}

func (f *globalProduct[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	z := in[0]
	if err := rank("left factor", z, 4); err != nil {
		return nil, err
	}
	f.factors, f.planes, f.hw = len(in)-1, z[0]*z[1], z[2]*z[3]
	if f.factors < 1 {
		return nil, errors.New("no right factor")
	}
	for j, v := range in[1:] {
		if err := sameShape(fmt.Sprintf("right factor %d", j), v, z); err != nil {
			return nil, err
		}
	}
	switch f.product {
	case MatrixProduct:
		if z[2] != z[3] {
			return nil, fmt.Errorf("factors have shape %v, expected square images for a product of matrices", z)
		}
		f.n = z[3]
	case FoldProduct:
		f.n = int(math.Round(math.Sqrt(float64(z[3]))))
		if z[2] != 1 || f.n*f.n != z[3] {
			return nil, fmt.Errorf("factors have shape %v, expected (B,C,1,n*n) to fold into matrices", z)
		}
	case ElementwiseProduct:
	default:
		return nil, fmt.Errorf("product is %q, expected %s, %s or %s", f.product, MatrixProduct, FoldProduct, ElementwiseProduct)
	}
	f.ld = (f.n + kernel.WindowAlign - 1) / kernel.WindowAlign * kernel.WindowAlign
	return tensor.Shape{f.factors * z[0], z[1], z[2], z[3]}, nil
}

// matrices is memory for the factors of one plane, one per worker.
type matrices[T kernel.Float] struct{ b, c, t []T }

func (f *globalProduct[T]) take(e *Env, workers int) []matrices[T] {
	s := scratch[T](e)
	m := make([]matrices[T], workers)
	for i := range m {
		// Columns from n to ld are multiplied, but their products are not looked at.
		m[i] = matrices[T]{s.TakeZero(f.n * f.ld), s.Take(f.n * f.ld), s.Take(f.n * f.n)}
	}
	return m
}

// padded returns the n x n matrix x with rows of ld values.
func (f *globalProduct[T]) padded(m matrices[T], x []T) []T {
	if f.ld == f.n {
		return x
	}
	kernel.CopyRows(m.b, f.ld, x, f.n, f.n, f.n)
	return m.b
}

// multiply sets dst to A x, plus dst if add, with A as for kernel.SmallGemm.
func (f *globalProduct[T]) multiply(m matrices[T], dst, a []T, ai, al int, x []T, add bool) {
	c := dst
	if f.ld != f.n {
		c = m.c
		if add {
			kernel.CopyRows(c, f.ld, dst, f.n, f.n, f.n)
		}
	}
	var init []T
	if add {
		init = c
	}
	kernel.SmallGemm(f.n, f.ld, f.n, a, ai, al, f.padded(m, x), init, c)
	if f.ld != f.n {
		kernel.CopyRows(dst, f.n, c, f.ld, f.n, f.n)
	}
}

func (f *globalProduct[T]) forward(e *Env, in [][]T, out []T) {
	size := f.planes * f.hw
	if f.product == ElementwiseProduct {
		for j := range f.factors {
			kernel.Mul(out[j*size:][:size], in[0], in[1+j])
		}
		return
	}
	s := scratch[T](e)
	defer s.Release(s.Mark())
	workers := max(1, min(e.Workers, f.planes))
	ms := f.take(e, workers)
	kernel.Parallel(workers, f.planes, func(worker, lo, hi int) {
		for i := lo * f.hw; i < hi*f.hw; i += f.hw {
			for j := range f.factors {
				f.multiply(ms[worker], out[j*size+i:][:f.hw], in[0][i:][:f.hw], f.n, 1, in[1+j][i:][:f.hw], false)
			}
		}
	})
}

func (f *globalProduct[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	size := f.planes * f.hw
	if f.product == ElementwiseProduct {
		clear(din[0])
		for j := range f.factors {
			kernel.MulAdd(din[0], 1, dout[j*size:][:size], in[1+j])
			kernel.Mul(din[1+j], dout[j*size:][:size], in[0])
		}
		return
	}
	s := scratch[T](e)
	defer s.Release(s.Mark())
	workers := max(1, min(e.Workers, f.planes))
	ms := f.take(e, workers)
	kernel.Parallel(workers, f.planes, func(worker, lo, hi int) {
		m := ms[worker]
		for i := lo * f.hw; i < hi*f.hw; i += f.hw {
			for j := range f.factors {
				d := dout[j*size+i:][:f.hw]
				kernel.Transpose(m.t, in[1+j][i:][:f.hw], f.n, f.n)
				f.multiply(m, din[0][i:][:f.hw], d, f.n, 1, m.t, j > 0)
				f.multiply(m, din[1+j][i:][:f.hw], in[0][i:][:f.hw], 1, f.n, d, false)
			}
		}
	})
}
