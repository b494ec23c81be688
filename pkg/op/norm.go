package op

import (
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// normEpsilon is added to the variance in LayerNorm.
const normEpsilon = 1e-5

// LayerNorm adds the normalisation of Ba, Kiros and Hinton over the channels of
// each pixel of x (B,C,H,W), with gain and bias (C):
//
//	m[b,y,x] = mean over c of x[b,c,y,x]
//	v[b,y,x] = mean over c of (x[b,c,y,x]-m)^2
//	out[b,c,y,x] = gain[c] * (x[b,c,y,x]-m)/sqrt(v+1e-5) + bias[c]
//
// It keeps m and 1/sqrt(v+1e-5). A pixel's bits depend on the pixel alone.
func LayerNorm(e *Env, x, gain, bias *G.Node) (*G.Node, error) {
	return applyAny(e, &layerNorm[float32]{}, &layerNorm[float64]{}, x, gain, bias)
}

type layerNorm[T kernel.Float] struct {
	batch, channels, hw int
	mean, scale         []T // (B,H,W): m and 1/sqrt(v+1e-5)
	coef                []T // of the sums over channels
	rows                [][]T
}

func (f *layerNorm[T]) String() string { return "layerNorm" }

func (f *layerNorm[T]) wants() []bool { return []bool{true, true, true} }

func (f *layerNorm[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	x := in[0]
	if err := rank("input", x, 4); err != nil {
		return nil, err
	}
	f.batch, f.channels, f.hw = x[0], x[1], x[2]*x[3]
	f.coef, f.rows = make([]T, f.channels), make([][]T, f.channels)
	if err := sameShape("gain", in[1], tensor.Shape{x[1]}); err != nil {
		return nil, err
	}
	return x.Clone(), sameShape("bias", in[2], tensor.Shape{x[1]})
}

// normBlock is how many pixels are normalised at a time, so that their channels
// stay in the cache between the passes over them.
const normBlock = 256

// blocks calls do for blocks of at most normBlock pixels: n of them, whose first
// is element at of image b's first channel and element stat of mean and scale.
func (f *layerNorm[T]) blocks(do func(at, stat, n int)) {
	for b := range f.batch {
		for p := 0; p < f.hw; p += normBlock {
			do(b*f.channels*f.hw+p, b*f.hw+p, min(normBlock, f.hw-p))
		}
	}
}

// channelsOf sets f.rows to the channels of a block of x.
func (f *layerNorm[T]) channelsOf(x []T, at, n int) [][]T {
	for c := range f.rows {
		f.rows[c] = x[at+c*f.hw:][:n]
	}
	return f.rows
}

func (f *layerNorm[T]) forward(e *Env, in [][]T, out []T) {
	x, gain, bias := in[0], in[1], in[2]
	s := scratch[T](e)
	defer s.Release(s.Mark())
	mean, scale := f.mean, f.scale
	if e.Inference {
		mean, scale = s.Take(normBlock), s.Take(normBlock)
	} else if mean == nil {
		mean, scale = make([]T, f.batch*f.hw), make([]T, f.batch*f.hw)
		f.mean, f.scale = mean, scale
	}
	part := 1 / T(f.channels)
	minus, ones := []T{1, -1}, s.Take(normBlock)
	for i := range ones {
		ones[i] = 1
	}
	f.blocks(func(at, stat, n int) {
		if e.Inference {
			stat = 0
		}
		m, r := mean[stat:][:n], scale[stat:][:n]
		for c := range f.coef {
			f.coef[c] = part
		}
		kernel.LinearCombination(m, f.coef, f.channelsOf(x, at, n)...)
		for i := range r {
			r[i] = normEpsilon
		}
		for c := range f.channels {
			d := out[at+c*f.hw:][:n]
			kernel.LinearCombination(d, minus, x[at+c*f.hw:][:n], m)
			kernel.MulAdd(r, part, d, d)
		}
		kernel.Rsqrt(r, r)
		for c := range f.channels {
			d := out[at+c*f.hw:][:n]
			kernel.Mul(d, d, r)
			kernel.LinearCombination(d, []T{gain[c], bias[c]}, d, ones[:n])
		}
	})
}

// With n = (x-m)/sqrt(v+eps) and g = gain*dout, dx is g without its mean and its
// component along n, over the channels, divided by sqrt(v+eps).
func (f *layerNorm[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	x, gain := in[0], in[1]
	dx, dgain, dbias := din[0], din[1], din[2]
	s := scratch[T](e)
	defer s.Release(s.Mark())
	normal, along, mean := s.Take(f.channels*normBlock), s.Take(normBlock), s.Take(normBlock)
	sums := make([]float64, 2*f.channels)
	part := 1 / T(f.channels)
	f.blocks(func(at, stat, n int) {
		m, r := f.mean[stat:][:n], f.scale[stat:][:n]
		for c := range f.coef {
			f.coef[c] = gain[c] * part
		}
		kernel.LinearCombination(mean[:n], f.coef, f.channelsOf(dout, at, n)...)
		clear(along[:n])
		for c := range f.channels {
			d, g := normal[c*normBlock:][:n], dout[at+c*f.hw:][:n]
			kernel.LinearCombination(d, []T{1, -1}, x[at+c*f.hw:][:n], m)
			kernel.Mul(d, d, r)
			kernel.MulAdd(along[:n], f.coef[c], g, d)
			sums[2*c] += kernel.Dot(g, d)
			sums[2*c+1] += kernel.Sum(g)
		}
		for c := range f.channels {
			d, o := normal[c*normBlock:][:n], dx[at+c*f.hw:][:n]
			kernel.LinearCombination(o, []T{gain[c], -1}, dout[at+c*f.hw:][:n], mean[:n])
			kernel.MulAdd(o, -1, along[:n], d)
			kernel.Mul(o, o, r)
		}
	})
	for c := range f.channels {
		dgain[c], dbias[c] = T(sums[2*c]), T(sums[2*c+1])
	}
}
