package op

import (
	"errors"
	"fmt"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/kernel"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Step is one operation of a Residual branch: it has the output of the step
// before as its first input, and parameters.
type Step struct {
	f32    function[float32]
	f64    function[float64]
	params []*G.Node
}

// NormStep is LayerNorm in a branch.
func NormStep(gain, bias *G.Node) Step {
	return Step{&layerNorm[float32]{}, &layerNorm[float64]{}, []*G.Node{gain, bias}}
}

// ConvStep is Conv with stride 1 and a bias in a branch.
func ConvStep(weight, bias *G.Node) Step {
	return Step{&conv[float32]{stride: 1, bias: true}, &conv[float64]{stride: 1, bias: true}, []*G.Node{weight, bias}}
}

// GeluStep is Gelu in a branch.
func GeluStep() Step { return Step{&gelu[float32]{}, &gelu[float64]{}, nil} }

// AttentionStep is WindowAttention in a branch.
func AttentionStep(position *G.Node, window, shift int) Step {
	return Step{&windowAttention[float32]{window: window, shift: shift}, &windowAttention[float64]{window: window, shift: shift}, []*G.Node{position}}
}

// SelfAttentionStep is Attention in a branch, never its last step: the backward
// pass needs the output.
func SelfAttentionStep(cfg AttentionConfig, p, fidelity *G.Node) Step {
	s := Step{newSelfAttention[float32](cfg, p != nil, fidelity != nil), newSelfAttention[float64](cfg, p != nil, fidelity != nil), nil}
	for _, n := range []*G.Node{p, fidelity} {
		if n != nil {
			s.params = append(s.params, n)
		}
	}
	return s
}

// Residual adds x + f_n(... f_2(f_1(x))), the steps f_i being applied one after
// another, the last with a result of x's shape. One operation, so that the
// gradient of x needs one buffer and what lies between the steps none that
// others could not use. Each step's output but the last is kept.
func Residual(e *Env, x *G.Node, steps ...Step) (*G.Node, error) {
	if len(steps) == 0 {
		return nil, errors.New("residual: no steps")
	}
	f32, f64 := &residual[float32]{}, &residual[float64]{}
	in := []*G.Node{x}
	for _, s := range steps {
		f32.steps = append(f32.steps, part[float32]{f: s.f32, params: len(s.params)})
		f64.steps = append(f64.steps, part[float64]{f: s.f64, params: len(s.params)})
		in = append(in, s.params...)
	}
	return applyAny(e, f32, f64, in...)
}

// part is a step of a branch: its function, with params inputs beside the first,
// and its output of n elements, which only training keeps.
type part[T kernel.Float] struct {
	f         function[T]
	params, n int
	out       []T
}

type residual[T kernel.Float] struct {
	steps  []part[T]
	inputs int
}

func (f *residual[T]) String() string {
	names := make([]string, len(f.steps))
	for i := range f.steps {
		names[i] = f.steps[i].f.String()
	}
	return "residual(" + strings.Join(names, ", ") + ")"
}

func (f *residual[T]) wants() []bool {
	w := make([]bool, f.inputs)
	for i := range w {
		w[i] = true
	}
	return w
}

func (f *residual[T]) shape(in []tensor.Shape) (tensor.Shape, error) {
	f.inputs = len(in)
	s, rest := in[0], in[1:]
	for i := range f.steps {
		p := &f.steps[i]
		var err error
		if s, err = p.f.shape(append([]tensor.Shape{s}, rest[:p.params]...)); err != nil {
			return nil, fmt.Errorf("step %d: %v: %w", i, p.f, err)
		}
		p.n, rest = s.TotalSize(), rest[p.params:]
	}
	if _, ok := f.steps[len(f.steps)-1].f.(*selfAttention[T]); ok {
		return nil, errors.New("the last step is attention, expected one whose output is not kept")
	}
	return s, sameShape("the branch's result", s, in[0])
}

func (f *residual[T]) forward(e *Env, in [][]T, out []T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	x, rest := in[0], in[1:]
	args := make([][]T, 0, 4)
	for i := range f.steps {
		p := &f.steps[i]
		y := out
		if i < len(f.steps)-1 {
			switch y = p.out; {
			case e.Inference:
				y = s.Take(p.n)
			case y == nil:
				y = make([]T, p.n)
				p.out = y
			}
		}
		args = append(append(args[:0], x), rest[:p.params]...)
		p.f.forward(e, args, y)
		x, rest = y, rest[p.params:]
	}
	kernel.Axpy(1, in[0], out)
}

func (f *residual[T]) backward(e *Env, in [][]T, out, dout []T, din [][]T) {
	s := scratch[T](e)
	defer s.Release(s.Mark())
	args, grads := make([][]T, 0, 4), make([][]T, 0, 4)
	d, end := dout, len(in)
	for i := len(f.steps) - 1; i >= 0; i-- {
		p := &f.steps[i]
		x, dx := in[0], din[0]
		if i > 0 {
			x = f.steps[i-1].out
			dx = s.Take(len(x))
		}
		args = append(append(args[:0], x), in[end-p.params:end]...)
		grads = append(append(grads[:0], dx), din[end-p.params:end]...)
		p.f.backward(e, args, p.out, d, grads) // p.out is nil for the last, which does not read it
		d, end = dx, end-p.params
	}
	kernel.Axpy(1, dout, din[0])
}
