package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
)

// grid is a stencil with all it needs around it: planes with halo rows and
// columns wide enough for offsets of two pixels.
type grid struct {
	Stencil
	rng *rand.Rand
}

// newGrid builds a graph of offsets within a (2*reach+1)^2 window on rows x cols
// pixels. symmetric keeps one edge plane for each pair of opposite offsets, as
// Apply's symmetric form; half lists one direction only, as Outer's.
func newGrid(seed uint64, rows, cols, reach int, symmetric, half bool) *grid {
	padded := (cols + 15) / 16 * 16
	stride := padded + 16
	g := &grid{rng: rand.New(rand.NewPCG(seed, 1))}
	g.Rows, g.Cols, g.Padded, g.Stride = rows, cols, padded, stride
	g.Base = reach*stride + 8
	g.PlaneLen = (rows+2*reach)*stride + 16
	edges := 0
	for dy := -reach; dy <= reach; dy++ {
		for dx := -reach; dx <= reach; dx++ {
			o := dy*stride + dx
			if o < 0 && half || o == 0 {
				continue
			}
			if o > 0 || !symmetric {
				g.Edge, g.Offset = append(g.Edge, edges*g.PlaneLen), append(g.Offset, o)
				edges++
			}
		}
	}
	if symmetric && !half {
		for t := range edges {
			g.Edge, g.Offset = append(g.Edge, g.Edge[t]-g.Offset[t]), append(g.Offset, -g.Offset[t])
		}
	}
	return g
}

// scramble drops a tap in four, doubles an offset and shuffles the list: graphs
// need not be windows.
func (g *grid) scramble() {
	g.Offset[0] = g.Offset[len(g.Offset)-1]
	g.rng.Shuffle(len(g.Edge), func(i, j int) {
		g.Edge[i], g.Edge[j] = g.Edge[j], g.Edge[i]
		g.Offset[i], g.Offset[j] = g.Offset[j], g.Offset[i]
	})
	n := (len(g.Edge)*3 + 3) / 4
	g.Edge, g.Offset = g.Edge[:n], g.Offset[:n]
}

func (g *grid) edges() int {
	n := 0
	for _, e := range g.Edge {
		n = max(n, (e+g.PlaneLen-1)/g.PlaneLen+1)
	}
	return n
}

func (g *grid) random(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(g.rng.Float64()*2 - 1)
	}
	return x
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func magnitudes(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = math.Abs(float64(v))
	}
	return y
}

// compare checks got against the float64 result within tol times the sum of the
// magnitudes of the terms, element by element.
func compare(t *testing.T, what string, got []float32, want, magnitude []float64, tol float64) {
	t.Helper()
	for i, w := range want {
		g := float64(got[i])
		if math.IsNaN(w) != math.IsNaN(g) || math.Abs(g-w) > tol*magnitude[i] {
			t.Fatalf("%s[%d] = %g, want %g (terms %g)", what, i, g, w, magnitude[i])
		}
	}
}

// outside checks that got holds before wherever written is false.
func (g *grid) outside(t *testing.T, what string, got, before []float32, bases []int) {
	t.Helper()
	written := make([]bool, len(got))
	for _, b := range bases {
		for r := range g.Rows {
			for c := range g.Padded {
				written[b+g.Base+r*g.Stride+c] = true
			}
		}
	}
	for i := range got {
		if !written[i] && math.Float32bits(got[i]) != math.Float32bits(before[i]) {
			t.Fatalf("%s: element %d outside the pixels was written", what, i)
		}
	}
}

var gridShapes = []struct{ rows, cols, reach int }{{1, 1, 1}, {3, 16, 1}, {2, 17, 2}, {5, 40, 2}, {4, 130, 2}, {3, 300, 1}, {5, 20, 4}}

func TestApplyMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		for _, shape := range gridShapes {
			for _, symmetric := range []bool{false, true} {
				for _, planes := range []int{1, 2, 3, 4, 5, 7, 9, 11, 12, 26} {
					g := newGrid(7, shape.rows, shape.cols, shape.reach, symmetric, false)
					if planes%2 == 1 {
						g.scramble()
					}
					x, w := g.random(planes*g.PlaneLen), g.random(g.edges()*g.PlaneLen)
					diag, dst := g.random(g.PlaneLen), g.random(planes*g.PlaneLen)
					before := append([]float32(nil), dst...)
					Apply(&g.Stencil, dst, diag, w, x, planes)
					var bases []int
					for p := range planes {
						bases = append(bases, p*g.PlaneLen)
					}
					g.outside(t, "dst", dst, before, bases)
					want, size := widen(before), magnitudes(before)
					applyGeneric(&g.Stencil, want, widen(diag), widen(w), widen(x), planes)
					minus := magnitudes(w)
					for i := range minus {
						minus[i] = -minus[i]
					}
					applyGeneric(&g.Stencil, size, magnitudes(diag), minus, magnitudes(x), planes)
					compare(t, fmt.Sprintf("%v symmetric %v planes %d: dst", shape, symmetric, planes), dst, want, size, 2e-6)
				}
			}
		}
	})
}

func TestOuterMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		for _, shape := range gridShapes {
			for _, symmetric := range []bool{false, true} {
				for _, planes := range []int{1, 2, 3, 4, 5, 7, 9, 12, 19} {
					g := newGrid(8, shape.rows, shape.cols, shape.reach, symmetric, symmetric)
					if planes%2 == 1 && !symmetric {
						g.scramble()
					}
					p, v := g.random(planes*g.PlaneLen), g.random(planes*g.PlaneLen)
					dw, ddiag := g.random(g.edges()*g.PlaneLen), g.random(g.PlaneLen)
					dwBefore, ddiagBefore := append([]float32(nil), dw...), append([]float32(nil), ddiag...)
					const scale = 0.7
					Outer(&g.Stencil, dw, ddiag, p, v, planes, scale, symmetric)
					g.outside(t, "dw", dw, dwBefore, g.Edge)
					g.outside(t, "ddiag", ddiag, ddiagBefore, []int{0})
					want, wantDiag := widen(dwBefore), widen(ddiagBefore)
					outerGeneric(&g.Stencil, want, wantDiag, widen(p), widen(v), planes, float64(float32(scale)), symmetric)
					size, sizeDiag := magnitudes(dwBefore), magnitudes(ddiagBefore)
					for i := range size {
						size[i] = -size[i]
					}
					outerGeneric(&g.Stencil, size, sizeDiag, magnitudes(p), magnitudes(v), planes, scale, symmetric)
					for i := range size {
						size[i] = -size[i]
					}
					what := fmt.Sprintf("%v symmetric %v planes %d: ", shape, symmetric, planes)
					compare(t, what+"dw", dw, want, size, 2e-6)
					compare(t, what+"ddiag", ddiag, wantDiag, sizeDiag, 2e-6)
				}
			}
		}
	})
}

func TestDistanceMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		for _, shape := range gridShapes {
			for _, half := range []bool{false, true} {
				for _, planes := range []int{0, 1, 2, 3, 4, 5, 7, 9, 12, 25} {
					g := newGrid(9, shape.rows, shape.cols, shape.reach, false, half)
					x, dst := g.random(planes*g.PlaneLen), g.random(g.edges()*g.PlaneLen)
					before := append([]float32(nil), dst...)
					Distance(&g.Stencil, dst, x, planes)
					g.outside(t, "dst", dst, before, g.Edge)
					want := widen(before)
					distanceGeneric(&g.Stencil, want, widen(x), planes)
					size := make([]float64, len(want))
					for i, w := range want {
						size[i] = math.Abs(w)
					}
					compare(t, fmt.Sprintf("%v half %v planes %d: dst", shape, half, planes), dst, want, size, 4e-6)
				}
			}
		}
	})
}

// TestStencilElementsAreIndependent moves a graph to another column of a larger
// plane: every pixel must keep its bits.
func TestStencilElementsAreIndependent(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		const rows, cols, reach, planes, move = 4, 48, 2, 10, 5
		for _, symmetric := range []bool{false, true} {
			a := newGrid(11, rows, cols, reach, symmetric, false)
			b := newGrid(11, rows+3, cols+150, reach, symmetric, false)
			x, w, diag := a.random(planes*a.PlaneLen), a.random(a.edges()*a.PlaneLen), a.random(a.PlaneLen)
			carry := func(src []float32) []float32 {
				n := len(src) / a.PlaneLen
				dst := make([]float32, n*b.PlaneLen)
				for p := range n {
					for r := -reach; r < rows+reach; r++ {
						for c := -8; c < a.Stride-8; c++ {
							i, j := p*a.PlaneLen+a.Base+r*a.Stride+c, p*b.PlaneLen+b.Base+(r+1)*b.Stride+c+move
							if j >= 0 && i < len(src) && j < len(dst) {
								dst[j] = src[i]
							}
						}
					}
				}
				return dst
			}
			same := func(what string, got, moved []float32) {
				t.Helper()
				for p := range len(got) / a.PlaneLen {
					for r := range rows {
						for c := range cols {
							g, m := got[p*a.PlaneLen+a.Base+r*a.Stride+c], moved[p*b.PlaneLen+b.Base+(r+1)*b.Stride+c+move]
							if math.Float32bits(g) != math.Float32bits(m) {
								t.Fatalf("%s plane %d (%d,%d): %g here, %g moved", what, p, r, c, g, m)
							}
						}
					}
				}
			}
			da, db := make([]float32, len(x)), make([]float32, planes*b.PlaneLen)
			Apply(&a.Stencil, da, diag, w, x, planes)
			Apply(&b.Stencil, db, carry(diag), carry(w), carry(x), planes)
			same("Apply", da, db)
			// One plane alone has the bits it has among others.
			one := make([]float32, a.PlaneLen)
			for p := range planes {
				Apply(&a.Stencil, one, diag, w, x[p*a.PlaneLen:], 1)
				for r := range rows {
					for c := range cols {
						i := a.Base + r*a.Stride + c
						if math.Float32bits(one[i]) != math.Float32bits(da[p*a.PlaneLen+i]) {
							t.Fatalf("Apply plane %d alone differs", p)
						}
					}
				}
			}
			a, b = newGrid(11, rows, cols, reach, symmetric, true), newGrid(11, rows+3, cols+150, reach, symmetric, true)
			p, e := a.random(planes*a.PlaneLen), a.random(a.edges()*a.PlaneLen)
			wa, wb := append([]float32(nil), e...), carry(e)
			ga, gb := append([]float32(nil), diag...), carry(diag)
			Outer(&a.Stencil, wa, ga, p, x, planes, 0.3, symmetric)
			Outer(&b.Stencil, wb, gb, carry(p), carry(x), planes, 0.3, symmetric)
			same("Outer dw", wa, wb)
			same("Outer ddiag", ga, gb)
			ta, tb := make([]float32, len(e)), make([]float32, b.edges()*b.PlaneLen)
			Distance(&a.Stencil, ta, x, planes)
			Distance(&b.Stencil, tb, carry(x), planes)
			same("Distance", ta, tb)
		}
	})
}

func TestStencilNaNStaysLocal(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		g := newGrid(12, 6, 40, 2, false, false)
		const planes = 9
		x, w, diag := g.random(planes*g.PlaneLen), g.random(g.edges()*g.PlaneLen), g.random(g.PlaneLen)
		x[4*g.PlaneLen+g.Base+3*g.Stride+17] = float32(math.NaN())
		dst := make([]float32, len(x))
		Apply(&g.Stencil, dst, diag, w, x, planes)
		for p := range planes {
			for r := range g.Rows {
				for c := range g.Cols {
					near := p == 4 && r >= 1 && c >= 15 && c <= 19
					v := dst[p*g.PlaneLen+g.Base+r*g.Stride+c]
					if near != (v != v) {
						t.Fatalf("plane %d (%d,%d): %g", p, r, c, v)
					}
				}
			}
		}
	})
}

func TestStencilChecksLengths(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		g := newGrid(13, 4, 32, 2, false, true)
		const planes = 3
		n := func(k, less int) []float32 { return make([]float32, k*g.PlaneLen-less) }
		cut := 16 + 8 + 2*g.Stride // the rest of the last plane is not reached by pixels
		for name, f := range map[string]func(){
			"Apply dst":      func() { Apply(&g.Stencil, n(planes, cut+16), n(1, 0), n(12, 0), n(planes, 0), planes) },
			"Apply diag":     func() { Apply(&g.Stencil, n(planes, 0), n(1, cut+16), n(12, 0), n(planes, 0), planes) },
			"Apply w":        func() { Apply(&g.Stencil, n(planes, 0), n(1, 0), n(12, cut+16), n(planes, 0), planes) },
			"Apply x":        func() { Apply(&g.Stencil, n(planes, 0), n(1, 0), n(12, 0), n(planes, 40), planes) },
			"Outer p":        func() { Outer(&g.Stencil, n(12, 0), n(1, 0), n(planes, 40), n(planes, 0), planes, 1, true) },
			"Outer v":        func() { Outer(&g.Stencil, n(12, 0), n(1, 0), n(planes, 0), n(planes, 40), planes, 1, true) },
			"Outer dw":       func() { Outer(&g.Stencil, n(12, cut+16), n(1, 0), n(planes, 0), n(planes, 0), planes, 1, true) },
			"Outer ddiag":    func() { Outer(&g.Stencil, n(12, 0), n(1, cut+16), n(planes, 0), n(planes, 0), planes, 1, true) },
			"Distance dst":   func() { Distance(&g.Stencil, n(12, cut+16), n(planes, 0), planes) },
			"Distance g":     func() { Distance(&g.Stencil, n(12, 0), n(planes, 40), planes) },
			"Padded ragged":  func() { s := g.Stencil; s.Padded = 33; Distance(&s, n(12, 0), n(planes, 0), planes) },
			"Edge too short": func() { s := g.Stencil; s.Edge = s.Edge[1:]; Distance(&s, n(12, 0), n(planes, 0), planes) },
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
	})
}

func TestStencilAllocatesNothing(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		g := newGrid(14, 4, 32, 2, true, false)
		h := newGrid(14, 4, 32, 2, true, true)
		const planes = 9
		x, w, diag := g.random(planes*g.PlaneLen), g.random(g.edges()*g.PlaneLen), g.random(g.PlaneLen)
		dst := make([]float32, len(x))
		if n := testing.AllocsPerRun(10, func() {
			Apply(&g.Stencil, dst, diag, w, x, planes)
			Outer(&h.Stencil, w, diag, dst, x, planes, 1, true)
			Distance(&h.Stencil, w, x, planes)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// The benchmarks use a 64x64 patch with the graph of the networks: 5x5 window,
// 12 undirected edges a pixel, on aligned rows. ns/pixel is processor time.

func benchmarkLevels(b *testing.B, pixels int, f func()) {
	for _, l := range Available() {
		b.Run(l.String(), func(b *testing.B) {
			defer Force(l)()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			start := threadTime()
			for b.Loop() {
				f()
			}
			b.ReportMetric(float64((threadTime()-start).Nanoseconds())/float64(b.N)/float64(pixels), "ns/pixel")
		})
	}
}

func benchmarkGrid(symmetric, half bool) *grid {
	g := newGrid(1, 64, 64, 2, symmetric, half)
	g.Base += 8
	return g
}

func BenchmarkApply(b *testing.B) {
	for _, planes := range []int{1, 3, 9, 12} {
		b.Run(fmt.Sprintf("planes%d", planes), func(b *testing.B) {
			g := benchmarkGrid(true, false)
			x, w, diag := g.random(planes*g.PlaneLen), g.random(g.edges()*g.PlaneLen), g.random(g.PlaneLen)
			dst := make([]float32, len(x))
			benchmarkLevels(b, 64*64, func() { Apply(&g.Stencil, dst, diag, w, x, planes) })
		})
	}
}

func BenchmarkOuter(b *testing.B) {
	for _, symmetric := range []bool{true, false} {
		b.Run(fmt.Sprintf("symmetric=%v", symmetric), func(b *testing.B) {
			const planes = 9
			g := benchmarkGrid(symmetric, symmetric) // a directed graph has twice the edges
			p, v := g.random(planes*g.PlaneLen), g.random(planes*g.PlaneLen)
			dw, ddiag := g.random(g.edges()*g.PlaneLen), g.random(g.PlaneLen)
			benchmarkLevels(b, 64*64, func() { Outer(&g.Stencil, dw, ddiag, p, v, planes, 1e-9, symmetric) })
		})
	}
}

func BenchmarkDistance(b *testing.B) {
	const planes = 12
	g := benchmarkGrid(true, true)
	x, dst := g.random(planes*g.PlaneLen), g.random(g.edges()*g.PlaneLen)
	benchmarkLevels(b, 64*64, func() { Distance(&g.Stencil, dst, x, planes) })
}
