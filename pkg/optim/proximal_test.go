package optim

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// leastSquares is 1/2 |A z - y|^2 with A row by row.
type leastSquares struct {
	a    [][]float64
	y    []float64
	out  []float64
	half float64 // what Normal says of A*A; 1 for the truth
}

func newLeastSquares(rng *rand.Rand, rows, n int) *leastSquares {
	p := &leastSquares{out: make([]float64, rows), half: 1}
	for range rows {
		row := make([]float64, n)
		for i := range row {
			row[i] = rng.NormFloat64()
		}
		p.a = append(p.a, row)
		p.y = append(p.y, rng.NormFloat64())
	}
	return p
}

func (p *leastSquares) adjoint(r, z []float64) {
	clear(z)
	for i, row := range p.a {
		for k, v := range row {
			z[k] += v * r[i]
		}
	}
}

func (p *leastSquares) apply(z, out []float64) {
	for i, row := range p.a {
		out[i] = 0
		for k, v := range row {
			out[i] += v * z[k]
		}
	}
}

func (p *leastSquares) Gradient(z, grad []float64) (loss float64, err error) {
	p.apply(z, p.out)
	r := make([]float64, len(p.y))
	for i, o := range p.out {
		r[i] = o - p.y[i]
		loss += r[i] * r[i] / 2
	}
	p.adjoint(r, grad)
	return loss, nil
}

func (p *leastSquares) Normal(z, out []float64) error {
	r := make([]float64, len(p.y))
	p.apply(z, r)
	p.adjoint(r, out)
	scale(out, p.half)
	return nil
}

func (p *leastSquares) Curvature() float64 { return 1 }

func (p *leastSquares) Dual(limit float64) float64 {
	var square, inner float64
	for i, o := range p.out {
		l := o - p.y[i]
		square += l * l
		inner += l * p.y[i]
	}
	t := max(-limit, min(limit, -inner/square))
	return -t*t*square/2 - t*inner
}

func TestSVD(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, b := range []Block{{1, 1}, {1, 5}, {5, 1}, {3, 7}, {7, 3}, {6, 6}} {
		for _, zero := range []bool{false, true} {
			m := make([]float64, b.Size())
			for i := range m {
				if !zero {
					m[i] = rng.NormFloat64()
				}
			}
			u, sigma, v, err := SVD(m, b)
			if err != nil {
				t.Fatal(err)
			}
			values, err := SingularValues(m, b)
			if err != nil {
				t.Fatal(err)
			}
			for r := range sigma {
				if math.Abs(sigma[r]-values[r]) > 1e-13 || r > 0 && sigma[r] > sigma[r-1] {
					t.Errorf("%v: singular values %v and %v", b, sigma, values)
				}
			}
			for i := range b.Rows {
				for k := range b.Cols {
					var s float64
					for r := range sigma {
						s += sigma[r] * u[r*b.Rows+i] * v[r*b.Cols+k]
					}
					if math.Abs(s-m[i*b.Cols+k]) > 1e-13 {
						t.Errorf("%v: element (%d,%d) is put together as %v, expected %v", b, i, k, s, m[i*b.Cols+k])
					}
				}
			}
			for r := range sigma {
				if math.Abs(norm(u[r*b.Rows:][:b.Rows])-1) > 1e-13 || math.Abs(norm(v[r*b.Cols:][:b.Cols])-1) > 1e-13 {
					t.Errorf("%v: singular vectors %d are not of length 1", b, r)
				}
			}
		}
	}
	for _, bad := range []float64{math.NaN(), math.Inf(-1)} {
		if _, _, _, err := SVD([]float64{1, 2, 3, 4, bad, 6}, Block{2, 3}); err == nil || !strings.Contains(err.Error(), "element (1, 1)") {
			t.Errorf("svd with %v: %v", bad, err)
		}
		if _, err := SingularValues([]float64{1, bad}, Block{1, 2}); err == nil {
			t.Errorf("singular values with %v: no error", bad)
		}
	}
}

// The threshold of a matrix minimises 1/2 |X - M|^2 + tau |X|_*: its residual
// over tau is a subgradient, of spectral norm at most 1 and <R, X> = |X|_*.
func TestShrink(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	for _, b := range []Block{{1, 1}, {1, 5}, {5, 1}, {3, 7}, {7, 3}, {6, 6}} {
		for _, tau := range []float64{0.01, 0.5, 2, 50} {
			m := make([]float64, b.Size())
			for i := range m {
				m[i] = rng.NormFloat64()
			}
			p, err := NewNuclear(nil, []Block{b}, 1)
			if err != nil {
				t.Fatal(err)
			}
			x := slices.Clone(m)
			if err := p.Shrink(x, tau); err != nil {
				t.Fatal(err)
			}
			r := make([]float64, len(m))
			var inner, nuc float64
			for i := range m {
				r[i] = (m[i] - x[i]) / tau
				inner += r[i] * x[i]
			}
			sx, _ := SingularValues(x, b)
			for _, s := range sx {
				nuc += s
			}
			sr, _ := SingularValues(r, b)
			if sr[0] > 1+1e-13/tau || math.Abs(inner-nuc) > 1e-13/tau { // rounding of M - X over tau
				t.Errorf("%v, tau %v: spectral norm %v, <R, X> = %v, |X|_* = %v", b, tau, sr[0], inner, nuc)
			}
			if tau == 50 && nuc != 0 {
				t.Errorf("%v: a threshold above every singular value leaves %v", b, nuc)
			}
		}
	}
}

func solveBlocks(t *testing.T, p *leastSquares, blocks []Block, workers int, fraction float64) (*Nuclear, *Solution) {
	t.Helper()
	n, err := NewNuclear(p, blocks, workers)
	if err != nil {
		t.Fatal(err)
	}
	bm, err := n.BetaMax()
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.Solve(context.Background(), fraction*bm, nil, ProximalOptions{Tolerance: 1e-10, MaxIterations: 20000})
	if err != nil {
		t.Fatal(err)
	}
	return n, s
}

// At the optimum the singular vectors of each block obey S_j v = -beta u, and
// blocks whose gradient is below beta are zero.
func TestProximalOptimality(t *testing.T) {
	blocks := []Block{{3, 4}, {1, 5}, {6, 2}, {4, 1}}
	for _, fraction := range []float64{0.9, 0.5, 0.1} {
		p := newLeastSquares(rand.New(rand.NewPCG(2, 2)), 25, 33)
		n, s := solveBlocks(t, p, blocks, 1, fraction)
		c := s.Certificate
		if !c.Global(1e-10) || c.Gap < 0 || math.Abs(c.SigmaRatio-1) > 1e-4 {
			t.Fatalf("fraction %v: gap %v, sigma ratio %v", fraction, c.RelativeGap, c.SigmaRatio)
		}
		grad := make([]float64, n.Size())
		if _, err := n.Certify(s.Z, c.Beta, grad); err != nil {
			t.Fatal(err)
		}
		active := 0
		for j, b := range blocks {
			u, sigma, v, err := SVD(n.Block(s.Z, j), b)
			if err != nil {
				t.Fatal(err)
			}
			if sigma[0] > 0 {
				active++
			} else if c.BlockSigma[j] > c.Beta*(1+1e-6) {
				t.Errorf("fraction %v: block %d is zero with a gradient of %v beta", fraction, j, c.BlockSigma[j]/c.Beta)
			}
			for r := range c.Ranks[j] {
				for i := range b.Rows {
					var sv float64
					for k := range b.Cols {
						sv += n.Block(grad, j)[i*b.Cols+k] * v[r*b.Cols+k]
					}
					if math.Abs(sv+c.Beta*u[r*b.Rows+i]) > 1e-3*c.Beta {
						t.Errorf("fraction %v: block %d, singular pair %d: S v = %v, -beta u = %v", fraction, j, r, sv, -c.Beta*u[r*b.Rows+i])
					}
				}
			}
		}
		if active != c.Active || fraction == 0.9 && active == len(blocks) {
			t.Errorf("fraction %v: %d active blocks, the certificate says %d", fraction, active, c.Active)
		}
		// The same bits on any number of threads.
		if _, other := solveBlocks(t, p, blocks, 3, fraction); !slices.Equal(other.Z, s.Z) || other.Certificate.Dual != c.Dual {
			t.Errorf("fraction %v: three threads give other bits", fraction)
		}
	}
}

// A step that is far too long is noticed and mended.
func TestProximalLongStep(t *testing.T) {
	blocks := []Block{{3, 4}, {6, 2}}
	p := newLeastSquares(rand.New(rand.NewPCG(2, 4)), 25, 24)
	_, want := solveBlocks(t, p, blocks, 1, 0.1)
	p.half = 0.05
	_, got := solveBlocks(t, p, blocks, 1, 0.1)
	if !got.Certificate.Global(1e-10) || math.Abs(got.Certificate.Primal-want.Certificate.Primal) > 1e-9*want.Certificate.Primal {
		t.Errorf("with a step twenty times too long: objective %v, gap %v, expected %v", got.Certificate.Primal, got.Certificate.RelativeGap, want.Certificate.Primal)
	}
}

// A path ends where a fit from zero ends; a start is used.
func TestProximalPath(t *testing.T) {
	blocks := []Block{{3, 4}, {6, 2}}
	p := newLeastSquares(rand.New(rand.NewPCG(2, 5)), 25, 24)
	n, cold := solveBlocks(t, p, blocks, 1, 0.05)
	var last *Solution
	var seen []float64
	if err := n.Path(context.Background(), []float64{2, 0.5, 0.2, 0.05}, ProximalOptions{Tolerance: 1e-10, MaxIterations: 20000}, func(f float64, s *Solution) error {
		seen = append(seen, f)
		last = s
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 4 || math.Abs(last.Certificate.Primal-cold.Certificate.Primal) > 1e-9*cold.Certificate.Primal {
		t.Errorf("path %v ends at %v, expected %v", seen, last.Certificate.Primal, cold.Certificate.Primal)
	}
	again, err := n.Solve(context.Background(), last.Certificate.Beta, last.Z, ProximalOptions{Tolerance: 1e-8, MaxIterations: 10})
	if err != nil || !again.Certificate.Global(1e-8) {
		t.Errorf("ten iterations from the solution leave a gap of %v, %v", again.Certificate.RelativeGap, err)
	}
	if zero, err := n.Solve(context.Background(), last.Certificate.Beta, nil, ProximalOptions{Tolerance: 1e-8, MaxIterations: 10}); err != nil || zero.Certificate.Global(1e-8) {
		t.Errorf("ten iterations from zero leave a gap of %v, %v", zero.Certificate.RelativeGap, err)
	}
	stop := errors.New("stop")
	if err := n.Path(context.Background(), []float64{0.5, 0.2}, ProximalOptions{Tolerance: 1e-3, MaxIterations: 50}, func(float64, *Solution) error { return stop }); err != stop {
		t.Errorf("found %v, expected the callback's error", err)
	}
}

func TestProximalErrors(t *testing.T) {
	if _, err := NewNuclear(nil, nil, 1); err == nil {
		t.Error("no blocks: no error")
	}
	if _, err := NewNuclear(nil, []Block{{2, 0}}, 1); err == nil || !strings.Contains(err.Error(), "block 0 is 2 x 0") {
		t.Errorf("an empty block: %v", err)
	}
	p := newLeastSquares(rand.New(rand.NewPCG(2, 6)), 5, 4)
	n, _ := NewNuclear(p, []Block{{2, 2}}, 1)
	ok := ProximalOptions{Tolerance: 1e-3, MaxIterations: 5}
	for _, c := range []struct {
		beta  float64
		start []float64
		o     ProximalOptions
		want  string
	}{
		{0, nil, ok, "beta: found 0"},
		{math.NaN(), nil, ok, "beta: found NaN"},
		{1, make([]float64, 3), ok, "the start has 3 elements, expected 4"},
		{1, nil, ProximalOptions{Tolerance: 0, MaxIterations: 5}, "tolerance 0"},
		{1, nil, ProximalOptions{Tolerance: 1, MaxIterations: 0}, "0 iterations"},
	} {
		if _, err := n.Solve(context.Background(), c.beta, c.start, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("found error %v, expected %q", err, c.want)
		}
	}
	p.y[2] = math.NaN()
	if _, err := n.Solve(context.Background(), 0.1, nil, ok); err == nil || !strings.Contains(err.Error(), "the loss is NaN") {
		t.Errorf("a loss that is no number: %v", err)
	}
}
