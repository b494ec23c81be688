package baseline

// menon is directional filtering with a posteriori decision by Menon, Andriani
// and Calvagno (IEEE Trans. Image Processing 16(1), 2007), with the refining
// step:
//
//  1. Green is interpolated along rows and, apart from that, along columns by
//     the five-tap filter (-1, 2, 2, 2, -1)/4: the mean of the neighbours plus
//     a quarter of the second difference of the sampled colour.
//  2. For both, the colour difference red - green or blue - green is formed at
//     the red and blue samples, and the absolute differences between those two
//     pixels apart in the direction are summed over a 5x5 window, where the
//     central row (or column) counts three times. The direction with the
//     smaller sum is taken, pixel by pixel.
//  3. Red and blue at green are interpolated through the colour difference to
//     green along the row or column that has samples; red at blue and blue at
//     red through the difference of the two along the direction of step 2.
//  4. Refining: at the red and blue pixels the colour difference is low-passed
//     by (1, 1, 1)/3 along the direction, and gives green anew; then red and
//     blue at green from the new green; then red at blue and blue at red by
//     the low-passed difference of the two. Samples are never changed.
//
// The mosaic is mirrored at the border by more than the reach of all the
// steps, so that a border pixel is treated as any other.
func menon(b *bayer) []float32 {
	const pad = 10 // 2 + 2 + 2 for the decision, 1 for step 3, 3 for step 4
	w := b.w + 2*pad
	h := b.h + 2*pad
	cfa := b.padded(pad)
	n := h * w
	var p [3][]float32 // red, green, blue
	for c := range p {
		p[c] = make([]float32, n)
	}
	// An even pad keeps the phase, so b.colour holds for padded coordinates.

	// Step 1: green of both directions, then differences at red and blue.
	gh, gv := make([]float32, n), make([]float32, n)
	diffH, diffV := make([]float32, n), make([]float32, n)
	for y := 2; y < h-2; y++ {
		for x := 2; x < w-2; x++ {
			i := y*w + x
			v := cfa[i]
			k := b.colour(y, x)
			p[k][i] = v
			if k == 1 {
				continue
			}
			gh[i] = (2*(cfa[i-1]+v+cfa[i+1]) - cfa[i-2] - cfa[i+2]) / 4
			gv[i] = (2*(cfa[i-w]+v+cfa[i+w]) - cfa[i-2*w] - cfa[i+2*w]) / 4
			diffH[i], diffV[i] = v-gh[i], v-gv[i]
		}
	}

	// Step 2. gradH at i spans (i, i+2), gradV (i, i+2w): both over red and blue
	// pixels only. Differences at green pixels are zero and so are their spans.
	gradH, gradV := make([]float32, n), make([]float32, n)
	for y := 2; y < h-4; y++ {
		for x := 2; x < w-4; x++ {
			i := y*w + x
			gradH[i] = absf(diffH[i] - diffH[i+2])
			gradV[i] = absf(diffV[i] - diffV[i+2*w])
		}
	}
	// along[i]: true for the row.
	along := make([]bool, n)
	for y := 4; y < h-4; y++ {
		for x := 4; x < w-4; x++ {
			i := y*w + x
			if b.colour(y, x) == 1 {
				continue
			}
			// Spans that lie within the 5x5 window around i: two in each of the
			// rows -2, 0, 2 and one in the rows -1, 1 (there between pixels of
			// the other colour); the same with rows and columns exchanged.
			dh := gradH[i-2*w-2] + gradH[i-2*w] + gradH[i+2*w-2] + gradH[i+2*w] +
				3*(gradH[i-2]+gradH[i]) + gradH[i-w-1] + gradH[i+w-1]
			dv := gradV[i-2*w-2] + gradV[i-2] + gradV[i-2*w+2] + gradV[i+2] +
				3*(gradV[i-2*w]+gradV[i]) + gradV[i-w-1] + gradV[i-w+1]
			if along[i] = dv >= dh; along[i] {
				p[1][i] = gh[i]
			} else {
				p[1][i] = gv[i]
			}
		}
	}

	// step is the distance to the neighbours in the chosen direction.
	step := func(i int) int {
		if along[i] {
			return 1
		}
		return w
	}
	// atGreen interpolates red and blue at green through their difference to
	// green: the colour of the row along it, the other along the column.
	atGreen := func(margin int) {
		g := p[1]
		for y := margin; y < h-margin; y++ {
			inRow, inCol := p[0], p[2]
			if (y^b.redY)&1 == 1 {
				inRow, inCol = inCol, inRow
			}
			for x := margin; x < w-margin; x++ {
				if b.colour(y, x) != 1 {
					continue
				}
				i := y*w + x
				inRow[i] = g[i] + (inRow[i-1]-g[i-1]+inRow[i+1]-g[i+1])/2
				inCol[i] = g[i] + (inCol[i-w]-g[i-w]+inCol[i+w]-g[i+w])/2
			}
		}
	}

	// Step 3.
	atGreen(5)
	for y := 6; y < h-6; y++ {
		for x := 6; x < w-6; x++ {
			k := b.colour(y, x)
			if k == 1 {
				continue
			}
			i := y*w + x
			s := step(i)
			own, other := p[k], p[2-k]
			other[i] = own[i] + (other[i-s]-own[i-s]+other[i+s]-own[i+s])/2
		}
	}

	// Step 4.
	green := make([]float32, n)
	copy(green, p[1])
	for y := 7; y < h-7; y++ {
		for x := 7; x < w-7; x++ {
			k := b.colour(y, x)
			if k == 1 {
				continue
			}
			i := y*w + x
			s := step(i)
			own, g := p[k], p[1]
			green[i] = own[i] - (own[i-s]-g[i-s]+own[i]-g[i]+own[i+s]-g[i+s])/3
		}
	}
	p[1] = green
	atGreen(8)
	// The low-passed difference uses the other colour at the pixel itself, from
	// step 3, and both colours at the two green neighbours, which no pixel of
	// this loop writes.
	for y := 9; y < h-9; y++ {
		for x := 9; x < w-9; x++ {
			k := b.colour(y, x)
			if k == 1 {
				continue
			}
			i := y*w + x
			s := step(i)
			own, other := p[k], p[2-k]
			other[i] = own[i] + (other[i-s]-own[i-s]+other[i]-own[i]+other[i+s]-own[i+s])/3
		}
	}

	out := make([]float32, 3*b.h*b.w)
	for c := range 3 {
		for y := range b.h {
			copy(out[(c*b.h+y)*b.w:(c*b.h+y+1)*b.w], p[c][(y+pad)*w+pad:])
		}
	}
	return out
}

func absf(v float32) float32 {
	if v < 0 {
		return -v
	}
	return v
}
