package kernel

// strip is how many columns the kernels go down all rows at a time: narrow
// enough that the rows a stencil touches stay in the first cache.
const strip = 128

// The functions below do what the generic twin does, in groups of planes as large
// as there are row kernels for, or report false if the level has no assembly.
// Slices are checked before.

func applyFast(s *Stencil, dst, diag, w, x []float32, planes int) bool {
	level := active
	if level == Generic || len(s.Edge) == 0 {
		return false
	}
	for done := 0; done < planes; {
		d, v := dst[done*s.PlaneLen:], x[done*s.PlaneLen:]
		group := 0
		for c := 0; c < s.Padded; c += strip {
			cols := min(strip, s.Padded-c)
			for r := range s.Rows {
				i := s.Base + r*s.Stride + c
				if level == AVX512 {
					group = applyRowAVX512(planes-done, &d[0], &diag[0], &w[0], &v[0], i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/16, s.PlaneLen)
				} else {
					group = applyRowAVX2(planes-done, &d[0], &diag[0], &w[0], &v[0], i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/8, s.PlaneLen)
				}
			}
		}
		done += group
	}
	return true
}

func outerFast(s *Stencil, dw, ddiag, p, v []float32, planes int, scale float32, symmetric bool) bool {
	level := active
	if level == Generic || len(s.Edge) == 0 {
		return false
	}
	for done := 0; done < planes; {
		a, b := p[done*s.PlaneLen:], v[done*s.PlaneLen:]
		group := 0
		for c := 0; c < s.Padded; c += strip {
			cols := min(strip, s.Padded-c)
			for r := range s.Rows {
				i := s.Base + r*s.Stride + c
				switch {
				case level == AVX512 && symmetric:
					group = outerSymmetricRowAVX512(planes-done, &dw[0], &ddiag[0], &a[0], &b[0], scale, i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/16, s.PlaneLen)
				case level == AVX512:
					group = outerRowAVX512(planes-done, &dw[0], &ddiag[0], &a[0], &b[0], scale, i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/16, s.PlaneLen)
				case symmetric:
					group = outerSymmetricRowAVX2(planes-done, &dw[0], &ddiag[0], &a[0], &b[0], scale, i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/8, s.PlaneLen)
				default:
					group = outerRowAVX2(planes-done, &dw[0], &ddiag[0], &a[0], &b[0], scale, i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/8, s.PlaneLen)
				}
			}
		}
		done += group
	}
	return true
}

func distanceFast(s *Stencil, dst, g []float32, planes int) bool {
	level := active
	if level == Generic || len(s.Edge) == 0 {
		return false
	}
	for done := 0; done < planes; {
		x := g[done*s.PlaneLen:]
		group := 0
		for c := 0; c < s.Padded; c += strip {
			cols := min(strip, s.Padded-c)
			for r := range s.Rows {
				i := s.Base + r*s.Stride + c
				if level == AVX512 {
					group = distanceRowAVX512(planes-done, &dst[0], &x[0], i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/16, s.PlaneLen, done > 0)
				} else {
					group = distanceRowAVX2(planes-done, &dst[0], &x[0], i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/8, s.PlaneLen, done > 0)
				}
			}
		}
		done += group
	}
	return true
}

// The functions below call the row kernel for the largest group of at most left
// planes, left > 0, and return its size. Switches of direct calls, so that no
// argument escapes.

func applyRowAVX2(left int, dst, diag, w, x *float32, i int, edges, offsets *int, taps, vecs, plane int) int {
	switch {
	case left >= 12:
		applyRow12AVX2(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 12
	case left >= 9:
		applyRow9AVX2(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 9
	case left >= 6:
		applyRow6AVX2(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 6
	case left >= 4:
		applyRow4AVX2(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 4
	case left >= 3:
		applyRow3AVX2(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 3
	case left >= 2:
		applyRow2AVX2(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 2
	default:
		applyRow1AVX2(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 1
	}
}

func applyRowAVX512(left int, dst, diag, w, x *float32, i int, edges, offsets *int, taps, vecs, plane int) int {
	switch {
	case left >= 12:
		applyRow12AVX512(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 12
	case left >= 9:
		applyRow9AVX512(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 9
	case left >= 6:
		applyRow6AVX512(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 6
	case left >= 4:
		applyRow4AVX512(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 4
	case left >= 3:
		applyRow3AVX512(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 3
	case left >= 2:
		applyRow2AVX512(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 2
	default:
		applyRow1AVX512(dst, diag, w, x, i, edges, offsets, taps, vecs, plane)
		return 1
	}
}

func outerRowAVX2(left int, dw, ddiag, a, b *float32, scale float32, i int, edges, offsets *int, taps, vecs, plane int) int {
	switch {
	case left >= 6:
		outerRow6AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 6
	case left >= 5:
		outerRow5AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 5
	case left >= 4:
		outerRow4AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 4
	case left >= 3:
		outerRow3AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 3
	case left >= 2:
		outerRow2AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 2
	default:
		outerRow1AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 1
	}
}

func outerRowAVX512(left int, dw, ddiag, a, b *float32, scale float32, i int, edges, offsets *int, taps, vecs, plane int) int {
	switch {
	case left >= 9:
		outerRow9AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 9
	case left >= 6:
		outerRow6AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 6
	case left >= 5:
		outerRow5AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 5
	case left >= 4:
		outerRow4AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 4
	case left >= 3:
		outerRow3AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 3
	case left >= 2:
		outerRow2AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 2
	default:
		outerRow1AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 1
	}
}

func outerSymmetricRowAVX2(left int, dw, ddiag, a, b *float32, scale float32, i int, edges, offsets *int, taps, vecs, plane int) int {
	switch {
	case left >= 6:
		outerSymmetricRow6AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 6
	case left >= 5:
		outerSymmetricRow5AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 5
	case left >= 4:
		outerSymmetricRow4AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 4
	case left >= 3:
		outerSymmetricRow3AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 3
	case left >= 2:
		outerSymmetricRow2AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 2
	default:
		outerSymmetricRow1AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 1
	}
}

func outerSymmetricRowAVX512(left int, dw, ddiag, a, b *float32, scale float32, i int, edges, offsets *int, taps, vecs, plane int) int {
	switch {
	case left >= 9:
		outerSymmetricRow9AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 9
	case left >= 6:
		outerSymmetricRow6AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 6
	case left >= 5:
		outerSymmetricRow5AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 5
	case left >= 4:
		outerSymmetricRow4AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 4
	case left >= 3:
		outerSymmetricRow3AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 3
	case left >= 2:
		outerSymmetricRow2AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 2
	default:
		outerSymmetricRow1AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane)
		return 1
	}
}

func distanceRowAVX2(left int, dst, x *float32, i int, edges, offsets *int, taps, vecs, plane int, more bool) int {
	switch {
	case left >= 12:
		distanceRow12AVX2(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 12
	case left >= 8:
		distanceRow8AVX2(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 8
	case left >= 6:
		distanceRow6AVX2(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 6
	case left >= 4:
		distanceRow4AVX2(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 4
	case left >= 3:
		distanceRow3AVX2(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 3
	case left >= 2:
		distanceRow2AVX2(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 2
	default:
		distanceRow1AVX2(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 1
	}
}

func distanceRowAVX512(left int, dst, x *float32, i int, edges, offsets *int, taps, vecs, plane int, more bool) int {
	switch {
	case left >= 12:
		distanceRow12AVX512(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 12
	case left >= 8:
		distanceRow8AVX512(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 8
	case left >= 6:
		distanceRow6AVX512(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 6
	case left >= 4:
		distanceRow4AVX512(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 4
	case left >= 3:
		distanceRow3AVX512(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 3
	case left >= 2:
		distanceRow2AVX512(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 2
	default:
		distanceRow1AVX512(dst, x, i, edges, offsets, taps, vecs, plane, more)
		return 1
	}
}
