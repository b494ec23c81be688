package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// AdaptivePool adds the means of x (B,C,H,W) over rows x cols windows that cover
// each image, (B,C,rows,cols). Along an axis of n values that becomes k, window i
// is
//
//	floor(i n/k) <= p < ceil((i+1) n/k)
//
// so that windows overlap where k does not divide n, and k may be above n.
func AdaptivePool(e *Env, x *G.Node, rows, cols int) (*G.Node, error) {
	return applyAny(e, newAdaptivePool[float32](rows, cols, false), newAdaptivePool[float64](rows, cols, false), x)
}

// ContextMean adds the mean of AdaptivePool over the images of the batch,
// (C,rows,cols): the context that local slow networks see. It couples the images
// of a batch. The batch is averaged first.
func ContextMean(e *Env, x *G.Node, rows, cols int) (*G.Node, error) {
	return applyAny(e, newAdaptivePool[float32](rows, cols, true), newAdaptivePool[float64](rows, cols, true), x)
}

type adaptivePool[T kernel.Float] struct {
	rows, cols  int
	together    bool // the mean over the batch
	batch, c    int
	h, w        int
	part        []T   // 1/B each
	images      [][]T // of a channel
	rowEnd      []int
	rowBegin    []int
	colBegin    []int
	colEnd      []int
	inverseArea []T
}

func newAdaptivePool[T kernel.Float](rows, cols int, together bool) *adaptivePool[T] {
	return &adaptivePool[T]{rows: rows, cols: cols, together: together}
}

func (f *adaptivePool[T]) String() string {
	if f.together {
		return fmt.Sprintf("contextMean(%dx%d)", f.rows, f.cols)
	}
	return fmt.Sprintf("adaptivePool(%dx%d)", f.rows, f.cols)
}

func (f *adaptivePool[T]) wants() []bool { return []bool{true} }

func (f *adaptivePool[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	if f.rows < 1 || f.cols < 1 || x[0] < 1 || x[2] < 1 || x[3] < 1 {
		return nil, fmt.Errorf("input has shape %v and becomes %d x %d, expected no empty dimension", x, f.rows, f.cols)
	}
	f.batch, f.c, f.h, f.w = x[0], x[1], x[2], x[3]
	f.rowBegin, f.rowEnd = windows(f.h, f.rows)
	f.colBegin, f.colEnd = windows(f.w, f.cols)
	for i := range f.rows {
		for j := range f.cols {
			f.inverseArea = append(f.inverseArea, 1/T((f.rowEnd[i]-f.rowBegin[i])*(f.colEnd[j]-f.colBegin[j])))
		}
	}
	if !f.together {
		return tensor.Shape{x[0], x[1], f.rows, f.cols}, nil
	}
	f.part, f.images = constant(make([]T, f.batch), 1/T(f.batch)), make([][]T, f.batch)
	return tensor.Shape{x[1], f.rows, f.cols}, nil
}

// windows returns where the k windows on n values begin and end.
func windows(n, k int) (begin, end []int) {
	for i := range k {
		begin, end = append(begin, i*n/k), append(end, ((i+1)*n+k-1)/k)
	}
	return begin, end
}

// pool sets dst (rows,cols) to the means of the plane x.
func (f *adaptivePool[T]) pool(dst, x []T) {
	for i := range f.rows {
		for j := range f.cols {
			var sum float64
			for p := f.rowBegin[i]; p < f.rowEnd[i]; p++ {
				for _, v := range x[p*f.w+f.colBegin[j] : p*f.w+f.colEnd[j]] {
					sum += float64(v)
				}
			}
			dst[i*f.cols+j] = T(sum * float64(f.inverseArea[i*f.cols+j]))
		}
	}
}

// spread sets the plane dx to the adjoint of pool of d (rows,cols), times scale.
func (f *adaptivePool[T]) spread(dx, d []T, scale T) {
	clear(dx)
	for i := range f.rows {
		for j := range f.cols {
			g := scale * d[i*f.cols+j] * f.inverseArea[i*f.cols+j]
			for p := f.rowBegin[i]; p < f.rowEnd[i]; p++ {
				row := dx[p*f.w+f.colBegin[j] : p*f.w+f.colEnd[j]]
				for q := range row {
					row[q] += g
				}
			}
		}
	}
}

func (f *adaptivePool[T]) forward(e *Env, in [][]T, out []T) {
	hw, size := f.h*f.w, f.rows*f.cols
	if !f.together {
		for i := range f.batch * f.c {
			f.pool(out[i*size:][:size], in[0][i*hw:][:hw])
		}
		return
	}
	s := scratch[T](e)
	defer s.Release(s.Mark())
	mean := s.Take(hw)
	for c := range f.c {
		for b := range f.images {
			f.images[b] = in[0][(b*f.c+c)*hw:][:hw]
		}
		kernel.LinearCombination(mean, f.part, f.images...)
		f.pool(out[c*size:][:size], mean)
	}
}

func (f *adaptivePool[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	hw, size := f.h*f.w, f.rows*f.cols
	if !f.together {
		for i := range f.batch * f.c {
			f.spread(din[0][i*hw:][:hw], dout[i*size:][:size], 1)
		}
		return
	}
	for c := range f.c {
		first := din[0][c*hw:][:hw]
		f.spread(first, dout[c*size:][:size], f.part[0])
		for b := 1; b < f.batch; b++ {
			copy(din[0][(b*f.c+c)*hw:][:hw], first)
		}
	}
}
