package baseline

import "fmt"

// grid is a sampling lattice: sample (i,j) lies at pixel (oy + s i, ox + s j).
type grid struct{ s, oy, ox int }

// recogniseGrid reads the lattice off a mask (c,h,w) of equal channels: the
// smallest step of 1 to 4 with an offset below the step that explains every
// pixel. Step 1 is a complete image.
func recogniseGrid(mask []float32, c, h, w int) (grid, error) {
	n := h * w
	for i := n; i < c*n; i++ {
		if mask[i] != mask[i%n] {
			return grid{}, fmt.Errorf("found mask value %v %s unlike channel 0, expected one sampling grid for all channels", mask[i], where(i, h, w))
		}
	}
	oy, ox := -1, -1
	for i := range n {
		if mask[i] == 1 {
			oy, ox = i/w, i%w
			break
		}
	}
	if oy < 0 {
		return grid{}, fmt.Errorf("found no known sample, expected a sampling grid")
	}
	for s := 1; s <= 4; s++ {
		if g := (grid{s, oy, ox}); oy < s && ox < s && g.fits(mask, h, w) {
			return g, nil
		}
	}
	return grid{}, fmt.Errorf("found samples off any regular grid (the first at column %d, row %d), expected every second, third or fourth pixel of both directions", ox, oy)
}

func (g grid) fits(mask []float32, h, w int) bool {
	for y := range h {
		row := mask[y*w : (y+1)*w]
		onRow := y%g.s == g.oy
		for x, m := range row {
			if (m == 1) != (onRow && x%g.s == g.ox) {
				return false
			}
		}
	}
	return true
}

// bilinearScale interpolates linearly between the samples of a grid, along
// rows, then along columns; beyond the outermost samples they are repeated.
func bilinearScale(y, mask []float32, c, h, w int) ([]float32, error) {
	return scale(y, mask, c, h, w, 2, func(t float64) []float64 { return []float64{1 - t, t} })
}

// bicubicScale is cubic convolution with a = -1/2 (Keys 1981) on the samples of
// a grid, sample i at pixel s i, along rows, then along columns; the outermost
// samples are repeated beyond the edge. At step 2 the weights half way are
// (-1, 9, 9, -1)/16.
func bicubicScale(y, mask []float32, c, h, w int) ([]float32, error) {
	const a = -0.5
	near := func(t float64) float64 { return ((a+2)*t-(a+3))*t*t + 1 }  // |t| <= 1
	far := func(t float64) float64 { return ((a*t-5*a)*t+8*a)*t - 4*a } // 1 < |t| < 2
	return scale(y, mask, c, h, w, 4, func(t float64) []float64 {
		return []float64{far(1 + t), near(t), near(1 - t), far(2 - t)}
	})
}

// scale interpolates separably with an even number of taps; weights(t) are
// those of the samples around a point t in [0,1) past a sample.
func scale(y, mask []float32, c, h, w, taps int, weights func(t float64) []float64) ([]float32, error) {
	g, err := recogniseGrid(mask, c, h, w)
	if err != nil {
		return nil, err
	}
	nx, ny := (w-g.ox+g.s-1)/g.s, (h-g.oy+g.s-1)/g.s
	var wt [4][]float64
	for k := range g.s {
		wt[k] = weights(float64(k) / float64(g.s))
	}
	// plan says for a pixel which sample its taps start at (before clamping) and
	// which weights they have.
	plan := func(pos, off int) (first, phase int) {
		d := pos - off + g.s // offsets are below s, so this is not negative
		return d/g.s - 1 - (taps/2 - 1), d % g.s
	}
	out := make([]float32, c*h*w)
	rows := make([]float64, ny*w) // samples' rows, interpolated along the row
	for k := range c {
		src, dst := y[k*h*w:(k+1)*h*w], out[k*h*w:(k+1)*h*w]
		for j := range ny {
			line := src[(g.oy+j*g.s)*w:][:w]
			for x := range w {
				first, phase := plan(x, g.ox)
				var v float64
				if phase == 0 {
					v = float64(line[clamp(first+taps/2-1, nx)*g.s+g.ox])
				} else {
					for q, f := range wt[phase] {
						v += f * float64(line[clamp(first+q, nx)*g.s+g.ox])
					}
				}
				rows[j*w+x] = v
			}
		}
		for r := range h {
			first, phase := plan(r, g.oy)
			to := dst[r*w : (r+1)*w]
			if phase == 0 {
				for x, v := range rows[clamp(first+taps/2-1, ny)*w:][:w] {
					to[x] = float32(v)
				}
				continue
			}
			var line [4][]float64
			for q := range taps {
				line[q] = rows[clamp(first+q, ny)*w:][:w]
			}
			f := wt[phase]
			for x := range to {
				var v float64
				for q := range taps {
					v += f[q] * line[q][x]
				}
				to[x] = float32(v)
			}
		}
	}
	return out, nil
}

func clamp(i, n int) int { return max(0, min(i, n-1)) }
