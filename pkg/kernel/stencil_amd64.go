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
	var plan applyPlan
	edges, offsets := s.Edge, s.Offset
	pairs := s.Rows / 2
	if len(s.Edge) > maxTaps {
		pairs = 0
	} else {
		plan.init(s)
		edges, offsets = plan.edges[:len(s.Edge)], plan.offsets[:len(s.Edge)]
	}
	for done := 0; done < planes && pairs > 0; {
		d, v := dst[done*s.PlaneLen:], x[done*s.PlaneLen:]
		group := 0
		for c := 0; c < s.Padded; c += strip {
			cols := min(strip, s.Padded-c)
			for r := range pairs {
				i := s.Base + 2*r*s.Stride + c
				if level == AVX512 {
					group = applyPairAVX512(planes-done, &d[0], &diag[0], &w[0], &v[0], i, &plan.taps[0], &plan.rounds[0], cols/16, s.PlaneLen, s.Stride)
				} else {
					group = applyPairAVX2(planes-done, &d[0], &diag[0], &w[0], &v[0], i, &plan.taps[0], &plan.rounds[0], cols/8, s.PlaneLen, s.Stride)
				}
			}
		}
		done += group
	}
	if 2*pairs == s.Rows {
		return true
	}
	for done := 0; done < planes; {
		d, v := dst[done*s.PlaneLen:], x[done*s.PlaneLen:]
		group := 0
		for c := 0; c < s.Padded; c += strip {
			cols := min(strip, s.Padded-c)
			for r := 2 * pairs; r < s.Rows; r++ {
				i := s.Base + r*s.Stride + c
				if level == AVX512 {
					group = applyRowAVX512(planes-done, &d[0], &diag[0], &w[0], &v[0], i, &edges[0], &offsets[0], len(edges), cols/16, s.PlaneLen)
				} else {
					group = applyRowAVX2(planes-done, &d[0], &diag[0], &w[0], &v[0], i, &edges[0], &offsets[0], len(edges), cols/8, s.PlaneLen)
				}
			}
		}
		done += group
	}
	return true
}

// maxTaps is the longest tap list computed two rows at a time: a 7x7 window.
const maxTaps = 48

// applyPlan is the tap list in the order Apply adds it, by ascending offset: for
// one row, and for two rows at once as the assembly wants it. A row has the same
// order in both, and so the same bits. It lives on the stack of applyFast.
type applyPlan struct {
	edges, offsets [maxTaps]int
	taps           [3 * 2 * maxTaps]int     // offset, edge of the first row, edge of the second
	rounds         [3 * (2*maxTaps + 1)]int // counts of taps of the first row, of both, of the second
}

func (p *applyPlan) init(s *Stencil) {
	n := len(s.Edge)
	for t, o := range s.Offset {
		k := t
		for ; k > 0 && p.offsets[k-1] > o; k-- {
			p.offsets[k], p.edges[k] = p.offsets[k-1], p.edges[k-1]
		}
		p.offsets[k], p.edges[k] = o, s.Edge[t]
	}
	// Merge the list with itself moved down a row.
	taps, kind, round := 0, 0, 0
	for a, b := 0, 0; a < n || b < n; taps += 3 {
		first := a < n && (b == n || p.offsets[a] <= p.offsets[b]+s.Stride)
		second := b < n && (a == n || p.offsets[b]+s.Stride <= p.offsets[a])
		k := 0
		if second {
			k = 2
			p.taps[taps], p.taps[taps+2] = p.offsets[b]+s.Stride, p.edges[b]+s.Stride
			b++
		}
		if first {
			k /= 2
			p.taps[taps], p.taps[taps+1] = p.offsets[a], p.edges[a]
			a++
		}
		if k < kind {
			round += 3
		}
		kind = k
		p.rounds[round+k]++
	}
	p.rounds[round+3] = -1
}

// The symmetric form is the directed one twice, with p and v exchanged.
func outerFast(s *Stencil, dw, ddiag, p, v []float32, planes int, scale float32, symmetric bool) bool {
	if active == Generic || len(s.Edge) == 0 {
		return false
	}
	var plan applyPlan
	pairs := 0
	if len(s.Edge) <= maxTaps {
		pairs = s.Rows / 2
		plan.init(s)
	}
	outerDirected(s, &plan, pairs, dw, ddiag, p, v, planes, scale, true)
	if symmetric {
		outerDirected(s, &plan, pairs, dw, ddiag, v, p, planes, scale, false)
	}
	return true
}

func outerDirected(s *Stencil, plan *applyPlan, pairs int, dw, ddiag, p, v []float32, planes int, scale float32, diagonal bool) {
	level := active
	for done := 0; done < planes; {
		a, b := p[done*s.PlaneLen:], v[done*s.PlaneLen:]
		group := 0
		for c := 0; c < s.Padded; c += strip {
			cols := min(strip, s.Padded-c)
			for r := range pairs {
				i := s.Base + 2*r*s.Stride + c
				if level == AVX512 {
					group = outerPairAVX512(planes-done, &dw[0], &ddiag[0], &a[0], &b[0], scale, i, &plan.taps[0], &plan.rounds[0], cols/16, s.PlaneLen, s.Stride, diagonal)
				} else {
					group = outerPairAVX2(planes-done, &dw[0], &ddiag[0], &a[0], &b[0], scale, i, &plan.taps[0], &plan.rounds[0], cols/8, s.PlaneLen, s.Stride, diagonal)
				}
			}
			for r := 2 * pairs; r < s.Rows; r++ {
				i := s.Base + r*s.Stride + c
				if level == AVX512 {
					group = outerRowAVX512(planes-done, &dw[0], &ddiag[0], &a[0], &b[0], scale, i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/16, s.PlaneLen, diagonal)
				} else {
					group = outerRowAVX2(planes-done, &dw[0], &ddiag[0], &a[0], &b[0], scale, i, &s.Edge[0], &s.Offset[0], len(s.Edge), cols/8, s.PlaneLen, diagonal)
				}
			}
		}
		done += group
	}
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

func applyPairAVX2(left int, dst, diag, w, x *float32, i int, taps, rounds *int, vecs, plane, stride int) int {
	switch {
	case left >= 6:
		applyPair6AVX2(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 6
	case left >= 5:
		applyPair5AVX2(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 5
	case left >= 4:
		applyPair4AVX2(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 4
	case left >= 3:
		applyPair3AVX2(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 3
	case left >= 2:
		applyPair2AVX2(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 2
	default:
		applyPair1AVX2(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 1
	}
}

func applyPairAVX512(left int, dst, diag, w, x *float32, i int, taps, rounds *int, vecs, plane, stride int) int {
	switch {
	case left >= 12:
		applyPair12AVX512(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 12
	case left >= 9:
		applyPair9AVX512(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 9
	case left >= 6:
		applyPair6AVX512(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 6
	case left >= 4:
		applyPair4AVX512(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 4
	case left >= 3:
		applyPair3AVX512(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 3
	case left >= 2:
		applyPair2AVX512(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 2
	default:
		applyPair1AVX512(dst, diag, w, x, i, taps, rounds, vecs, plane, stride)
		return 1
	}
}

func outerRowAVX2(left int, dw, ddiag, a, b *float32, scale float32, i int, edges, offsets *int, taps, vecs, plane int, diagonal bool) int {
	switch {
	case left >= 6:
		outerRow6AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 6
	case left >= 5:
		outerRow5AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 5
	case left >= 4:
		outerRow4AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 4
	case left >= 3:
		outerRow3AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 3
	case left >= 2:
		outerRow2AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 2
	default:
		outerRow1AVX2(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 1
	}
}

func outerRowAVX512(left int, dw, ddiag, a, b *float32, scale float32, i int, edges, offsets *int, taps, vecs, plane int, diagonal bool) int {
	switch {
	case left >= 12:
		outerRow12AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 12
	case left >= 9:
		outerRow9AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 9
	case left >= 6:
		outerRow6AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 6
	case left >= 5:
		outerRow5AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 5
	case left >= 4:
		outerRow4AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 4
	case left >= 3:
		outerRow3AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 3
	case left >= 2:
		outerRow2AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 2
	default:
		outerRow1AVX512(dw, ddiag, a, b, scale, i, edges, offsets, taps, vecs, plane, diagonal)
		return 1
	}
}

func outerPairAVX2(left int, dw, ddiag, a, b *float32, scale float32, i int, taps, rounds *int, vecs, plane, stride int, diagonal bool) int {
	switch {
	case left >= 6:
		outerPair6AVX2(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 6
	case left >= 5:
		outerPair5AVX2(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 5
	case left >= 4:
		outerPair4AVX2(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 4
	case left >= 3:
		outerPair3AVX2(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 3
	case left >= 2:
		outerPair2AVX2(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 2
	default:
		outerPair1AVX2(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 1
	}
}

func outerPairAVX512(left int, dw, ddiag, a, b *float32, scale float32, i int, taps, rounds *int, vecs, plane, stride int, diagonal bool) int {
	switch {
	case left >= 12:
		outerPair12AVX512(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 12
	case left >= 9:
		outerPair9AVX512(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 9
	case left >= 6:
		outerPair6AVX512(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 6
	case left >= 5:
		outerPair5AVX512(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 5
	case left >= 4:
		outerPair4AVX512(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 4
	case left >= 3:
		outerPair3AVX512(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 3
	case left >= 2:
		outerPair2AVX512(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
		return 2
	default:
		outerPair1AVX512(dw, ddiag, a, b, scale, i, taps, rounds, vecs, plane, stride, diagonal)
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
