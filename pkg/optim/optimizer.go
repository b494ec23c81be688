package optim

import (
	"fmt"
	"math"
)

// Optimizer updates parameters in place.
type Optimizer interface {
	// Step moves params against grads at learning rate lr. Both hold one slice
	// per tensor, in the order given to New; grads are left as they are. It
	// panics where a length is not the one given to New.
	Step(params, grads [][]float32, lr float64)
	// State returns a copy of everything remembered between steps.
	State() State
	// Restore sets the state; on an error nothing has changed.
	Restore(State) error
}

// Config is the `optim` section of an experiment. A zero is a zero: Defaults has
// the usual values.
type Config struct {
	Type        string  `yaml:"type" json:"type"`                           // adamw | adam | sgd | kar2 | kar3
	Beta1       float64 `yaml:"beta1" json:"beta1,omitempty"`               // adamw, adam: decay of the first moment; kar2, kar3: of the first mean
	Beta2       float64 `yaml:"beta2" json:"beta2,omitempty"`               // adamw, adam: decay of the second moment; kar3: of the second mean
	Eps         float64 `yaml:"eps" json:"eps,omitempty"`                   // adamw, adam: added to the root of the second moment
	WeightDecay float64 `yaml:"weight_decay" json:"weight_decay,omitempty"` // adamw: decoupled; adam, sgd: added to the gradient
	Momentum    float64 `yaml:"momentum" json:"momentum,omitempty"`         // sgd
	SolverRate  float64 `yaml:"solver_rate" json:"solver_rate,omitempty"`   // factor on the learning rate of solver coefficients
}

// Defaults returns AdamW with the moments of its paper and no weight decay.
func Defaults() Config {
	return Config{Type: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
}

// Validate checks the values; errors name the key, what was found and what was
// expected.
func (c Config) Validate() error {
	switch c.Type {
	case "adamw", "adam", "sgd", "kar2", "kar3":
	default:
		return fmt.Errorf("optim.type: found %q, expected adamw, adam, sgd, kar2 or kar3", c.Type)
	}
	unit := func(key string, v float64) error {
		if !(v >= 0 && v < 1) {
			return fmt.Errorf("optim.%s: found %v, expected a number in [0, 1)", key, v)
		}
		return nil
	}
	for _, k := range []struct {
		key string
		v   float64
	}{{"beta1", c.Beta1}, {"beta2", c.Beta2}, {"momentum", c.Momentum}} {
		if err := unit(k.key, k.v); err != nil {
			return err
		}
	}
	if (c.Type == "adamw" || c.Type == "adam") && !(c.Eps > 0 && c.Eps <= math.MaxFloat64) {
		return fmt.Errorf("optim.eps: found %v, expected a number > 0", c.Eps)
	}
	if !(c.WeightDecay >= 0) || math.IsInf(c.WeightDecay, 0) {
		return fmt.Errorf("optim.weight_decay: found %v, expected a number >= 0", c.WeightDecay)
	}
	return nil
}

// New makes the optimiser c describes for parameters of that form.
func New(c Config, tensors []Tensor) (Optimizer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := checkTensors(tensors); err != nil {
		return nil, err
	}
	tensors = append([]Tensor(nil), tensors...)
	switch c.Type {
	case "sgd":
		return &SGD{cfg: c, tensors: tensors, velocity: alloc(tensors)}, nil
	case "kar2", "kar3":
		return newKar(c, tensors), nil
	}
	return &Adam{cfg: c, decoupled: c.Type == "adamw", tensors: tensors, m: alloc(tensors), v: alloc(tensors)}, nil
}

// Adam is the optimiser of Kingma and Ba (2015) and, decoupled, AdamW of
// Loshchilov and Hutter (2019). With t counting from 1, for every value
//
//	adam:  g = g + weight_decay * p
//	adamw: p = p * (1 - lr * weight_decay)
//	m = beta1 * m + (1 - beta1) * g
//	v = beta2 * v + (1 - beta2) * g^2
//	p = p - lr/(1 - beta1^t) * m / (sqrt(v)/sqrt(1 - beta2^t) + eps)
//
// The moments are float32; the scalar factors are worked out in float64 and
// rounded once.
type Adam struct {
	cfg       Config
	decoupled bool
	tensors   []Tensor
	m, v      [][]float32
	steps     int64
}

// Step does one update; see Adam.
func (a *Adam) Step(params, grads [][]float32, lr float64) {
	checkStep(a.tensors, params, grads)
	a.steps++
	t := float64(a.steps)
	var (
		b1, b2  = float32(a.cfg.Beta1), float32(a.cfg.Beta2)
		c1, c2  = float32(1 - a.cfg.Beta1), float32(1 - a.cfg.Beta2)
		correct = float32(1 / math.Sqrt(1-math.Pow(a.cfg.Beta2, t)))
		eps     = float32(a.cfg.Eps)
	)
	for i, d := range a.tensors {
		rate := float32(d.rate() * lr / (1 - math.Pow(a.cfg.Beta1, t)))
		l2, shrink := float32(0), float32(1)
		if a.cfg.WeightDecay != 0 && !d.NoDecay {
			if a.decoupled {
				shrink = float32(1 - lr*a.cfg.WeightDecay)
			} else {
				l2 = float32(a.cfg.WeightDecay)
			}
		}
		p := params[i]
		g, m, v := grads[i][:len(p)], a.m[i][:len(p)], a.v[i][:len(p)]
		// The conversions forbid fused multiply-adds, which would make the bits
		// depend on the processor.
		for j := range p {
			gj := g[j] + float32(l2*p[j])
			mj := float32(b1*m[j]) + float32(c1*gj)
			vj := float32(b2*v[j]) + float32(c2*float32(gj*gj))
			m[j], v[j] = mj, vj
			den := float32(float32(math.Sqrt(float64(vj)))*correct) + eps
			p[j] = float32(p[j]*shrink) - float32(rate*float32(mj/den))
		}
	}
}

// State returns exp_avg/<name>, exp_avg_sq/<name> and the counter "steps".
func (a *Adam) State() State {
	s := State{Tensors: make(map[string][]float32), Ints: map[string]int64{"steps": a.steps}}
	s.export("exp_avg", a.tensors, a.m)
	s.export("exp_avg_sq", a.tensors, a.v)
	return s
}

// Restore sets what State returned.
func (a *Adam) Restore(s State) error {
	if err := s.load(a.tensors, []kind{{"exp_avg", a.m}, {"exp_avg_sq", a.v}}, []string{"steps"}); err != nil {
		return err
	}
	a.steps = s.Ints["steps"]
	return nil
}

// SGD is gradient descent with heavy-ball momentum (Polyak 1964). For every
// value, the velocity u being zero at first,
//
//	g = g + weight_decay * p
//	u = momentum * u + g
//	p = p - lr * u
type SGD struct {
	cfg      Config
	tensors  []Tensor
	velocity [][]float32
}

// Step does one update; see SGD.
func (s *SGD) Step(params, grads [][]float32, lr float64) {
	checkStep(s.tensors, params, grads)
	mu := float32(s.cfg.Momentum)
	for i, d := range s.tensors {
		rate := float32(d.rate() * lr)
		decay := float32(s.cfg.WeightDecay)
		if d.NoDecay {
			decay = 0
		}
		p := params[i]
		g, u := grads[i][:len(p)], s.velocity[i][:len(p)]
		for j := range p {
			uj := float32(mu*u[j]) + (g[j] + float32(decay*p[j]))
			u[j] = uj
			p[j] -= float32(rate * uj)
		}
	}
}

// State returns momentum/<name>.
func (s *SGD) State() State {
	st := State{Tensors: make(map[string][]float32), Ints: map[string]int64{}}
	st.export("momentum", s.tensors, s.velocity)
	return st
}

// Restore sets what State returned.
func (s *SGD) Restore(st State) error {
	return st.load(s.tensors, []kind{{"momentum", s.velocity}}, nil)
}
