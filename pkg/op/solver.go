package op

import (
	"fmt"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// SolverConfig says which unrolled solver ConjugateGradient adds.
type SolverConfig struct {
	Grid          *graph.Grid
	Layers, Steps int // restarts, and iterations of each
	Prior         graph.Prior
	Normalization graph.Normalization
	Reweight      graph.Reweighting
}

// ConjugateGradient adds the unrolled solver graph.Solver of every head: from the
// estimate x (B,C,H,W), the samples y (B,C,H,W, read where mask is 1), the mask
// (B,C,H,W), and the operators omega (B,heads,planes,PlaneLen) of EdgeWeights to
// the solutions (B,heads,C,H,W). alpha and beta are (heads,Layers,Steps), colour
// is (heads,3,3) if the prior is coupled and slope (heads,2) if it has slopes;
// nil otherwise. cfg.Reweight must not be Learned. y and mask have no gradient; x's entries on samples are not
// read. The backward pass keeps the search directions, Layers*Steps*C planes a
// head, and the signal at each layer's start; it recomputes everything else.
func ConjugateGradient(e *Env, cfg SolverConfig, x, y, mask, omega, alpha, beta, colour, slope *G.Node) (*G.Node, error) {
	return ReweightedConjugateGradient(e, cfg, x, y, mask, omega, alpha, beta, colour, slope, nil)
}

// ReweightedConjugateGradient is ConjugateGradient with, if cfg.Reweight is
// Learned, the exponent of each head: exponent (heads), from which
// graph.Exponent makes p. The first layer's weights come from the start x.
func ReweightedConjugateGradient(e *Env, cfg SolverConfig, x, y, mask, omega, alpha, beta, colour, slope, exponent *G.Node) (*G.Node, error) {
	in := []*G.Node{x, y, mask, omega, alpha, beta}
	if cfg.Prior.Coupled {
		in = append(in, colour)
	}
	if cfg.Prior.Slope {
		in = append(in, slope)
	}
	if cfg.Reweight.Learned {
		in = append(in, exponent)
	}
	return applyAny(e, &solver[float32]{cfg: cfg}, &solver[float64]{cfg: cfg}, in...)
}

type solver[T kernel.Float] struct {
	cfg                    SolverConfig
	batch, heads, channels int
	each                   []graph.Solver[T] // per image and head
}

const (
	solverX = iota
	solverY
	solverMask
	solverOmega
	solverAlpha
	solverBeta
	solverExtra // colour, slope, exponent
)

func (f *solver[T]) String() string {
	return fmt.Sprintf("conjugateGradient(%dx%d, %+v, %+v)", f.cfg.Layers, f.cfg.Steps, f.cfg.Prior, f.cfg.Reweight)
}

func (f *solver[T]) wants() []bool {
	w := []bool{true, false, false, true, true, true}
	if f.cfg.Prior.Coupled {
		w = append(w, true)
	}
	if f.cfg.Prior.Slope {
		w = append(w, true)
	}
	if f.cfg.Reweight.Learned {
		w = append(w, true)
	}
	return w
}

func (f *solver[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	g := f.cfg.Grid
	x, omega := in[solverX], in[solverOmega]
	if err := rank("estimate", x, 4); err != nil {
		return nil, err
	}
	if err := rank("operator", omega, 4); err != nil {
		return nil, err
	}
	f.batch, f.channels, f.heads = x[0], x[1], omega[1]
	steps := tensor.Shape{f.heads, f.cfg.Layers, f.cfg.Steps}
	want := []tensor.Shape{{f.batch, f.channels, g.H, g.W}, x, x, {f.batch, f.heads, f.cfg.Normalization.Planes(g), g.PlaneLen}, steps, steps}
	if f.cfg.Prior.Coupled {
		if f.channels != 3 {
			return nil, fmt.Errorf("a colour-coupled prior needs 3 channels, found %d", f.channels)
		}
		want = append(want, tensor.Shape{f.heads, 3, 3})
	}
	if f.cfg.Prior.Slope {
		want = append(want, tensor.Shape{f.heads, 2})
	}
	if r := f.cfg.Reweight; r != (graph.Reweighting{}) {
		if f.cfg.Normalization != graph.SoftmaxSymmetric {
			return nil, fmt.Errorf("re-weighting needs the normalisation softmax_symmetric, whose operator is that of an energy of differences")
		}
		if !(r.Epsilon > 0) || !r.Learned && !(r.P > 1 && r.P <= 2) {
			return nil, fmt.Errorf("re-weighting with p %g and epsilon %g, expected p more than 1, at most 2, and epsilon more than 0", r.P, r.Epsilon)
		}
		if r.Learned {
			want = append(want, tensor.Shape{f.heads})
		}
	}
	for i, s := range want {
		if err := sameShape(fmt.Sprintf("input %d", i), in[i], s); err != nil {
			return nil, err
		}
	}
	f.each = make([]graph.Solver[T], f.batch*f.heads)
	for i := range f.each {
		f.each[i] = graph.Solver[T]{Grid: g, Channels: f.channels, Layers: f.cfg.Layers, Steps: f.cfg.Steps,
			Prior: f.cfg.Prior, Normalization: f.cfg.Normalization, Reweight: f.cfg.Reweight}
	}
	return tensor.Shape{f.batch, f.heads, f.channels, g.H, g.W}, nil
}

// coefficients returns head h's part of the inputs in (or of their gradients).
func (f *solver[T]) coefficients(in [][]T, h int) graph.Coefficients[T] {
	n := f.cfg.Layers * f.cfg.Steps
	c := graph.Coefficients[T]{Alpha: in[solverAlpha][h*n:][:n], Beta: in[solverBeta][h*n:][:n]}
	next := solverExtra
	if f.cfg.Prior.Coupled {
		c.T = in[next][9*h:][:9]
		next++
	}
	if f.cfg.Prior.Slope {
		c.Slope = in[next][2*h:][:2]
		next++
	}
	if f.cfg.Reweight.Learned {
		c.Exponent = in[next][h:][:1]
	}
	return c
}

// signals returns the padded start x (C,PlaneLen), samples in place, and the
// padded complement of the mask, of image b.
func (f *solver[T]) signals(s *kernel.Scratch[T], in [][]T, b int) (x, missing []T) {
	g := f.cfg.Grid
	n := f.channels * g.H * g.W
	dense, comp := s.Take(n), s.Take(n)
	est, y, mask := in[solverX][b*n:][:n], in[solverY][b*n:][:n], in[solverMask][b*n:][:n]
	for i, m := range mask {
		if m != 0 {
			dense[i], comp[i] = y[i], 0
		} else {
			dense[i], comp[i] = est[i], 1
		}
	}
	x, missing = s.TakeZero(f.channels*g.PlaneLen), s.TakeZero(f.channels*g.PlaneLen)
	graph.Pad(g, x, dense)
	graph.Pad(g, missing, comp)
	return x, missing
}

func (f *solver[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	g := f.cfg.Grid
	n, np := f.channels*g.H*g.W, f.channels*g.PlaneLen
	no := f.cfg.Normalization.Planes(g) * g.PlaneLen
	for b := range f.batch {
		m := s.Mark()
		start, missing := f.signals(s, in, b)
		x := s.Take(np)
		for h := range f.heads {
			i := b*f.heads + h
			copy(x, start)
			f.each[i].Keep = !e.Inference
			f.each[i].Forward(s, x, missing, in[solverOmega][i*no:][:no], f.coefficients(in, h))
			graph.Unpad(g, out[i*n:][:n], x)
		}
		s.Release(m)
	}
}

func (f *solver[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	g := f.cfg.Grid
	n, np := f.channels*g.H*g.W, f.channels*g.PlaneLen
	no := f.cfg.Normalization.Planes(g) * g.PlaneLen
	for i := solverOmega; i < len(din); i++ {
		clear(din[i])
	}
	for b := range f.batch {
		m := s.Mark()
		_, missing := f.signals(s, in, b)
		sum, dx := s.TakeZero(np), s.TakeZero(np)
		for h := range f.heads {
			i := b*f.heads + h
			graph.Pad(g, dx, dout[i*n:][:n])
			f.each[i].Backward(s, dx, missing, in[solverOmega][i*no:][:no], din[solverOmega][i*no:][:no], f.coefficients(in, h), f.coefficients(din, h))
			kernel.Axpy(1, dx, sum)
		}
		kernel.Mul(sum, sum, missing)
		graph.Unpad(g, din[solverX][b*n:][:n], sum)
		s.Release(m)
	}
}
