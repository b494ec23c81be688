package op

import (
	"errors"
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Part is some of the input of Pointwise: X (B,I,H,W), Copies times in a row; or
// with Stack n above 1 the n images that X (nB,I,H,W) holds for each of the batch,
// as GlobalProduct returns them, one after another and each Copies times.
type Part struct {
	X      *G.Node
	Copies int
	Stack  int
}

// Pointwise adds the 1x1 convolution of the channels of all parts, one after
// another, with weight (O,I), I being their number with copies, plus bias (O):
//
//	out[b,o] = bias[o] + sum over parts j, copies t of W_jt[o,:] X_j[b]      (B,O,H,W)
//
// W_jt being the columns of weight that belong to copy t of part j. The parts are
// not brought together: each adds its product, with the sum over t of its W_jt.
// The gradient of every W_jt is the same. Nothing is kept.
func Pointwise(e *Env, weight, bias *G.Node, parts ...Part) (*G.Node, error) {
	in, copies, stack := []*G.Node{weight, bias}, make([]int, len(parts)), make([]int, len(parts))
	for i, p := range parts {
		in, copies[i], stack[i] = append(in, p.X), p.Copies, max(p.Stack, 1)
	}
	return applyAny(e, &pointwise[float32]{copies: copies, stack: stack}, &pointwise[float64]{copies: copies, stack: stack}, in...)
}

type pointwise[T kernel.Float] struct {
	copies, stack  []int // of each part
	channels       []int // of one copy
	batch, out, in int   // B, O and I
	hw             int
}

func (f *pointwise[T]) String() string {
	return fmt.Sprintf("pointwise(copies %v, stacks %v)", f.copies, f.stack)
}

func (f *pointwise[T]) wants() []bool {
	w := make([]bool, 2+len(f.copies))
	for i := range w {
		w[i] = true
	}
	return w
}

func (f *pointwise[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if len(f.copies) == 0 {
		return nil, errors.New("no input")
	}
	w, x := in[0], in[2]
	if err := rank("weight", w, 2); err != nil {
		return nil, err
	}
	if err := sameShape("bias", in[1], tensor.Shape{w[0]}); err != nil {
		return nil, err
	}
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	if x[0]%f.stack[0] != 0 {
		return nil, fmt.Errorf("input 0 has shape %v, expected %d images for each of the batch", x, f.stack[0])
	}
	batch := x[0] / f.stack[0]
	f.batch, f.out, f.hw, f.in, f.channels = batch, w[0], x[2]*x[3], 0, make([]int, len(f.copies))
	for j, n := range f.copies {
		s := in[2+j]
		if n < 1 {
			return nil, fmt.Errorf("input %d is there %d times, expected at least once", j, n)
		}
		if err := rank(fmt.Sprintf("input %d", j), s, 4); err != nil {
			return nil, err
		}
		if err := sameShape(fmt.Sprintf("input %d", j), s, tensor.Shape{f.stack[j] * batch, s[1], x[2], x[3]}); err != nil {
			return nil, err
		}
		f.channels[j] = s[1]
		f.in += f.stack[j] * n * s[1]
	}
	if w[1] != f.in {
		return nil, fmt.Errorf("weight has shape %v, expected (O,%d) for inputs of %v channels, %v times", w, f.in, f.channels, f.copies)
	}
	return tensor.Shape{batch, w[0], x[2], x[3]}, nil
}

// columns calls do for each image of each part with its matrix, folded if it has
// copies: row o at w[o*ld:]. The part's image of b begins at at+b*c*hw, c being its
// channels; first is its first column in the weight.
func (f *pointwise[T]) columns(s *kernel.Scratch[T], weight []T, do func(j, at, first int, w []T, ld int)) {
	first := 0
	for j, n := range f.copies {
		c := f.channels[j]
		for q := range f.stack[j] {
			m := s.Mark()
			w, ld := weight[first:], f.in
			if n > 1 {
				w, ld = s.Take(f.out*c), c
				for o := range f.out {
					row := weight[o*f.in+first:]
					copy(w[o*c:][:c], row)
					for t := 1; t < n; t++ {
						kernel.Axpy(1, row[t*c:][:c], w[o*c:][:c])
					}
				}
			}
			do(j, q*f.batch*c*f.hw, first, w, ld)
			s.Release(m)
			first += n * c
		}
	}
}

func (f *pointwise[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	f.columns(s, in[0], func(j, at, first int, w []T, ld int) {
		c := f.channels[j]
		for b := range f.batch {
			epilogue := kernel.Epilogue[T]{Accumulate: first > 0}
			if first == 0 {
				epilogue.RowBias = in[1]
			}
			kernel.Gemm(s, e.Workers, false, false, f.out, f.hw, c, w, ld, in[2+j][at+b*c*f.hw:], f.hw, out[b*f.out*f.hw:], f.hw, epilogue)
		}
	})
}

func (f *pointwise[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	dw, dbias := din[0], din[1]
	f.columns(s, in[0], func(j, at, first int, w []T, ld int) {
		c := f.channels[j]
		for b := range f.batch {
			d := dout[b*f.out*f.hw:]
			kernel.Gemm(s, e.Workers, true, false, c, f.hw, f.out, w, ld, d, f.hw, din[2+j][at+b*c*f.hw:], f.hw, kernel.Epilogue[T]{})
			kernel.Gemm(s, e.Workers, false, true, f.out, c, f.hw, d, f.hw, in[2+j][at+b*c*f.hw:], f.hw, dw[first:], f.in, kernel.Epilogue[T]{Accumulate: b > 0})
		}
		for o := range f.out {
			row := dw[o*f.in+first:]
			for t := 1; t < f.copies[j]; t++ {
				copy(row[t*c:][:c], row[:c])
			}
		}
	})
	channelSums(dbias, dout, f.batch, f.hw)
}

// channelSums sets dst (C) to the sums over images and pixels of x (batch,C,hw).
func channelSums[T kernel.Float](dst, x []T, batch, hw int) {
	for c := range dst {
		var sum float64
		for b := range batch {
			sum += kernel.Sum(x[(b*len(dst)+c)*hw:][:hw])
		}
		dst[c] = T(sum)
	}
}
