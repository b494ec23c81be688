package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/op"
	"github.com/unrollnet/unrollnet/pkg/optim"
	"gonum.org/v1/gonum/optimize"
	G "gorgonia.org/gorgonia"
)

// HeadNetwork is the two-layer network behind a convex head: m heads for each of
// its blocks. Gated, its factors are those of Burer and Monteiro.
type HeadNetwork struct {
	Head  op.ConvexHead
	ReLU  bool      // max(z, 0) in place of the gates
	Gates []float64 // (J,a)
	Heads int       // m
	W1    []float64 // (J,m,a)
	W2    []float64 // (J,m,b)
}

// checkHeads reports layers whose lengths do not fit.
func (n *HeadNetwork) checkHeads() error {
	a, b := n.Head.BlockShape()
	k := n.Head.BlockCount() * n.Heads
	if n.Heads < 1 || len(n.W1) != k*a || len(n.W2) != k*b || len(n.Gates) != n.Head.BlockCount()*a {
		return fmt.Errorf("network of %d heads in %d blocks of %d x %d: found layers of %d and %d numbers and gates of %d", n.Heads, n.Head.BlockCount(), a, b, len(n.W1), len(n.W2), len(n.Gates))
	}
	return nil
}

// NetworkOf returns the network with the outputs of the weights z: for the
// singular value decomposition Z_j = sum_r sigma_r u_r v_r^T head r of block j
// is W1 = sqrt(sigma_r) u_r, W2 = sqrt(sigma_r) v_r, so that
// 1/2 (|W1|^2 + |W2|^2) = sum_j |Z_j|_*. It has as many heads per block as the
// largest rank; the rest of the heads of other blocks are zero.
func (f *ConvexFit) NetworkOf(z []float64) (*HeadNetwork, error) {
	if len(z) != f.Size() {
		return nil, fmt.Errorf("weights: found %d numbers, expected %d", len(z), f.Size())
	}
	a, b := f.Head.BlockShape()
	type svd struct{ u, sigma, v []float64 }
	blocks := make([]svd, f.Head.BlockCount())
	var top float64
	for j := range blocks {
		u, sigma, v, err := optim.SVD(f.Block(z, j), f.Blocks[j])
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", j, err)
		}
		blocks[j] = svd{u, sigma, v}
		top = max(top, sigma[0])
	}
	n := &HeadNetwork{Head: f.Head, Gates: f.Gates, Heads: 1}
	// Rounding of zeros; what is left out is far below the rounding of outputs.
	const least = 1e-15
	for _, d := range blocks {
		for r, s := range d.sigma {
			if s > least*top {
				n.Heads = max(n.Heads, r+1)
			}
		}
	}
	m := n.Heads
	n.W1, n.W2 = make([]float64, len(blocks)*m*a), make([]float64, len(blocks)*m*b)
	for j, d := range blocks {
		for r := range min(m, len(d.sigma)) {
			if !(d.sigma[r] > least*top) {
				break
			}
			root, k := math.Sqrt(d.sigma[r]), j*m+r
			for i, x := range d.u[r*a:][:a] {
				n.W1[k*a+i] = root * x
			}
			for i, x := range d.v[r*b:][:b] {
				n.W2[k*b+i] = root * x
			}
		}
	}
	return n, nil
}

// Convex returns the weights Z_j = sum_r W1[j,r] W2[j,r]^T. For a gated network
// the convex head with these has its outputs, and an objective at most the
// network's.
func (n *HeadNetwork) Convex() []float64 {
	a, b := n.Head.BlockShape()
	z := make([]float64, n.Head.Size())
	for k := range n.Head.BlockCount() * n.Heads {
		for i, u := range n.W1[k*a:][:a] {
			row := z[k/n.Heads*a*b+i*b:][:b]
			for q, v := range n.W2[k*b:][:b] {
				row[q] += u * v
			}
		}
	}
	return z
}

// Decay returns 1/2 (|W1|^2 + |W2|^2).
func (n *HeadNetwork) Decay() float64 {
	var sum float64
	for _, w := range [][]float64{n.W1, n.W2} {
		for _, v := range w {
			sum += v * v
		}
	}
	return sum / 2
}

// Outputs returns the network's outputs (count,R,c) on examples x (count,s,d).
func (n *HeadNetwork) Outputs(x []float64, count, workers int) ([]float64, error) {
	if err := n.checkHeads(); err != nil {
		return nil, err
	}
	a, b := n.Head.BlockShape()
	J := n.Head.BlockCount()
	c, err := newConvexGraph(workers, func(c *convexGraph[float64]) (G.Nodes, error) {
		c.env.Inference = true
		out, err := op.ConvexNetwork(c.env, n.Head, n.ReLU, c.input("x", x, count, n.Head.Tokens, n.Head.Channels),
			c.input("gates", n.Gates, J, a), c.input("w1", n.W1, J, n.Heads, a), c.input("w2", n.W2, J, n.Heads, b))
		if err != nil {
			return nil, err
		}
		return c.only(out)
	})
	if err != nil {
		return nil, err
	}
	out := make([]float64, count*n.Head.Rows()*n.Head.Outputs)
	_, err = c.run(out)
	return out, err
}

// RandomNetwork returns a network of h with m heads per block whose layers are
// normal numbers of standard deviation 1/sqrt(a) and 1/sqrt(b): never zero, which
// is a stationary point.
func RandomNetwork(h op.ConvexHead, relu bool, gates []float64, m int, seed uint64) (*HeadNetwork, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	if m < 1 {
		return nil, fmt.Errorf("heads: found %d, expected at least 1", m)
	}
	a, b := h.BlockShape()
	k := h.BlockCount() * m
	n := &HeadNetwork{Head: h, ReLU: relu, Gates: gates, Heads: m, W1: make([]float64, k*a), W2: make([]float64, k*b)}
	rng := rand.New(rand.NewPCG(seed, 0x6865616473))
	for i := range n.W1 {
		n.W1[i] = rng.NormFloat64() / math.Sqrt(float64(a))
	}
	for i := range n.W2 {
		n.W2[i] = rng.NormFloat64() / math.Sqrt(float64(b))
	}
	return n, n.checkHeads()
}

// factorGraph is loss + beta * Decay of a network on the examples of a fit with
// its gradients. Where the fit holds features, and features are asked for, a
// gated network runs on these through the product of its layers.
type factorGraph struct {
	*convexGraph[float64]
	w1, w2 []float64
}

func (f *ConvexFit) factorGraph(n *HeadNetwork, beta float64, features bool) (*factorGraph, error) {
	if n.Head != f.Head {
		return nil, errors.New("the network is of another head than the fit")
	}
	if err := n.checkHeads(); err != nil {
		return nil, err
	}
	a, b := n.Head.BlockShape()
	J := n.Head.BlockCount()
	g := &factorGraph{w1: make([]float64, len(n.W1)), w2: make([]float64, len(n.W2))}
	var err error
	g.convexGraph, err = newConvexGraph(f.Options.Workers, func(c *convexGraph[float64]) (G.Nodes, error) {
		w1, w2 := c.input("w1", g.w1, J, n.Heads, a), c.input("w2", g.w2, J, n.Heads, b)
		var out *G.Node
		var err error
		if features && f.Explicit && !n.ReLU {
			if out, err = op.FactorProduct(c.env, f.Head, w1, w2); err == nil {
				out, err = op.ConvexProduct(c.env, f.Head, c.input("features", f.phi, f.Data.N, f.Head.Rows(), f.Head.Features()), out)
			}
		} else {
			x, gates := f.tokens(c)
			out, err = op.ConvexNetwork(c.env, f.Head, n.ReLU, x, gates, w1, w2)
		}
		if err != nil {
			return nil, err
		}
		loss, err := f.lossOf(c, out)
		if err != nil {
			return nil, err
		}
		total, err := op.WeightDecay(c.env, loss, w1, w2, beta)
		if err != nil {
			return nil, err
		}
		return gradients(total, nil, w1, w2)
	})
	return g, err
}

// Objective returns loss + beta/2 (|W1|^2 + |W2|^2) of a network on the examples
// of the fit, in float64, never below the optimum of the convex problem for the
// same gates (which says nothing of a ReLU network).
func (f *ConvexFit) Objective(n *HeadNetwork, beta float64) (float64, error) {
	g, err := f.factorGraph(n, beta, false)
	if err != nil {
		return 0, err
	}
	copy(g.w1, n.W1)
	copy(g.w2, n.W2)
	return g.run(make([]float64, len(n.W1)), make([]float64, len(n.W2)))
}

// FactorOptions are those of a fit by factors.
type FactorOptions struct {
	Tolerance     float64 // certified relative gap to reach, above 0
	MaxIterations int     // of L-BFGS, in all
	MaxEscapes    int     // how often a head may be added to a stationary point that is no optimum
	Progress      func(iterations int, heads int, c *optim.Certificate) error
}

// FactorSolution is a network with the certificate of its convex weights.
type FactorSolution struct {
	Network     *HeadNetwork
	Objective   float64            // loss + beta/2 (|W1|^2 + |W2|^2)
	Certificate *optim.Certificate // of Network.Convex(); its primal value is at most Objective; nil for ReLU
	Iterations  int
	Escapes     int
}

// FitFactors minimises loss + beta/2 (|W1|^2 + |W2|^2) from the given network by
// L-BFGS on the whole data. For a gated network the result is certified as a
// point of the convex problem; where the certificate fails at a stationary point,
// the top singular pair u, v of the worst block's gradient becomes one more head
// W1 = e u, W2 = -e v, with the e that lowers the objective most to fourth order,
// and the descent goes on. A ReLU network is only trained.
func (f *ConvexFit) FitFactors(ctx context.Context, beta float64, start *HeadNetwork, o FactorOptions) (*FactorSolution, error) {
	if !(beta > 0) || math.IsInf(beta, 0) {
		return nil, fmt.Errorf("beta: found %v, expected a finite number > 0", beta)
	}
	if !(o.Tolerance > 0) || o.MaxIterations < 1 {
		return nil, fmt.Errorf("factors: tolerance %v, %d iterations: expected a tolerance above 0 and at least one iteration", o.Tolerance, o.MaxIterations)
	}
	n := *start
	n.W1, n.W2 = append([]float64(nil), start.W1...), append([]float64(nil), start.W2...)
	s := &FactorSolution{Network: &n}
	grad := make([]float64, f.Size())
	for {
		used, value, err := f.descend(ctx, beta, &n, o.MaxIterations-s.Iterations)
		if err != nil {
			return nil, err
		}
		s.Iterations += used
		s.Objective = value
		if n.ReLU {
			return s, nil
		}
		z := n.Convex()
		if s.Certificate, err = f.Certify(z, beta, grad); err != nil {
			return nil, err
		}
		if o.Progress != nil {
			if err := o.Progress(s.Iterations, n.Heads, s.Certificate); err != nil {
				return nil, err
			}
		}
		if s.Certificate.Global(o.Tolerance) || s.Iterations >= o.MaxIterations || s.Escapes >= o.MaxEscapes {
			return s, nil
		}
		grew, err := f.escape(&n, grad, beta)
		if err != nil {
			return nil, err
		}
		if !grew { // sigma_max <= beta: what is missing is descent, and that has ended
			return s, nil
		}
		s.Escapes++
	}
}

// descend runs L-BFGS on the factors of n.
func (f *ConvexFit) descend(ctx context.Context, beta float64, n *HeadNetwork, iterations int) (used int, value float64, err error) {
	g, err := f.factorGraph(n, beta, true)
	if err != nil {
		return 0, 0, err
	}
	k := len(n.W1)
	x := append(append([]float64(nil), n.W1...), n.W2...)
	gx := make([]float64, len(x))
	at := make([]float64, len(x)) // the point value and gx belong to
	var failed error
	known := false
	eval := func(x []float64) {
		if known {
			same := true
			for i, v := range x {
				if at[i] != v {
					same = false
					break
				}
			}
			if same {
				return
			}
		}
		copy(at, x)
		copy(g.w1, x[:k])
		copy(g.w2, x[k:])
		v, err := g.run(gx[:k], gx[k:])
		if err != nil {
			failed = err
			v = math.NaN()
		}
		value, known = v, true
	}
	problem := optimize.Problem{
		Func: func(x []float64) float64 { eval(x); return value },
		Grad: func(grad, x []float64) { eval(x); copy(grad, gx) },
		Status: func() (optimize.Status, error) {
			if failed != nil {
				return optimize.Failure, failed
			}
			if err := ctx.Err(); err != nil {
				return optimize.Failure, err
			}
			return optimize.NotTerminated, nil
		},
	}
	eval(x)
	if failed != nil {
		return 0, 0, failed
	}
	if iterations < 1 || allZero(gx) {
		return 0, value, nil
	}
	first := value
	r, err := optimize.Minimize(problem, x, &optimize.Settings{
		MajorIterations:   iterations,
		GradientThreshold: 1e-12 * math.Max(1, beta),
		Converger:         &optimize.FunctionConverge{Relative: 1e-14, Iterations: 30},
	}, &optimize.LBFGS{Store: 30})
	if failed != nil {
		return 0, 0, failed
	}
	if ctx.Err() != nil {
		return 0, 0, ctx.Err()
	}
	if r == nil {
		return 0, 0, fmt.Errorf("descent on the factors: %w", err)
	}
	// A line search that finds nothing lower has come to the end of the numbers'
	// precision, which is no failure.
	if !(r.F <= first) {
		return 0, 0, fmt.Errorf("descent on the factors went from %v to %v: %v", first, r.F, err)
	}
	copy(n.W1, r.X[:k])
	copy(n.W2, r.X[k:])
	return max(r.MajorIterations, 1), r.F, nil
}

// escape adds a head along the steepest way down from the convex weights of n,
// whose gradient of the loss is grad. It reports false where there is none.
func (f *ConvexFit) escape(n *HeadNetwork, grad []float64, beta float64) (bool, error) {
	a, b := f.Head.BlockShape()
	worst, sigma := 0, 0.0
	var left, right []float64
	for j := range f.Blocks {
		u, s, v, err := optim.SVD(f.Block(grad, j), f.Blocks[j])
		if err != nil {
			return false, err
		}
		if s[0] > sigma {
			worst, sigma, left, right = j, s[0], u[:a], v[:b]
		}
	}
	if !(sigma > beta) {
		return false, nil
	}
	// A rank-one change e^2 u v^T of Z changes the objective by
	// e^2 (beta - sigma) + e^4/2 kappa |A(u v^T)|^2 at most.
	q, w := make([]float64, f.Size()), make([]float64, f.Size())
	for i, x := range left {
		for k, y := range right {
			f.Block(q, worst)[i*b+k] = x * y
		}
	}
	if err := f.Normal(q, w); err != nil {
		return false, err
	}
	var square float64
	for i, x := range q {
		square += x * w[i]
	}
	if !(square > 0) {
		return false, nil
	}
	e := math.Sqrt((sigma - beta) / (f.Curvature() * square))
	m, J := n.Heads, f.Head.BlockCount()
	w1, w2 := make([]float64, J*(m+1)*a), make([]float64, J*(m+1)*b)
	for j := range J {
		copy(w1[j*(m+1)*a:], n.W1[j*m*a:][:m*a])
		copy(w2[j*(m+1)*b:], n.W2[j*m*b:][:m*b])
	}
	k := worst*(m+1) + m
	for i, x := range left {
		w1[k*a+i] = e * x
	}
	for i, x := range right {
		w2[k*b+i] = -e * x
	}
	n.Heads, n.W1, n.W2 = m+1, w1, w2
	return true, nil
}
