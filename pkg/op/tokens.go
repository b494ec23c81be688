package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Patches adds the cut of images x (B,C,H,W), with values in [0,1], into patches
// of ph x pw pixels, which must divide H x W: tokens (1,C*ph*pw,B,n) for
// n = (H/ph)*(W/pw),
//
//	out[0, (c*ph+dy)*pw+dx, b, r*(W/pw)+q] = 2 x[b, c, r*ph+dy, q*pw+dx] - 1
//
// so that a convolution of size 1 maps each patch to a token.
func Patches(e *Env, x *G.Node, ph, pw int) (*G.Node, error) {
	return applyAny(e, &patches[float32]{ph: ph, pw: pw}, &patches[float64]{ph: ph, pw: pw}, x)
}

type patches[T kernel.Float] struct {
	ph, pw              int
	batch, channels     int
	height, width, h, w int // of the image in pixels and in patches
}

func (f *patches[T]) String() string { return fmt.Sprintf("patches(%dx%d)", f.ph, f.pw) }

func (f *patches[T]) wants() []bool { return []bool{true} }

func (f *patches[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("images", x, 4); err != nil {
		return nil, err
	}
	if f.ph < 1 || f.pw < 1 || x[2] < 1 || x[3] < 1 || x[2]%f.ph != 0 || x[3]%f.pw != 0 {
		return nil, fmt.Errorf("images have shape %v, expected sides that are multiples of %d and %d", x, f.ph, f.pw)
	}
	f.batch, f.channels, f.height, f.width = x[0], x[1], x[2], x[3]
	f.h, f.w = x[2]/f.ph, x[3]/f.pw
	return tensor.Shape{1, x[1] * f.ph * f.pw, x[0], f.h * f.w}, nil
}

// rows calls do for each row of patches and pixel of a patch: with the place of
// the first in images, from which they are pw apart, and in tokens, where they are
// next to each other.
func (f *patches[T]) rows(do func(pixel, token int)) {
	n := f.h * f.w
	for c := range f.channels {
		for dy := range f.ph {
			for dx := range f.pw {
				out := ((c*f.ph+dy)*f.pw + dx) * f.batch * n
				for b := range f.batch {
					for r := range f.h {
						do(((b*f.channels+c)*f.height+r*f.ph+dy)*f.width+dx, out+b*n+r*f.w)
					}
				}
			}
		}
	}
}

func (f *patches[T]) forward(e *Env, in [][]T, out []T) {
	f.rows(func(pixel, token int) {
		x := in[0][pixel:]
		for q := range out[token:][:f.w] {
			out[token+q] = 2*x[q*f.pw] - 1
		}
	})
}

func (f *patches[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	f.rows(func(pixel, token int) {
		d := din[0][pixel:]
		for q, v := range dout[token:][:f.w] {
			d[q*f.pw] = 2 * v
		}
	})
}

// Tokens adds what makes sequences of vectors the tokens of a transformer: to each
// of the B sequences x (1,C,B,n), class (C) is prepended as token 0 unless it is
// nil, and positions (C,N) are added unless they are nil:
//
//	y = x, or n+1 tokens: class, then x
//	out[0,c,b,i] = y[0,c,b,i] + positions[c,i]
//
// N must be at least the number of tokens; positions beyond it have no gradient.
func Tokens(e *Env, x, class, positions *G.Node) (*G.Node, error) {
	in := []*G.Node{x}
	if class != nil {
		in = append(in, class)
	}
	if positions != nil {
		in = append(in, positions)
	}
	return applyAny(e, &tokens[float32]{class: class != nil, positions: positions != nil},
		&tokens[float64]{class: class != nil, positions: positions != nil}, in...)
}

type tokens[T kernel.Float] struct {
	class, positions           bool
	channels, batch, n, before int // before: 1 for the class, else 0
	table                      int // positions there are
}

func (f *tokens[T]) String() string { return "tokens" }

func (f *tokens[T]) wants() []bool {
	w := []bool{true}
	if f.class {
		w = append(w, true)
	}
	if f.positions {
		w = append(w, true)
	}
	return w
}

func (f *tokens[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("sequences", x, 4); err != nil {
		return nil, err
	}
	if x[0] != 1 {
		return nil, fmt.Errorf("sequences have shape %v, expected (1,C,B,n)", x)
	}
	f.channels, f.batch, f.n, f.before = x[1], x[2], x[3], 0
	if f.class {
		f.before = 1
		if err := sameShape("class", in[1], tensor.Shape{x[1]}); err != nil {
			return nil, err
		}
	}
	n := f.n + f.before
	if f.positions {
		p := in[len(in)-1]
		if err := rank("positions", p, 2); err != nil {
			return nil, err
		}
		if p[0] != x[1] || p[1] < n {
			return nil, fmt.Errorf("positions have shape %v, expected (%d,N) with N at least the %d tokens", p, x[1], n)
		}
		f.table = p[1]
	}
	return tensor.Shape{1, x[1], x[2], n}, nil
}

func (f *tokens[T]) forward(e *Env, in [][]T, out []T) {
	n := f.n + f.before
	for c := range f.channels {
		for b := range f.batch {
			row := out[(c*f.batch+b)*n:][:n]
			if f.class {
				row[0] = in[1][c]
			}
			copy(row[f.before:], in[0][(c*f.batch+b)*f.n:][:f.n])
			if f.positions {
				kernel.Axpy(1, in[len(in)-1][c*f.table:][:n], row)
			}
		}
	}
}

// backward sums over the sequences in order.
func (f *tokens[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	n := f.n + f.before
	if f.positions {
		clear(din[len(din)-1])
	}
	for c := range f.channels {
		var class T
		for b := range f.batch {
			row := dout[(c*f.batch+b)*n:][:n]
			copy(din[0][(c*f.batch+b)*f.n:][:f.n], row[f.before:])
			if f.class {
				class += row[0]
			}
			if f.positions {
				kernel.Axpy(1, row, din[len(din)-1][c*f.table:][:n])
			}
		}
		if f.class {
			din[1][c] = class
		}
	}
}

// PoolTokens adds one vector for each of the B sequences x (1,C,B,n): its first
// token if first, else the mean of all; (1,C,1,B), sequences in columns.
func PoolTokens(e *Env, x *G.Node, first bool) (*G.Node, error) {
	return applyAny(e, &poolTokens[float32]{first: first}, &poolTokens[float64]{first: first}, x)
}

type poolTokens[T kernel.Float] struct {
	first       bool
	sequence, n int // sequences times channels, tokens of each
}

func (f *poolTokens[T]) String() string { return fmt.Sprintf("poolTokens(first %v)", f.first) }

func (f *poolTokens[T]) wants() []bool { return []bool{true} }

func (f *poolTokens[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("sequences", x, 4); err != nil {
		return nil, err
	}
	if x[0] != 1 || x[3] < 1 {
		return nil, fmt.Errorf("sequences have shape %v, expected (1,C,B,n) with n at least 1", x)
	}
	f.sequence, f.n = x[1]*x[2], x[3]
	return tensor.Shape{1, x[1], 1, x[2]}, nil
}

// forward sums in float64.
func (f *poolTokens[T]) forward(e *Env, in [][]T, out []T) {
	for i := range out[:f.sequence] {
		if f.first {
			out[i] = in[0][i*f.n]
		} else {
			out[i] = T(kernel.Sum(in[0][i*f.n:][:f.n]) / float64(f.n))
		}
	}
}

func (f *poolTokens[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	for i, v := range dout[:f.sequence] {
		d := din[0][i*f.n:][:f.n]
		if f.first {
			clear(d)
			d[0] = v
			continue
		}
		v /= T(f.n)
		for j := range d {
			d[j] = v
		}
	}
}
