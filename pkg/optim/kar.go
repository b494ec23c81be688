package optim

import (
	"fmt"
	"math"
)

// Kar is the sign optimiser of Zhang's Terminator network (arXiv 2401.17948), with
// two running means of the gradient (kar3) or one (kar2). For every value, the
// means m_k being zero at first and sign(0) 0,
//
//	p = p - lr * (sign(g) + sum over k of sign(m_k))
//	m_k = beta_k * m_k + (1 - beta_k) * g
//
// in that order: a step uses the means of the steps before it. So the first step
// moves a value by lr and later ones by lr or 3 lr (kar3), or by 0 or 2 lr (kar2, or
// where a sign is 0). There is no weight decay. kar2 has beta1 alone.
type Kar struct {
	tensors []Tensor
	betas   []float64
	means   [][][]float32 // of each beta and tensor
}

// newKar makes the optimiser for c of type kar2 or kar3.
func newKar(c Config, tensors []Tensor) *Kar {
	k := &Kar{tensors: tensors, betas: []float64{c.Beta1, c.Beta2}}
	if c.Type == "kar2" {
		k.betas = k.betas[:1]
	}
	for range k.betas {
		k.means = append(k.means, alloc(tensors))
	}
	return k
}

// sign is -1, 0 or 1; 0 for NaN.
func sign(x float32) float32 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

// Step does one update; see Kar.
func (k *Kar) Step(params, grads [][]float32, lr float64) {
	checkStep(k.tensors, params, grads)
	for i, d := range k.tensors {
		rate := float32(d.rate() * lr)
		p := params[i]
		g := grads[i][:len(p)]
		for j := range p {
			move := sign(g[j])
			for n, beta := range k.betas {
				m := &k.means[n][i][j]
				move += sign(*m)
				*m = float32(float32(beta)*(*m)) + float32(float32(1-beta)*g[j])
			}
			p[j] -= float32(rate * move)
		}
	}
}

// kinds names the means.
func (k *Kar) kinds() []kind {
	var ks []kind
	for n, m := range k.means {
		ks = append(ks, kind{fmt.Sprint("mean", n+1), m})
	}
	return ks
}

// State returns mean1/<name> and, of kar3, mean2/<name>.
func (k *Kar) State() State {
	s := State{Tensors: make(map[string][]float32), Ints: map[string]int64{}}
	for _, m := range k.kinds() {
		s.export(m.what, k.tensors, m.dst)
	}
	return s
}

// Restore sets what State returned.
func (k *Kar) Restore(s State) error { return s.load(k.tensors, k.kinds(), nil) }

// chainedStart is the first factor of the linear warm-up of chained.
const chainedStart = 1e-8

// chained is the learning rate that the published runs of the Terminator network
// have from two schedules that multiply each other's: a linear warm-up over w steps
// and a cosine to 0 over n-w steps that begins w steps before the first. With t
// counting steps from 0,
//
//	lr max(1e-8, min(1, t/w)) (1+cos(pi (t-w)/(n-w))) / (1+cos(pi w/(n-w)))
//
// which is above lr for a while, by 2/(1+cos(pi w/(n-w))) at most, and 0 from n on.
// It needs w < n/2, or the cosine would be 0 at first.
func chained(lr float64, t, w, n int) float64 {
	if t >= n {
		return 0
	}
	factor := 1.
	if t < w {
		factor = max(chainedStart, float64(t)/float64(w))
	}
	wave := func(t int) float64 { return 1 + math.Cos(math.Pi*float64(t)/float64(n-w)) }
	return lr * factor * wave(t-w) / wave(w)
}
