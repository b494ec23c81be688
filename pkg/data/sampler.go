package data

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// SamplerConfig describes training examples.
type SamplerConfig struct {
	Seed        uint64
	Batch       int  // examples per step, B
	Channels    int  // 3, or 1 for studio-range luma, C
	Patch       int  // side of the square crops in pixels, P
	Align       int  // crop origins are multiples of this; 0 means 1
	Augment     bool // turn each clean patch by one of the eight symmetries of the square
	Degradation Degradation
}

// Sampler draws training examples. Example i of epoch e is a function of
// (seed, e, i) and the dataset alone: its image is the i-th of a permutation
// drawn from (seed, e); a generator seeded by (seed, e, i) then gives crop
// origin, symmetry, mask and noise, in this order. The clean patch is turned
// before it is degraded, so the mask is always a legal one.
//
// The methods may be called from several goroutines. The only cursor is the
// number of the step.
type Sampler struct {
	ds  Dataset
	cfg SamplerConfig

	mu     sync.Mutex
	orders map[uint64][]int // permutations of the epochs last used
}

// NewSampler checks the configuration and, where the dataset can, the sizes of
// all images.
func NewSampler(ds Dataset, cfg SamplerConfig) (*Sampler, error) {
	var err error
	if cfg.Degradation, err = cfg.Degradation.Resolved(); err != nil {
		return nil, err
	}
	if err := cfg.Degradation.CheckChannels(cfg.Channels); err != nil {
		return nil, err
	}
	if cfg.Align == 0 {
		cfg.Align = 1
	}
	switch {
	case cfg.Batch < 1:
		return nil, fmt.Errorf("train.batch: found %d, expected >= 1", cfg.Batch)
	case cfg.Patch < 1:
		return nil, fmt.Errorf("data.patch: found %d, expected >= 1", cfg.Patch)
	case cfg.Align < 0:
		return nil, fmt.Errorf("crop alignment: found %d, expected >= 1", cfg.Align)
	case ds.Len() < 1:
		return nil, fmt.Errorf("data.train: found no images, expected at least one")
	}
	if c, ok := ds.(Checker); ok {
		if err := c.Check(cfg.Patch); err != nil {
			return nil, err
		}
	}
	return &Sampler{ds: ds, cfg: cfg, orders: make(map[uint64][]int)}, nil
}

// Size returns the number of values of one example, C*P*P.
func (s *Sampler) Size() int { return s.cfg.Channels * s.cfg.Patch * s.cfg.Patch }

// Epoch returns the epoch of the first example of a step, and its index there.
func (s *Sampler) Epoch(step int) (epoch, index int) {
	n := step * s.cfg.Batch
	return n / s.ds.Len(), n % s.ds.Len()
}

// Batch fills y, mask and target, each (B,C,P,P), with the examples of a step:
// numbers step*B to step*B+B-1 of the endless sequence of epochs.
func (s *Sampler) Batch(step int, y, mask, target []float32) error {
	n := s.Size()
	if want := n * s.cfg.Batch; len(y) != want || len(mask) != want || len(target) != want {
		return fmt.Errorf("sampler: found slices of %d, %d and %d values, expected %d", len(y), len(mask), len(target), want)
	}
	for b := range s.cfg.Batch {
		lo, hi := b*n, (b+1)*n
		if err := s.Slot(step, b, y[lo:hi], mask[lo:hi], target[lo:hi]); err != nil {
			return err
		}
	}
	return nil
}

// Slot fills example b of a step's batch alone: y, mask and target are (C,P,P).
// Several goroutines may fill different slots.
func (s *Sampler) Slot(step, b int, y, mask, target []float32) error {
	if step < 0 || b < 0 || b >= s.cfg.Batch {
		return fmt.Errorf("sampler: found step %d, slot %d, expected step >= 0 and slot < %d", step, b, s.cfg.Batch)
	}
	n := uint64(step)*uint64(s.cfg.Batch) + uint64(b)
	size := uint64(s.ds.Len())
	return s.Example(n/size, int(n%size), y, mask, target)
}

// Example fills y, mask and target, each (C,P,P), with example i of an epoch,
// 0 <= i < the number of images.
func (s *Sampler) Example(epoch uint64, i int, y, mask, target []float32) error {
	if i < 0 || i >= s.ds.Len() {
		return fmt.Errorf("sampler: found example %d, expected 0 to %d", i, s.ds.Len()-1)
	}
	if n := s.Size(); len(y) != n || len(mask) != n || len(target) != n {
		return fmt.Errorf("sampler: found slices of %d, %d and %d values, expected %d", len(y), len(mask), len(target), n)
	}
	img := s.order(epoch)[i]
	p, err := s.load(img)
	if err != nil {
		return err
	}
	c := s.cfg
	if p.w < c.Patch || p.h < c.Patch {
		return tooSmall(nameOf(s.ds, img), p.w, p.h, c.Patch)
	}
	rng := Rand(c.Seed, 2*epoch, uint64(i))
	y0 := rng.IntN((p.h-c.Patch)/c.Align+1) * c.Align
	x0 := rng.IntN((p.w-c.Patch)/c.Align+1) * c.Align
	turn := rng.IntN(8) // drawn in any case: augment changes nothing else
	if !c.Augment {
		turn = 0
	}
	p.patch(target, c.Channels, y0, x0, c.Patch, turn)
	c.Degradation.ApplyInto(y, mask, target, c.Channels, c.Patch, c.Patch, rng)
	return nil
}

// load returns the stored planes of an image.
func (s *Sampler) load(i int) (*planes, error) {
	if p, ok := s.ds.(patcher); ok {
		return p.planes(i)
	}
	m, err := s.ds.Image(i)
	if err != nil {
		return nil, err
	}
	if err := checkImage(m); err != nil {
		return nil, fmt.Errorf("%s: %w", nameOf(s.ds, i), err)
	}
	// Sixteen bits, so that a foreign dataset's values are kept well.
	m16 := *m
	m16.Bits = 16
	return toPlanes(&m16), nil
}

func checkImage(m *imageio.Image) error {
	if (m.C != 1 && m.C != 3) || len(m.Pix) != m.C*m.H*m.W {
		return fmt.Errorf("found %d values for %d channels of %dx%d, expected 1 or 3 whole planes", len(m.Pix), m.C, m.W, m.H)
	}
	return nil
}

func nameOf(ds Dataset, i int) string {
	if n, ok := ds.(Namer); ok {
		return n.Name(i)
	}
	return fmt.Sprintf("image %d", i)
}

// order returns the permutation of the images in an epoch, drawn from
// (seed, epoch) by the shuffle of Fisher and Yates. The streams of orders have
// odd counters, those of examples even ones.
func (s *Sampler) order(epoch uint64) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.orders[epoch]; o != nil {
		return o
	}
	o := make([]int, s.ds.Len())
	for i := range o {
		o[i] = i
	}
	shuffle(o, Rand(s.cfg.Seed, 2*epoch+1, 0))
	// A batch may straddle two epochs, or many where the set is small.
	if len(s.orders) >= 8 {
		clear(s.orders)
	}
	s.orders[epoch] = o
	return o
}

// shuffle is spelled out so that the order does not depend on the library's.
func shuffle(o []int, rng *rand.Rand) {
	for i := len(o) - 1; i > 0; i-- {
		j := int(rng.Uint64N(uint64(i + 1)))
		o[i], o[j] = o[j], o[i]
	}
}
