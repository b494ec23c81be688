package infer

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// pass is a whole network compiled for one input: graph, tape machine and the
// buffer it reads. One goroutine at a time.
type pass struct {
	in  []float32
	out G.Value // a copy of the output, made by run
	vm  G.VM
}

// newPass compiles what build adds to a graph for an input of a shape.
func newPass(params *nn.Params, build func(b *nn.Builder, in *G.Node) (*G.Node, error), shape ...int) (*pass, error) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	g := G.NewGraph()
	b := nn.NewBuilder(g, op.NewInferenceEnv(runtime.GOMAXPROCS(0)), params)
	p := &pass{in: make([]float32, n)}
	out, err := build(b, b.Input("in", p.in, shape...))
	if err != nil {
		return nil, err
	}
	op.Keep(out) // see newMachine
	G.Read(out, &p.out)
	p.vm = G.NewTapeMachine(g)
	runtime.SetFinalizer(p.vm, nil)
	return p, nil
}

// run computes the output of p.in, n numbers that are valid until the next run.
func (p *pass) run(n int) ([]float32, error) {
	defer p.vm.Reset()
	if err := p.vm.RunAll(); err != nil {
		return nil, err
	}
	out, ok := p.out.Data().([]float32)
	if !ok || len(out) != n {
		return nil, fmt.Errorf("output is %v, expected %d float32", p.out.Shape(), n)
	}
	return out, nil
}

// passes keeps compiled passes that nobody is using, by the length of their input.
type passes struct {
	mu   sync.Mutex
	idle map[int][]*pass
}

// with calls use with a pass for inputs of n numbers, compiled anew if none is
// idle.
func (p *passes) with(n int, compile func() (*pass, error), use func(*pass) error) error {
	p.mu.Lock()
	var one *pass
	if free := p.idle[n]; len(free) > 0 {
		one, p.idle[n] = free[len(free)-1], free[:len(free)-1]
	}
	p.mu.Unlock()
	if one == nil {
		var err error
		if one, err = compile(); err != nil {
			return err
		}
	}
	err := use(one)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle == nil {
		p.idle = map[int][]*pass{}
	}
	p.idle[n] = append(p.idle[n], one)
	return err
}
