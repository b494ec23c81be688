//go:build !amd64

package kernel

func applyFast(s *Stencil, dst, diag, w, x []float32, planes int) bool { return false }

func outerFast(s *Stencil, dw, ddiag, p, v []float32, planes int, scale float32, symmetric bool) bool {
	return false
}

func distanceFast(s *Stencil, dst, g []float32, planes int) bool { return false }
