package explain

import (
	"image"
	"math"
)

// structure holds the structure tensor of a picture, summed over 7x7 windows:
// the eigenvalues big >= small tell edges (big alone), corners and texture (both)
// and flat areas (neither).
type structure struct{ big, small, flat []float64 }

const structureRadius = 3

func structureOf(img []float32, c, h, w int) structure {
	gray := make([]float64, h*w)
	for i := range gray {
		for k := range c {
			gray[i] += float64(img[k*h*w+i]) / float64(c)
		}
	}
	at := func(y, x int) float64 { return gray[min(max(y, 0), h-1)*w+min(max(x, 0), w-1)] }
	var m [3][]float64
	for i := range m {
		m[i] = make([]float64, h*w)
	}
	for y := range h {
		for x := range w {
			gx, gy := (at(y, x+1)-at(y, x-1))/2, (at(y+1, x)-at(y-1, x))/2
			m[0][y*w+x], m[1][y*w+x], m[2][y*w+x] = gx*gx, gx*gy, gy*gy
		}
	}
	s := structure{make([]float64, h*w), make([]float64, h*w), make([]float64, h*w)}
	const r = structureRadius
	for y := range h {
		for x := range w {
			var a, b, c float64
			for v := max(y-r, 0); v <= min(y+r, h-1); v++ {
				for u := max(x-r, 0); u <= min(x+r, w-1); u++ {
					a, b, c = a+m[0][v*w+u], b+m[1][v*w+u], c+m[2][v*w+u]
				}
			}
			mean, spread := (a+c)/2, math.Hypot((a-c)/2, b)
			s.big[y*w+x], s.small[y*w+x] = mean+spread, max(mean-spread, 0)
			// Flat is neither black nor burnt out, where nothing can be seen.
			dark := max(.15-gray[y*w+x], gray[y*w+x]-.85, 0)
			s.flat[y*w+x] = mean + dark
		}
	}
	return s
}

// choose picks pixels that tell different stories: a strong edge, a busy
// texture, a smooth area, and a second edge that runs another way. They keep away
// from each other and the border, and are missing at least one value wherever
// there is such a pixel.
func (r *Report) choose(x []float32, nc int) []Pixel {
	h, w := r.Size()
	s := structureOf(x, nc, h, w)
	margin := min(16, h/4, w/4)
	apart := max(min(h, w)/6, 1)
	var out []Pixel
	pick := func(kind string, score func(i int) float64) {
		best, at := math.Inf(-1), image.Point{-1, -1}
		for _, any := range []bool{false, true} {
			for v := margin; v < h-margin; v++ {
			next:
				for u := margin; u < w-margin; u++ {
					if !any && !r.missing(u, v) {
						continue
					}
					for _, p := range out {
						if max(u-p.X, p.X-u, v-p.Y, p.Y-v) < apart {
							continue next
						}
					}
					if q := score(v*w + u); q > best {
						best, at = q, image.Pt(u, v)
					}
				}
			}
			if at.X >= 0 {
				out = append(out, Pixel{at, kind})
				return
			}
		}
	}
	pick("edge", func(i int) float64 { return s.big[i] - 6*s.small[i] })
	pick("texture", func(i int) float64 { return s.small[i] })
	pick("flat", func(i int) float64 { return -s.flat[i] })
	if len(out) == 0 {
		out = append(out, Pixel{image.Pt(w/2, h/2), "flat"})
	}
	return out
}

// missing says whether any value of a pixel is missing.
func (r *Report) missing(x, y int) bool {
	h, w := r.Size()
	for c := range r.C {
		if r.Mask[(c*h+y)*w+x] == 0 {
			return true
		}
	}
	return false
}

// detail returns the square, of up to a fifth of the window, that the network
// changes most: where its result is furthest from the initial interpolation.
func (r *Report) detail() image.Rectangle {
	h, w := r.Size()
	side := min(h, w, max(24, min(h, w)/5))
	last := r.Initial.Image
	if n := len(r.Blocks); n > 0 {
		last = r.Blocks[n-1].Image
	}
	sum := make([]float64, (h+1)*(w+1)) // integral image of the squared change
	for y := range h {
		var row float64
		for x := range w {
			for c := range r.C {
				i := (c*h+y)*w + x
				d := float64(last[i]) - float64(r.Initial.Image[i])
				row += d * d
			}
			sum[(y+1)*(w+1)+x+1] = sum[y*(w+1)+x+1] + row
		}
	}
	best, at := -1., image.Point{}
	for y := 0; y+side <= h; y++ {
		for x := 0; x+side <= w; x++ {
			a, b := y*(w+1)+x, (y+side)*(w+1)+x
			if d := sum[b+side] - sum[b] - sum[a+side] + sum[a]; d > best {
				best, at = d, image.Pt(x, y)
			}
		}
	}
	return image.Rectangle{at, at.Add(image.Pt(side, side))}
}
