package op

import (
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// SlowNet are the parameters of a slow network: h hidden units, c outputs, L
// hidden layers, d coordinates.
type SlowNet struct {
	Filters, Phases []*G.Node // F_i (h,d) and phi_i (h), i = 0..L
	Mixers, Biases  []*G.Node // L_i (h,h) and b_i (h), i = 1..L
	Out, OutBias    *G.Node   // W (c,h) and b (c)
	Offset          *G.Node   // P (rows,cols) for d = 2, (points) for d = 1: its shape is that of the grid
}

// LocalSlowNet are the parameters of a slow network that sees a context.
type LocalSlowNet struct {
	SlowNet
	Reduce, ReduceBias  *G.Node   // R (h,C) and r (h)
	Query, QueryBias    *G.Node   // Q (h,h) and q (h)
	Scores, ScoreBiases []*G.Node // X_i (h,h) and x_i (h), i = 1..L

	// Attached lets the gradient through the identity path; see LocalSlowNetwork.
	Attached bool
}

// SlowNetwork adds the hyper-kernel (c,rows,cols), or (c,points), that a sine
// multiplicative filter network computes from the coordinates xi of a grid on
// [-1,1], -1 and 1 included (-1 alone for one point), row before column:
//
//	u_0 = sin(F_0 xi + phi_0)
//	u_i = sin(F_i xi + phi_i) * (L_i u_{i-1} + b_i) + P,  i = 1..L
//	out = W u_L + b
//
// with one P for all hidden units and layers (Zhang, arXiv 2401.17948; the network
// is that of Fathony et al., ICLR 2021). The arguments of the sines, which may be
// many turns, are computed in float64. It keeps sines, cosines and the u_i; the
// backward pass recomputes what they are multiplied with.
func SlowNetwork(e *Env, p SlowNet) (*G.Node, error) {
	in, err := p.inputs()
	if err != nil {
		return nil, err
	}
	return applyAny(e, &slowNet[float32]{layers: len(p.Mixers)}, &slowNet[float64]{layers: len(p.Mixers)}, in...)
}

// LocalSlowNetwork adds the hyper-kernel that a slow network computes with a
// context (C,rows,cols), such as ContextMean's:
//
//	p   = Gelu(Q (R context + r) + q)                                   (h, points)
//	u_i = sin(F_i xi + phi_i) * (L_i w_{i-1} + b_i) + P,  i = 1..L,  w_0 = u_0
//	w_i = (u_i + 0.1 u_i/|u_i|) * (X_i p + x_i)
//	out = W w_L + b
//
// else as SlowNetwork; |u_i| is taken of each hidden unit over the grid and is at
// least 1e-12. Unless p.Attached, the backward pass treats the u_i that 0.1 u_i/|u_i|
// is added to as constant, as the published network does: its gradient is then
// not the derivative.
func LocalSlowNetwork(e *Env, context *G.Node, p LocalSlowNet) (*G.Node, error) {
	in, err := p.inputs()
	if err != nil {
		return nil, err
	}
	if len(p.Scores) != len(p.Mixers) || len(p.ScoreBiases) != len(p.Mixers) {
		return nil, fmt.Errorf("slow network: %d score weights and %d biases, expected %d, one for each hidden layer", len(p.Scores), len(p.ScoreBiases), len(p.Mixers))
	}
	in = append(in, context, p.Reduce, p.ReduceBias, p.Query, p.QueryBias)
	for i := range p.Scores {
		in = append(in, p.Scores[i], p.ScoreBiases[i])
	}
	return applyAny(e, &slowNet[float32]{layers: len(p.Mixers), local: true, attached: p.Attached},
		&slowNet[float64]{layers: len(p.Mixers), local: true, attached: p.Attached}, in...)
}

// inputs returns the parameters in the order slowNet has them in.
func (p SlowNet) inputs() ([]*G.Node, error) {
	l := len(p.Mixers)
	if len(p.Biases) != l || len(p.Filters) != l+1 || len(p.Phases) != l+1 {
		return nil, fmt.Errorf("slow network: %d filters, %d phases and %d biases for %d hidden layers, expected %d, %d and %d",
			len(p.Filters), len(p.Phases), len(p.Biases), l, l+1, l+1, l)
	}
	in := []*G.Node{p.Offset, p.Out, p.OutBias}
	for i := range p.Filters {
		in = append(in, p.Filters[i], p.Phases[i])
	}
	for i := range p.Mixers {
		in = append(in, p.Mixers[i], p.Biases[i])
	}
	return in, nil
}

const (
	slowNormShare = .1    // of u/|u| beside u
	slowLeastNorm = 1e-12 // of u
)

type slowNet[T kernel.Float] struct {
	layers          int // L
	local, attached bool

	hidden, outputs, dims, channels int // h, c, d and C
	points                          int // N
	grid                            [][]float64
	axes                            [][]T // grid, rounded

	sin, cos []T // (L+1,h,N)
	u        []T // (L+1,h,N): u_i before a context works on it
	// With a context:
	w                 []T // (L+1,h,N): w_i; the same as u for i = 0
	reduced, query, p []T // (h,N): R context + r; Q of that + q; Gelu of that
	norms             []T // (L+1,h): |u_i|, at least slowLeastNorm
}

// The order of the inputs.
const (
	slowOffset = iota
	slowOut
	slowOutBias
	slowFirst
)

func (f *slowNet[T]) filter(i int) int { return slowFirst + 2*i }
func (f *slowNet[T]) mixer(i int) int  { return slowFirst + 2*(f.layers+1) + 2*(i-1) }
func (f *slowNet[T]) context() int     { return slowFirst + 2*(2*f.layers+1) }
func (f *slowNet[T]) reduce() int      { return f.context() + 1 }
func (f *slowNet[T]) queries() int     { return f.context() + 3 }
func (f *slowNet[T]) score(i int) int  { return f.context() + 5 + 2*(i-1) }

func (f *slowNet[T]) inputs() int {
	if f.local {
		return f.score(f.layers + 1)
	}
	return f.context()
}

func (f *slowNet[T]) String() string {
	if f.local {
		return fmt.Sprintf("localSlowNetwork(%d layers, attached %v)", f.layers, f.attached)
	}
	return fmt.Sprintf("slowNetwork(%d layers)", f.layers)
}

func (f *slowNet[T]) wants() []bool {
	w := make([]bool, f.inputs())
	for i := range w {
		w[i] = true
	}
	return w
}

func (f *slowNet[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	if len(in) != f.inputs() {
		return nil, fmt.Errorf("%d parameters, expected %d for %d hidden layers", len(in), f.inputs(), f.layers)
	}
	grid, out := in[slowOffset], in[slowOut]
	if d := grid.Dims(); d != 1 && d != 2 || grid.TotalSize() < 1 {
		return nil, fmt.Errorf("offset has shape %v, expected (rows,cols) or (points)", grid)
	}
	f.dims, f.points = grid.Dims(), grid.TotalSize()
	if err := rank("output's weight", out, 2); err != nil {
		return nil, err
	}
	f.outputs, f.hidden = out[0], out[1]
	square, vector := tensor.Shape{f.hidden, f.hidden}, tensor.Shape{f.hidden}
	expect := func(what string, i int, want tensor.Shape) error { return sameShape(what, in[i], want) }
	err := expect("output's bias", slowOutBias, tensor.Shape{f.outputs})
	for i := 0; i <= f.layers && err == nil; i++ {
		if err = expect(fmt.Sprintf("filter %d", i), f.filter(i), tensor.Shape{f.hidden, f.dims}); err == nil {
			err = expect(fmt.Sprintf("phase %d", i), f.filter(i)+1, vector)
		}
		if i == 0 || err != nil {
			continue
		}
		if err = expect(fmt.Sprintf("hidden weight %d", i), f.mixer(i), square); err == nil {
			err = expect(fmt.Sprintf("hidden bias %d", i), f.mixer(i)+1, vector)
		}
		if err == nil && f.local {
			if err = expect(fmt.Sprintf("score weight %d", i), f.score(i), square); err == nil {
				err = expect(fmt.Sprintf("score bias %d", i), f.score(i)+1, vector)
			}
		}
	}
	if f.local && err == nil {
		c := in[f.context()]
		if c.Dims() < 2 || c[1:].TotalSize() != f.points {
			return nil, fmt.Errorf("context has shape %v, expected channels of the %v points of the offset", c, grid)
		}
		f.channels = c[0]
		if err = expect("context's weight", f.reduce(), tensor.Shape{f.hidden, f.channels}); err == nil {
			err = expect("context's bias", f.reduce()+1, vector)
		}
		if err == nil {
			err = expect("query weight", f.queries(), square)
		}
		if err == nil {
			err = expect("query bias", f.queries()+1, vector)
		}
	}
	if err != nil {
		return nil, err
	}
	f.coordinates(grid)
	size := (f.layers + 1) * f.hidden * f.points
	f.sin, f.cos, f.u = make([]T, size), make([]T, size), make([]T, size)
	if f.local {
		n := f.hidden * f.points
		f.w, f.norms = make([]T, size), make([]T, (f.layers+1)*f.hidden)
		f.reduced, f.query, f.p = make([]T, n), make([]T, n), make([]T, n)
	}
	return append(tensor.Shape{f.outputs}, grid...), nil
}

// coordinates lays out the grid.
func (f *slowNet[T]) coordinates(shape tensor.Shape) {
	f.grid, f.axes = make([][]float64, f.dims), make([][]T, f.dims)
	after := f.points
	for a, n := range shape {
		after /= n
		f.grid[a], f.axes[a] = make([]float64, f.points), make([]T, f.points)
		for i := range f.points {
			v := -1.
			if n > 1 {
				v += 2 * float64(i/after%n) / float64(n-1)
			}
			f.grid[a][i], f.axes[a][i] = v, T(v)
		}
	}
}

// layer returns what x (L+1,h,N) holds of layer i.
func (f *slowNet[T]) layer(x []T, i int) []T {
	return x[i*f.hidden*f.points:][:f.hidden*f.points]
}

// waves computes the sines and cosines of layer i.
func (f *slowNet[T]) waves(workers int, in [][]T, i int) {
	filter, phase := in[f.filter(i)], in[f.filter(i)+1]
	sin, cos := f.layer(f.sin, i), f.layer(f.cos, i)
	kernel.Parallel(workers, f.hidden, func(_, lo, hi int) {
		for j := lo; j < hi; j++ {
			s, c := sin[j*f.points:][:f.points], cos[j*f.points:][:f.points]
			for p := range s {
				angle := float64(phase[j])
				for a, x := range f.grid {
					angle += float64(filter[j*f.dims+a]) * x[p]
				}
				ys, yc := math.Sincos(angle)
				s[p], c[p] = T(ys), T(yc)
			}
		}
	})
}

// linear sets dst (rows,N) to weight (rows,cols) times x (cols,N) plus bias.
func (f *slowNet[T]) linear(e *Env, dst, weight, bias, x []T, rows, cols int) {
	kernel.Gemm(scratch[T](e), e.Workers, false, false, rows, f.points, cols, weight, cols, x, f.points, dst, f.points, kernel.Epilogue[T]{RowBias: bias})
}

// linearGrad is the adjoint of linear: it sets dweight and dbias, and dx, which it
// adds to if add, unless dx is nil.
func (f *slowNet[T]) linearGrad(e *Env, weight, x, d, dweight, dbias, dx []T, rows, cols int, add bool) {
	kernel.Gemm(scratch[T](e), e.Workers, false, true, rows, cols, f.points, d, f.points, x, f.points, dweight, cols, kernel.Epilogue[T]{})
	for i := range rows {
		dbias[i] = T(kernel.Sum(d[i*f.points:][:f.points]))
	}
	if dx != nil {
		kernel.Gemm(scratch[T](e), e.Workers, true, false, cols, f.points, rows, weight, cols, d, f.points, dx, f.points, kernel.Epilogue[T]{Accumulate: add})
	}
}

// states returns the w_i, which without a context are the u_i.
func (f *slowNet[T]) states() []T {
	if f.local {
		return f.w
	}
	return f.u
}

func (f *slowNet[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	h := f.hidden
	tmp := s.Take(h * f.points)
	if f.local {
		f.linear(e, f.reduced, in[f.reduce()], in[f.reduce()+1], in[f.context()], h, f.channels)
		f.linear(e, f.query, in[f.queries()], in[f.queries()+1], f.reduced, h, h)
		kernel.Gelu(f.p, f.query)
	}
	states := f.states()
	for i := range f.layers + 1 {
		f.waves(e.Workers, in, i)
		u := f.layer(f.u, i)
		if i == 0 {
			copy(u, f.layer(f.sin, 0))
			copy(f.layer(states, 0), u)
			continue
		}
		f.linear(e, u, in[f.mixer(i)], in[f.mixer(i)+1], f.layer(states, i-1), h, h)
		kernel.Mul(u, u, f.layer(f.sin, i))
		for j := range h {
			kernel.Axpy(1, in[slowOffset], u[j*f.points:][:f.points])
		}
		if f.local {
			f.linear(e, tmp, in[f.score(i)], in[f.score(i)+1], f.p, h, h)
			w := f.layer(f.w, i)
			for j := range h {
				row := u[j*f.points:][:f.points]
				norm := max(math.Sqrt(kernel.Dot(row, row)), slowLeastNorm)
				f.norms[i*h+j] = T(norm)
				kernel.LinearCombination(w[j*f.points:][:f.points], []T{T(1 + slowNormShare/norm)}, row)
			}
			kernel.Mul(w, w, tmp)
		}
	}
	f.linear(e, out, in[slowOut], in[slowOutBias], f.layer(states, f.layers), f.outputs, h)
}

func (f *slowNet[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	h, n := f.hidden, f.hidden*f.points
	states := f.states()
	du, da, dp := s.Take(n), s.Take(n), s.TakeZero(n)
	f.linearGrad(e, in[slowOut], f.layer(states, f.layers), dout, din[slowOut], din[slowOutBias], du, f.outputs, h, false)
	clear(din[slowOffset])
	for i := f.layers; i > 0; i-- {
		if f.local {
			f.scoreGrad(e, in, din, i, du, da, dp)
		}
		for j := range h {
			kernel.Axpy(1, du[j*f.points:][:f.points], din[slowOffset])
		}
		// da = L u + b for now; du becomes the gradient of the sine's argument.
		f.linear(e, da, in[f.mixer(i)], in[f.mixer(i)+1], f.layer(states, i-1), h, h)
		kernel.Mul(da, da, du)
		kernel.Mul(du, du, f.layer(f.sin, i))
		kernel.Mul(da, da, f.layer(f.cos, i))
		f.filterGrad(da, din, i)
		da, du = du, da
		f.linearGrad(e, in[f.mixer(i)], f.layer(states, i-1), da, din[f.mixer(i)], din[f.mixer(i)+1], du, h, h, false)
	}
	kernel.Mul(du, du, f.layer(f.cos, 0))
	f.filterGrad(du, din, 0)
	if f.local {
		kernel.GeluGrad(dp, f.query, dp)
		f.linearGrad(e, in[f.queries()], f.reduced, dp, din[f.queries()], din[f.queries()+1], da, h, h, false)
		f.linearGrad(e, in[f.reduce()], in[f.context()], da, din[f.reduce()], din[f.reduce()+1], din[f.context()], h, f.channels, false)
	}
}

// filterGrad sets the gradients of filter and phase i from that of the argument of
// the sine, d (h,N).
func (f *slowNet[T]) filterGrad(d []T, din [][]T, i int) {
	for j := range f.hidden {
		row := d[j*f.points:][:f.points]
		for a, x := range f.axes {
			din[f.filter(i)][j*f.dims+a] = T(kernel.Dot(row, x))
		}
		din[f.filter(i)+1][j] = T(kernel.Sum(row))
	}
}

// scoreGrad turns d, the gradient of w_i, into that of u_i, adds to dp, the
// gradient of p, and sets those of X_i and x_i. tmp has d's size.
func (f *slowNet[T]) scoreGrad(e *Env, in, din [][]T, i int, d, tmp, dp []T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	h, u := f.hidden, f.layer(f.u, i)
	t := s.Take(len(d))
	f.linear(e, t, in[f.score(i)], in[f.score(i)+1], f.p, h, h)
	for j := range h {
		row := tmp[j*f.points:][:f.points]
		kernel.LinearCombination(row, []T{T(1 + slowNormShare/float64(f.norms[i*h+j]))}, u[j*f.points:][:f.points])
		kernel.Mul(row, row, d[j*f.points:][:f.points])
	}
	f.linearGrad(e, in[f.score(i)], f.p, tmp, din[f.score(i)], din[f.score(i)+1], dp, h, h, true)
	kernel.Mul(d, d, t) // the gradient of what the score multiplies
	for j := range h {
		row, at := d[j*f.points:][:f.points], u[j*f.points:][:f.points]
		norm := float64(f.norms[i*h+j])
		keep, along := slowNormShare/norm, 0.
		if norm > slowLeastNorm {
			along = -slowNormShare / (norm * norm * norm) * kernel.Dot(row, at)
		}
		if f.attached {
			keep++
		}
		kernel.LinearCombination(row, []T{T(keep), T(along)}, row, at)
	}
}
