package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestSmallGemmMatchesReference runs every number of rows a kernel is made for,
// strides both ways, with and without initial values, between guard bands.
func TestSmallGemmMatchesReference(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(41, 42))
		for _, n := range []int{32, 64, 96} {
			for _, m := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25, 49, 64} {
				for _, k := range []int{0, 1, 2, 7, 10, 64} {
					for _, transposed := range []bool{false, true} {
						what := fmt.Sprintf("%dx%dx%d, transposed %v", m, n, k, transposed)
						ai, al := k+3, 1
						size := (m-1)*ai + k
						if transposed {
							ai, al = 1, m+5
							size = max(0, (k-1)*al+m)
						}
						a, _ := banded(size, 1)
						b, _ := banded(k*n, 3)
						c0, checkC0 := banded(m*n, 5)
						c, check := banded(m*n, 2)
						for _, s := range [][]float32{a, b, c0, c} {
							for i := range s {
								s[i] = float32(rng.NormFloat64())
							}
						}
						for _, init := range [][]float32{nil, c0} {
							SmallGemm(m, n, k, a, ai, al, b, init, c)
							check(t, what)
							checkC0(t, what)
							want := make([]float64, m*n)
							var init64 []float64
							if init != nil {
								init64 = widen(init)
							}
							smallGemmGeneric(m, n, k, widen(a), ai, al, widen(b), init64, want)
							for i := range want {
								if !(math.Abs(float64(c[i])-want[i]) <= 2e-6*(1+float64(k))) {
									t.Fatalf("%s: element %d is %g, want %g", what, i, c[i], want[i])
								}
							}
						}
						// A row alone, with its initial values in place, has the same bits.
						if i := m / 2; k > 0 {
							row := append([]float32(nil), c0[i*n:][:n]...)
							SmallGemm(1, n, k, a[i*ai:], ai, al, b, row, row)
							for j, v := range row {
								if !equalBits(v, c[i*n+j]) {
									t.Fatalf("%s: element (%d,%d) is %g alone, %g among others", what, i, j, v, c[i*n+j])
								}
							}
						}
					}
				}
			}
		}
	})
}

func TestSmallGemmRefuses(t *testing.T) {
	for name, f := range map[string]func(){
		"columns": func() { SmallGemm(1, 31, 1, make([]float32, 1), 1, 1, make([]float32, 31), nil, make([]float32, 31)) },
		"short a": func() { SmallGemm(2, 32, 1, make([]float32, 1), 1, 1, make([]float32, 32), nil, make([]float32, 64)) },
		"short b": func() { SmallGemm(1, 32, 2, make([]float32, 2), 1, 1, make([]float32, 32), nil, make([]float32, 32)) },
		"short c": func() { SmallGemm(2, 32, 1, make([]float32, 2), 1, 1, make([]float32, 32), nil, make([]float32, 32)) },
		"short init": func() {
			SmallGemm(1, 32, 1, make([]float32, 1), 1, 1, make([]float32, 32), make([]float32, 2), make([]float32, 32))
		},
		"softmax": func() { SoftmaxColumns(make([]float32, 33), make([]float32, 33), 1, 33) },
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

func TestSoftmaxColumnsMatchesReference(t *testing.T) {
	inf := float32(math.Inf(1))
	forLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(43, 44))
		for _, cols := range []int{32, 64, 96} {
			for _, rows := range []int{1, 2, 7, 16, 64} {
				what := fmt.Sprintf("%dx%d", rows, cols)
				x, check := banded(rows*cols, 1)
				scale, checkScale := banded(cols, 2)
				for i := range x {
					x[i] = float32(rng.NormFloat64() * 20)
				}
				x[5] += 200                              // all others vanish beside it
				x[7+cols*(rows-1)] = float32(math.NaN()) // spoils its column alone
				x[9] = inf
				for i := range rows {
					x[11+i*cols] = -inf
				}
				if rows > 1 {
					x[13] = -inf
				}
				want, wantScale := widen(x), make([]float64, cols)
				softmaxColumnsGeneric(want, wantScale, rows, cols)
				SoftmaxColumns(x, scale, rows, cols)
				check(t, what)
				checkScale(t, what)
				for j := range cols {
					if bad := j == 7 || j == 9 || j == 11; bad != (scale[j] != scale[j]) {
						t.Fatalf("%s: scale of column %d is %g", what, j, scale[j])
					} else if bad {
						continue
					}
					if !(math.Abs(float64(scale[j])-wantScale[j]) <= 5e-6*wantScale[j]) {
						t.Fatalf("%s: scale of column %d is %g, want %g", what, j, scale[j], wantScale[j])
					}
					for i := range rows {
						// The difference is rounded before the exponential.
						if got, want := float64(x[i*cols+j]), want[i*cols+j]; !(math.Abs(got-want) <= 1e-5*want+1e-37) {
							t.Fatalf("%s: element (%d,%d) is %g, want %g", what, i, j, got, want)
						}
					}
				}
			}
		}
	})
}

func TestTransposeAndCopyRows(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		for _, size := range [][2]int{{0, 8}, {1, 1}, {8, 8}, {64, 64}, {16, 40}, {7, 8}, {8, 9}, {32, 32}} {
			rows, cols := size[0], size[1]
			src, _ := banded(rows*cols, 1)
			dst, check := banded(rows*cols, 3)
			for i := range src {
				src[i] = float32(i)
			}
			Transpose(dst, src, rows, cols)
			check(t, fmt.Sprint(size))
			for i := range rows {
				for j := range cols {
					if dst[j*rows+i] != src[i*cols+j] {
						t.Fatalf("%v: element (%d,%d) became %g", size, i, j, dst[j*rows+i])
					}
				}
			}
		}
		for _, width := range []int{0, 1, 4, 7, 8, 9, 12, 16, 33} {
			for _, rows := range []int{0, 1, 3} {
				dstep, sstep := width+2, width+5
				dst, check := banded(max(0, (rows-1)*dstep+width), 1)
				src, _ := banded(max(0, (rows-1)*sstep+width), 2)
				for i := range src {
					src[i] = float32(i + 1)
				}
				clear(dst)
				CopyRows(dst, dstep, src, sstep, rows, width)
				check(t, fmt.Sprint("width ", width))
				for i, v := range dst {
					want := float32(0)
					if r, j := i/dstep, i%dstep; j < width {
						want = src[r*sstep+j]
					}
					if v != want {
						t.Fatalf("%d rows of %d: element %d is %g, want %g", rows, width, i, v, want)
					}
				}
			}
		}
	})
}
