package data

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// Generated is a Dataset of pictures drawn from a seed.
type Generated struct {
	seed  uint64
	side  int
	index []int
	cache cache
}

// Synthetic returns n generated colour images of side x side pixels, for trying
// a training run without data: each is a smooth colour gradient with a few flat,
// shaded or striped shapes over it (discs and half-planes, edges smoothed over
// about one pixel) and faint fine grain, all colours correlated as in
// photographs. Image i is a function of (seed, i) alone. Of opt, split and cache
// are used.
func Synthetic(n, side int, seed uint64, opt Options) (*Generated, error) {
	if n < 1 || side < 1 {
		return nil, fmt.Errorf("synthetic images: found %d of side %d, expected both >= 1", n, side)
	}
	index, err := opt.choose(n)
	if err != nil {
		return nil, err
	}
	if len(index) == 0 {
		return nil, fmt.Errorf("synthetic images: found none for part %q, expected at least one", opt.Part)
	}
	return &Generated{seed: seed, side: side, index: index, cache: newCache(opt.CacheBytes)}, nil
}

// Len returns the number of images.
func (g *Generated) Len() int { return len(g.index) }

// Name returns synthetic-NNN.
func (g *Generated) Name(i int) string { return fmt.Sprintf("%s-%03d", SyntheticName, g.index[i]) }

// Image returns image i, 8 bits deep.
func (g *Generated) Image(i int) (*imageio.Image, error) {
	p, err := g.planes(i)
	if err != nil {
		return nil, err
	}
	return p.image(), nil
}

// Check returns an error where the images are smaller than minSide.
func (g *Generated) Check(minSide int) error {
	if g.side < minSide {
		return tooSmall(SyntheticName, g.side, g.side, minSide)
	}
	return nil
}

func (g *Generated) planes(i int) (*planes, error) {
	return g.cache.get(i, func() (*planes, error) {
		return paint(g.side, Rand(g.seed, 0x73796e7468, uint64(g.index[i]))), nil
	})
}

// wave is a plane wave: cos(fy*y + fx*x + phase).
type wave struct{ fy, fx, phase float64 }

func drawWave(rng *rand.Rand, shortest, longest float64) wave {
	angle := 2 * math.Pi * rng.Float64()
	f := 2 * math.Pi / (shortest * math.Pow(longest/shortest, rng.Float64()))
	return wave{f * math.Sin(angle), f * math.Cos(angle), 2 * math.Pi * rng.Float64()}
}

func (w wave) at(y, x int) float64 { return math.Cos(w.fy*float64(y) + w.fx*float64(x) + w.phase) }

// drawColor gives a colour around a common brightness, as surfaces have.
func drawColor(rng *rand.Rand) (c [3]float64) {
	l := 0.15 + 0.7*rng.Float64()
	for k := range c {
		c[k] = l + 0.25*(rng.Float64()-0.5)
	}
	return c
}

// paint draws one picture.
func paint(side int, rng *rand.Rand) *planes {
	n := side * side
	pix := make([]float64, 3*n)

	// Background: a colour with two slow waves, strongest in brightness.
	base := drawColor(rng)
	for range 2 {
		w := drawWave(rng, float64(side)/2, float64(side)*2)
		var amp [3]float64
		a := 0.2 * rng.Float64()
		for k := range amp {
			amp[k] = a + 0.06*(rng.Float64()-0.5)
		}
		for i := range n {
			v := w.at(i/side, i%side)
			for k := range amp {
				pix[k*n+i] += amp[k] * v
			}
		}
	}
	for k := range base {
		for i := range n {
			pix[k*n+i] += base[k]
		}
	}

	// Shapes: distance to the border of a disc or half-plane, turned into
	// coverage over one pixel; filled with a colour, half of them with stripes.
	for range 4 + rng.IntN(5) {
		cy, cx := rng.Float64()*float64(side), rng.Float64()*float64(side)
		radius := float64(side) * (0.08 + 0.25*rng.Float64())
		angle := 2 * math.Pi * rng.Float64()
		ny, nx := math.Sin(angle), math.Cos(angle)
		disc := rng.IntN(3) > 0
		col := drawColor(rng)
		stripe := drawWave(rng, 3, 16)
		depth := 0.0
		if rng.IntN(2) == 0 {
			depth = 0.05 + 0.15*rng.Float64()
		}
		for i := range n {
			dy, dx := float64(i/side)-cy, float64(i%side)-cx
			d := radius - math.Hypot(dy, dx)
			if !disc {
				d = dy*ny + dx*nx - radius
			}
			cover := min(max(d+0.5, 0), 1)
			if cover == 0 {
				continue
			}
			s := depth * stripe.at(i/side, i%side)
			for k := range col {
				pix[k*n+i] += cover * (col[k] + s - pix[k*n+i])
			}
		}
	}

	// Grain, the same in all channels.
	for i := range n {
		v := 0.006 * rng.NormFloat64()
		for k := range 3 {
			pix[k*n+i] += v
		}
	}
	p := &planes{w: side, h: side, c: 3, u8: make([]uint8, 3*n), format: "png"}
	for i, v := range pix {
		p.u8[i] = uint8(min(max(v, 0), 1)*255 + 0.5)
	}
	return p
}
