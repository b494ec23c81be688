package op

import (
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// MixHeads adds the weighted average of the heads' solutions z (B,heads,C,H,W)
// with learned weights w (heads): sum over h of w_h z_h, (B,C,H,W).
func MixHeads(e *Env, z, w *G.Node) (*G.Node, error) {
	return applyAny(e, &mixHeads[float32]{}, &mixHeads[float64]{}, z, w)
}

type mixHeads[T kernel.Float] struct{ batch, heads, n int }

func (f *mixHeads[T]) String() string { return "mixHeads" }

func (f *mixHeads[T]) wants() []bool { return []bool{true, true} }

func (f *mixHeads[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	z := in[0]
	if err := rank("solutions", z, 5); err != nil {
		return nil, err
	}
	f.batch, f.heads, f.n = z[0], z[1], z[2]*z[3]*z[4]
	return tensor.Shape{z[0], z[2], z[3], z[4]}, sameShape("weights", in[1], tensor.Shape{z[1]})
}

func (f *mixHeads[T]) forward(e *Env, in [][]T, out []T) {
	src := make([][]T, f.heads)
	for b := range f.batch {
		for h := range src {
			src[h] = in[0][(b*f.heads+h)*f.n:][:f.n]
		}
		kernel.LinearCombination(out[b*f.n:][:f.n], in[1], src...)
	}
}

func (f *mixHeads[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	for h := range f.heads {
		var sum float64
		for b := range f.batch {
			i := (b*f.heads + h) * f.n
			d := dout[b*f.n:][:f.n]
			kernel.LinearCombination(din[0][i:][:f.n], in[1][h:h+1], d)
			sum += kernel.Dot(d, in[0][i:][:f.n])
		}
		din[1][h] = T(sum)
	}
}

// MixPixels adds the average of the heads' solutions z (B,heads,C,H,W) with
// weights of each pixel's own, the softmax over heads of scores (B,heads,H,W):
// (B,C,H,W).
func MixPixels(e *Env, z, scores *G.Node) (*G.Node, error) {
	return applyAny(e, &mixPixels[float32]{}, &mixPixels[float64]{}, z, scores)
}

type mixPixels[T kernel.Float] struct {
	batch, heads, channels, hw int
	p                          []T // the softmax (B,heads,H,W), kept for backward
}

func (f *mixPixels[T]) String() string { return "mixPixels" }

func (f *mixPixels[T]) wants() []bool { return []bool{true, true} }

func (f *mixPixels[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	z := in[0]
	if err := rank("solutions", z, 5); err != nil {
		return nil, err
	}
	f.batch, f.heads, f.channels, f.hw = z[0], z[1], z[2], z[3]*z[4]
	f.p = make([]T, f.batch*f.heads*f.hw)
	return tensor.Shape{z[0], z[2], z[3], z[4]}, sameShape("scores", in[1], tensor.Shape{z[0], z[1], z[3], z[4]})
}

func (f *mixPixels[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	m := s.Mark()
	defer s.Release(m)
	hw := f.hw
	top, sum := s.Take(hw), s.Take(hw)
	for b := range f.batch {
		scores, p := in[1][b*f.heads*hw:][:f.heads*hw], f.p[b*f.heads*hw:][:f.heads*hw]
		copy(top, scores)
		for h := 1; h < f.heads; h++ {
			for i, v := range scores[h*hw:][:hw] {
				top[i] = max(top[i], v)
			}
		}
		clear(sum)
		for h := range f.heads {
			ph := p[h*hw:][:hw]
			kernel.LinearCombination(ph, []T{1, -1}, scores[h*hw:][:hw], top)
			kernel.Exp(ph, ph)
			kernel.Axpy(1, ph, sum)
		}
		kernel.Reciprocal(sum, sum)
		o := out[b*f.channels*hw:][:f.channels*hw]
		clear(o)
		for h := range f.heads {
			ph := p[h*hw:][:hw]
			kernel.Mul(ph, ph, sum)
			for c := range f.channels {
				kernel.MulAdd(o[c*hw:][:hw], 1, ph, in[0][((b*f.heads+h)*f.channels+c)*hw:][:hw])
			}
		}
	}
}

func (f *mixPixels[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	m := s.Mark()
	defer s.Release(m)
	hw := f.hw
	mean := s.Take(hw) // sum over heads of p dp, which is sum over channels of dout out
	for b := range f.batch {
		clear(mean)
		for c := range f.channels {
			i := (b*f.channels + c) * hw
			kernel.MulAdd(mean, 1, dout[i:][:hw], out[i:][:hw])
		}
		for h := range f.heads {
			j := (b*f.heads + h) * hw
			p, ds := f.p[j:][:hw], din[1][j:][:hw]
			clear(ds)
			for c := range f.channels {
				d, i := dout[(b*f.channels+c)*hw:][:hw], ((b*f.heads+h)*f.channels+c)*hw
				kernel.Mul(din[0][i:][:hw], p, d)
				kernel.MulAdd(ds, 1, d, in[0][i:][:hw])
			}
			kernel.LinearCombination(ds, []T{1, -1}, ds, mean)
			kernel.Mul(ds, ds, p)
		}
	}
}
