package data

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
)

// LabelledSamplerConfig describes the training examples of a classifier.
type LabelledSamplerConfig struct {
	Seed     uint64
	Batch    int // examples per step, B
	Labelled Labelled
}

// LabelledSampler draws training examples of a classifier. Example i of epoch e
// is a function of (seed, e, i) and the set alone: its image is the i-th of a
// permutation drawn from (seed, e); a generator seeded by (seed, e, i) then
// gives mirroring, shift and erasing, always from the same draws, so that
// changing one changes nothing else.
//
// The methods may be called from several goroutines. The only cursor is the
// number of the step.
type LabelledSampler struct {
	set     LabelledImages
	cfg     LabelledSamplerConfig
	c, h, w int

	mu     sync.Mutex
	orders map[uint64][]int // permutations of the epochs last used
}

// NewLabelledSampler checks the configuration against the set.
func NewLabelledSampler(d LabelledImages, c LabelledSamplerConfig) (*LabelledSampler, error) {
	var err error
	if c.Labelled, err = c.Labelled.Resolved(); err != nil {
		return nil, err
	}
	s := &LabelledSampler{set: d, cfg: c, orders: make(map[uint64][]int)}
	s.c, s.h, s.w = d.Shape()
	switch most := min(s.h, s.w) - 1; {
	case c.Batch < 1:
		return nil, fmt.Errorf("train.batch: found %d, expected >= 1", c.Batch)
	case d.Len() < 1:
		return nil, fmt.Errorf("data.train: found no labelled images, expected at least one")
	case c.Labelled.Shift > most:
		return nil, fmt.Errorf("data.labelled.shift: found %d, expected at most %d for images of %dx%d pixels", c.Labelled.Shift, most, s.w, s.h)
	}
	return s, nil
}

// Size returns the number of values of one example, C*H*W.
func (s *LabelledSampler) Size() int { return s.c * s.h * s.w }

// Epoch returns the epoch of the first example of a step, and its index there.
func (s *LabelledSampler) Epoch(step int) (epoch, index int) {
	n := step * s.cfg.Batch
	return n / s.set.Len(), n % s.set.Len()
}

// Batch fills x (B,C,H,W) and labels (B), whole numbers, with the examples of a
// step: numbers step*B to step*B+B-1 of the endless sequence of epochs.
func (s *LabelledSampler) Batch(step int, x, labels []float32) error {
	n := s.Size()
	if len(x) != n*s.cfg.Batch || len(labels) != s.cfg.Batch {
		return fmt.Errorf("sampler: found slices of %d values and %d labels, expected %d and %d", len(x), len(labels), n*s.cfg.Batch, s.cfg.Batch)
	}
	for b := range s.cfg.Batch {
		label, err := s.Slot(step, b, x[b*n:(b+1)*n])
		if err != nil {
			return err
		}
		labels[b] = float32(label)
	}
	return nil
}

// Slot fills example b of a step's batch alone, x (C,H,W), and returns its
// label. Several goroutines may fill different slots.
func (s *LabelledSampler) Slot(step, b int, x []float32) (label int, err error) {
	if step < 0 || b < 0 || b >= s.cfg.Batch {
		return 0, fmt.Errorf("sampler: found step %d, slot %d, expected step >= 0 and slot < %d", step, b, s.cfg.Batch)
	}
	n := uint64(step)*uint64(s.cfg.Batch) + uint64(b)
	size := uint64(s.set.Len())
	return s.Example(n/size, int(n%size), x)
}

// Example fills x (C,H,W) with example i of an epoch, 0 <= i < the number of
// images, and returns its label.
func (s *LabelledSampler) Example(epoch uint64, i int, x []float32) (label int, err error) {
	if i < 0 || i >= s.set.Len() {
		return 0, fmt.Errorf("sampler: found example %d, expected 0 to %d", i, s.set.Len()-1)
	}
	if len(x) != s.Size() {
		return 0, fmt.Errorf("sampler: found a slice of %d values, expected %d", len(x), s.Size())
	}
	label, err = s.set.Example(s.order(epoch)[i], x)
	if err != nil {
		return 0, err
	}
	s.augment(x, Rand(s.cfg.Seed, 2*epoch, uint64(i)))
	return label, nil
}

// order returns the permutation of the images in an epoch, as Sampler draws it.
func (s *LabelledSampler) order(epoch uint64) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.orders[epoch]; o != nil {
		return o
	}
	o := make([]int, s.set.Len())
	for i := range o {
		o[i] = i
	}
	shuffle(o, Rand(s.cfg.Seed, 2*epoch+1, 0))
	if len(s.orders) >= 8 {
		clear(s.orders)
	}
	s.orders[epoch] = o
	return o
}

// augment changes x (C,H,W) in place: mirror, shift, erase, in this order.
func (s *LabelledSampler) augment(x []float32, rng *rand.Rand) {
	l := s.cfg.Labelled
	flip := rng.Uint64()&1 == 1
	uy, ux, ue := rng.Float64(), rng.Float64(), rng.Float64()
	if l.Flip && flip {
		mirror(x, s.w)
	}
	if l.Shift > 0 {
		span := float64(2*l.Shift + 1)
		s.shift(x, int(uy*span)-l.Shift, int(ux*span)-l.Shift)
	}
	if ue < l.Erase {
		s.erase(x, rng)
	}
}

// mirror turns every row of w values left-right.
func mirror(x []float32, w int) {
	for ; len(x) >= w; x = x[w:] {
		for i, j := 0, w-1; i < j; i, j = i+1, j-1 {
			x[i], x[j] = x[j], x[i]
		}
	}
}

// shift moves the picture by dy rows down and dx columns to the right. What
// comes in from outside is 0 for one channel (digits on black) and the picture
// mirrored about its outermost pixels for three (photographs):
//
//	x[c][y][x] = old[c][at(y-dy)][at(x-dx)]
func (s *LabelledSampler) shift(x []float32, dy, dx int) {
	if dy == 0 && dx == 0 {
		return
	}
	old := append([]float32(nil), x...)
	at := func(i, n int) int {
		switch {
		case i >= 0 && i < n:
			return i
		case s.c == 1:
			return -1
		case i < 0:
			return -i
		}
		return 2*(n-1) - i
	}
	for c := range s.c {
		for y := range s.h {
			row := x[(c*s.h+y)*s.w:][:s.w]
			sy := at(y-dy, s.h)
			if sy < 0 {
				clear(row)
				continue
			}
			src := old[(c*s.h+sy)*s.w:][:s.w]
			for k := range row {
				if sx := at(k-dx, s.w); sx < 0 {
					row[k] = 0
				} else {
					row[k] = src[sx]
				}
			}
		}
	}
}

// erase overwrites a rectangle with values drawn uniformly from [0,1): random
// erasing with random values (Zhong et al. 2020). Its share of the area is
// drawn from [0.02, 0.33], its ratio of sides log-uniformly from [0.3, 1/0.3],
// its place from all that hold it; a rectangle that does not fit is drawn again,
// up to ten times.
func (s *LabelledSampler) erase(x []float32, rng *rand.Rand) {
	for range 10 {
		area := (0.02 + 0.31*rng.Float64()) * float64(s.h*s.w)
		ratio := math.Exp((2*rng.Float64() - 1) * math.Log(1/0.3))
		eh, ew := int(math.Sqrt(area*ratio)+0.5), int(math.Sqrt(area/ratio)+0.5)
		if eh < 1 || ew < 1 || eh > s.h || ew > s.w {
			continue
		}
		y0, x0 := rng.IntN(s.h-eh+1), rng.IntN(s.w-ew+1)
		for c := range s.c {
			for y := y0; y < y0+eh; y++ {
				row := x[(c*s.h+y)*s.w+x0:][:ew]
				for k := range row {
					row[k] = rng.Float32()
				}
			}
		}
		return
	}
}
