package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// pairShapes are tiles of every number of vectors, with few rows and with many.
var pairShapes = [][2]int{{1, 32}, {2, 64}, {7, 96}, {64, 64}, {5, 32}}

// closePair reports values that differ by more than relative tol beside scale.
func closePair(got float32, want, scale, tol float64) bool {
	if math.IsNaN(want) {
		return got != got
	}
	if math.IsInf(want, 0) {
		return float64(got) == want
	}
	return math.Abs(float64(got)-want) <= tol*math.Max(math.Abs(want), scale)
}

func TestPairDistancesMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 51))
		for _, shape := range pairShapes {
			rows, cols := shape[0], shape[1]
			what := fmt.Sprint(shape)
			x, checkX := banded(rows*cols, 1)
			g, checkG := banded(rows, 2)
			q, checkQ := banded(cols, 3)
			add, checkAdd := banded(cols, 1)
			low, checkLow := banded(cols, 2)
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
			for i := range g {
				g[i] = float32(2 * rng.Float64())
			}
			for i := range q {
				q[i], add[i] = float32(2*rng.Float64()), float32(rng.Float64()+.01)
			}
			g[0], q[3], x[3] = 1, .5, .75 // exactly zero
			x[7] = float32(math.NaN())
			want, wantLow := widen(x), make([]float64, cols)
			pairDistancesGeneric(want, widen(g), widen(q), widen(add), wantLow, .01, rows, cols)
			PairDistances(x, g, q, add, low, .01, rows, cols)
			for _, check := range []func(*testing.T, string){checkX, checkG, checkQ, checkAdd, checkLow} {
				check(t, what)
			}
			marked := 0
			for i := range x {
				j := i % cols
				if want[i] < 0 {
					marked++
				}
				// A distance within rounding of zero may be marked or not.
				if math.Abs(want[i])-float64(add[j]) < 1e-6 && math.Abs(math.Abs(float64(x[i]))-float64(add[j])) < 1e-6 && i != 3 {
					continue
				}
				if !closePair(x[i], want[i], 4, 3e-7) {
					t.Fatalf("%s: element %d is %g, want %g", what, i, x[i], want[i])
				}
			}
			if x[3] != -add[3] || marked == 0 {
				t.Errorf("%s: a distance of zero gives %g, want %g; %d were marked in all", what, x[3], -add[3], marked)
			}
			for j := range low {
				if j != 7 && !closePair(low[j], wantLow[j], 4, 3e-7) {
					t.Fatalf("%s: low %d is %g, want %g", what, j, low[j], wantLow[j])
				}
			}
		}
	})
}

func TestPairScoresMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(2, 52))
		for _, shape := range pairShapes {
			rows, cols := shape[0], shape[1]
			s, check := banded(rows*cols, 1)
			r, checkR := banded(rows*cols, 3)
			for i := range s {
				s[i], r[i] = float32(rng.NormFloat64()), float32(math.Exp(20*rng.NormFloat64()))
				if i%3 == 0 {
					r[i] = -r[i]
				}
			}
			s[4], s[5], r[6], r[7] = float32(math.Inf(-1)), float32(math.NaN()), float32(math.NaN()), float32(math.Inf(1))
			r[8], r[9] = 1, 1e-30
			want := widen(s)
			pairScoresGeneric(want, widen(r), .75, -.5)
			PairScores(s, r, .75, -.5, rows, cols)
			check(t, fmt.Sprint(shape))
			checkR(t, fmt.Sprint(shape))
			for i := range s {
				if !closePair(s[i], want[i], 1, 3e-7) {
					t.Fatalf("%v: element %d is %g, want %g", shape, i, s[i], want[i])
				}
			}
		}
	})
}

// TestSoftmaxStepMatchesReference goes over several tiles, so that what the last
// one has left counts, and holds the end to the softmax of all rows at once.
func TestSoftmaxStepMatchesReference(t *testing.T) {
	inf := float32(math.Inf(1))
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 53))
		for _, shape := range pairShapes {
			rows, cols := shape[0], shape[1]
			top, checkTop := banded(cols, 1)
			sum, checkSum := banded(cols, 2)
			scale, checkScale := banded(cols, 3)
			x, checkX := banded(rows*cols, 1)
			for j := range cols {
				top[j], sum[j] = -inf, 0
			}
			top64, sum64, scale64 := widen(top), widen(sum), make([]float64, cols)
			largest, total := make([]float64, cols), make([]float64, cols)
			var all [][]float32
			for step := range 3 {
				what := fmt.Sprintf("%v, step %d", shape, step)
				for i := range x {
					x[i] = float32(rng.NormFloat64() * 20)
				}
				x[7] = float32(math.NaN())
				x[9] = inf
				for i := range rows {
					x[11+i*cols] = -inf // nothing at all
					if step < 2 {
						x[12+i*cols] = -inf // nothing at first
					}
				}
				all = append(all, append([]float32(nil), x...))
				want := widen(x)
				softmaxStepGeneric(want, top64, sum64, scale64, rows, cols)
				SoftmaxStep(x, top, sum, scale, rows, cols)
				for _, check := range []func(*testing.T, string){checkX, checkTop, checkSum, checkScale} {
					check(t, what)
				}
				for j := range cols {
					if bad := j == 7 || j == 9; bad {
						if sum[j] == sum[j] {
							t.Fatalf("%s: column %d has the sum %g, want NaN", what, j, sum[j])
						}
						continue
					}
					if float64(top[j]) != top64[j] || !closePair(sum[j], sum64[j], 0, 1e-5) || !closePair(scale[j], scale64[j], 1e-37, 1e-5) {
						t.Fatalf("%s: column %d: top %g sum %g scale %g, want %g, %g, %g", what, j, top[j], sum[j], scale[j], top64[j], sum64[j], scale64[j])
					}
					for i := range rows {
						if !closePair(x[i*cols+j], want[i*cols+j], 1e-36, 1e-5) {
							t.Fatalf("%s: element (%d,%d) is %g, want %g", what, i, j, x[i*cols+j], want[i*cols+j])
						}
					}
				}
			}
			if sum[11] != 0 || top[11] != -inf || !(sum[12] > 0) {
				t.Errorf("%v: columns of -Inf: sum %g, top %g; one that begins late: %g", shape, sum[11], top[11], sum[12])
			}
			for j := range cols {
				if j == 7 || j == 9 || j == 11 {
					continue
				}
				largest[j], total[j] = math.Inf(-1), 0
				for _, a := range all {
					for i := range rows {
						largest[j] = math.Max(largest[j], float64(a[i*cols+j]))
					}
				}
				for _, a := range all {
					for i := range rows {
						total[j] += math.Exp(float64(a[i*cols+j]) - largest[j])
					}
				}
				if !closePair(sum[j], total[j], 0, 2e-5) {
					t.Fatalf("%v: column %d has the sum %g, want %g", shape, j, sum[j], total[j])
				}
			}
		}
	})
}

func TestPairGradMatchesReference(t *testing.T) {
	inf := float32(math.Inf(1))
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(4, 54))
		for _, shape := range pairShapes {
			for _, distances := range []bool{true, false} {
				rows, cols := shape[0], shape[1]
				what := fmt.Sprintf("%v, distances %v", shape, distances)
				var checks []func(*testing.T, string)
				take := func(n, guard int) []float32 {
					x, check := banded(n, guard)
					checks = append(checks, check)
					for i := range x {
						x[i] = float32(rng.NormFloat64())
					}
					return x
				}
				s, dw, r := take(rows*cols, 1), take(rows*cols, 2), take(rows*cols, 3)
				lse, sub, dp, colE, rowE := take(cols, 1), take(cols, 2), take(cols, 3), take(cols, 1), take(rows*RowLanes, 2)
				for i := range r {
					r[i] = float32(math.Exp(2 * rng.NormFloat64()))
					if i%5 == 0 {
						r[i] = -r[i]
					}
				}
				s[3], s[4], lse[6], lse[8] = -inf, float32(math.NaN()), inf, -200
				for i := 8; i < len(s); i += cols { // exp(88), and what follows from it
					dw[i], r[i] = sub[8]+1e-4, 1
				}
				rp := r
				w, d, e := widen(s), widen(dw), widen(r)
				dp64, col64, row64 := widen(dp), widen(colE), widen(rowE)
				if !distances {
					rp, e = nil, nil
				}
				pairGradGeneric(w, e, d, widen(lse), widen(sub), dp64, col64, row64, 1.25, -.25, rows, cols)
				PairGrad(s, rp, dw, lse, sub, dp, colE, rowE, 1.25, -.25, rows, cols)
				for _, check := range checks {
					check(t, what)
				}
				for i := range s {
					if !closePair(s[i], w[i], 1e-30, 1e-5) || !closePair(dw[i], d[i], math.Max(math.Abs(w[i]), 1e-30), 1e-5) {
						t.Fatalf("%s: element %d: %g and %g, want %g and %g", what, i, s[i], dw[i], w[i], d[i])
					}
					if distances && !closePair(r[i], e[i], math.Max(math.Abs(w[i]), 1e-30), 1e-5) {
						t.Fatalf("%s: element %d of e is %g, want %g", what, i, r[i], e[i])
					}
				}
				if s[3] != 0 || s[6] != 0 {
					t.Errorf("%s: weights of -Inf are %g and %g", what, s[3], s[6])
				}
				for j := range dp {
					// Column 8 holds sums of exp(88).
					if !closePair(dp[j], dp64[j], math.Abs(dp64[j])+10*float64(rows), 2e-5) || !closePair(colE[j], col64[j], math.Abs(col64[j])+10*float64(rows), 2e-5) {
						t.Fatalf("%s: column %d: %g and %g, want %g and %g", what, j, dp[j], colE[j], dp64[j], col64[j])
					}
				}
				for i := range rowE {
					if !closePair(rowE[i], row64[i], math.Abs(row64[i])+10*float64(cols), 2e-5) {
						t.Fatalf("%s: sum %d of rows is %g, want %g", what, i, rowE[i], row64[i])
					}
				}
			}
		}
	})
}

// An element's bits depend on its own arguments: those of a tile's last row and
// last vector are found again in a tile of one row.
func TestPairKernelsKeepBits(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 55))
		const rows, cols = 7, 64
		make2 := func(n int) []float32 {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(rng.Float64() + .1)
			}
			return x
		}
		x, g, q, add, s := make2(rows*cols), make2(rows), make2(cols), make2(cols), make2(rows*cols)
		row, srow := append([]float32(nil), x[6*cols+32:]...), append([]float32(nil), s[6*cols+32:]...)
		low := make([]float32, cols)
		PairDistances(x, g, q, add, low, .1, rows, cols)
		PairDistances(row, g[6:], q[32:], add[32:], low, .1, 1, 32)
		PairScores(s, x, 1, -.25, rows, cols)
		PairScores(srow, row, 1, -.25, 1, 32)
		for j := range row {
			if !equalBits(row[j], x[6*cols+32+j]) || !equalBits(srow[j], s[6*cols+32+j]) {
				t.Fatalf("element %d: %g and %g alone, %g and %g among others", j, row[j], srow[j], x[6*cols+32+j], s[6*cols+32+j])
			}
		}
	})
}

func TestPairKernelsRefuse(t *testing.T) {
	z := func(n int) []float32 { return make([]float32, n) }
	for name, f := range map[string]func(){
		"columns":    func() { PairScores(z(33), z(33), 1, 1, 1, 33) },
		"short r":    func() { PairScores(z(64), z(63), 1, 1, 2, 32) },
		"short q":    func() { PairDistances(z(64), z(2), z(31), z(32), z(32), 0, 2, 32) },
		"short top":  func() { SoftmaxStep(z(64), z(31), z(32), z(32), 2, 32) },
		"short rowE": func() { PairGrad(z(64), z(64), z(64), z(32), z(32), z(32), z(32), z(31), 1, 1, 2, 32) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
