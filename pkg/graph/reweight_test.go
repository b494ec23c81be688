package graph

import (
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/kernel"
)

var picture = flag.String("picture", "", "write what TestStepEdge restores to this PNG `FILE`")

// energy computes sum over edges of omega_ij (D_ij + eps^2)^(p/2) of a signal x
// (C,H,W) from the definitions, pixel pair by pixel pair.
func energy(g *Grid, omega, x []float64, channels int, prior Prior, c Coefficients[float64], p, eps float64) float64 {
	h, w := g.H, g.W
	at := func(ch, r, q int) float64 { return x[(ch*h+r)*w+q] }
	filtered := func(k, ch, r, q int) float64 {
		switch {
		case k == 0:
			return at(ch, r, q)
		case k == 1 && q+1 < w:
			return at(ch, r, q+1) - at(ch, r, q)
		case k == 2 && r+1 < h:
			return at(ch, r+1, q) - at(ch, r, q)
		}
		return 0
	}
	strength := []float64{1}
	if prior.Slope {
		s := math.Log1p(math.Exp(c.Slope[1])) / 4
		strength = []float64{math.Log1p(math.Exp(c.Slope[0])), s, s}
	}
	look := func(row, ch int) float64 {
		if !prior.Coupled {
			if row == ch {
				return 1
			}
			return 0
		}
		return c.T[3*row+ch] / math.Sqrt(c.T[ch]*c.T[ch]+c.T[3+ch]*c.T[3+ch]+c.T[6+ch]*c.T[6+ch])
	}
	var sum float64
	for t, o := range g.Forward {
		for r := range h {
			for q := range w {
				r2, q2 := r+o[0], q+o[1]
				if r2 >= h || q2 < 0 || q2 >= w {
					continue
				}
				var d float64
				for k, a := range strength {
					for row := range channels {
						var e float64
						for ch := range channels {
							e += look(row, ch) * (filtered(k, ch, r, q) - filtered(k, ch, r2, q2))
						}
						d += a * e * e
					}
				}
				sum += omega[t*g.PlaneLen+g.Base+r*g.Stride+q] * math.Pow(d+eps*eps, p/2)
			}
		}
	}
	return sum
}

// solveExactly runs the conjugate gradient with exact step lengths until the
// residual on missing entries is 1e-13 of what it was, on y as it is.
func solveExactly(y *system[float64], x []float64) {
	n := y.Channels * y.Grid.PlaneLen
	res, av := make([]float64, n), make([]float64, n)
	y.times(res, x)
	v := append([]float64(nil), res...)
	rr := kernel.Dot(res, res)
	for first := rr; rr > 1e-26*first; {
		y.times(av, v)
		alpha := rr / kernel.Dot(v, av)
		kernel.Axpy(-alpha, v, x[:n])
		kernel.Axpy(-alpha, av, res)
		next := kernel.Dot(res, res)
		for i := range v {
			v[i] = res[i] + next/rr*v[i]
		}
		rr = next
	}
}

// minimise lowers the energy of p and eps from the signal x (C,H,W) in place, by
// rounds re-weightings with an exact solve each, and calls after with the round.
func minimise(s *Solver[float64], omega, x, miss []float64, c Coefficients[float64], rounds int, after func(round int)) {
	g := s.Grid
	n := s.Channels * g.PlaneLen
	px, missing := make([]float64, n), make([]float64, n)
	Pad(g, px, x)
	Pad(g, missing, miss)
	y := s.newSystem(nil, omega, missing, c)
	rw := y.newReweighter(nil, c, false)
	for k := range rounds {
		if rw != nil {
			rw.forward(px)
		}
		solveExactly(y, px)
		Unpad(g, x, px)
		if after != nil {
			after(k)
		}
		if rw == nil {
			return
		}
	}
}

// TestEnergyDecreases checks that with exact solves no re-weighting ever raises
// the energy it stands for, that it ends where no direction leads further down,
// and that samples stay.
func TestEnergyDecreases(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 21))
	for _, prior := range []Prior{{}, {Slope: true}, {Coupled: true}, {Coupled: true, Slope: true}} {
		for _, p := range []float64{1.1, 1.5, 1.9} {
			t.Run(fmt.Sprintf("%+v/%g", prior, p), func(t *testing.T) {
				const h, w, eps = 6, 7, .02
				ws, omega := operator(h, w, SoftmaxSymmetric, Limit{Clip: 11.5, Soft: true}, .5)
				g := ws.Grid
				channels := 1
				if prior.Coupled {
					channels = 3
				}
				n := channels * h * w
				x, miss := make([]float64, n), make([]float64, n)
				for i := range x {
					x[i] = rng.Float64()
					if rng.IntN(3) > 0 {
						miss[i] = 1
					}
				}
				start := append([]float64(nil), x...)
				c := Coefficients[float64]{T: []float64{1, -1, 0, 0, -1, 1, .35, .35, .35}, Slope: []float64{-.5, .5}}
				s := &Solver[float64]{Grid: g, Channels: channels, Prior: prior, Normalization: SoftmaxSymmetric, Reweight: Reweighting{P: p, Epsilon: eps}}
				of := func(x []float64) float64 { return energy(g, omega, x, channels, prior, c, p, eps) }
				first := of(x)
				last := first
				minimise(s, omega, x, miss, c, 120, func(k int) {
					e := of(x)
					if !(e <= last*(1+1e-13)) {
						t.Fatalf("round %d raised the energy from %.15g to %.15g", k, last, e)
					}
					last = e
				})
				if !(last < .9*first) {
					t.Errorf("energy %g from %g, expected a drop", last, first)
				}
				moved := make([]float64, n)
				for range 20 {
					for i := range moved {
						moved[i] = x[i] + 1e-3*miss[i]*rng.NormFloat64()
					}
					if e := of(moved); e < last {
						t.Errorf("a random step lowers the energy from %.15g to %.15g", last, e)
					}
				}
				for i := range x {
					if miss[i] == 0 && x[i] != start[i] {
						t.Fatalf("sample %d became %g, was %g", i, x[i], start[i])
					}
				}
			})
		}
	}
}

// TestReweightedOperator checks on every size that the re-weighted operator keeps
// constants, is symmetric, and has weights between 0 and those it started from,
// the same where the signal is flat.
func TestReweightedOperator(t *testing.T) {
	rng := rand.New(rand.NewPCG(22, 22))
	for _, size := range sizes {
		h, w := size[0], size[1]
		ws, omega := operator(h, w, SoftmaxSymmetric, Limit{Clip: 11.5, Soft: true}, 1)
		g := ws.Grid
		s := &Solver[float64]{Grid: g, Channels: 1, Prior: Prior{Slope: true}, Normalization: SoftmaxSymmetric, Reweight: Reweighting{P: 1.2, Epsilon: .02}}
		c := Coefficients[float64]{Slope: []float64{-.5, .5}}
		missing := make([]float64, g.PlaneLen)
		for _, scale := range []float64{0, 1} {
			y := s.newSystem(nil, omega, missing, c)
			rw := y.newReweighter(nil, c, false)
			x := make([]float64, g.PlaneLen)
			signal := noise(rng, h*w, scale)
			for i := range signal {
				signal[i] += 3
			}
			Pad(g, x, signal)
			rw.forward(x)
			edges := len(g.Forward) * g.PlaneLen
			for i, v := range y.omega[:edges] {
				if !(v >= 0 && v <= omega[i]) || omega[i] > 0 && v == 0 {
					t.Fatalf("%v: weight %g from %g", size, v, omega[i])
				}
				if scale == 0 && insideImage(g, i) && math.Abs(v-omega[i]) > 1e-15 {
					t.Fatalf("%v: flat signal, but weight %g from %g", size, v, omega[i])
				}
			}
			one := make([]float64, h*w)
			for i := range one {
				one[i] = 1
			}
			for i, v := range ws.dense(y.omega, one) {
				if math.Abs(v) > 1e-14 {
					t.Fatalf("%v: L 1 is %g at %d", size, v, i)
				}
			}
			a, b := noise(rng, h*w, 1), noise(rng, h*w, 1)
			la, lb := ws.dense(y.omega, a), ws.dense(y.omega, b)
			if d := kernel.Dot(la, b) - kernel.Dot(a, lb); math.Abs(d) > 1e-12*float64(h*w) {
				t.Errorf("%v: <La,b> - <a,Lb> = %g", size, d)
			}
		}
	}
}

// insideImage says whether element i of the edges is a pixel of the image.
func insideImage(g *Grid, i int) bool {
	i = i%g.PlaneLen - g.Base
	return i >= 0 && i/g.Stride < g.H && i%g.Stride < g.W
}

// leastVariation returns the least sum of omega_ij |x_i - x_j| of all signals
// with the given samples. By the coarea formula it is the sum over levels of the
// least cut between samples above and samples not above, times the distance to the
// next level; a cut is as large as the largest flow, found by augmenting paths.
func leastVariation(g *Grid, omega, y, miss []float64) float64 {
	n := g.H * g.W
	levels := map[float64]bool{}
	for i, v := range y {
		if miss[i] == 0 {
			levels[v] = true
		}
	}
	var sorted []float64
	for v := range levels {
		k := len(sorted)
		sorted = append(sorted, v)
		for ; k > 0 && sorted[k-1] > v; k-- {
			sorted[k] = sorted[k-1]
		}
		sorted[k] = v
	}
	var total float64
	for k := 1; k < len(sorted); k++ {
		left := make([][]float64, n+2) // capacities left; n is the source, n+1 the sink
		for i := range left {
			left[i] = make([]float64, n+2)
		}
		for t, o := range g.Forward {
			for r := range g.H {
				for q := range g.W {
					if r2, q2 := r+o[0], q+o[1]; r2 < g.H && q2 >= 0 && q2 < g.W {
						v := omega[t*g.PlaneLen+g.Base+r*g.Stride+q]
						left[r*g.W+q][r2*g.W+q2] += v
						left[r2*g.W+q2][r*g.W+q] += v
					}
				}
			}
		}
		for i := range n {
			switch {
			case miss[i] != 0:
			case y[i] >= sorted[k]:
				left[n][i] = 1e9
			default:
				left[i][n+1] = 1e9
			}
		}
		for {
			from := make([]int, n+2)
			for i := range from {
				from[i] = -1
			}
			from[n] = n
			for queue := []int{n}; len(queue) > 0 && from[n+1] < 0; queue = queue[1:] {
				for j, c := range left[queue[0]] {
					if c > 1e-12 && from[j] < 0 {
						from[j] = queue[0]
						queue = append(queue, j)
					}
				}
			}
			if from[n+1] < 0 {
				break
			}
			flow := math.Inf(1)
			for j := n + 1; j != n; j = from[j] {
				flow = min(flow, left[from[j]][j])
			}
			for j := n + 1; j != n; j = from[j] {
				left[from[j]][j] -= flow
				left[j][from[j]] += flow
			}
			total += flow * (sorted[k] - sorted[k-1])
		}
	}
	return total
}

// TestTowardsTotalVariation checks that as p comes down to 1 the solution's total
// variation comes down to the least there is, which a solver of another kind finds.
func TestTowardsTotalVariation(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 23))
	for range 3 {
		const h, w, eps = 7, 8, 1e-3
		ws, omega := operator(h, w, SoftmaxSymmetric, Limit{Clip: 11.5, Soft: true}, .7)
		g := ws.Grid
		y, miss := make([]float64, h*w), make([]float64, h*w)
		for i := range y {
			y[i] = float64(rng.IntN(5)) / 4
			if rng.IntN(3) > 0 {
				miss[i] = 1
			}
		}
		best := leastVariation(g, omega, y, miss)
		last := math.Inf(1)
		for _, p := range []float64{2, 1.5, 1.25, 1.1, 1.05, 1.01} {
			x := append([]float64(nil), y...)
			s := &Solver[float64]{Grid: g, Channels: 1, Normalization: SoftmaxSymmetric, Reweight: Reweighting{P: p, Epsilon: eps}}
			minimise(s, omega, x, miss, Coefficients[float64]{}, 500, nil)
			tv := energy(g, omega, x, 1, Prior{}, Coefficients[float64]{}, 1, 0)
			t.Logf("p = %4g: total variation %.5f, %.3f %% above the least, %.5f", p, tv, 100*(tv/best-1), best)
			if tv < best*(1-1e-9) {
				t.Fatalf("p = %g: total variation %.12g is below the least there is, %.12g", p, tv, best)
			}
			if tv > last {
				t.Errorf("p = %g: total variation %g, expected less than the %g of the p before", p, tv, last)
			}
			last = tv
		}
		if last > 1.005*best {
			t.Errorf("p = 1.01: total variation %g, expected within 0.5 %% of %g", last, best)
		}
	}
}

// TestStepEdge restores a clean image of two flat areas from some of its pixels,
// on a graph that knows nothing of it (all weights alike), with exponents from 2
// to nearly 1. The smaller p, the sharper the edge.
func TestStepEdge(t *testing.T) {
	const h, w, low, high = 48, 48, .2, .8
	g := NewGrid(h, w, window(2))
	ws := &Weights[float64]{Grid: g, Dim: 1, Normalization: SoftmaxSymmetric}
	omega := make([]float64, SoftmaxSymmetric.Planes(g)*g.PlaneLen)
	ws.Forward(nil, omega, make([]float64, h*w), []float64{1})
	truth := make([]float64, h*w)
	for i := range truth {
		r, c := float64(i/w), float64(i%w)
		truth[i] = low
		if c > 20+r/6+3*math.Sin(r/9) {
			truth[i] = high
		}
	}
	// The width of the edge is the number of pixels of a row that are neither
	// within a tenth of the step of one side nor of the other, a mean over rows.
	measure := func(x []float64) (psnr, width float64) {
		var e float64
		for i := range x {
			e += (x[i] - truth[i]) * (x[i] - truth[i])
			if x[i] > low+.1*(high-low) && x[i] < high-.1*(high-low) {
				width++
			}
		}
		return -10 * math.Log10(e/float64(len(x))), width / h
	}
	for _, c := range []struct {
		percent int // of pixels known
		eps     float64
		shown   bool
	}{{10, .02, false}, {30, .02, true}, {30, .005, false}} {
		rng := rand.New(rand.NewPCG(24, 24))
		known, miss, sampled, start := make([]float64, h*w), make([]float64, h*w), make([]float64, h*w), make([]float64, h*w)
		for i := range truth {
			miss[i] = 1
			if rng.IntN(100) < c.percent {
				known[i], miss[i], sampled[i] = 1, 0, truth[i]
			}
		}
		Initial(start, sampled, known, 1, h, w)
		panels := [][]float64{truth, sampled}
		lastPSNR, lastWidth := math.Inf(-1), math.Inf(1)
		for _, p := range []float64{2, 1.75, 1.5, 1.25, 1.05} {
			x := append([]float64(nil), start...)
			s := &Solver[float64]{Grid: g, Channels: 1, Normalization: SoftmaxSymmetric, Reweight: Reweighting{P: p, Epsilon: c.eps}}
			minimise(s, omega, x, miss, Coefficients[float64]{}, 50, nil)
			psnr, width := measure(x)
			t.Logf("%d %% known, epsilon %g, p = %4g: PSNR %.2f dB, edge %.2f pixels wide", c.percent, c.eps, p, psnr, width)
			if !(psnr > lastPSNR && width < lastWidth) {
				t.Errorf("%d %% known, p = %g: PSNR %.2f dB, edge %.2f pixels, after %.2f dB, %.2f pixels: expected a sharper edge", c.percent, p, psnr, width, lastPSNR, lastWidth)
			}
			lastPSNR, lastWidth = psnr, width
			panels = append(panels, x)
		}
		if c.shown && *picture != "" {
			if err := drawPanels(*picture, panels, h, w); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// drawPanels writes gray images (h,w) side by side, enlarged, to a PNG file.
func drawPanels(name string, panels [][]float64, h, w int) error {
	const zoom, gap = 3, 6
	im := image.NewGray(image.Rect(0, 0, len(panels)*(w*zoom+gap)-gap, h*zoom))
	for i := range im.Pix {
		im.Pix[i] = 255
	}
	for k, x := range panels {
		for r := range h * zoom {
			for c := range w * zoom {
				v := min(max(x[r/zoom*w+c/zoom], 0), 1)
				im.SetGray(k*(w*zoom+gap)+c, r, color.Gray{Y: uint8(math.Round(255 * v))})
			}
		}
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := png.Encode(f, im); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
