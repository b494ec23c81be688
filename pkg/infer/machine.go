package infer

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// shape is what a machine is built for: a block, the size of its window and the
// number of threads inside its kernels.
type shape struct{ block, h, w, threads int }

// machine is one block compiled for windows of one size: graph, tape machine
// and the buffers it reads and writes. One goroutine at a time.
type machine struct {
	shape
	x, y, mask     []float32 // inputs (C,h,w): estimate, samples, mask
	state          []float32 // input (S,h/f,w/f), nil if the block takes none
	out, nextState G.Value   // copies of the outputs, made by run
	vm             G.VM
	bytes          int64 // estimate of the memory held
}

// newMachine builds block s.block of net. Parameters are read in place.
func newMachine(net model.Network, s shape) (m *machine, err error) {
	c, g := net.Channels(), G.NewGraph()
	b := nn.NewBuilder(g, op.NewEnv(s.threads), net.Params())
	b.Inference = true
	n := c * s.h * s.w
	m = &machine{shape: s, x: make([]float32, n), y: make([]float32, n), mask: make([]float32, n)}
	x := b.Input("x", m.x, 1, c, s.h, s.w)
	y := b.Input("y", m.y, 1, c, s.h, s.w)
	mask := b.Input("mask", m.mask, 1, c, s.h, s.w)
	var state *G.Node
	if s.block > 0 {
		if ch, f := net.State(s.block - 1); ch > 0 {
			h, w := ceilDiv(s.h, f), ceilDiv(s.w, f)
			m.state = make([]float32, ch*h*w)
			state = b.Input("state", m.state, 1, ch, h, w)
		}
	}
	next, nextState, err := net.Block(b, s.block, x, y, mask, state)
	if err != nil {
		return nil, fmt.Errorf("block %d for a window of %dx%d: %w", s.block, s.w, s.h, err)
	}
	// Values are read through copies: Gorgonia may reuse a buffer once its last
	// reader has run.
	G.Read(next, &m.out)
	if ch, _ := net.State(s.block); ch > 0 {
		G.Read(nextState, &m.nextState)
	}
	m.vm = G.NewTapeMachine(g)
	return m, nil
}

// run computes the block on what x, mask and state hold and returns the next
// estimate (C,h,w) and state, valid until the next run.
func (m *machine) run() (next, nextState []float32, err error) {
	defer m.vm.Reset()
	if err := m.vm.RunAll(); err != nil {
		return nil, nil, fmt.Errorf("block %d: %w", m.block, err)
	}
	next, ok := m.out.Data().([]float32)
	if !ok || len(next) != len(m.x) {
		return nil, nil, fmt.Errorf("block %d: output is %v, expected %d float32", m.block, m.out.Shape(), len(m.x))
	}
	if m.nextState != nil {
		nextState = m.nextState.Data().([]float32)
	}
	return next, nextState, nil
}

// machines keeps compiled blocks between tiles and between images. Those idle
// are bounded in bytes; the ones least recently used go first.
type machines struct {
	net model.Network

	mu      sync.Mutex
	idle    []*machine // least recently used first
	held    int64      // bytes of those idle
	busy    int64      // bytes of those lent out
	dropped int64      // bytes given up since the last collection

	once     sync.Once
	known    atomic.Bool
	measured float64 // bytes a pixel of a window
	err      error
}

// get lends a machine for s, compiled anew if none is idle; others are given up
// so that all together hold at most limit bytes, if that is possible.
func (p *machines) get(s shape, limit int64) (*machine, error) {
	p.mu.Lock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if m := p.idle[i]; m.shape == s {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			p.held -= m.bytes
			p.busy += m.bytes
			p.mu.Unlock()
			return m, nil
		}
	}
	p.mu.Unlock()
	perPixel, err := p.perPixel(s.h * s.w)
	if err != nil {
		return nil, err
	}
	bytes := int64(perPixel * float64(s.h*s.w))
	p.mu.Lock()
	p.busy += bytes
	p.mu.Unlock()
	p.trim(limit)
	m, err := newMachine(p.net, s)
	if err != nil {
		p.mu.Lock()
		p.busy -= bytes
		p.mu.Unlock()
		return nil, err
	}
	m.bytes = bytes
	return m, nil
}

// put takes a machine back, to be lent again while all hold at most limit bytes.
func (p *machines) put(m *machine, limit int64) {
	p.mu.Lock()
	p.busy -= m.bytes
	p.held += m.bytes
	p.idle = append(p.idle, m)
	p.mu.Unlock()
	p.trim(min(limit, maxIdle))
}

// maxIdle bounds what machines hold while nothing is being restored.
const maxIdle = 384 << 20

// trim drops idle machines until all hold at most limit bytes or none is idle.
func (p *machines) trim(limit int64) {
	p.mu.Lock()
	k := 0
	for ; k < len(p.idle) && p.held+p.busy > limit; k++ {
		p.held -= p.idle[k].bytes
		p.dropped += p.idle[k].bytes
		p.idle[k] = nil
	}
	p.idle = append(p.idle[:0], p.idle[k:]...)
	collect := p.dropped >= collectBytes
	if collect {
		p.dropped = 0
	}
	p.mu.Unlock()
	if collect {
		// The collector lets garbage grow to the size of what lives, which
		// beside the planes of a large photograph is a gigabyte.
		runtime.GC()
	}
}

// collectBytes is how much garbage is allowed before it is collected.
const collectBytes = 64 << 20

const (
	calibration    = 96   // side of the window that memory is measured on
	assumePerPixel = 2048 // bytes a pixel assumed for windows no larger than that
)

// perPixel returns the bytes a machine holds for each pixel of a window. While
// only small images are restored it is not worth a measurement.
func (p *machines) perPixel(pixels int) (float64, error) {
	if pixels <= calibration*calibration && !p.known.Load() {
		return assumePerPixel, nil
	}
	p.once.Do(func() {
		p.measured, p.err = measure(p.net)
		p.known.Store(true)
	})
	return p.measured, p.err
}

// measure returns the bytes a pixel of a window costs: what building and
// running the hungriest block allocates, which is what it goes on to hold, since
// operations keep their buffers.
func measure(net model.Network) (float64, error) {
	var most uint64
	for t := range net.Blocks() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := newMachine(net, shape{t, calibration, calibration, 1})
		if err != nil {
			return 0, err
		}
		if _, _, err := m.run(); err != nil {
			return 0, err
		}
		runtime.ReadMemStats(&after)
		most = max(most, after.TotalAlloc-before.TotalAlloc)
	}
	return float64(most) / (calibration * calibration), nil
}

func ceilDiv(n, m int) int { return (n + m - 1) / m }
