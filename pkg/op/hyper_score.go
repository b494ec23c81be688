package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// HyperSquare adds the two elementwise products of y (B,C) with a hyper-kernel h
// (C), out[b,c] = y[b,c] h[c] y[b,c] (Zhang, arXiv 2401.17948).
func HyperSquare(e *Env, y, h *G.Node) (*G.Node, error) {
	return applyAny(e, &hyperSquare[float32]{}, &hyperSquare[float64]{}, y, h)
}

type hyperSquare[T kernel.Float] struct{ batch, channels int }

func (f *hyperSquare[T]) String() string { return "hyperSquare" }

func (f *hyperSquare[T]) wants() []bool { return []bool{true, true} }

func (f *hyperSquare[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	y := in[0]
	if err := rank("input", y, 2); err != nil {
		return nil, err
	}
	f.batch, f.channels = y[0], y[1]
	return y.Clone(), sameShape("hyper-kernel", in[1], tensor.Shape{y[1]})
}

func (f *hyperSquare[T]) forward(e *Env, in [][]T, out []T) {
	for i, y := range in[0] {
		out[i] = y * in[1][i%f.channels] * y
	}
}

func (f *hyperSquare[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	clear(din[1])
	for i, y := range in[0] {
		c := i % f.channels
		din[0][i] = 2 * y * in[1][c] * dout[i]
		din[1][c] += y * y * dout[i]
	}
}

// HyperChannel adds x (B,C,H,W) with each channel weighed by what its mean says
// through a hyper-kernel h of C values:
//
//	m[b,c] = mean over pixels of x[b,c]
//	out[b,c] = x[b,c] s(m[b,c]^2 h[c]),  s(a) = 1/(1+exp(-a))
//
// the hyper-channel interaction of Zhang, arXiv 2401.17948, before its
// standardisation. It keeps m and the weight.
func HyperChannel(e *Env, x, h *G.Node) (*G.Node, error) {
	return applyAny(e, &hyperChannel[float32]{}, &hyperChannel[float64]{}, x, h)
}

type hyperChannel[T kernel.Float] struct {
	batch, channels, hw int
	mean, weight        []float64 // (B,C)
}

func (f *hyperChannel[T]) String() string { return "hyperChannel" }

func (f *hyperChannel[T]) wants() []bool { return []bool{true, true} }

func (f *hyperChannel[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	f.batch, f.channels, f.hw = x[0], x[1], x[2]*x[3]
	f.mean, f.weight = make([]float64, x[0]*x[1]), make([]float64, x[0]*x[1])
	return x.Clone(), sameSize("hyper-kernel", in[1], f.channels)
}

// sameSize reports a shape of another number of elements.
func sameSize(what string, s tensor.Shape, n int) error {
	if s.TotalSize() != n {
		return fmt.Errorf("%s has shape %v, expected %d values", what, s, n)
	}
	return nil
}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func (f *hyperChannel[T]) forward(e *Env, in [][]T, out []T) {
	kernel.Parallel(e.Workers, len(f.mean), func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			x := in[0][i*f.hw:][:f.hw]
			f.mean[i] = kernel.Sum(x) / float64(f.hw)
			f.weight[i] = logistic(f.mean[i] * f.mean[i] * float64(in[1][i%f.channels]))
			kernel.LinearCombination(out[i*f.hw:][:f.hw], []T{T(f.weight[i])}, x)
		}
	})
}

func (f *hyperChannel[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	ones := constant(s.Take(f.hw), 1)
	sums := make([]float64, len(f.mean))
	kernel.Parallel(e.Workers, len(f.mean), func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			d, m, a := dout[i*f.hw:][:f.hw], f.mean[i], f.weight[i]
			ds := kernel.Dot(d, in[0][i*f.hw:][:f.hw]) * a * (1 - a)
			sums[i] = m * m * ds
			dm := 2 * m * float64(in[1][i%f.channels]) * ds / float64(f.hw)
			kernel.LinearCombination(din[0][i*f.hw:][:f.hw], []T{T(a), T(dm)}, d, ones)
		}
	})
	for c := range f.channels {
		var sum float64
		for b := range f.batch {
			sum += sums[b*f.channels+c]
		}
		din[1][c] = T(sum)
	}
}

// HyperInteraction adds x (B,C,H,W) weighed pixel by pixel by what the means of
// another image o of its shape say through two hyper-kernels, hc of C values and
// hs of H*W:
//
//	sc[b,c] = (mean over pixels of o[b,c])^2 hc[c]
//	ss[b,p] = (mean over channels of o[b,.,p])^2 hs[p]
//	out[b,c,p] = x[b,c,p] s(ss[b,p] sc[b,c]),  s(a) = 1/(1+exp(-a))
//
// the hyper interaction of Zhang, arXiv 2401.17948. It keeps the means; the
// backward pass recomputes the weights.
func HyperInteraction(e *Env, x, o, hc, hs *G.Node) (*G.Node, error) {
	return applyAny(e, &hyperInteraction[float32]{}, &hyperInteraction[float64]{}, x, o, hc, hs)
}

type hyperInteraction[T kernel.Float] struct {
	batch, channels, hw int
	byChannel           []float64 // (B,C): means over pixels
	byPixel             []T       // (B,H*W): means over channels
}

func (f *hyperInteraction[T]) String() string { return "hyperInteraction" }

func (f *hyperInteraction[T]) wants() []bool { return []bool{true, true, true, true} }

func (f *hyperInteraction[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	if err := sameShape("second image", in[1], x); err != nil {
		return nil, err
	}
	f.batch, f.channels, f.hw = x[0], x[1], x[2]*x[3]
	if err := sameSize("hyper-kernel of channels", in[2], f.channels); err != nil {
		return nil, err
	}
	f.byChannel, f.byPixel = make([]float64, x[0]*x[1]), make([]T, f.batch*f.hw)
	return x.Clone(), sameSize("hyper-kernel of pixels", in[3], f.hw)
}

// squared sets dst to mean^2 h for the pixels of image b.
func (f *hyperInteraction[T]) squared(dst, hs []T, b int) {
	mean := f.byPixel[b*f.hw:][:f.hw]
	kernel.Mul(dst, mean, mean)
	kernel.Mul(dst, dst, hs)
}

// weights sets dst to s(ss sc) for channel c of image b.
func (f *hyperInteraction[T]) weights(dst, ss, hc []T, i int) (sc float64) {
	sc = f.byChannel[i] * f.byChannel[i] * float64(hc[i%f.channels])
	kernel.LinearCombination(dst, []T{T(sc)}, ss)
	sigmoid(dst, dst)
	return sc
}

// sigmoid sets dst to 1/(1+exp(-x)). dst may be x.
func sigmoid[T kernel.Float](dst, x []T) {
	kernel.LinearCombination(dst, []T{-1}, x)
	kernel.Exp(dst, dst)
	for i, v := range dst {
		dst[i] = 1 / (1 + v)
	}
}

func (f *hyperInteraction[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	workers := max(1, min(e.Workers, f.batch))
	tmp := s.Take(workers * f.hw)
	kernel.Parallel(workers, f.batch, func(worker, lo, hi int) {
		ss := tmp[worker*f.hw:][:f.hw]
		for b := lo; b < hi; b++ {
			mean := f.byPixel[b*f.hw:][:f.hw]
			clear(mean)
			for i := b * f.channels; i < (b+1)*f.channels; i++ {
				o := in[1][i*f.hw:][:f.hw]
				f.byChannel[i] = kernel.Sum(o) / float64(f.hw)
				kernel.Axpy(1, o, mean)
			}
			kernel.Scale(1/T(f.channels), mean)
			f.squared(ss, in[3], b)
			for i := b * f.channels; i < (b+1)*f.channels; i++ {
				y := out[i*f.hw:][:f.hw]
				f.weights(y, ss, in[2], i)
				kernel.Mul(y, y, in[0][i*f.hw:][:f.hw])
			}
		}
	})
}

func (f *hyperInteraction[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	workers := max(1, min(e.Workers, f.batch))
	tmp := s.Take(3 * workers * f.hw)
	ones := constant(s.Take(f.hw), 1)
	dss := s.TakeZero(f.batch * f.hw)
	dsc := make([]float64, f.batch*f.channels)
	kernel.Parallel(workers, f.batch, func(worker, lo, hi int) {
		ss, g, dq := tmp[3*worker*f.hw:][:f.hw], tmp[(3*worker+1)*f.hw:][:f.hw], tmp[(3*worker+2)*f.hw:][:f.hw]
		for b := lo; b < hi; b++ {
			f.squared(ss, in[3], b)
			db := dss[b*f.hw:][:f.hw]
			for i := b * f.channels; i < (b+1)*f.channels; i++ {
				d := dout[i*f.hw:][:f.hw]
				sc := f.weights(g, ss, in[2], i)
				dx := din[0][i*f.hw:][:f.hw]
				kernel.Mul(dx, d, g)
				kernel.Mul(dq, dx, in[0][i*f.hw:][:f.hw]) // dout x g
				kernel.LinearCombination(g, []T{1, -1}, ones, g)
				kernel.Mul(dq, dq, g)
				kernel.Axpy(T(sc), dq, db)
				dsc[i] = kernel.Dot(dq, ss)
			}
			// What reaches o through the mean over channels is the same for all.
			shared := g
			kernel.Mul(shared, db, f.byPixel[b*f.hw:][:f.hw])
			kernel.Mul(shared, shared, in[3])
			for i := b * f.channels; i < (b+1)*f.channels; i++ {
				along := 2 * f.byChannel[i] * float64(in[2][i%f.channels]) * dsc[i] / float64(f.hw)
				kernel.LinearCombination(din[1][i*f.hw:][:f.hw], []T{2 / T(f.channels), T(along)}, shared, ones)
			}
		}
	})
	for c := range f.channels {
		var sum float64
		for i := c; i < len(dsc); i += f.channels {
			sum += f.byChannel[i] * f.byChannel[i] * dsc[i]
		}
		din[2][c] = T(sum)
	}
	clear(din[3])
	square := tmp[:f.hw]
	for b := range f.batch {
		mean := f.byPixel[b*f.hw:][:f.hw]
		kernel.Mul(square, mean, mean)
		kernel.MulAdd(din[3], 1, square, dss[b*f.hw:][:f.hw])
	}
}
