package graph

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func window(radius int) []Offset {
	var half []Offset
	for dy := 0; dy <= radius; dy++ {
		for dx := -radius; dx <= radius; dx++ {
			if dy > 0 || dx > 0 {
				half = append(half, Offset{dy, dx})
			}
		}
	}
	return half
}

func noise(rng *rand.Rand, n int, scale float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = scale * rng.NormFloat64()
	}
	return x
}

// operator returns the operator of random features on an h x w grid.
func operator(h, w int, norm Normalization, limit Limit, scale float64) (*Weights[float64], []float64) {
	rng := rand.New(rand.NewPCG(1, 1))
	g := NewGrid(h, w, window(2))
	ws := &Weights[float64]{Grid: g, Dim: 3, Normalization: norm, Limit: limit}
	omega := make([]float64, norm.Planes(g)*g.PlaneLen)
	a := []float64{1, 0, 0, 0, 1, 0, 0, 0, 1}
	ws.Forward(nil, omega, noise(rng, 3*h*w, scale), a)
	return ws, omega
}

func (w *Weights[T]) dense(omega, x []T) []T {
	g := w.Grid
	px, py, y := make([]T, g.PlaneLen), make([]T, g.PlaneLen), make([]T, len(x))
	Pad(g, px, x)
	w.Apply(py, omega, px)
	Unpad(g, y, py)
	return y
}

var sizes = [][2]int{{1, 1}, {1, 2}, {2, 1}, {1, 40}, {40, 1}, {3, 3}, {5, 17}, {16, 16}, {9, 33}}

// TestConstantsAreKept checks that the default operators annihilate constants on
// every size, and that the paper's does not.
func TestConstantsAreKept(t *testing.T) {
	for _, s := range sizes {
		one := make([]float64, s[0]*s[1])
		for i := range one {
			one[i] = 1
		}
		for _, norm := range []Normalization{SoftmaxSymmetric, RandomWalk} {
			ws, omega := operator(s[0], s[1], norm, Limit{Clip: 11.5, Soft: true}, 1)
			for i, v := range ws.dense(omega, one) {
				if math.Abs(v) > 1e-14 {
					t.Fatalf("%v, normalisation %d: L 1 is %g at %d", s, norm, v, i)
				}
			}
		}
	}
	ws, omega := operator(9, 9, Symmetric, Limit{}, 1)
	one := make([]float64, 81)
	for i := range one {
		one[i] = 1
	}
	largest := 0.
	for _, v := range ws.dense(omega, one) {
		largest = math.Max(largest, math.Abs(v))
	}
	if largest < .01 {
		t.Errorf("L_n 1 is at most %g, expected it not to vanish", largest)
	}
}

// TestOperatorIsSymmetric checks <L x, y> = <x, L y> where it is promised, and
// that L is positive semi-definite there.
func TestOperatorIsSymmetric(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, s := range sizes {
		for _, norm := range []Normalization{Symmetric, SoftmaxSymmetric} {
			ws, omega := operator(s[0], s[1], norm, Limit{Clip: 11.5}, 1)
			x, y := noise(rng, s[0]*s[1], 1), noise(rng, s[0]*s[1], 1)
			lx, ly := ws.dense(omega, x), ws.dense(omega, y)
			var a, b, e float64
			for i := range x {
				a += lx[i] * y[i]
				b += x[i] * ly[i]
				e += x[i] * lx[i]
			}
			if math.Abs(a-b) > 1e-12*float64(len(x)) {
				t.Errorf("%v, normalisation %d: <Lx,y> = %g, <x,Ly> = %g", s, norm, a, b)
			}
			if e < -1e-12 {
				t.Errorf("%v, normalisation %d: <x,Lx> = %g", s, norm, e)
			}
		}
	}
}

// TestFarFeaturesStayFinite uses distances whose affinities would all underflow:
// with a limit the operator keeps constants, without one pixels come apart, and
// neither gives NaN.
func TestFarFeaturesStayFinite(t *testing.T) {
	for _, limit := range []Limit{{}, {Clip: 11.5}, {Clip: 11.5, Soft: true}} {
		for _, norm := range []Normalization{Symmetric, SoftmaxSymmetric, RandomWalk} {
			_, omega := operator(6, 7, norm, limit, 1e4)
			for i, v := range omega {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Fatalf("limit %+v, normalisation %d: omega[%d] is %g", limit, norm, i, v)
				}
			}
		}
	}
}

// TestSolverKeepsSamplesAndConverges checks that samples never change and that,
// with many steps, the residual on missing entries vanishes.
func TestSolverKeepsSamplesAndConverges(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, prior := range []Prior{{}, {Slope: true}, {Coupled: true}, {Coupled: true, Slope: true}} {
		t.Run(fmt.Sprintf("%+v", prior), func(t *testing.T) {
			const h, w, steps = 7, 9, 3000
			ws, omega := operator(h, w, SoftmaxSymmetric, Limit{Clip: 11.5, Soft: true}, .5)
			g := ws.Grid
			channels := 1
			if prior.Coupled {
				channels = 3
			}
			n := channels * h * w
			y, miss := noise(rng, n, 1), make([]float64, n)
			for i := range miss {
				if rng.IntN(2) == 0 {
					miss[i] = 1
				}
			}
			s := Solver[float64]{Grid: g, Channels: channels, Layers: 1, Steps: steps, Prior: prior, Normalization: SoftmaxSymmetric}
			c := Coefficients[float64]{Alpha: make([]float64, steps), Beta: make([]float64, steps),
				T: []float64{1, -1, 0, 0, -1, 1, .35, .35, .35}, Slope: []float64{-.5, .5}}
			for i := range steps {
				c.Alpha[i], c.Beta[i] = .2, .5
			}
			x, missing := make([]float64, channels*g.PlaneLen), make([]float64, channels*g.PlaneLen)
			Pad(g, x, y)
			Pad(g, missing, miss)
			s.Forward(nil, x, missing, omega, c)
			out := make([]float64, n)
			Unpad(g, out, x)
			for i := range out {
				if miss[i] == 0 && out[i] != y[i] {
					t.Fatalf("sample %d became %g, was %g", i, out[i], y[i])
				}
			}
			res := make([]float64, len(x))
			s.newSystem(nil, omega, missing, c).times(res, x)
			for i, v := range res {
				if math.Abs(v) > 1e-6 {
					t.Fatalf("residual %g at %d after %d steps", v, i, steps)
				}
			}
		})
	}
}

// TestInitial checks the tent mean by hand, samples kept, and holes wider than
// the window.
func TestInitial(t *testing.T) {
	y := []float64{1, 0, 0, 0, 3}
	m := []float64{1, 0, 0, 0, 1}
	x := make([]float64, 5)
	Initial(x, y, m, 1, 1, 5)
	want := []float64{1, 1, (1*1 + 1*3) / 2., 3, 3}
	for i := range want {
		if math.Abs(x[i]-want[i]) > 1e-15 {
			t.Errorf("pixel %d: %g, expected %g", i, x[i], want[i])
		}
	}
	for _, s := range sizes {
		n := s[0] * s[1]
		y, m, x := make([]float64, n), make([]float64, n), make([]float64, n)
		y[n/2], m[n/2] = .75, 1
		Initial(x, y, m, 1, s[0], s[1])
		for i, v := range x {
			if v != .75 {
				t.Fatalf("%v: pixel %d is %g, expected the only sample, .75", s, i, v)
			}
		}
		m[n/2] = 0
		Initial(x, y, m, 1, s[0], s[1])
		for i, v := range x {
			if v != 0 {
				t.Fatalf("%v: pixel %d is %g without any sample, expected 0", s, i, v)
			}
		}
	}
}
