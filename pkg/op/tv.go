package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// TVConfig says which unrolled ADMM TotalVariation adds.
type TVConfig struct {
	Grid          *graph.Grid
	Layers, Steps int // of the ADMM, and conjugate gradient iterations of each
	Prior         graph.Prior
	Normalization graph.Normalization // random_walk or softmax_symmetric
	Constraint    graph.Constraint
	FromZero      bool // see graph.TotalVariation
}

// TotalVariation adds the unrolled ADMM graph.TotalVariation of every head: from
// the estimate x (B,C,H,W), the samples y (B,C,H,W, read where mask is 1), the
// mask (B,C,H,W), and the operators omega (B,heads,planes,PlaneLen) of EdgeWeights
// to the solutions (B,heads,C,H,W). alpha and beta are (heads,Layers,Steps), the
// penalties gamma (Layers), shared by the heads; colour is (heads,3,3) if the
// prior is coupled and slope (heads,2) if it has slopes; nil otherwise. y and mask
// have no gradient; with graph.Exact, x's entries on samples are not read. The
// backward pass keeps the search directions, Layers*Steps*C planes a head, the
// signals before each layer, Layers*C planes, and twice as many of a coupled or
// sloped prior; all that belongs to edges is computed again.
func TotalVariation(e *Env, cfg TVConfig, x, y, mask, omega, alpha, beta, gamma, colour, slope *G.Node) (*G.Node, error) {
	in := []*G.Node{x, y, mask, omega, alpha, beta, gamma}
	if cfg.Prior.Coupled {
		in = append(in, colour)
	}
	if cfg.Prior.Slope {
		in = append(in, slope)
	}
	return applyAny(e, &totalVariation[float32]{cfg: cfg}, &totalVariation[float64]{cfg: cfg}, in...)
}

type totalVariation[T kernel.Float] struct {
	cfg                    TVConfig
	batch, heads, channels int
	each                   []graph.TotalVariation[T] // per image and head
}

const (
	tvX = iota
	tvY
	tvMask
	tvOmega
	tvAlpha
	tvBeta
	tvGamma
	tvExtra // colour, slope
)

func (f *totalVariation[T]) String() string {
	return fmt.Sprintf("totalVariation(%dx%d, %+v)", f.cfg.Layers, f.cfg.Steps, f.cfg.Prior)
}

func (f *totalVariation[T]) wants() []bool {
	w := []bool{true, false, false, true, true, true, true}
	if f.cfg.Prior.Coupled {
		w = append(w, true)
	}
	if f.cfg.Prior.Slope {
		w = append(w, true)
	}
	return w
}

func (f *totalVariation[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	g := f.cfg.Grid
	if f.cfg.Normalization == graph.Symmetric {
		return nil, fmt.Errorf("total variation of the symmetric normalisation, which is not made of differences")
	}
	x, omega := in[tvX], in[tvOmega]
	if err := rank("estimate", x, 4); err != nil {
		return nil, err
	}
	if err := rank("operator", omega, 4); err != nil {
		return nil, err
	}
	f.batch, f.channels, f.heads = x[0], x[1], omega[1]
	steps := tensor.Shape{f.heads, f.cfg.Layers, f.cfg.Steps}
	want := []tensor.Shape{{f.batch, f.channels, g.H, g.W}, x, x, {f.batch, f.heads, f.cfg.Normalization.Planes(g), g.PlaneLen},
		steps, steps, {f.cfg.Layers}}
	if f.cfg.Prior.Coupled {
		if f.channels != 3 {
			return nil, fmt.Errorf("a colour-coupled prior needs 3 channels, found %d", f.channels)
		}
		want = append(want, tensor.Shape{f.heads, 3, 3})
	}
	if f.cfg.Prior.Slope {
		want = append(want, tensor.Shape{f.heads, 2})
	}
	for i, s := range want {
		if err := sameShape(fmt.Sprintf("input %d", i), in[i], s); err != nil {
			return nil, err
		}
	}
	f.each = make([]graph.TotalVariation[T], f.batch*f.heads)
	for i := range f.each {
		f.each[i] = graph.TotalVariation[T]{Grid: g, Channels: f.channels, Layers: f.cfg.Layers, Steps: f.cfg.Steps,
			Prior: f.cfg.Prior, Normalization: f.cfg.Normalization, Constraint: f.cfg.Constraint, FromZero: f.cfg.FromZero}
	}
	return tensor.Shape{f.batch, f.heads, f.channels, g.H, g.W}, nil
}

// coefficients returns head h's part of the inputs in (or of their gradients).
func (f *totalVariation[T]) coefficients(in [][]T, h int) graph.TVCoefficients[T] {
	n := f.cfg.Layers * f.cfg.Steps
	c := graph.TVCoefficients[T]{Gamma: in[tvGamma]}
	c.Alpha, c.Beta = in[tvAlpha][h*n:][:n], in[tvBeta][h*n:][:n]
	next := tvExtra
	if f.cfg.Prior.Coupled {
		c.T = in[next][9*h:][:9]
		next++
	}
	if f.cfg.Prior.Slope {
		c.Slope = in[next][2*h:][:2]
	}
	return c
}

// signals returns, padded (C,PlaneLen), the start x of image b, its samples y, 0
// elsewhere, and its mask of ones and zeros.
func (f *totalVariation[T]) signals(s *kernel.Scratch[T], in [][]T, b int) (x, y, mask []T) {
	g := f.cfg.Grid
	n, np := f.channels*g.H*g.W, f.channels*g.PlaneLen
	start, samples, ones := s.Take(n), s.TakeZero(n), s.TakeZero(n)
	copy(start, in[tvX][b*n:])
	values := in[tvY][b*n:][:n]
	for i, m := range in[tvMask][b*n:][:n] {
		if m == 0 {
			continue
		}
		ones[i], samples[i] = 1, values[i]
		if f.cfg.Constraint == graph.Exact {
			start[i] = values[i]
		}
	}
	x, y, mask = s.TakeZero(np), s.TakeZero(np), s.TakeZero(np)
	graph.Pad(g, x, start)
	graph.Pad(g, y, samples)
	graph.Pad(g, mask, ones)
	return x, y, mask
}

func (f *totalVariation[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	g := f.cfg.Grid
	n, np := f.channels*g.H*g.W, f.channels*g.PlaneLen
	no := f.cfg.Normalization.Planes(g) * g.PlaneLen
	for b := range f.batch {
		m := s.Mark()
		start, y, mask := f.signals(s, in, b)
		x := s.Take(np)
		for h := range f.heads {
			i := b*f.heads + h
			copy(x, start)
			f.each[i].Keep = !e.Inference
			f.each[i].Forward(s, x, y, mask, in[tvOmega][i*no:][:no], f.coefficients(in, h))
			graph.Unpad(g, out[i*n:][:n], x)
		}
		s.Release(m)
	}
}

func (f *totalVariation[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	g := f.cfg.Grid
	n, np := f.channels*g.H*g.W, f.channels*g.PlaneLen
	no := f.cfg.Normalization.Planes(g) * g.PlaneLen
	for i := tvOmega; i < len(din); i++ {
		clear(din[i])
	}
	for b := range f.batch {
		m := s.Mark()
		_, y, mask := f.signals(s, in, b)
		sum, dx := s.TakeZero(np), s.TakeZero(np)
		for h := range f.heads {
			i := b*f.heads + h
			graph.Pad(g, dx, dout[i*n:][:n])
			f.each[i].Backward(s, dx, y, mask, in[tvOmega][i*no:][:no], din[tvOmega][i*no:][:no], f.coefficients(in, h), f.coefficients(din, h))
			kernel.Axpy(1, dx, sum)
		}
		if f.cfg.Constraint == graph.Exact {
			kernel.MulAdd(sum, -1, sum, mask)
		}
		graph.Unpad(g, din[tvX][b*n:][:n], sum)
		s.Release(m)
	}
}
