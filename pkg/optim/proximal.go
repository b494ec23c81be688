package optim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/unrollnet/unrollnet/pkg/kernel"
)

// Smooth is a convex loss of a linear map, L(A z), as the proximal method sees
// it: z is a float64 vector, A and L are somebody else's.
type Smooth interface {
	// Gradient returns L(A z) and writes its gradient, A*(grad L(A z)), to grad.
	Gradient(z, grad []float64) (loss float64, err error)
	// Dual returns the largest value of -L*(t Lam) it finds over factors
	// |t| <= limit, where Lam = grad L(A z) at the last call of Gradient and L*
	// is the convex conjugate of L. Any factor gives a valid bound.
	Dual(limit float64) float64
	// Normal writes A*A z to out.
	Normal(z, out []float64) error
	// Curvature returns a bound of the second derivatives of L: kappa with
	// L(o+h) <= L(o) + <grad L(o), h> + kappa/2 |h|^2.
	Curvature() float64
}

// Block is the shape of a matrix; blocks lie one after another in a vector, each
// row by row.
type Block struct{ Rows, Cols int }

// Size returns the number of elements.
func (b Block) Size() int { return b.Rows * b.Cols }

// Nuclear is the problem
//
//	minimise over Z_1, ..., Z_J   L(A z) + beta * sum_j |Z_j|_*
//
// where z holds the matrices Z_j, |.|_* is the sum of the singular values and
// beta > 0. Its dual is: maximise -L*(Lam) subject to sigma_max(S_j) <= beta for
// all j, where S_j is block j of A* Lam.
type Nuclear struct {
	Blocks  []Block
	Workers int // threads for the decompositions, at least 1; the bits do not depend on it

	smooth    Smooth
	at        []int // first element of each block
	size      int
	betaMax   float64 // < 0: not known yet
	lipschitz float64
	grad      []float64
}

// NewNuclear returns the problem of the loss s over blocks of those shapes.
func NewNuclear(s Smooth, blocks []Block, workers int) (*Nuclear, error) {
	if len(blocks) == 0 {
		return nil, errors.New("optim: nuclear norm problem without blocks")
	}
	p := &Nuclear{Blocks: slices.Clone(blocks), Workers: max(workers, 1), smooth: s, betaMax: -1}
	for j, b := range blocks {
		if b.Rows < 1 || b.Cols < 1 {
			return nil, fmt.Errorf("optim: block %d is %d x %d, expected positive sizes", j, b.Rows, b.Cols)
		}
		p.at = append(p.at, p.size)
		p.size += b.Size()
	}
	p.grad = make([]float64, p.size)
	return p, nil
}

// Size returns the length of z.
func (p *Nuclear) Size() int { return p.size }

// Block returns the part of z that is block j.
func (p *Nuclear) Block(z []float64, j int) []float64 { return z[p.at[j]:][:p.Blocks[j].Size()] }

// sigmas returns the singular values of every block of v, in falling order.
func (p *Nuclear) sigmas(v []float64) ([][]float64, error) {
	out := make([][]float64, len(p.Blocks))
	errs := make([]error, len(p.Blocks))
	kernel.Parallel(p.Workers, len(p.Blocks), func(_, lo, hi int) {
		for j := lo; j < hi; j++ {
			out[j], errs[j] = SingularValues(p.Block(v, j), p.Blocks[j])
		}
	})
	return out, errors.Join(errs...)
}

// BetaMax returns max_j sigma_max of block j of the gradient at z = 0: the least
// beta for which z = 0 is optimal.
func (p *Nuclear) BetaMax() (float64, error) {
	if p.betaMax >= 0 {
		return p.betaMax, nil
	}
	zero := make([]float64, p.size)
	if _, err := p.gradient(zero, p.grad); err != nil {
		return 0, err
	}
	s, err := p.sigmas(p.grad)
	if err != nil {
		return 0, err
	}
	p.betaMax = largest(s)
	return p.betaMax, nil
}

func largest(s [][]float64) (m float64) {
	for _, v := range s {
		m = max(m, v[0])
	}
	return m
}

// gradient is the loss's, held to finite values.
func (p *Nuclear) gradient(z, grad []float64) (float64, error) {
	loss, err := p.smooth.Gradient(z, grad)
	if err != nil {
		return 0, err
	}
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, fmt.Errorf("optim: the loss is %v, expected a finite number", loss)
	}
	for i, g := range grad {
		if math.IsNaN(g) || math.IsInf(g, 0) {
			return 0, fmt.Errorf("optim: element %d of the gradient is %v, expected a finite number", i, g)
		}
	}
	return loss, nil
}

// Power iteration: it stops when the estimate grows by less than powerTolerance
// in a step, and its result is enlarged by powerMargin, as it comes from below.
const (
	powerTolerance  = 1e-3
	powerMargin     = 1.02
	powerIterations = 200
)

// Lipschitz returns an estimate of the Lipschitz constant of the gradient,
// kappa * sigma_max(A)^2, by power iteration on A*A from a fixed random start.
// The proximal method doubles it should it turn out too small.
func (p *Nuclear) Lipschitz() (float64, error) {
	if p.lipschitz > 0 {
		return p.lipschitz, nil
	}
	rng := rand.New(rand.NewPCG(1, 0x9e3779b97f4a7c15))
	v, w := make([]float64, p.size), make([]float64, p.size)
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	scale(v, 1/norm(v))
	var top float64
	for range powerIterations {
		if err := p.smooth.Normal(v, w); err != nil {
			return 0, err
		}
		n := norm(w)
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return 0, fmt.Errorf("optim: power iteration found %v, expected a finite number", n)
		}
		if n == 0 { // A = 0, or nearly impossible bad luck
			break
		}
		done := n-top <= powerTolerance*n
		top = n
		for i := range v {
			v[i] = w[i] / n
		}
		if done {
			break
		}
	}
	l := p.smooth.Curvature() * top * powerMargin
	if !(l > 0) {
		l = 1 // a loss that does not depend on z
	}
	p.lipschitz = l
	return l, nil
}

// Certificate is what is known of how good a point z is.
type Certificate struct {
	Beta        float64 `json:"beta"`
	BetaMax     float64 `json:"beta_max"`     // the least beta whose optimum is zero
	Loss        float64 `json:"loss"`         // L(A z)
	Nuclear     float64 `json:"nuclear_norm"` // sum_j |Z_j|_*
	Primal      float64 `json:"primal"`       // loss + beta * nuclear norm, at least the optimum
	Dual        float64 `json:"dual"`         // at most the optimum
	Gap         float64 `json:"gap"`          // primal - dual
	RelativeGap float64 `json:"relative_gap"` // gap / primal
	// SigmaRatio is sigma_max/beta, the largest singular value of the gradient's
	// blocks over beta: 1 at an optimum that is not zero, more at other
	// stationary points of the factored problem, whose objective exceeds the
	// optimum by at most SigmaRatio-1, relatively.
	SigmaRatio   float64   `json:"sigma_ratio"`
	BlockNuclear []float64 `json:"block_nuclear_norm"`
	BlockSigma   []float64 `json:"block_sigma"` // sigma_max of each block of the gradient
	Ranks        []int     `json:"ranks"`
	Active       int       `json:"active"` // blocks that are not zero
}

// Global reports whether the point is proved to be within the relative
// tolerance of the global optimum.
func (c *Certificate) Global(tolerance float64) bool { return c.RelativeGap <= tolerance }

// rankTolerance is the least singular value that counts, relative to the largest
// of all blocks.
const rankTolerance = 1e-8

// certify fills a certificate for z, whose gradient of the loss is grad, right
// after that call of Gradient; BetaMax is known.
func (p *Nuclear) certify(z, grad []float64, loss, beta float64) (*Certificate, error) {
	c := &Certificate{Beta: beta, BetaMax: p.betaMax, Loss: loss}
	s, err := p.sigmas(grad)
	if err != nil {
		return nil, err
	}
	sv, err := p.sigmas(z)
	if err != nil {
		return nil, err
	}
	top := largest(sv)
	for j := range p.Blocks {
		var nuc float64
		rank := 0
		for _, v := range sv[j] {
			nuc += v
			if v > rankTolerance*top {
				rank++
			}
		}
		c.BlockNuclear = append(c.BlockNuclear, nuc)
		c.BlockSigma = append(c.BlockSigma, s[j][0])
		c.Ranks = append(c.Ranks, rank)
		c.Nuclear += nuc
		if rank > 0 {
			c.Active++
		}
	}
	sm := largest(s)
	limit := math.Inf(1)
	if sm > 0 {
		limit = beta / sm
	}
	c.SigmaRatio = sm / beta
	c.Primal = loss + beta*c.Nuclear
	return c, c.bound(p.smooth.Dual(limit))
}

// bound sets the dual value and what follows from it.
func (c *Certificate) bound(dual float64) error {
	c.Dual = dual
	c.Gap = c.Primal - dual
	if c.Gap < 0 {
		// Rounding of two equal numbers; more than that is a wrong bound.
		if c.Gap < -1e-11*max(math.Abs(c.Primal), 1) {
			return fmt.Errorf("optim: dual value %.17g above the primal value %.17g: loss and bound do not agree", dual, c.Primal)
		}
		c.Gap = 0
	}
	c.RelativeGap = 0
	if c.Gap > 0 {
		c.RelativeGap = c.Gap / math.Abs(c.Primal)
	}
	return nil
}

// Certify evaluates the certificate of any z, also one found in another way. The
// gradient of the loss at z is written to grad if that is not nil.
func (p *Nuclear) Certify(z []float64, beta float64, grad []float64) (*Certificate, error) {
	if err := checkBeta(beta); err != nil {
		return nil, err
	}
	if len(z) != p.size {
		return nil, fmt.Errorf("optim: z has %d elements, expected %d", len(z), p.size)
	}
	if _, err := p.BetaMax(); err != nil {
		return nil, err
	}
	if grad == nil {
		grad = p.grad
	}
	loss, err := p.gradient(z, grad)
	if err != nil {
		return nil, err
	}
	return p.certify(z, grad, loss, beta)
}

func checkBeta(beta float64) error {
	if !(beta > 0) || math.IsInf(beta, 0) {
		return fmt.Errorf("beta: found %v, expected a finite number > 0", beta)
	}
	return nil
}

// ProximalOptions say when to stop.
type ProximalOptions struct {
	Tolerance     float64 // certified relative gap to reach, above 0
	MaxIterations int     // at least 1
	CheckEvery    int     // iterations from one certificate to the next; 0 for 10
	// Progress, when set, is told of every certificate. Its error stops the fit.
	Progress func(iteration int, c *Certificate) error
}

// Solution is a point with its certificate.
type Solution struct {
	Z           []float64
	Certificate *Certificate
	Iterations  int
	Restarts    int
}

// Solve minimises L(A z) + beta sum_j |Z_j|_* by FISTA (Beck and Teboulle 2009)
// with the gradient restart of O'Donoghue and Candes (2015), from start, or from
// zero if that is nil:
//
//	Z = SVT_{beta/l}(W - grad L(A W)/l)     for every block, l = Lipschitz
//	t' = (1 + sqrt(1 + 4 t^2))/2
//	W = Z + (t-1)/t' (Z - Z_before);  t = 1, W = Z if <W - Z, Z - Z_before> > 0
//
// where SVT_tau lowers every singular value by tau, to zero at least. It stops
// when the certified relative gap is at most the tolerance, or after the given
// iterations; the certificate says which. With beta >= BetaMax the result is
// exactly zero. The dual value is the best of all points of this call whose
// certificate was taken.
func (p *Nuclear) Solve(ctx context.Context, beta float64, start []float64, o ProximalOptions) (*Solution, error) {
	if err := checkBeta(beta); err != nil {
		return nil, err
	}
	if !(o.Tolerance > 0) || o.MaxIterations < 1 || o.CheckEvery < 0 {
		return nil, fmt.Errorf("optim: tolerance %v, %d iterations, a check every %d: expected a tolerance above 0, at least one iteration, checks of at least 0",
			o.Tolerance, o.MaxIterations, o.CheckEvery)
	}
	if start != nil && len(start) != p.size {
		return nil, fmt.Errorf("optim: the start has %d elements, expected %d", len(start), p.size)
	}
	every := o.CheckEvery
	if every == 0 {
		every = 10
	}
	betaMax, err := p.BetaMax()
	if err != nil {
		return nil, err
	}
	z := make([]float64, p.size)
	if beta < betaMax && start != nil {
		copy(z, start)
	}
	cert, err := p.Certify(z, beta, nil)
	if err != nil {
		return nil, err
	}
	if o.Progress != nil {
		if err := o.Progress(0, cert); err != nil {
			return nil, err
		}
	}
	best := &Solution{Z: slices.Clone(z), Certificate: cert}
	if beta >= betaMax || cert.Global(o.Tolerance) {
		return best, nil
	}
	l, err := p.Lipschitz()
	if err != nil {
		return nil, err
	}
	var (
		w, next = slices.Clone(z), make([]float64, p.size)
		grad    = make([]float64, p.size)
		t       = 1.0
		dual    = cert.Dual
	)
	for k := 1; k <= o.MaxIterations; k++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := p.gradient(w, grad); err != nil {
			return nil, err
		}
		for i, g := range grad {
			next[i] = w[i] - g/l
		}
		if err := p.Shrink(next, beta/l); err != nil {
			return nil, err
		}
		var turn float64
		for i, v := range next {
			turn += (w[i] - v) * (v - z[i])
		}
		if turn > 0 {
			t = 1
			copy(w, next)
			best.Restarts++
		} else {
			u := (1 + math.Sqrt(1+4*t*t)) / 2
			m := (t - 1) / u
			t = u
			for i, v := range next {
				w[i] = v + m*(v-z[i])
			}
		}
		z, next = next, z
		if k%every != 0 && k != o.MaxIterations {
			continue
		}
		if cert, err = p.Certify(z, beta, nil); err != nil {
			return nil, err
		}
		// At a point that is no better than where the method began, after as
		// many steps, the step was too long.
		if grew := cert.Primal - best.Certificate.Primal; grew > 0.1*math.Abs(best.Certificate.Primal) {
			l *= 2
			p.lipschitz = l
			copy(z, best.Z)
			copy(w, z)
			t = 1
			continue
		}
		dual = max(dual, cert.Dual)
		if cert.Primal < best.Certificate.Primal {
			copy(best.Z, z)
			best.Certificate = cert
		}
		if err := best.Certificate.bound(dual); err != nil {
			return nil, err
		}
		best.Iterations = k
		if o.Progress != nil {
			if err := o.Progress(k, best.Certificate); err != nil {
				return nil, err
			}
		}
		if best.Certificate.Global(o.Tolerance) {
			break
		}
	}
	return best, nil
}

// Path solves the problem for beta = fraction * BetaMax for fractions in falling
// order, each from the solution before, and hands every solution to each.
func (p *Nuclear) Path(ctx context.Context, fractions []float64, o ProximalOptions, each func(fraction float64, s *Solution) error) error {
	for i, f := range fractions {
		if !(f > 0) || math.IsInf(f, 0) {
			return fmt.Errorf("fraction %d of beta_max: found %v, expected a finite number > 0", i, f)
		}
		if i > 0 && f >= fractions[i-1] {
			return fmt.Errorf("fraction %d of beta_max: found %v after %v, expected falling numbers", i, f, fractions[i-1])
		}
	}
	betaMax, err := p.BetaMax()
	if err != nil {
		return err
	}
	if len(fractions) > 0 && betaMax == 0 {
		return errors.New("beta_max is 0: the gradient at zero vanishes, so zero is optimal for every beta")
	}
	var start []float64
	for _, f := range fractions {
		s, err := p.Solve(ctx, f*betaMax, start, o)
		if err != nil {
			return err
		}
		start = s.Z
		if err := each(f, s); err != nil {
			return err
		}
	}
	return nil
}

func norm(v []float64) float64 {
	var s float64
	for _, x := range v {
		s += x * x
	}
	return math.Sqrt(s)
}

func scale(v []float64, k float64) {
	for i := range v {
		v[i] *= k
	}
}
