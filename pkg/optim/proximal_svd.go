package optim

import (
	"errors"
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	"gonum.org/v1/gonum/mat"
)

// SVD returns the thin singular value decomposition of a row-major matrix:
// m = sum_r sigma[r] u_r v_r^T with sigma falling, u_r the r-th row of u and v_r
// that of v (both r x rows and r x cols, row-major), r = min(rows, cols). It is
// an error for values that are not finite.
func SVD(m []float64, b Block) (u, sigma, v []float64, err error) {
	r := min(b.Rows, b.Cols)
	if err := checkMatrix(m, b); err != nil {
		return nil, nil, nil, err
	}
	u, v = make([]float64, r*b.Rows), make([]float64, r*b.Cols)
	if r == 1 {
		n := norm(m)
		one, long := u, v
		if b.Cols == 1 {
			one, long = v, u
		}
		one[0] = 1
		copy(long, m)
		if n > 0 {
			scale(long, 1/n)
		} else {
			long[0] = 1
		}
		return u, []float64{n}, v, nil
	}
	var d mat.SVD
	if !d.Factorize(mat.NewDense(b.Rows, b.Cols, m), mat.SVDThin) {
		return nil, nil, nil, errors.New("singular value decomposition did not converge")
	}
	var um, vm mat.Dense
	d.UTo(&um)
	d.VTo(&vm)
	for k := range r {
		for i := range b.Rows {
			u[k*b.Rows+i] = um.At(i, k)
		}
		for i := range b.Cols {
			v[k*b.Cols+i] = vm.At(i, k)
		}
	}
	return u, d.Values(nil), v, nil
}

// SingularValues returns the singular values of a row-major matrix, falling.
func SingularValues(m []float64, b Block) ([]float64, error) {
	if err := checkMatrix(m, b); err != nil {
		return nil, err
	}
	if min(b.Rows, b.Cols) == 1 {
		return []float64{norm(m)}, nil
	}
	if norm(m) == 0 {
		return make([]float64, min(b.Rows, b.Cols)), nil
	}
	var d mat.SVD
	if !d.Factorize(mat.NewDense(b.Rows, b.Cols, m), mat.SVDNone) {
		return nil, errors.New("singular value decomposition did not converge")
	}
	return d.Values(nil), nil
}

func checkMatrix(m []float64, b Block) error {
	if len(m) != b.Size() {
		return fmt.Errorf("a %d x %d matrix has %d elements", b.Rows, b.Cols, len(m))
	}
	for i, x := range m {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("element (%d, %d) of a matrix is %v, expected a finite number", i/b.Cols, i%b.Cols, x)
		}
	}
	return nil
}

// Shrink is singular value thresholding, the proximal map of tau times the sum
// of nuclear norms: every singular value of every block of z is lowered by tau,
// to zero at least, in place.
func (p *Nuclear) Shrink(z []float64, tau float64) error {
	errs := make([]error, len(p.Blocks))
	kernel.Parallel(p.Workers, len(p.Blocks), func(_, lo, hi int) {
		for j := lo; j < hi; j++ {
			errs[j] = shrink(p.Block(z, j), p.Blocks[j], tau)
		}
	})
	return errors.Join(errs...)
}

// shrink lowers the singular values of one matrix.
func shrink(m []float64, b Block, tau float64) error {
	// sigma_max is at most the Frobenius norm, which for a single row or column
	// is the singular value.
	n := norm(m)
	if n <= tau {
		clear(m)
		return nil
	}
	if min(b.Rows, b.Cols) == 1 {
		scale(m, (n-tau)/n)
		return nil
	}
	u, sigma, v, err := SVD(m, b)
	if err != nil {
		return err
	}
	clear(m)
	for r, s := range sigma {
		if s <= tau {
			break
		}
		left, right := u[r*b.Rows:][:b.Rows], v[r*b.Cols:][:b.Cols]
		for i, x := range left {
			x *= s - tau
			row := m[i*b.Cols:][:b.Cols]
			for k, y := range right {
				row[k] += x * y
			}
		}
	}
	return nil
}
