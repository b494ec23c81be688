package kernel

import (
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"unsafe"
)

// cliff returns n elements that end where memory that may not be touched begins,
// or begin where it ends: reading beyond them kills the test.
func cliff(t *testing.T, n int, atEnd bool) []float32 {
	t.Helper()
	page := os.Getpagesize()
	inner := (4*n + page) / page * page
	m, err := syscall.Mmap(-1, 0, inner+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skipf("no guard pages: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	for _, p := range [][]byte{m[:page], m[page+inner:]} {
		if err := syscall.Mprotect(p, syscall.PROT_NONE); err != nil {
			t.Skipf("no guard pages: %v", err)
		}
	}
	at := page
	if atEnd {
		at = page + inner - 4*n
	}
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&m[at])), n)
}

// TestKernelsStayInTheirSlices puts every slice against memory that may not be
// read, first at its end and then at its beginning.
func TestKernelsStayInTheirSlices(t *testing.T) {
	forLevels(t, func(t *testing.T) {
		for _, atEnd := range []bool{true, false} {
			for _, n := range append([]int{128, 256, 1000}, sizes()[10:]...) {
				a, b, d := cliff(t, n, atEnd), cliff(t, n, atEnd), cliff(t, n, atEnd)
				for _, k := range elementwiseKernels {
					k.fast(d, a, b)
				}
				if Dot(a, b) != 0 || Sum(a) != 0 {
					t.Fatal("sums of zeros are not zero")
				}
				SoftmaxRows(d, a, 1, n)
				SoftmaxRowsGrad(d, a, b, 1, n)
			}
			for _, symmetric := range []bool{false, true} {
				for _, rows := range []int{1, 4, 5} {
					for _, planes := range []int{1, 3, 9, 13} {
						g := newGrid(1, rows, 48, 2, symmetric, false)
						h := newGrid(1, rows, 48, 2, symmetric, true)
						exact := func(s *Stencil, planes int, at, around []int) []float32 {
							n := s.Base + (planes-1)*s.PlaneLen + (s.Rows-1)*s.Stride + s.Padded + slices.Max(append(at, around...))
							return cliff(t, n, atEnd)
						}
						zero := []int{0}
						x, y := exact(&g.Stencil, planes, zero, g.Offset), exact(&g.Stencil, planes, zero, g.Offset)
						diag, dst := exact(&g.Stencil, 1, zero, nil), exact(&g.Stencil, planes, zero, nil)
						w := exact(&g.Stencil, 1, g.Edge, nil)
						rng := rand.New(rand.NewPCG(1, 1))
						for i := range x {
							x[i] = rng.Float32()
						}
						Apply(&g.Stencil, dst, diag, w, x, planes)
						e := exact(&h.Stencil, 1, h.Edge, nil)
						Outer(&h.Stencil, e, diag, x, y, planes, 1, symmetric)
						Distance(&h.Stencil, e, x, planes)
					}
				}
			}
		}
	})
}
