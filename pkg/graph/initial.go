package graph

import "github.com/unrollnet/unrollnet/pkg/kernel"

// tent weighs the samples of a 5x5 neighbourhood by their distance.
var tent = [5]float64{1, 2, 3, 2, 1}

// Initial fills in the missing pixels of a signal y (C,H,W), zero where mask
// (C,H,W) is 0, by the mean of the samples of the same channel in the 5x5 window,
// weighted by the outer product of (1,2,3,2,1); samples stay. A pixel without a
// sample in its window takes the mean over the smallest 3x3 group of 2^l x 2^l
// blocks around it that holds one; a channel without samples becomes 0. The
// result is written to x (C,H,W).
func Initial[T kernel.Float](x, y, mask []T, channels, h, w int) {
	for c := range channels {
		initialChannel(x[c*h*w:][:h*w], y[c*h*w:][:h*w], mask[c*h*w:][:h*w], h, w)
	}
}

func initialChannel[T kernel.Float](x, y, mask []T, h, w int) {
	var far *pyramid
	for r := range h {
		for c := range w {
			i := r*w + c
			if mask[i] != 0 {
				x[i] = y[i]
				continue
			}
			var num, den float64
			for u := max(r-2, 0); u <= min(r+2, h-1); u++ {
				for v := max(c-2, 0); v <= min(c+2, w-1); v++ {
					if mask[u*w+v] != 0 {
						k := tent[u-r+2] * tent[v-c+2]
						num += k * float64(y[u*w+v])
						den += k
					}
				}
			}
			if den == 0 {
				if far == nil {
					far = newPyramid(y, mask, h, w)
				}
				num, den = far.at(r, c)
			}
			x[i] = T(num / den)
		}
	}
}

// pyramid holds sums and counts of the samples in blocks of 2^l x 2^l pixels,
// l = 1, 2, ... up to one block.
type pyramid struct{ levels []pyramidLevel }

type pyramidLevel struct {
	h, w       int
	sum, count []float64
}

func newPyramid[T kernel.Float](y, mask []T, h, w int) *pyramid {
	p := &pyramid{}
	half := func(h, w int) pyramidLevel {
		n := pyramidLevel{h: (h + 1) / 2, w: (w + 1) / 2}
		n.sum, n.count = make([]float64, n.h*n.w), make([]float64, n.h*n.w)
		return n
	}
	n := half(h, w)
	for r := range h {
		for c := range w {
			if mask[r*w+c] != 0 {
				i := r/2*n.w + c/2
				n.sum[i] += float64(y[r*w+c])
				n.count[i]++
			}
		}
	}
	p.levels = append(p.levels, n)
	for n.h > 1 || n.w > 1 {
		fine := n
		n = half(fine.h, fine.w)
		for r := range fine.h {
			for c := range fine.w {
				i := r/2*n.w + c/2
				n.sum[i] += fine.sum[r*fine.w+c]
				n.count[i] += fine.count[r*fine.w+c]
			}
		}
		p.levels = append(p.levels, n)
	}
	return p
}

// at returns sum and count for pixel (r, c); (0, 1) if there is no sample at all.
func (p *pyramid) at(r, c int) (sum, count float64) {
	for l, v := range p.levels {
		br, bc := r>>(l+1), c>>(l+1)
		for u := max(br-1, 0); u <= min(br+1, v.h-1); u++ {
			for t := max(bc-1, 0); t <= min(bc+1, v.w-1); t++ {
				sum += v.sum[u*v.w+t]
				count += v.count[u*v.w+t]
			}
		}
		if count > 0 {
			return sum, count
		}
	}
	return 0, 1
}
