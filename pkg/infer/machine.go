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

// shape is what a machine is built for: a block and the size of its window.
type shape struct{ block, h, w int }

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

// newMachine builds block s.block of net, whose operations take their temporary
// memory from env. Parameters are read in place.
func newMachine(net model.Network, env *op.Env, s shape) (m *machine, err error) {
	c, g := net.Channels(), G.NewGraph()
	b := nn.NewBuilder(g, env, net.Params())
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
		return nil, fmt.Errorf("a window of %dx%d: %w", s.w, s.h, err)
	}
	// Values are read through copies: Gorgonia may reuse a buffer once its last
	// reader has run.
	op.Keep(next)
	G.Read(next, &m.out)
	if ch, _ := net.State(s.block); ch > 0 {
		op.Keep(nextState)
		G.Read(nextState, &m.nextState)
	}
	m.vm = G.NewTapeMachine(g)
	// The machine has a finalizer, of use with CUDA alone, that would keep its
	// buffers for one collection more.
	runtime.SetFinalizer(m.vm, nil)
	return m, nil
}

// run computes the block on what the inputs hold and returns the next estimate
// (C,h,w) and state, valid until the next run.
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

// lane is what one worker computes with: machines that share one Env, so that
// their operations share temporary memory. One goroutine at a time.
type lane struct {
	env      *op.Env
	machines []*machine // least recently used first
}

// bytes returns what the lane's machines hold.
func (l *lane) bytes() int64 {
	var n int64
	for _, m := range l.machines {
		n += m.bytes
	}
	return n
}

// lanes keeps the lanes that no restoration is using.
type lanes struct {
	net model.Network

	mu   sync.Mutex
	idle []*lane // least recently used first

	garbage atomic.Int64 // bytes given up since the last collection

	once     sync.Once
	known    atomic.Bool
	measured float64 // bytes a pixel of a window
	err      error
}

// maxIdle bounds what lanes hold while nothing is being restored, in bytes.
const maxIdle = 384 << 20

// lend returns n lanes, idle ones first.
func (p *lanes) lend(n int) []*lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := max(len(p.idle)-n, 0)
	ls := append([]*lane(nil), p.idle[k:]...)
	clear(p.idle[k:])
	p.idle = p.idle[:k]
	for len(ls) < n {
		ls = append(ls, &lane{env: op.NewInferenceEnv(1)})
	}
	return ls
}

// takeBack makes lanes idle; those beyond maxIdle are dropped.
func (p *lanes) takeBack(ls []*lane) {
	p.mu.Lock()
	p.idle = append(p.idle, ls...)
	var held int64
	keep := len(p.idle)
	for keep > 0 {
		if held += p.idle[keep-1].bytes(); held > maxIdle {
			break
		}
		keep--
	}
	var dropped int64
	for i := range keep {
		dropped += p.idle[i].bytes()
	}
	n := copy(p.idle, p.idle[keep:])
	clear(p.idle[n:])
	p.idle = p.idle[:n]
	p.mu.Unlock()
	p.giveUp(dropped)
}

// machine returns the lane's machine for s, compiled anew if it has none; then
// others are dropped, as far as needed for the lane to hold at most limit bytes.
func (p *lanes) machine(l *lane, s shape, limit int64) (*machine, error) {
	for i, m := range l.machines {
		if m.shape == s {
			l.machines = append(append(l.machines[:i], l.machines[i+1:]...), m)
			return m, nil
		}
	}
	perPixel, err := p.perPixel(s.h * s.w)
	if err != nil {
		return nil, err
	}
	bytes := int64(perPixel * float64(s.h*s.w))
	var dropped int64
	for len(l.machines) > 0 && l.bytes()+bytes > limit {
		dropped += l.machines[0].bytes
		l.machines[0] = nil
		l.machines = l.machines[1:]
	}
	p.giveUp(dropped)
	m, err := newMachine(p.net, l.env, s)
	if err != nil {
		return nil, err
	}
	m.bytes = bytes
	l.machines = append(l.machines, m)
	return m, nil
}

// collectBytes is how much garbage is left to the collector's own judgement. It
// lets garbage grow to the size of what lives, which beside the planes of a
// large photograph is a gigabyte.
const collectBytes = 64 << 20

// giveUp counts bytes that became garbage, and collects them when they are many.
func (p *lanes) giveUp(bytes int64) {
	if bytes > 0 && p.garbage.Add(bytes) >= collectBytes {
		p.garbage.Store(0)
		runtime.GC()
	}
}

const (
	calibration    = 128  // side of the window that memory is measured on
	assumePerPixel = 2048 // bytes a pixel assumed for windows no larger than that
)

// perPixel returns the bytes a machine holds for each pixel of a window. While
// only small images are restored it is not worth a measurement.
func (p *lanes) perPixel(pixels int) (float64, error) {
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
	type kind struct{ reach, in, out int } // blocks that are alike take as much
	seen := map[kind]bool{}
	var most uint64
	in := 0
	for t := range net.Blocks() {
		out, _ := net.State(t)
		k := kind{net.Reach(t), in, out}
		in = out
		if seen[k] {
			continue
		}
		seen[k] = true
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := newMachine(net, op.NewInferenceEnv(1), shape{t, calibration, calibration})
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
