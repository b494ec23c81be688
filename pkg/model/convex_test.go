package model

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/op"
	"github.com/unrollnet/unrollnet/pkg/optim"
)

// lcg is the generator of the reference problems: uniform numbers in [-1, 1).
type lcg uint64

func (s *lcg) next() float64 {
	*s = *s*6364136223846793005 + 1442695040888963407
	return 2*float64(*s>>11)/(1<<53) - 1
}

func (s *lcg) fill(n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = s.next()
	}
	return v
}

// reference returns a problem of the reference set "sq" (six examples, squared
// error per token, beta 0.2) or "ce" (eight examples of four classes, pooled
// softmax, beta 0.05); gates 0 is the linear head.
func reference(mechanism op.Mechanism, set string, gates int) (h op.ConvexHead, g []float64, d ConvexData, loss ConvexLoss, beta float64) {
	s := lcg(2022)
	h = op.ConvexHead{Mechanism: mechanism, Tokens: 4, Channels: 4, Outputs: 2, Gates: max(gates, 1), Scale: 1}
	d.N, loss, beta = 6, ConvexSquared, 0.2
	if set == "ce" {
		h.Outputs, h.Pooled = 4, true
		d.N, loss, beta = 8, ConvexSoftmax, 0.05
		for i := range d.N {
			d.Labels = append(d.Labels, i%4)
		}
	}
	if mechanism == op.BlockFourier {
		h.Blocks, h.Strict = 2, true
	}
	d.X = s.fill(d.N * 16)
	d.Targets = s.fill(d.N * 4 * h.Outputs)
	g = LinearGates(h)
	if gates > 0 {
		g = s.fill(len(g))
	}
	return
}

func newFit(t *testing.T, h op.ConvexHead, gates []float64, d ConvexData, o ConvexOptions) *ConvexFit {
	t.Helper()
	f, err := NewConvexFit(h, gates, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func solve(t *testing.T, f *ConvexFit, beta, tolerance float64) *optim.Solution {
	t.Helper()
	s, err := f.Solve(context.Background(), beta, nil, optim.ProximalOptions{Tolerance: tolerance, MaxIterations: 30000})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Certificate.Global(tolerance) {
		t.Fatalf("relative gap %.3g after %d iterations, expected %g", s.Certificate.RelativeGap, s.Iterations, tolerance)
	}
	return s
}

func referenceFit(t *testing.T, m op.Mechanism, set string, gates int) (*ConvexFit, float64) {
	t.Helper()
	h, g, d, loss, beta := reference(m, set, gates)
	return newFit(t, h, g, d, ConvexOptions{Loss: loss}), beta
}

// knownOptimum is what another program found for a reference problem.
type knownOptimum struct {
	mechanism             op.Mechanism
	set                   string
	gates                 int
	betaMax, optimum, nuc float64
	ranks                 []int
}

var optima = []knownOptimum{
	{op.Perceptron, "sq", 0, 2.512313, 8.3478641587, 0.551175, []int{2}},
	{op.Perceptron, "sq", 3, 2.490445, 6.0679440676, 5.951997, []int{2, 2, 2}},
	{op.SelfAttention, "sq", 0, 10.590476, 2.0004510705, 5.417579, []int{5}},
	{op.SelfAttention, "sq", 3, 8.439788, 1.1502578758, 5.125837, []int{3, 2, 2}},
	{op.Mixer, "sq", 0, 4.764674, 0.9847245220, 4.728100, []int{5}},
	{op.Mixer, "sq", 3, 4.015206, 1.1468159976, 5.462039, []int{2, 3, 3}},
	{op.Fourier, "sq", 0, 4.903064, 6.3379486820, 1.500445, []int{2}},
	{op.Fourier, "sq", 3, 4.440549, 1.6876925702, 5.716713, []int{2, 2, 2}},
	{op.BlockFourier, "sq", 0, 4.083012, 7.4474945679, 0.973098, []int{1, 1}},
	{op.BlockFourier, "sq", 3, 3.808611, 3.7250377295, 7.775926, []int{1, 1, 1, 1, 1, 1}},
	{op.Perceptron, "ce", 0, 1.208221, 2.4988644931, 35.504181, []int{3}},
	{op.Perceptron, "ce", 3, 1.082783, 2.2516703978, 34.641905, []int{1, 1, 2}},
	{op.SelfAttention, "ce", 0, 3.859766, 0.7585075837, 12.610855, []int{3}},
	{op.SelfAttention, "ce", 3, 3.730479, 0.8831110097, 14.577938, []int{1, 2, 1}},
	{op.Mixer, "ce", 0, 2.272356, 0.9552306590, 15.695395, []int{2}},
	{op.Mixer, "ce", 3, 1.414130, 1.3738100875, 22.246463, []int{1, 1, 1}},
	{op.Fourier, "ce", 0, 2.416442, 1.5011887454, 22.730215, []int{3}},
	{op.Fourier, "ce", 3, 1.677562, 1.2920559144, 21.029580, []int{2, 1, 1}},
	{op.BlockFourier, "ce", 0, 1.289855, 7.0626643217, 20.340469, []int{1, 2}},
	{op.BlockFourier, "ce", 3, 1.153005, 2.5863543581, 38.786780, []int{2, 1, 1, 1, 2, 1}},
}

// The optima of 20 problems, certified, agree with those another program found.
func TestConvexGolden(t *testing.T) {
	for _, c := range optima {
		t.Run(fmt.Sprintf("%s/%s/%d", c.mechanism, c.set, c.gates), func(t *testing.T) {
			f, beta := referenceFit(t, c.mechanism, c.set, c.gates)
			s := solve(t, f, beta, 1e-11)
			cert := s.Certificate
			if d := math.Abs(cert.Primal - c.optimum); d > 1e-8 {
				t.Errorf("optimum %.10f, expected %.10f", cert.Primal, c.optimum)
			}
			if d := math.Abs(cert.BetaMax - c.betaMax); d > 1e-6 {
				t.Errorf("beta_max %.6f, expected %.6f", cert.BetaMax, c.betaMax)
			}
			if d := math.Abs(cert.Nuclear - c.nuc); d > 1e-4 {
				t.Errorf("nuclear norm %.6f, expected %.6f", cert.Nuclear, c.nuc)
			}
			if !slices.Equal(cert.Ranks, c.ranks) {
				t.Errorf("ranks %v, expected %v", cert.Ranks, c.ranks)
			}
			if math.Abs(cert.SigmaRatio-1) > 1e-4 {
				t.Errorf("sigma_max/beta is %v at the optimum, expected 1", cert.SigmaRatio)
			}
			if cert.Active != len(c.ranks) {
				t.Errorf("%d active blocks, expected %d", cert.Active, len(c.ranks))
			}
			t.Logf("%d iterations, %d restarts, gap %.2g, p* %.12f", s.Iterations, s.Restarts, cert.RelativeGap, cert.Primal)
		})
	}
}

// The stream of the reference problems is the one they were made with.
func TestConvexReferenceData(t *testing.T) {
	h, g, d, _, _ := reference(op.SelfAttention, "sq", 3)
	near := func(what string, got, want []float64) {
		t.Helper()
		for i, v := range want {
			if math.Abs(got[i]-v) > 1e-12 {
				t.Errorf("%s[%d] = %.15f, expected %.15f", what, i, got[i], v)
			}
		}
	}
	near("x", d.X, []float64{0.338503991188545, -0.022690097871290, 0.248519136919555, -0.416344121001360, -0.824771955398910, 0.072989687339844})
	near("y", d.Targets, []float64{-0.708515186327, 0.253109064955})
	near("gate", g, []float64{0.107433517324, -0.543294983450, -0.305425183363})
	mask := make([]float64, 16)
	op.ConvexMask(h, 0, d.X[:16], g[:16], mask)
	if got, want := mask, []float64{0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("mask %v, expected %v", got, want)
	}
	for m, want := range map[op.Mechanism]float64{op.SelfAttention: 128, op.Perceptron: 30, op.Mixer: 143, op.Fourier: 31, op.BlockFourier: 83} {
		h, g, d, _, _ := reference(m, "sq", 3)
		a, _ := h.BlockShape()
		var sum float64
		mask := make([]float64, h.MaskSize())
		for i := range d.N {
			for j := range h.BlockCount() {
				op.ConvexMask(h, j%max(h.Blocks, 1), d.X[i*16:][:16], g[j*a:][:a], mask)
				for _, v := range mask {
					sum += v
				}
			}
		}
		if sum != want {
			t.Errorf("%s: masks hold %v ones, expected %v", m, sum, want)
		}
	}
	for set, want := range map[string]float64{"sq": 8.9289060230, "ce": 11.0903548890} {
		f, _ := referenceFit(t, op.Perceptron, set, 0)
		c, err := f.Certify(make([]float64, f.Size()), 100, nil)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(c.Primal-want) > 1e-9 || math.Abs(c.Dual-want) > 1e-9 {
			t.Errorf("set %s: L(0) = %.10f, dual %.10f, expected %.10f", set, c.Primal, c.Dual, want)
		}
	}
}

// From beta_max on the solution is exactly zero, and just below it is not.
func TestConvexBetaMax(t *testing.T) {
	for _, c := range optima {
		f, _ := referenceFit(t, c.mechanism, c.set, c.gates)
		bm, err := f.BetaMax()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []float64{1, 1.5, 100} {
			s := solve(t, f, k*bm, 1e-13)
			if !allZero(s.Z) || s.Certificate.Nuclear != 0 || s.Certificate.Active != 0 || s.Iterations != 0 {
				t.Errorf("%s %s: beta = %v beta_max leaves %d blocks", c.mechanism, c.set, k, s.Certificate.Active)
			}
		}
		if s := solve(t, f, 0.99*bm, 1e-9); allZero(s.Z) {
			t.Errorf("%s %s: beta = 0.99 beta_max gives zero", c.mechanism, c.set)
		}
	}
}

// The path of regularisation: values of another program, concave and not falling
// in beta, with the nuclear norm for slope.
func TestConvexPath(t *testing.T) {
	betas := []float64{11, 10, 8, 4, 2, 1, 0.5, 0.2, 0.1, 0.05}
	values := map[int][][2]float64{
		0: {{8.9289060230, 0}, {8.9274709364, 0.004898}, {8.8992754325, 0.024433}, {8.0428079266, 0.606146}, {6.1649516563, 1.330705}, {4.5121407218, 2.089451}, {3.2411734033, 3.209669}, {2.0004510705, 5.417579}, {1.3741361151, 7.581614}, {0.9109576653, 11.613530}},
		3: {{8.9289060230, 0}, {8.9289060230, 0}, {8.9252950977, 0.016753}, {8.1027727931, 0.592988}, {6.0903401742, 1.524545}, {4.0839947847, 2.692118}, {2.4748449210, 3.842088}, {1.1502578758, 5.125837}, {0.6078096554, 5.737435}, {0.3125927720, 6.074675}},
	}
	for gates, want := range values {
		f, _ := referenceFit(t, op.SelfAttention, "sq", gates)
		bm, err := f.BetaMax()
		if err != nil {
			t.Fatal(err)
		}
		var fractions []float64
		for _, b := range betas {
			fractions = append(fractions, b/bm)
		}
		var certs []*optim.Certificate
		err = f.Path(context.Background(), fractions, optim.ProximalOptions{Tolerance: 1e-9, MaxIterations: 30000}, func(_ float64, s *optim.Solution) error {
			certs = append(certs, s.Certificate)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range certs {
			if math.Abs(c.Primal-want[i][0]) > 1e-8 || math.Abs(c.Nuclear-want[i][1]) > 1e-4 || !c.Global(1e-9) {
				t.Errorf("%d gates, beta %g: optimum %.10f, nuclear norm %.6f, gap %.2g; expected %v", gates, betas[i], c.Primal, c.Nuclear, c.RelativeGap, want[i])
			}
			if i == 0 {
				continue
			}
			// The tangents at both ends lie above a concave function.
			before := certs[i-1]
			step := before.Beta - c.Beta
			if slope := (before.Primal - c.Primal) / step; slope < before.Nuclear-1e-4 || slope > c.Nuclear+1e-4 {
				t.Errorf("%d gates, beta %g to %g: slope %v, expected from %v to %v", gates, c.Beta, before.Beta, slope, before.Nuclear, c.Nuclear)
			}
		}
	}
}

// transformed solves a reference problem whose examples and gates have been
// changed in place.
func transformed(t *testing.T, m op.Mechanism, set string, gates int, change func(h op.ConvexHead, g []float64, d *ConvexData)) float64 {
	t.Helper()
	h, g, d, loss, beta := reference(m, set, gates)
	change(h, g, &d)
	return solve(t, newFit(t, h, g, d, ConvexOptions{Loss: loss}), beta, 1e-10).Certificate.Primal
}

// permute moves token perm(i, a) of example i, with its target, to a.
func permute(perm func(i, a int) int) func(op.ConvexHead, []float64, *ConvexData) {
	return func(h op.ConvexHead, _ []float64, d *ConvexData) {
		x, y := slices.Clone(d.X), slices.Clone(d.Targets)
		for i := range d.N {
			for a := range 4 {
				copy(d.X[i*16+a*4:][:4], x[i*16+perm(i, a)*4:])
				copy(d.Targets[(i*4+a)*h.Outputs:][:h.Outputs], y[(i*4+perm(i, a))*h.Outputs:])
			}
		}
	}
}

// rotation is an orthogonal 4 x 4 matrix.
func rotation() (q [4][4]float64) {
	c, s := math.Cos(0.7), math.Sin(0.7)
	e, f := math.Cos(-1.9), math.Sin(-1.9)
	a := [4][4]float64{{c, -s, 0, 0}, {s, c, 0, 0}, {0, 0, e, -f}, {0, 0, f, e}}
	b := [4][4]float64{{0.5, 0.5, 0.5, 0.5}, {0.5, -0.5, 0.5, -0.5}, {0.5, 0.5, -0.5, -0.5}, {0.5, -0.5, -0.5, 0.5}}
	for i := range 4 {
		for j := range 4 {
			for k := range 4 {
				q[i][j] += a[i][k] * b[k][j]
			}
		}
	}
	return q
}

// rotateRows multiplies rows of four by q from the right.
func rotateRows(v []float64, q [4][4]float64) {
	for i := 0; i < len(v); i += 4 {
		var r [4]float64
		for j := range 4 {
			for k := range 4 {
				r[j] += v[i+k] * q[k][j]
			}
		}
		copy(v[i:], r[:])
	}
}

func rotateX(_ op.ConvexHead, _ []float64, d *ConvexData) { rotateRows(d.X, rotation()) }

// What must leave the optimum alone, and what must not.
func TestConvexInvariances(t *testing.T) {
	base := map[op.Mechanism]float64{op.Perceptron: 8.34786416, op.SelfAttention: 2.00045107, op.Mixer: 0.98472452, op.Fourier: 6.33794868, op.BlockFourier: 7.44749457}
	swap := permute(func(i, a int) int {
		switch a {
		case i % 4:
			return (i + 1) % 4
		case (i + 1) % 4:
			return i % 4
		}
		return a
	})
	shift := permute(func(i, a int) int { return (a + 4 - i%4) % 4 })
	common := permute(func(_, a int) int { return [4]int{2, 0, 3, 1}[a] })
	for _, c := range []struct {
		name      string
		mechanism op.Mechanism
		change    func(op.ConvexHead, []float64, *ConvexData)
		want      float64 // 0: unlike the base value; base: equal
	}{
		{"rotation", op.Perceptron, rotateX, base[op.Perceptron]},
		{"rotation", op.SelfAttention, rotateX, base[op.SelfAttention]},
		{"rotation", op.Mixer, rotateX, base[op.Mixer]},
		{"rotation", op.Fourier, rotateX, base[op.Fourier]},
		{"rotation", op.BlockFourier, rotateX, 0},
		{"swap", op.Perceptron, swap, base[op.Perceptron]},
		{"swap", op.SelfAttention, swap, base[op.SelfAttention]},
		{"swap", op.Mixer, swap, 1.01737168},
		{"swap", op.Fourier, swap, 4.79641233},
		{"shift", op.Perceptron, shift, base[op.Perceptron]},
		{"shift", op.SelfAttention, shift, base[op.SelfAttention]},
		{"shift", op.Fourier, shift, base[op.Fourier]},
		{"shift", op.Mixer, shift, 0.88018304},
		{"common", op.Perceptron, common, base[op.Perceptron]},
		{"common", op.Mixer, common, base[op.Mixer]},
		{"common", op.Fourier, common, 5.58612817},
	} {
		got := transformed(t, c.mechanism, "sq", 0, c.change)
		if c.want == 0 {
			if math.Abs(got-base[c.mechanism]) < 1e-3 {
				t.Errorf("%s of %s: %.8f, expected another value than %.8f", c.name, c.mechanism, got, base[c.mechanism])
			}
		} else if math.Abs(got-c.want) > 1.1e-8 {
			t.Errorf("%s of %s: %.8f, expected %.8f", c.name, c.mechanism, got, c.want)
		}
	}

	// Gated attention is invariant if the gates turn along, H -> Q^T H Q.
	q := rotation()
	if got := transformed(t, op.SelfAttention, "sq", 3, rotateX); math.Abs(got-1.15025788) < 1e-3 {
		t.Errorf("rotation of the examples alone left gated attention at %.8f", got)
	}
	if got := transformed(t, op.SelfAttention, "sq", 3, func(h op.ConvexHead, g []float64, d *ConvexData) {
		rotateRows(d.X, q)
		rotateRows(g, q)
		for j := range 3 {
			var turned [16]float64
			for a := range 4 {
				for b := range 4 {
					for k := range 4 {
						turned[a*4+b] += q[k][a] * g[j*16+k*4+b]
					}
				}
			}
			copy(g[j*16:], turned[:])
		}
	}); math.Abs(got-1.15025788) > 1.1e-8 {
		t.Errorf("rotation of examples and gates: %.8f, expected 1.15025788", got)
	}

	// X -> alpha X is beta -> beta/alpha, for attention beta/alpha^3.
	for m, power := range map[op.Mechanism]float64{op.Perceptron: 1, op.Mixer: 1, op.Fourier: 1, op.BlockFourier: 1, op.SelfAttention: 3} {
		const alpha = 1.3
		scaled := transformed(t, m, "sq", 3, func(_ op.ConvexHead, _ []float64, d *ConvexData) {
			for i := range d.X {
				d.X[i] *= alpha
			}
		})
		f, beta := referenceFit(t, m, "sq", 3)
		if want := solve(t, f, beta/math.Pow(alpha, power), 1e-10).Certificate.Primal; math.Abs(scaled-want) > 1e-8 {
			t.Errorf("%s: optimum of scaled examples %.9f, expected %.9f", m, scaled, want)
		}
	}
}

// More gates never raise the optimum, a gate twice changes nothing.
func TestConvexMoreGates(t *testing.T) {
	want := map[string]map[op.Mechanism]float64{
		"sq": {op.Perceptron: 4.88018396, op.SelfAttention: 1.01877151, op.Mixer: 0.94089354, op.Fourier: 1.24472799},
		"ce": {op.Perceptron: 2.00262787, op.SelfAttention: 0.75850758, op.Mixer: 0.95523066, op.Fourier: 1.13389169},
	}
	for _, c := range optima {
		if c.gates == 0 || c.mechanism == op.BlockFourier {
			continue
		}
		h, g, d, loss, beta := reference(c.mechanism, c.set, 3)
		a, _ := h.BlockShape()
		h.Gates = 4
		with := solve(t, newFit(t, h, append(slices.Clone(g), make([]float64, a)...), d, ConvexOptions{Loss: loss}), beta, 1e-9).Certificate.Primal
		if math.Abs(with-want[c.set][c.mechanism]) > 1.1e-8 || with > c.optimum {
			t.Errorf("%s %s with the gate of ones: %.8f, expected %.8f", c.mechanism, c.set, with, want[c.set][c.mechanism])
		}
		twice := solve(t, newFit(t, h, append(slices.Clone(g), g[:a]...), d, ConvexOptions{Loss: loss}), beta, 1e-9).Certificate.Primal
		if math.Abs(twice-c.optimum) > 1e-8 {
			t.Errorf("%s %s with a gate twice: %.9f, expected %.9f", c.mechanism, c.set, twice, c.optimum)
		}
	}
}

// softThreshold returns 1/2 |y|^2 - 1/2 sum (sigma - beta)_+^2 for the singular
// values of a matrix.
func softThreshold(t *testing.T, y, m []float64, b optim.Block, beta float64) float64 {
	t.Helper()
	s, err := optim.SingularValues(m, b)
	if err != nil {
		t.Fatal(err)
	}
	var p float64
	for _, v := range y {
		p += v * v / 2
	}
	for _, v := range s {
		if v > beta {
			p -= (v - beta) * (v - beta) / 2
		}
	}
	return p
}

// Problems whose optimum is known in closed form.
func TestConvexClosedForms(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 1))
	normal := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = rng.NormFloat64()
		}
		return v
	}
	optimum := func(h op.ConvexHead, d ConvexData, loss ConvexLoss, beta float64) float64 {
		t.Helper()
		return solve(t, newFit(t, h, LinearGates(h), d, ConvexOptions{Loss: loss}), beta, 1e-12).Certificate.Primal
	}
	same := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-10*math.Max(1, want) {
			t.Errorf("%s: optimum %.13g, closed form %.13g", what, got, want)
		}
	}
	const s, d, c = 3, 4, 2

	// MLP and linear head with orthonormal columns of the stacked tokens: two
	// examples of the halves of a rotation's columns, padded.
	q := rotation()
	x := make([]float64, 2*s*d)
	for k := range 4 {
		for l := range 4 {
			at := k
			if k >= 2 {
				at = s + k - 2 // the third token of each example is zero
			}
			x[at*d+l] = q[k][l]
		}
	}
	y := normal(2 * s * c)
	adjoint := make([]float64, d*c)
	for r := range 2 * s {
		for l := range d {
			for p := range c {
				adjoint[l*c+p] += x[r*d+l] * y[r*c+p]
			}
		}
	}
	for _, m := range []op.Mechanism{op.Perceptron, op.Linear} {
		h := op.ConvexHead{Mechanism: m, Tokens: s, Channels: d, Outputs: c, Gates: 1, Scale: 1}
		same(string(m), optimum(h, ConvexData{N: 2, X: x, Targets: y}, ConvexSquared, 0.4), softThreshold(t, y, adjoint, optim.Block{Rows: d, Cols: c}, 0.4))
	}

	// Mixer on all unit matrices.
	h := op.ConvexHead{Mechanism: op.Mixer, Tokens: s, Channels: d, Outputs: c, Gates: 1, Scale: 1}
	data := ConvexData{N: s * d, X: make([]float64, s*d*s*d), Targets: normal(s * d * s * c)}
	adjoint = make([]float64, s*s*d*c)
	for k := range s {
		for l := range d {
			i := k*d + l
			data.X[i*s*d+k*d+l] = 1
			for a := range s {
				for p := range c {
					adjoint[(a*s+k)*d*c+l*c+p] = data.Targets[(i*s+a)*c+p]
				}
			}
		}
	}
	same("mixer", optimum(h, data, ConvexSquared, 1.1), softThreshold(t, data.Targets, adjoint, optim.Block{Rows: s * s, Cols: d * c}, 1.1))

	// FNO on unit matrices of the first token.
	h.Mechanism = op.Fourier
	data = ConvexData{N: d, X: make([]float64, d*s*d), Targets: normal(d * s * c)}
	adjoint = make([]float64, s*d*c)
	for l := range d {
		data.X[l*s*d+l] = 1
		for u := range s {
			for p := range c {
				adjoint[(u*d+l)*c+p] = data.Targets[(l*s+u)*c+p]
			}
		}
	}
	same("fno", optimum(h, data, ConvexSquared, 0.9), softThreshold(t, data.Targets, adjoint, optim.Block{Rows: s * d, Cols: c}, 0.9))

	// Attention on one channel: p* = 1/2 |Y|^2 - (|b|-beta)_+^2/(2a).
	h = op.ConvexHead{Mechanism: op.SelfAttention, Tokens: s, Channels: 1, Outputs: c, Gates: 1, Scale: 1}
	data = ConvexData{N: 5, X: normal(5 * s), Targets: normal(5 * s * c)}
	var a, want, length float64
	var b [c]float64
	for i := range 5 {
		var square float64
		for _, v := range data.X[i*s:][:s] {
			square += v * v
		}
		a += square * square * square
		for k, v := range data.X[i*s:][:s] {
			for p := range c {
				b[p] += square * v * data.Targets[(i*s+k)*c+p]
			}
		}
	}
	for _, v := range data.Targets {
		want += v * v / 2
	}
	length = math.Hypot(b[0], b[1])
	want -= math.Pow(max(length-0.3, 0), 2) / (2 * a)
	same("attention", optimum(h, data, ConvexSquared, 0.3), want)
	if length < 0.4 {
		t.Error("the problem of one channel has its optimum at zero")
	}

	// Pooled: FNO at beta is MLP at beta/sqrt(s); mixer is the head whose weights
	// do not depend on the output token, on X/sqrt(s): a linear head on the
	// channels (k,l), seen as a matrix s x dc.
	const n, k = 9, 3
	pooled := ConvexData{N: n, X: normal(n * s * d)}
	for i := range n {
		pooled.Labels = append(pooled.Labels, i%k)
	}
	fno := op.ConvexHead{Mechanism: op.Fourier, Tokens: s, Channels: d, Outputs: k, Gates: 1, Pooled: true, Scale: 1}
	mlp := fno
	mlp.Mechanism = op.Perceptron
	same("pooled fno", optimum(fno, pooled, ConvexSoftmax, 0.5), optimum(mlp, pooled, ConvexSoftmax, 0.5/math.Sqrt(s)))
	if f, m := optimum(fno, pooled, ConvexSoftmax, 0.5), optimum(mlp, pooled, ConvexSoftmax, 0.5); math.Abs(f-m) < 1e-3 {
		t.Errorf("pooled fno and mlp agree at one beta: %v", f)
	}

	mixer := fno
	mixer.Mechanism = op.Mixer
	full := newFit(t, mixer, LinearGates(mixer), pooled, ConvexOptions{Loss: ConvexSoftmax})
	sol := solve(t, full, 0.3, 1e-12)
	blockRows, _ := mixer.BlockShape()
	cols := len(sol.Z) / blockRows
	for t1 := 1; t1 < s; t1++ {
		for i := range s * cols {
			if math.Abs(sol.Z[t1*s*cols+i]-sol.Z[i]) > 1e-5 {
				t.Fatalf("pooled mixer: the weights of output token %d differ from those of the first", t1)
			}
		}
	}
	reduced := &pooledMixer{fit: full, n: n, s: s, d: d, c: k}
	p, err := optim.NewNuclear(reduced, []optim.Block{{Rows: s, Cols: d * k}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Solve(context.Background(), 0.3, nil, optim.ProximalOptions{Tolerance: 1e-12, MaxIterations: 30000})
	if err != nil {
		t.Fatal(err)
	}
	same("pooled mixer", sol.Certificate.Primal, r.Certificate.Primal)
}

// pooledMixer is the pooled mixer on X/sqrt(s) with one weight matrix (s,d*c)
// for all output tokens: the full problem at the weights Z'/sqrt(s), repeated.
type pooledMixer struct {
	fit        *ConvexFit
	n, s, d, c int
}

func (p *pooledMixer) spread(z []float64) []float64 {
	var full []float64
	for range p.s {
		for _, v := range z {
			full = append(full, v/math.Sqrt(float64(p.s)))
		}
	}
	return full
}

func (p *pooledMixer) gather(full, z []float64) {
	clear(z)
	for i, v := range full {
		z[i%len(z)] += v / math.Sqrt(float64(p.s))
	}
}

func (p *pooledMixer) Gradient(z, grad []float64) (float64, error) {
	full := make([]float64, p.s*len(z))
	loss, err := p.fit.Gradient(p.spread(z), full)
	p.gather(full, grad)
	return loss, err
}

func (p *pooledMixer) Normal(z, out []float64) error {
	full := make([]float64, p.s*len(z))
	err := p.fit.Normal(p.spread(z), full)
	p.gather(full, out)
	return err
}

func (p *pooledMixer) Dual(limit float64) float64 { return p.fit.Dual(limit) }
func (p *pooledMixer) Curvature() float64         { return p.fit.Curvature() }

// The gap of a certificate is never below the true error, at any point.
func TestConvexCertificateIsABound(t *testing.T) {
	for _, c := range optima {
		f, beta := referenceFit(t, c.mechanism, c.set, c.gates)
		rng := rand.New(rand.NewPCG(1, 5))
		check := func(cert *optim.Certificate) error {
			if true := cert.Primal - c.optimum; cert.Gap < true-1e-9 || cert.Dual > c.optimum+1e-9 || true < -1e-9 {
				return fmt.Errorf("%s %s: gap %v, dual %v for a primal value %v over the optimum", c.mechanism, c.set, cert.Gap, cert.Dual, true)
			}
			return nil
		}
		if _, err := f.Solve(context.Background(), beta, nil, optim.ProximalOptions{Tolerance: 1e-6, MaxIterations: 500, CheckEvery: 1, Progress: func(_ int, cert *optim.Certificate) error { return check(cert) }}); err != nil {
			t.Error(err)
		}
		z := make([]float64, f.Size())
		for range 20 {
			size := math.Exp(2 * rng.NormFloat64())
			for i := range z {
				z[i] = size * rng.NormFloat64()
			}
			cert, err := f.Certify(z, beta, nil)
			if err == nil {
				err = check(cert)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// The network of a convex solution has its outputs and objective, and the convex
// weights of that network are the solution.
func TestConvexNetworkOfSolution(t *testing.T) {
	for _, c := range optima {
		f, beta := referenceFit(t, c.mechanism, c.set, c.gates)
		s := solve(t, f, beta, 1e-6)
		net, err := f.NetworkOf(s.Z)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range net.Convex() {
			if math.Abs(v-s.Z[i]) > 1e-13*s.Certificate.Nuclear {
				t.Fatalf("%s %s: weight %d is %v after the way there and back, expected %v", c.mechanism, c.set, i, v, s.Z[i])
			}
		}
		if d := math.Abs(net.Decay() - s.Certificate.Nuclear); d > 1e-12*s.Certificate.Nuclear {
			t.Errorf("%s %s: decay %v, expected the nuclear norm %v", c.mechanism, c.set, net.Decay(), s.Certificate.Nuclear)
		}
		value, err := f.Objective(net, beta)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(value-s.Certificate.Primal) > 1e-12*value {
			t.Errorf("%s %s: objective of the network %.16g, expected %.16g", c.mechanism, c.set, value, s.Certificate.Primal)
		}
		got, err := net.Outputs(f.Data.X, f.Data.N, 1)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ConvexOutputs(f.Head, f.Gates, s.Z, f.Data.X, f.Data.N, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range want {
			if math.Abs(got[i]-v) > 1e-12 {
				t.Fatalf("%s %s: output %d of the network %v, expected %v", c.mechanism, c.set, i, got[i], v)
			}
		}
	}
}

// Without room for the features a fit gives the same bits; so it does on any
// number of threads.
func TestConvexMatrixFree(t *testing.T) {
	for _, c := range optima {
		h, g, d, loss, beta := reference(c.mechanism, c.set, c.gates)
		want := newFit(t, h, g, d, ConvexOptions{Loss: loss})
		got := newFit(t, h, g, d, ConvexOptions{Loss: loss, Workers: 3})
		got.Explicit = false
		if err := got.build(); err != nil {
			t.Fatal(err)
		}
		o := optim.ProximalOptions{Tolerance: 1e-9, MaxIterations: 60}
		a, err := want.Solve(context.Background(), beta, nil, o)
		if err != nil {
			t.Fatal(err)
		}
		b, err := got.Solve(context.Background(), beta, nil, o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.Z, b.Z) || a.Certificate.Dual != b.Certificate.Dual {
			t.Errorf("%s %s: matrix-free operator and features give different bits", c.mechanism, c.set)
		}
	}
}

// Trained by its factors a network reaches the optimum, and is never below it;
// with a single head per gate the escape step gets it there.
func TestConvexFactors(t *testing.T) {
	for _, c := range optima {
		t.Run(fmt.Sprintf("%s/%s/%d", c.mechanism, c.set, c.gates), func(t *testing.T) {
			f, beta := referenceFit(t, c.mechanism, c.set, c.gates)
			a, b := f.Head.BlockShape()
			net, err := RandomNetwork(f.Head, false, f.Gates, min(a, b), 1)
			if err != nil {
				t.Fatal(err)
			}
			s, err := f.FitFactors(context.Background(), beta, net, FactorOptions{Tolerance: 1e-7, MaxIterations: 3000, MaxEscapes: 20})
			if err != nil {
				t.Fatal(err)
			}
			if s.Objective < c.optimum-1e-9 || s.Objective > c.optimum*(1+1e-4) {
				t.Errorf("objective %.10f, optimum %.10f", s.Objective, c.optimum)
			}
			value, err := f.Objective(s.Network, beta)
			if err != nil || math.Abs(value-s.Objective) > 1e-12*value {
				t.Errorf("the network itself has the objective %.16g, expected %.16g, %v", value, s.Objective, err)
			}
			relu, err := RandomNetwork(f.Head, true, f.Gates, 2, 1)
			if err != nil {
				t.Fatal(err)
			}
			before, err := f.Objective(relu, beta)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := f.FitFactors(context.Background(), beta, relu, FactorOptions{Tolerance: 1e-7, MaxIterations: 30}); err != nil || !(r.Objective < before) || r.Certificate != nil {
				t.Errorf("a ReLU network went from %v to %+v, %v", before, r, err)
			}
			t.Logf("objective over optimum %.2g, gap %.2g, sigma ratio - 1 %.2g, %d iterations, %d escapes", s.Objective/c.optimum-1, s.Certificate.RelativeGap, s.Certificate.SigmaRatio-1, s.Iterations, s.Escapes)
		})
	}
}

// Too few heads leave a network above the optimum, and its certificate says so;
// escaping from there, head by head, ends at the optimum.
func TestConvexEscape(t *testing.T) {
	for _, c := range optima {
		if c.mechanism == op.BlockFourier || c.gates == 0 && c.mechanism != op.SelfAttention {
			continue
		}
		f, beta := referenceFit(t, c.mechanism, c.set, c.gates)
		net, err := RandomNetwork(f.Head, false, f.Gates, 1, 3)
		if err != nil {
			t.Fatal(err)
		}
		few, err := f.FitFactors(context.Background(), beta, net, FactorOptions{Tolerance: 1e-6, MaxIterations: 2000})
		if err != nil {
			t.Fatal(err)
		}
		if few.Objective < c.optimum-1e-9 {
			t.Errorf("%s %s: objective %.10f of one head per gate is below the optimum %.10f", c.mechanism, c.set, few.Objective, c.optimum)
		}
		if over := few.Objective/c.optimum - 1; over > 1e-3 && (few.Certificate.Gap < few.Certificate.Primal-c.optimum || few.Certificate.SigmaRatio-1 < over) {
			t.Errorf("%s %s: one head per gate is %.3g over the optimum, but the gap is %.3g and sigma_max/beta %.3g", c.mechanism, c.set, over, few.Certificate.RelativeGap, few.Certificate.SigmaRatio)
		}
		s, err := f.FitFactors(context.Background(), beta, net, FactorOptions{Tolerance: 1e-6, MaxIterations: 6000, MaxEscapes: 40})
		if err != nil {
			t.Fatal(err)
		}
		if s.Objective < c.optimum-1e-9 || s.Objective > c.optimum*(1+1e-6) || !s.Certificate.Global(1e-6) {
			t.Errorf("%s %s: objective %.10f, gap %.2g after %d escapes, optimum %.10f", c.mechanism, c.set, s.Objective, s.Certificate.RelativeGap, s.Escapes, c.optimum)
		}
		if s.Escapes == 0 && slices.Max(c.ranks) > 1 {
			t.Errorf("%s %s: one head per gate reached an optimum of ranks %v", c.mechanism, c.set, c.ranks)
		}
		t.Logf("%s %s: one head per gate %.3g over, gap %.2g; %d escapes, %d iterations, gap %.2g", c.mechanism, c.set, few.Objective/c.optimum-1, few.Certificate.RelativeGap, s.Escapes, s.Iterations, s.Certificate.RelativeGap)
	}
}

func TestConvexGates(t *testing.T) {
	h, _, d, _, _ := reference(op.SelfAttention, "sq", 3)
	a, err := SampleGates(h, 7, true, d.X, d.N)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := SampleGates(h, 7, true, d.X, d.N)
	c, _ := SampleGates(h, 8, true, d.X, d.N)
	n, _ := SampleGates(h, 7, false, d.X, d.N)
	if !slices.Equal(a, b) || slices.Equal(a, c) || !allZero(a[:16]) || allZero(n[:16]) {
		t.Error("gates do not follow the seed, or the gate of ones is not the first")
	}
	for i, v := range a {
		if float64(float32(v)) != v {
			t.Errorf("element %d is %v, which float32 does not hold", i, v)
		}
	}
	// A single number has two patterns, one of which is all zero.
	one := op.ConvexHead{Mechanism: op.Perceptron, Tokens: 1, Channels: 1, Outputs: 1, Gates: 2, Scale: 1}
	if _, err := SampleGates(one, 1, false, []float64{0.5}, 1); err == nil || !strings.Contains(err.Error(), "expected fewer gates") {
		t.Errorf("two gates for one number: %v", err)
	}
}

func TestConvexBadInput(t *testing.T) {
	h, g, d, loss, _ := reference(op.SelfAttention, "ce", 3)
	try := func(want string, change func(h *op.ConvexHead, d *ConvexData, o *ConvexOptions)) {
		t.Helper()
		h, d, o := h, d, ConvexOptions{Loss: loss}
		d.X, d.Labels = slices.Clone(d.X), slices.Clone(d.Labels)
		change(&h, &d, &o)
		if _, err := NewConvexFit(h, g, d, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("found error %v, expected %q", err, want)
		}
	}
	try("labels: found 7 for 8 examples", func(_ *op.ConvexHead, d *ConvexData, _ *ConvexOptions) { d.Labels = d.Labels[:7] })
	try("example 1, token 2, column 3 is NaN", func(_ *op.ConvexHead, d *ConvexData, _ *ConvexOptions) { d.X[16+8+3] = math.NaN() })
	try("class 3 of 4 has no example", func(_ *op.ConvexHead, d *ConvexData, _ *ConvexOptions) { d.Labels[3], d.Labels[7] = 0, 0 })
	try("example 2 has class 4, expected 0 to 3", func(_ *op.ConvexHead, d *ConvexData, _ *ConvexOptions) { d.Labels[2] = 4 })
	try("bytes even without holding features, 1000 are allowed", func(_ *op.ConvexHead, _ *ConvexData, o *ConvexOptions) { o.Bytes = 1000 })
	try("features: found 112 values, expected 8 x 4 x 4", func(_ *op.ConvexHead, d *ConvexData, _ *ConvexOptions) { d.X = d.X[:112] })
	try("targets: found 0 values", func(_ *op.ConvexHead, d *ConvexData, o *ConvexOptions) { o.Loss, d.Targets = ConvexSquared, nil })
	try("loss: found \"hinge\"", func(_ *op.ConvexHead, _ *ConvexData, o *ConvexOptions) { o.Loss = "hinge" })
	try("gates: found 48 values", func(h *op.ConvexHead, _ *ConvexData, _ *ConvexOptions) { h.Gates = 5 })

	x := slices.Clone(d.X)
	if err := CheckFeatures(x, 8, 4, 4); err != nil {
		t.Error(err)
	}
	for i := 2; i < len(x); i += 4 {
		x[i] = 3
	}
	if err := CheckFeatures(x, 8, 4, 4); err == nil || !strings.Contains(err.Error(), "column 2 is 3 in every token") {
		t.Errorf("constant column: %v", err)
	}

	f := newFit(t, h, g, d, ConvexOptions{Loss: loss})
	for _, beta := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if _, err := f.Solve(context.Background(), beta, nil, optim.ProximalOptions{Tolerance: 1e-3, MaxIterations: 1}); err == nil || !strings.Contains(err.Error(), "beta: found") {
			t.Errorf("beta %v: %v", beta, err)
		}
	}
	for _, fractions := range [][]float64{{0.1, 0.1}, {0.1, 0.5}, {0}, {math.NaN()}} {
		if err := f.Path(context.Background(), fractions, optim.ProximalOptions{Tolerance: 1e-3, MaxIterations: 1}, func(float64, *optim.Solution) error { return nil }); err == nil || !strings.Contains(err.Error(), "beta_max: found") {
			t.Errorf("fractions %v: %v", fractions, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Solve(ctx, 0.05, nil, optim.ProximalOptions{Tolerance: 1e-9, MaxIterations: 100}); err != context.Canceled {
		t.Errorf("a cancelled fit: %v", err)
	}
}
