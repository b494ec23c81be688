package baseline

import "fmt"

// bayer is a mosaic: one plane of samples and where its colours lie. Rows of
// parity redY and columns of parity redX hold red; the other corner of the 2x2
// cell holds blue; the rest is green.
type bayer struct {
	h, w       int
	cfa        []float32 // (h,w)
	redY, redX int
}

// colour is the channel (0 red, 1 green, 2 blue) that the mosaic samples at a
// place; negative coordinates are fine.
func (b *bayer) colour(y, x int) int {
	ry, rx := (y^b.redY)&1, (x^b.redX)&1
	return ry + rx
}

// recognise finds the phase of a Bayer mask (3,h,w). Where an image is too thin
// to tell phases apart (one row or column), any that fits is the same mosaic.
func recognise(y, mask []float32, c, h, w int) (*bayer, error) {
	if c != 3 {
		return nil, fmt.Errorf("found %d channels, expected the 3 of a Bayer mosaic", c)
	}
	n := h * w
	b := &bayer{h: h, w: w}
	first := -1
	for phase := range 4 {
		b.redY, b.redX = phase>>1, phase&1
		if i := b.mismatch(mask); i < 0 {
			b.cfa = make([]float32, n)
			for r := range h {
				for x := range w {
					b.cfa[r*w+x] = y[b.colour(r, x)*n+r*w+x]
				}
			}
			return b, nil
		} else if i%n > first%n || first < 0 {
			first = i // of the phase that fits longest
		}
	}
	return nil, fmt.Errorf("found mask value %v %s, expected a Bayer mosaic: one known channel per pixel in 2x2 cells of red, green, green, blue", mask[first], where(first, h, w))
}

// mismatch is the first index in scan order where the mask is not that of b's
// phase, -1 if there is none.
func (b *bayer) mismatch(mask []float32) int {
	n := b.h * b.w
	for r := range b.h {
		for x := range b.w {
			k := b.colour(r, x)
			for c := range 3 {
				if (mask[c*n+r*b.w+x] == 1) != (c == k) {
					return c*n + r*b.w + x
				}
			}
		}
	}
	return -1
}

// padded is the mosaic with pad mirrored samples on every side, which extend
// its pattern: (h+2pad, w+2pad). It needs h, w >= 2.
func (b *bayer) padded(pad int) []float32 {
	ph, pw := b.h+2*pad, b.w+2*pad
	out := make([]float32, ph*pw)
	for r := range ph {
		src, dst := b.cfa[mirror(r-pad, b.h)*b.w:], out[r*pw:(r+1)*pw]
		for x := range pad {
			dst[x] = src[mirror(x-pad, b.w)]
			dst[pad+b.w+x] = src[mirror(b.w+x, b.w)]
		}
		copy(dst[pad:pad+b.w], src[:b.w])
	}
	return out
}

// demosaicWith makes a Restore function of a demosaicking method: it finds the
// phase and hands images of one row or column, whose mosaic lacks a colour and
// cannot be mirrored, to the bilinear method for lines.
func demosaicWith(f func(*bayer) []float32) func(y, mask []float32, c, h, w int) ([]float32, error) {
	return func(y, mask []float32, c, h, w int) ([]float32, error) {
		b, err := recognise(y, mask, c, h, w)
		if err != nil {
			return nil, err
		}
		if h < 2 || w < 2 {
			return bilinearThin(b), nil
		}
		return f(b), nil
	}
}

// bilinearBayer gives every pixel of every channel the mean of the nearest
// samples of that colour: at most four, of those next to it in its row, its
// column or diagonally. The border is mirrored. It needs h, w >= 2.
func bilinearBayer(b *bayer) []float32 {
	h, w := b.h, b.w
	n := h * w
	pw := w + 2
	p := b.padded(1)
	out := make([]float32, 3*n)
	for r := range h {
		up, mid, down := p[r*pw:], p[(r+1)*pw:], p[(r+2)*pw:]
		for x := range w {
			i := r*w + x
			here := mid[x+1]
			row, col := (mid[x]+mid[x+2])/2, (up[x+1]+down[x+1])/2
			switch k := b.colour(r, x); k {
			case 1:
				out[n+i] = here
				if (r^b.redY)&1 == 0 { // green in a row of reds
					out[i], out[2*n+i] = row, col
				} else {
					out[i], out[2*n+i] = col, row
				}
			default:
				out[k*n+i] = here
				out[n+i] = (row + col) / 2
				out[(2-k)*n+i] = (up[x] + up[x+2] + down[x] + down[x+2]) / 4
			}
		}
	}
	return out
}

// bilinearThin is for one row or one column, which cannot be mirrored: the two
// colours in it alternate, and each pixel takes the mean of the neighbours
// there are. A colour without any sample takes the mean of the channels that
// have some, pixel by pixel.
func bilinearThin(b *bayer) []float32 {
	n := b.h * b.w
	out := make([]float32, 3*n)
	var seen [3]bool
	at := func(i int) int { // colour at place i of the line
		if b.h == 1 {
			return b.colour(0, i)
		}
		return b.colour(i, 0)
	}
	for i := range n {
		k := at(i)
		seen[k] = true
		out[k*n+i] = b.cfa[i]
		var sum, cnt float32
		other := -1
		for _, j := range [2]int{i - 1, i + 1} {
			if j >= 0 && j < n {
				sum, cnt, other = sum+b.cfa[j], cnt+1, at(j)
			}
		}
		if cnt > 0 {
			out[other*n+i] = sum / cnt
		}
	}
	for c := range 3 {
		if seen[c] {
			continue
		}
		for i := range n {
			var sum, cnt float32
			for k := range 3 {
				if seen[k] {
					sum, cnt = sum+out[k*n+i], cnt+1
				}
			}
			out[c*n+i] = sum / cnt
		}
	}
	return out
}

// malvar is the gradient-corrected linear interpolation of Malvar, He and
// Cutler (ICASSP 2004): the bilinear estimate plus a share of the 5x5 Laplacian
// of the colour that is sampled at the pixel (1/2 for green, 5/8 for red or
// blue at green, 3/4 for red at blue and blue at red). The border is mirrored.
func malvar(b *bayer) []float32 {
	h, w := b.h, b.w
	n := h * w
	const pad = 2
	pw := w + 2*pad
	p := b.padded(pad)
	out := make([]float32, 3*n)
	for r := range h {
		r0, r1, r2, r3, r4 := p[r*pw:], p[(r+1)*pw:], p[(r+2)*pw:], p[(r+3)*pw:], p[(r+4)*pw:]
		for x := range w {
			i := r*w + x
			here := r2[x+2]
			nextRow, nextCol := r2[x+1]+r2[x+3], r1[x+2]+r3[x+2] // distance 1
			farRow, farCol := r2[x]+r2[x+4], r0[x+2]+r4[x+2]     // distance 2
			diag := r1[x+1] + r1[x+3] + r3[x+1] + r3[x+3]
			switch k := b.colour(r, x); k {
			case 1:
				out[n+i] = here
				// Of the colour whose samples lie in this row, and in this column.
				inRow := (5*here + 4*nextRow - diag - farRow + farCol/2) / 8
				inCol := (5*here + 4*nextCol - diag - farCol + farRow/2) / 8
				if (r^b.redY)&1 == 0 {
					out[i], out[2*n+i] = inRow, inCol
				} else {
					out[i], out[2*n+i] = inCol, inRow
				}
			default:
				out[k*n+i] = here
				out[n+i] = (4*here + 2*(nextRow+nextCol) - farRow - farCol) / 8
				out[(2-k)*n+i] = (6*here + 2*diag - 1.5*(farRow+farCol)) / 8
			}
		}
	}
	return out
}
