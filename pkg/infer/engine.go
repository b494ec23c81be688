package infer

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/kernel"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// Options says how a restoration is carried out. None of them but RawPhase and
// Ensemble changes a bit of the result.
type Options struct {
	// Tile is the side of the tiles' cores in pixels; 0 chooses one that takes
	// little time within MaxMemory.
	Tile int
	// Workers is the number of tiles computed at once; 0 is one for each core.
	Workers int
	// MaxMemory bounds, in bytes, what the restoration itself holds: planes and
	// graphs, but neither its inputs nor the decoded file. 0 is
	// DefaultMaxMemory, which is then exceeded where an image needs more; a
	// bound that is given and too small is an error.
	MaxMemory int64
	// Progress, if set, is called after each tile with the number of tiles
	// computed and their total, from one goroutine at a time.
	Progress func(done, total int)
	// RawPhase gives a mosaic to the network as it is. Without it, one of another
	// Bayer pattern than the network was trained on is mirrored at its first row
	// or column, and so begins as the pattern it knows; and for a transformer one of
	// an odd number of rows or columns at its last. With it one sees what the network itself makes of
	// a pattern it has never seen.
	RawPhase bool
	// Ensemble is the number of orientations that the picture is restored in, whose
	// mean is the result: 2 takes it transposed as well, 4 turned by 180 degrees
	// besides, 8 mirrored besides; 0 and 1 as it is alone. So many times slower, and
	// a little better: what a network does not treat alike evens out.
	Ensemble int
	// Linear restores images in linear light instead of their coded samples:
	// RestoreImage and Simulate decode by the tone curves of the colour profile,
	// or as sRGB, and code the result. Networks are trained on coded samples.
	Linear bool

	held int64 // bytes of inputs, which count where MaxMemory is not given
}

// MemoryError says that Options.MaxMemory is too small for an image.
type MemoryError struct {
	MaxMemory, Need int64 // bytes: the bound, and the least that would do
	For             string
}

// Error names the bound and what is needed for what.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("max memory: found %d bytes, expected at least %d for %s", e.MaxMemory, e.Need, e.For)
}

// DefaultMaxMemory is the bound on memory where none is given, decoded images
// included: 1.25 GiB, with which a photograph of 24 megapixels is restored in less
// than 1.5 GB, files decoded and encoded.
const DefaultMaxMemory = 5 << 28

// minGraphMemory is what graphs get where planes leave less and no bound was given.
const minGraphMemory = 192 << 20

func (o Options) resolved() (Options, error) {
	switch {
	case o.Tile < 0:
		return o, fmt.Errorf("tile: found %d, expected 0 (chosen) or a number of pixels", o.Tile)
	case o.Workers < 0:
		return o, fmt.Errorf("workers: found %d, expected 0 (one for each core) or more", o.Workers)
	case o.MaxMemory < 0:
		return o, fmt.Errorf("max memory: found %d, expected 0 (%d) or a number of bytes", o.MaxMemory, DefaultMaxMemory)
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return o, nil
}

// signal is an image on its way through the engine: samples y (C,H,W), zero
// where mask is zero, and the mask, 1 where a sample is known. A signal that is
// owned may be overwritten and let go of early.
type signal struct {
	y, mask []float32
	c, h, w int
	owned   bool
}

// check reports sizes that do not fit and values a restoration cannot start
// from. Samples outside the mask that are not zero are cleared, in a copy if the
// signal is not owned.
func (s *signal) check() error {
	if s.c < 1 || s.h < 1 || s.w < 1 {
		return fmt.Errorf("image: found %d channels of %dx%d, expected at least one pixel", s.c, s.w, s.h)
	}
	// In int64 so that 32-bit machines see it too.
	if n := int64(s.c) * int64(s.h) * int64(s.w); int64(len(s.y)) != n || int64(len(s.mask)) != n {
		return fmt.Errorf("image: found %d samples and a mask of %d, expected %d each (%d channels of %dx%d)", len(s.y), len(s.mask), n, s.c, s.w, s.h)
	}
	plane := s.h * s.w
	copied := s.owned
	for c := range s.c {
		known := 0
		for i := c * plane; i < (c+1)*plane; i++ {
			switch s.mask[i] {
			case 1:
				known++
				if v := s.y[i]; v-v != 0 {
					return fmt.Errorf("image: sample at channel %d, pixel (%d,%d) is %v, expected a finite number", c, i%plane%s.w, i%plane/s.w, v)
				}
			case 0:
				if s.y[i] != 0 {
					if !copied {
						s.y, copied = append([]float32(nil), s.y...), true
					}
					s.y[i] = 0
				}
			default:
				return fmt.Errorf("mask: element at channel %d, pixel (%d,%d) is %v, expected 0 or 1", c, i%plane%s.w, i%plane/s.w, s.mask[i])
			}
		}
		if known == 0 {
			return fmt.Errorf("mask: no sample of channel %d is known (%dx%d), expected at least one", c, s.w, s.h)
		}
	}
	return nil
}

// RestorePlanar fills in what is missing: y (C,H,W) holds samples where mask
// (C,H,W) is 1 and zeros where it is 0; the result is (C,H,W). The network goes
// over the image block by block; each block goes over tiles, and keeps the
// estimate of the whole image for the next. The result has the same bits for
// any tile size and number of workers.
//
// A network of one channel restores each channel on its own; a network of three
// sees a single channel as gray, and the mean of its three results is returned.
//
// It is an error if a channel has no sample at all, if mask holds anything but 0
// and 1, if a sample is not finite, and if the network computes anything that is
// not: the error then names the block. A context that ends is noticed between
// tiles, and its cause returned.
func (n *Network) RestorePlanar(ctx context.Context, y, mask []float32, c, h, w int, opt Options) ([]float32, error) {
	return n.restore(ctx, &signal{y: y, mask: mask, c: c, h: h, w: w}, opt)
}

// restore is RestorePlanar on a signal that may be owned.
func (n *Network) restore(ctx context.Context, s *signal, opt Options) ([]float32, error) {
	opt, err := opt.resolved()
	if err != nil {
		return nil, err
	}
	if err := checkEnsemble(opt.Ensemble, n.trained); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if opt.Ensemble > 1 {
		return n.ensemble(ctx, s, opt)
	}
	return n.once(ctx, s, opt)
}

// once restores a checked signal in one orientation.
func (n *Network) once(ctx context.Context, s *signal, opt Options) ([]float32, error) {
	switch nc := n.net.Channels(); {
	case nc == s.c:
		if m := n.phase(s); m != (margin{}) && !opt.RawPhase {
			return n.moved(ctx, s, m, opt)
		}
		return n.engine.run(ctx, s, opt)
	case nc == 1:
		return n.channelwise(ctx, s, opt)
	case s.c == 1:
		return n.gray(ctx, s, opt)
	default:
		return nil, fmt.Errorf("image: found %d channels, expected 1 or %d", s.c, nc)
	}
}

// channelwise restores the channels of s one after another by a network of one.
func (n *Network) channelwise(ctx context.Context, s *signal, opt Options) ([]float32, error) {
	plane := s.h * s.w
	out := make([]float32, len(s.y))
	progress := opt.Progress
	for c := range s.c {
		if progress != nil {
			opt.Progress = func(done, total int) { progress(c*total+done, s.c*total) }
		}
		one := &signal{y: s.y[c*plane : (c+1)*plane], mask: s.mask[c*plane : (c+1)*plane], c: 1, h: s.h, w: s.w, owned: s.owned}
		r, err := n.engine.run(ctx, one, opt)
		if err != nil {
			return nil, fmt.Errorf("channel %d: %w", c, err)
		}
		copy(out[c*plane:], r)
	}
	return out, nil
}

// gray restores one channel by a network of several, as an image whose channels
// are equal, and returns the mean of the results.
func (n *Network) gray(ctx context.Context, s *signal, opt Options) ([]float32, error) {
	nc, plane := n.net.Channels(), s.h*s.w
	all := &signal{y: make([]float32, nc*plane), mask: make([]float32, nc*plane), c: nc, h: s.h, w: s.w, owned: true}
	for c := range nc {
		copy(all.y[c*plane:], s.y)
		copy(all.mask[c*plane:], s.mask)
	}
	r, err := n.engine.run(ctx, all, opt)
	if err != nil {
		return nil, err
	}
	for i := range plane {
		var sum float32
		same := true
		for c := range nc {
			v := r[c*plane+i]
			sum += v
			same = same && v == r[i]
		}
		if !same { // the mean of equal numbers is that number, unrounded
			r[i] = sum / float32(nc)
		}
	}
	return r[:plane:plane], nil
}

// engine carries a network over images. It may be used by several goroutines at
// once.
type engine struct {
	net   model.Network
	cache lanes
}

// planes is what goes from block to block: the samples, the estimate (C,H,W),
// the state of the block before (S,H/f,W/f), and buffers for the next.
type planes struct {
	c, h, w     int
	known       *samples
	x, next     []float32
	state, into []float32
}

// run restores a checked signal with the network's number of channels.
func (e *engine) run(ctx context.Context, s *signal, opt Options) ([]float32, error) {
	start, between := planeBytes(s)
	budget := opt.MaxMemory - between // for graphs and states
	if opt.MaxMemory == 0 {
		budget = max(DefaultMaxMemory-between-opt.held, minGraphMemory)
	} else if need := max(start, between); need >= opt.MaxMemory {
		return nil, &MemoryError{MaxMemory: opt.MaxMemory, Need: need + 1, For: fmt.Sprintf("%d channels of %dx%d", s.c, s.w, s.h)}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	p := &planes{c: s.c, h: s.h, w: s.w, known: newSamples(s.mask, s.c*s.h, s.w)}
	p.x = make([]float32, len(s.y))
	initial(p.x, s, opt.Workers)
	y, big := s.y, 4*len(p.x) >= collectBytes
	s.y, s.mask = nil, nil
	if big {
		debug.FreeOSMemory() // the mask, and what came before it
	}
	p.known.keep(y, p.w)
	if s.owned {
		p.next = y
	} else {
		p.next = make([]float32, len(p.x))
	}
	if i := notFinite(p.x); i >= 0 {
		c, y, x := place(i, p.h, p.w)
		return nil, fmt.Errorf("initial interpolation: found %v at channel %d, pixel (%d,%d), expected a finite number", p.x[i], c, x, y)
	}

	state := e.stateBytes(p.h, p.w)
	if state > budget/2 {
		return e.regions(ctx, p, opt, budget)
	}
	plan, err := e.plan(p.h, p.w, opt, budget-state)
	if err != nil {
		return nil, err
	}
	lanes := e.cache.lend(plan.workers)
	defer e.cache.takeBack(lanes)
	if err := e.blocks(ctx, p, plan, lanes, newMeter(opt.Progress, plan.tiles())); err != nil {
		return nil, err
	}
	return p.x, nil
}

// initial writes the initial interpolation of s to x, channels shared out over
// the workers.
func initial(x []float32, s *signal, workers int) {
	kernel.Parallel(workers, s.c, func(_, lo, hi int) {
		a, b := lo*s.h*s.w, hi*s.h*s.w
		graph.Initial(x[a:b], s.y[a:b], s.mask[a:b], hi-lo, s.h, s.w)
	})
}

// planeBytes returns what the planes of a signal take, states aside: at the
// start, when an owned signal, the mask and the initial estimate are there, and
// between blocks, when it is two estimates, the samples and their bits.
func planeBytes(s *signal) (start, between int64) {
	var known int64
	for _, v := range s.mask {
		if v != 0 {
			known++
		}
	}
	n := int64(len(s.mask))
	start, between = 4*n+n/8, 8*n+4*known+n/8
	if s.owned {
		start += 8 * n
	}
	return start, between
}

// stateBytes returns what the states between blocks take at most at once.
func (e *engine) stateBytes(h, w int) int64 {
	var most, last int64
	for t := range e.net.Blocks() {
		var b int64
		if ch, f := e.net.State(t); ch > 0 {
			b = 4 * int64(ch) * int64(ceilDiv(h, f)) * int64(ceilDiv(w, f))
		}
		most, last = max(most, last+b), b
	}
	return most
}

// align returns what tile origins must be multiples of: for the network, and so
// that the states can be cut there.
func (e *engine) align() int {
	a := max(e.net.Align(), 1)
	for t := range e.net.Blocks() {
		if ch, f := e.net.State(t); ch > 0 {
			a = a / gcd(a, f) * f
		}
	}
	return a
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// plan is how each block of a network goes over an image.
type plan struct {
	blocks  []layout
	workers int
	limit   int64 // bytes of graphs
}

// tiles returns the number of tiles of all blocks.
func (p plan) tiles() int {
	n := 0
	for _, l := range p.blocks {
		n += l.tiles()
	}
	return n
}

// window returns the number of pixels of the largest window.
func (p plan) window() int {
	n := 0
	for _, l := range p.blocks {
		n = max(n, l.pixels())
	}
	return n
}

// plan lays an image of h x w out for graphs of at most budget bytes.
//
// All blocks of a plan use at most budget bytes at once.
func (e *engine) plan(h, w int, opt Options, budget int64) (plan, error) {
	align := e.align()
	for workers := opt.Workers; ; workers-- {
		p := plan{workers: workers, limit: budget}
		perPixel, err := e.cache.perPixel(h * w)
		if err != nil {
			return p, err
		}
		maxPixels := int(float64(budget) / (perPixel * float64(workers)))
		for t := range e.net.Blocks() {
			reach := e.net.Reach(t)
			if opt.Tile > 0 {
				p.blocks = append(p.blocks, layout{split(h, opt.Tile, reach, align), split(w, opt.Tile, reach, align)})
			} else {
				p.blocks = append(p.blocks, bestLayout(h, w, reach, align, workers, min(maxPixels, maxWindow)))
			}
		}
		fits := p.window() <= maxPixels
		switch {
		case fits, workers == 1 && opt.MaxMemory == 0:
			return p, nil
		case workers > 1 && (opt.Tile == 0 || opt.MaxMemory > 0):
			continue // fewer at once
		case opt.MaxMemory == 0:
			return p, nil
		}
		return p, &MemoryError{
			MaxMemory: opt.MaxMemory,
			Need:      opt.MaxMemory - budget + int64(perPixel*float64(p.window())),
			For:       fmt.Sprintf("tiles with windows of %d pixels", p.window()),
		}
	}
}

// blocks runs all blocks over p, whose x is the result.
func (e *engine) blocks(ctx context.Context, p *planes, plan plan, lanes []*lane, m *meter) error {
	for t, l := range plan.blocks {
		p.into = nil
		if ch, f := e.net.State(t); ch > 0 {
			p.into = make([]float32, ch*ceilDiv(p.h, f)*ceilDiv(p.w, f))
		}
		if err := e.block(ctx, t, p, l, plan.limit, lanes, m); err != nil {
			return err
		}
		p.x, p.next = p.next, p.x
		p.state, p.into = p.into, nil
	}
	p.state = nil
	return nil
}

// block computes p.next and p.into from p.x and p.state, its tiles shared out
// over the lanes.
func (e *engine) block(ctx context.Context, t int, p *planes, l layout, limit int64, lanes []*lane, m *meter) error {
	tiles := l.tiles()
	workers := min(len(lanes), tiles)
	threads := len(lanes) / workers // inside the kernels, if there are few tiles
	s := shape{block: t, h: l.y.window, w: l.x.window}

	var taken atomic.Int64
	var mu sync.Mutex
	failed := tiles // the first tile, in order, that went wrong
	var failure error
	fail := func(tile int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if tile < failed {
			failed, failure = tile, err
		}
	}
	stopped := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return failure != nil
	}
	work := func(lane *lane) {
		lane.env.Workers = threads
		for !stopped() {
			i := int(taken.Add(1)) - 1
			if i >= tiles {
				break
			}
			if err := context.Cause(ctx); err != nil {
				fail(i, err)
				break
			}
			mc, err := e.cache.machine(lane, s, limit/int64(len(lanes)))
			if err != nil {
				fail(i, err)
				break
			}
			rows, cols := l.tile(i)
			if err := e.tile(mc, p, rows, cols); err != nil {
				fail(i, err)
				break
			}
			m.tick()
		}
	}
	var wg sync.WaitGroup
	for _, lane := range lanes[1:workers] {
		wg.Go(func() { work(lane) })
	}
	work(lanes[0])
	wg.Wait()
	return failure
}

// tile computes one tile: it loads the window, runs the block and stores the
// core. Tiles write disjoint parts, so they may run at once.
func (e *engine) tile(mc *machine, p *planes, rows, cols span) error {
	for c := range p.c {
		for y := range mc.h {
			at := (c*p.h+rows.win+y)*p.w + cols.win
			to := (c*mc.h + y) * mc.w
			copy(mc.x[to:to+mc.w], p.x[at:])
			p.known.read(mc.y[to:to+mc.w], mc.mask[to:to+mc.w], c*p.h+rows.win+y, cols.win)
		}
	}
	if mc.state != nil {
		ch, f := e.net.State(mc.block - 1)
		ph, pw, h, w := ceilDiv(p.h, f), ceilDiv(p.w, f), ceilDiv(mc.h, f), ceilDiv(mc.w, f)
		for c := range ch {
			for y := range h {
				copy(mc.state[(c*h+y)*w:(c*h+y+1)*w], p.state[(c*ph+rows.win/f+y)*pw+cols.win/f:])
			}
		}
	}
	next, state, err := mc.run()
	if err != nil {
		return err
	}
	for c := range p.c {
		for y := rows.lo; y < rows.hi; y++ {
			from := (c*mc.h+y-rows.win)*mc.w - cols.win
			row := next[from+cols.lo : from+cols.hi]
			if i := notFinite(row); i >= 0 {
				return fmt.Errorf("block %d: found %v at channel %d, pixel (%d,%d), expected a finite number: the network does not fit this image or its weights are damaged", mc.block, row[i], c, cols.lo+i, y)
			}
			copy(p.next[(c*p.h+y)*p.w+cols.lo:], row)
		}
	}
	if state != nil {
		ch, f := e.net.State(mc.block)
		ph, pw, h, w := ceilDiv(p.h, f), ceilDiv(p.w, f), ceilDiv(mc.h, f), ceilDiv(mc.w, f)
		for c := range ch {
			for y := rows.lo / f; y < ceilDiv(rows.hi, f); y++ {
				from := (c*h+y-rows.win/f)*w - cols.win/f
				copy(p.into[(c*ph+y)*pw+cols.lo/f:], state[from+cols.lo/f:from+ceilDiv(cols.hi, f)])
			}
		}
	}
	return nil
}

// regions restores an image whose states would not fit into memory: all blocks
// over one region of it after another, with a halo as wide as all blocks reach
// together.
func (e *engine) regions(ctx context.Context, p *planes, opt Options, budget int64) ([]float32, error) {
	reach := 0
	for t := range e.net.Blocks() {
		reach += e.net.Reach(t)
	}
	const sample = 1024 // side of the square that the bytes of a pixel are taken from
	n := int64(p.c * sample * sample)
	perPixel := (20*n + e.stateBytes(sample, sample)) / (sample * sample)
	outer := bestLayout(p.h, p.w, reach, e.align(), 1, int(budget/2/(perPixel+1)))
	plan, err := e.plan(outer.y.window, outer.x.window, opt, budget/2)
	if err != nil {
		return nil, err
	}
	lanes := e.cache.lend(plan.workers)
	defer e.cache.takeBack(lanes)
	m := newMeter(opt.Progress, outer.tiles()*plan.tiles())
	h, w := outer.y.window, outer.x.window
	mask := make([]float32, p.c*h*w)
	y0 := make([]float32, len(mask))
	q := &planes{c: p.c, h: h, w: w, x: make([]float32, len(mask)), next: make([]float32, len(mask))}
	for i := range outer.tiles() {
		rows, cols := outer.tile(i)
		for c := range p.c {
			for y := range h {
				at, to := (c*p.h+rows.win+y)*p.w+cols.win, (c*h+y)*w
				copy(q.x[to:to+w], p.x[at:])
				p.known.read(y0[to:to+w], mask[to:to+w], c*p.h+rows.win+y, cols.win)
			}
		}
		q.known = newSamples(mask, p.c*h, w)
		q.known.keep(y0, w)
		if err := e.blocks(ctx, q, plan, lanes, m); err != nil {
			return nil, fmt.Errorf("region at (%d,%d): %w", cols.win, rows.win, err)
		}
		for c := range p.c {
			for y := rows.lo; y < rows.hi; y++ {
				from := (c*h+y-rows.win)*w - cols.win
				copy(p.next[(c*p.h+y)*p.w+cols.lo:], q.x[from+cols.lo:from+cols.hi])
			}
		}
	}
	return p.next, nil
}

// meter counts tiles for Options.Progress.
type meter struct {
	mu          sync.Mutex
	done, total int
	report      func(done, total int)
}

func newMeter(report func(done, total int), total int) *meter {
	return &meter{total: total, report: report}
}

func (m *meter) tick() {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done++
	m.report(m.done, m.total)
}

// notFinite returns the index of the first NaN or infinity, or -1.
func notFinite(v []float32) int {
	for i, x := range v {
		if x-x != 0 {
			return i
		}
	}
	return -1
}

// place returns the channel, row and column of a flat index into (C,H,W).
func place(i, h, w int) (c, y, x int) { return i / (h * w), i / w % h, i % w }
