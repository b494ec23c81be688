package model

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/op"
	"github.com/unrollnet/unrollnet/pkg/optim"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// ConvexLoss names the loss of a convex head.
type ConvexLoss string

// The losses, of outputs o (n,R,c).
const (
	ConvexSquared ConvexLoss = "squared" // 1/2 sum (o - y)^2
	ConvexSoftmax ConvexLoss = "softmax" // sum of cross-entropies of the rows' softmax with labels
)

// ConvexData is what a head is fitted to.
type ConvexData struct {
	N       int       // examples
	X       []float64 // tokens (N,s,d)
	Targets []float64 // squared: (N,R,c), R = Head.Rows()
	Labels  []int     // softmax: (N,R), from 0 to c-1
}

// ConvexOptions are the choices of a fit that are not the head's.
type ConvexOptions struct {
	Loss    ConvexLoss
	Mean    bool  // divide the loss by N
	Workers int   // threads, at least 1; the bits do not depend on them
	Bytes   int64 // memory for features, weights and the solver; 0 for 2 GiB
}

// defaultConvexBytes is the memory a fit may take unless told.
const defaultConvexBytes = 2 << 30

// CheckFeatures returns an error if a feature of x (n,s,d) is not finite or a
// column has one value everywhere. To be called before a constant is appended.
func CheckFeatures(x []float64, n, s, d int) error {
	if n < 1 || s < 1 || d < 1 || len(x) != n*s*d {
		return fmt.Errorf("features: found %d values, expected %d x %d x %d", len(x), n, s, d)
	}
	if err := checkFinite(x, s, d); err != nil {
		return err
	}
	for k := range d {
		same := true
		for i := k; i < len(x) && same; i += d {
			same = x[i] == x[k]
		}
		if same {
			return fmt.Errorf("features: column %d is %v in every token of every example, expected one that varies", k, x[k])
		}
	}
	return nil
}

func checkFinite(x []float64, s, d int) error {
	for i, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("features: example %d, token %d, column %d is %v, expected a finite number", i/(s*d), i/d%s, i%d, v)
		}
	}
	return nil
}

// CheckLabels returns an error unless there are n labels from 0 to classes-1 and
// every class has an example.
func CheckLabels(labels []int, n, classes int) error {
	if len(labels) != n {
		return fmt.Errorf("labels: found %d for %d examples", len(labels), n)
	}
	count := make([]int, max(classes, 0))
	for i, l := range labels {
		if l < 0 || l >= classes {
			return fmt.Errorf("labels: example %d has class %d, expected 0 to %d", i, l, classes-1)
		}
		count[l]++
	}
	for k, c := range count {
		if c == 0 {
			return fmt.Errorf("labels: class %d of %d has no example", k, classes)
		}
	}
	return nil
}

// LinearGates returns the gates that make h linear: zeros, whose pattern is all
// ones.
func LinearGates(h op.ConvexHead) []float64 {
	a, _ := h.BlockShape()
	return make([]float64, h.BlockCount()*a)
}

// SampleGates draws the gates (J,a) of h: standard normal numbers, rounded to
// float32 so that a weight file holds them exactly. With ones the first gate is
// zeros, the pattern of all ones; with it the optimum is at most that of the
// linear head. Patterns on the examples x (n,s,d) that are all zero or have been
// drawn before are drawn again. The same seed and examples give the same gates.
func SampleGates(h op.ConvexHead, seed uint64, ones bool, x []float64, n int) ([]float64, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	sd := h.Tokens * h.Channels
	if n < 1 || len(x) != n*sd {
		return nil, fmt.Errorf("gates: found %d values, expected %d examples of %d x %d", len(x), n, h.Tokens, h.Channels)
	}
	a, _ := h.BlockShape()
	groups := h.BlockCount() / h.Gates
	gates := LinearGates(h)
	rng := rand.New(rand.NewPCG(seed, 0x6761746573))
	seen := map[[sha256.Size + 8]byte]bool{}
	mask, bits := make([]float64, h.MaskSize()), make([]byte, (h.MaskSize()+7)/8)
	for j := range h.BlockCount() {
		g := j % groups
		gate := gates[j*a:][:a]
		for try := 0; ; try++ {
			if !(ones && j < groups) {
				for i := range gate {
					gate[i] = float64(float32(rng.NormFloat64()))
				}
			}
			sum, any := sha256.New(), false
			for i := range n {
				clear(bits)
				op.ConvexMask(h, g, x[i*sd:][:sd], gate, mask)
				for q, m := range mask {
					if m != 0 {
						bits[q/8] |= 1 << (q % 8)
						any = true
					}
				}
				sum.Write(bits)
			}
			var key [sha256.Size + 8]byte
			sum.Sum(key[:0])
			key[sha256.Size], key[sha256.Size+1] = byte(g), byte(g>>8)
			if any && !seen[key] {
				seen[key] = true
				break
			}
			if try == 1000 {
				return nil, fmt.Errorf("gates: found no pattern for gate %d of %d that differs from those before and is not all zero in %d draws; expected fewer gates or more varied features", j/groups, h.Gates, try)
			}
		}
	}
	return gates, nil
}

// ConvexFit is a head with its data: the loss of a linear map of the weights Z
// that optim.Nuclear minimises with a nuclear norm. It implements optim.Smooth;
// loss and gradient come from one graph. It belongs to one goroutine.
type ConvexFit struct {
	*optim.Nuclear
	Head     op.ConvexHead
	Gates    []float64 // (J,a)
	Data     ConvexData
	Options  ConvexOptions
	Explicit bool // features are held in memory, not made anew each time

	scale        float64   // of the loss
	targets      []float64 // (N,R,c), or labels (N,R)
	phi          []float64 // features, if Explicit
	z, out       []float64
	loss, normal *convexGraph[float64]
}

// NewConvexFit checks everything there is to check, makes the features where
// they fit in o.Bytes, and builds the graphs. Like all building of graphs it
// must not run in two goroutines at once.
func NewConvexFit(h op.ConvexHead, gates []float64, data ConvexData, o ConvexOptions) (*ConvexFit, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	a, b := h.BlockShape()
	switch {
	case data.N < 1:
		return nil, errors.New("no examples")
	case len(data.X) != data.N*h.Tokens*h.Channels:
		return nil, fmt.Errorf("features: found %d values, expected %d x %d x %d", len(data.X), data.N, h.Tokens, h.Channels)
	case len(gates) != h.BlockCount()*a:
		return nil, fmt.Errorf("gates: found %d values, expected %d x %d", len(gates), h.BlockCount(), a)
	case h.Mechanism == op.Linear && !allZero(gates):
		return nil, errors.New("gates: found numbers for the linear head, expected zeros")
	}
	if err := checkFinite(data.X, h.Tokens, h.Channels); err != nil {
		return nil, err
	}
	for i, v := range gates {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("gates: element %d of gate %d is %v, expected a finite number", i%a, i/a, v)
		}
	}
	f := &ConvexFit{Head: h, Gates: gates, Data: data, Options: o, scale: 1}
	f.Options.Workers = max(o.Workers, 1)
	if o.Mean {
		f.scale = 1 / float64(data.N)
	}
	rows := data.N * h.Rows()
	switch o.Loss {
	case ConvexSquared:
		if len(data.Targets) != rows*h.Outputs {
			return nil, fmt.Errorf("targets: found %d values for %d examples, expected %d x %d x %d", len(data.Targets), data.N, data.N, h.Rows(), h.Outputs)
		}
		for i, v := range data.Targets {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("targets: value %d of example %d is %v, expected a finite number", i%(h.Rows()*h.Outputs), i/(h.Rows()*h.Outputs), v)
			}
		}
		f.targets = data.Targets
	case ConvexSoftmax:
		if err := CheckLabels(data.Labels, rows, h.Outputs); err != nil {
			return nil, err
		}
		f.targets = make([]float64, rows)
		for i, l := range data.Labels {
			f.targets[i] = float64(l)
		}
	default:
		return nil, fmt.Errorf("loss: found %q, expected %s or %s", o.Loss, ConvexSquared, ConvexSoftmax)
	}
	limit := o.Bytes
	if limit == 0 {
		limit = defaultConvexBytes
	}
	least, explicit := ConvexBytes(h, data.N)
	if least > limit {
		return nil, fmt.Errorf("%d gates of %d x %d need %d bytes even without holding features, %d are allowed: expected fewer gates, fewer channels, or training by factors", h.Gates, a, b, least, limit)
	}
	f.Explicit = explicit <= limit
	blocks := make([]optim.Block, h.BlockCount())
	for j := range blocks {
		blocks[j] = optim.Block{Rows: a, Cols: b}
	}
	var err error
	if f.Nuclear, err = optim.NewNuclear(f, blocks, f.Options.Workers); err != nil {
		return nil, err
	}
	return f, f.build()
}

func allZero(v []float64) bool {
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}

// ConvexBytes returns how much memory fitting h to n examples takes: without
// holding features, and holding them.
func ConvexBytes(h op.ConvexHead, n int) (least, explicit int64) {
	size, rows := int64(h.Size()), int64(n)*int64(h.Rows())
	a, b := h.BlockShape()
	// Of the weights: seven vectors of the solver, one of this fit, gradient and
	// transpose of two graphs; a decomposition.
	least = 8 * (12*size + 4*rows*int64(h.Outputs) + 6*int64(a)*int64(b) + int64(n)*int64(h.Tokens)*int64(h.Channels))
	per := int64(h.Rows()) * int64(h.Features())
	return least + 8*2*max(1<<19, per), least + 8*int64(n)*per
}

// build makes the graphs of the loss and of A*A.
func (f *ConvexFit) build() error {
	n, h := f.Data.N, f.Head
	f.z, f.out = make([]float64, f.Size()), make([]float64, n*h.Rows()*h.Outputs)
	f.phi = nil
	if f.Explicit {
		phi := make([]float64, n*h.Rows()*h.Features())
		op.ConvexFeatures(h, f.Options.Workers, n, f.Data.X, f.Gates, phi)
		f.phi = phi
	}
	outputs := func(c *convexGraph[float64]) (z, out *G.Node, err error) {
		z = c.input("z", f.z, f.Size())
		if f.Explicit {
			out, err = op.ConvexProduct(c.env, h, c.input("features", f.phi, n, h.Rows(), h.Features()), z)
		} else {
			x, gates := f.tokens(c)
			out, err = op.ConvexOperator(c.env, h, x, gates, z)
		}
		return z, out, err
	}
	var err error
	if f.loss, err = newConvexGraph(f.Options.Workers, func(c *convexGraph[float64]) (G.Nodes, error) {
		z, out, err := outputs(c)
		if err != nil {
			return nil, err
		}
		loss, err := f.lossOf(c, out)
		if err != nil {
			return nil, err
		}
		return gradients(loss, G.Nodes{out}, z)
	}); err != nil {
		return err
	}
	// A*A z is the gradient of 1/2 |A z|^2.
	f.normal, err = newConvexGraph(f.Options.Workers, func(c *convexGraph[float64]) (G.Nodes, error) {
		z, out, err := outputs(c)
		if err != nil {
			return nil, err
		}
		zero := c.input("zero", make([]float64, len(f.out)), n, h.Rows(), h.Outputs)
		half, err := op.SquaredError(c.env, out, zero, 1)
		if err != nil {
			return nil, err
		}
		return gradients(half, nil, z)
	})
	return err
}

// tokens adds the examples and gates.
func (f *ConvexFit) tokens(c *convexGraph[float64]) (x, gates *G.Node) {
	a, _ := f.Head.BlockShape()
	return c.input("x", f.Data.X, f.Data.N, f.Head.Tokens, f.Head.Channels), c.input("gates", f.Gates, f.Head.BlockCount(), a)
}

// lossOf adds the loss of outputs.
func (f *ConvexFit) lossOf(c *convexGraph[float64], out *G.Node) (*G.Node, error) {
	n, r := f.Data.N, f.Head.Rows()
	if f.Options.Loss == ConvexSoftmax {
		return op.SoftmaxError(c.env, out, c.input("labels", f.targets, n, r), f.scale)
	}
	return op.SquaredError(c.env, out, c.input("targets", f.targets, n, r, f.Head.Outputs), f.scale)
}

// Gradient implements optim.Smooth.
func (f *ConvexFit) Gradient(z, grad []float64) (float64, error) {
	copy(f.z, z)
	return f.loss.run(f.out, grad)
}

// Normal implements optim.Smooth.
func (f *ConvexFit) Normal(z, out []float64) error {
	copy(f.z, z)
	_, err := f.normal.run(out)
	return err
}

// Curvature implements optim.Smooth: the Hessian of the cross-entropy of a
// softmax p is diag(p) - p p^T, at most 1/2.
func (f *ConvexFit) Curvature() float64 {
	if f.Options.Loss == ConvexSoftmax {
		return f.scale / 2
	}
	return f.scale
}

// Dual implements optim.Smooth. With k the factor of the loss and Lam its
// gradient at the outputs,
//
//	squared: -L*(t Lam) = -t^2/(2k) |Lam|^2 - t <Lam, Y>, at its best t in [-limit, limit]
//	softmax: Lam = k (p - e_y) and -L*(t Lam) = k * the entropies of e_y + t (p - e_y), at t = min(limit, 1)
func (f *ConvexFit) Dual(limit float64) float64 {
	if f.Options.Loss == ConvexSquared {
		var square, inner float64
		for i, o := range f.out {
			l := f.scale * (o - f.targets[i])
			square += l * l
			inner += l * f.targets[i]
		}
		if square == 0 {
			return 0
		}
		t := max(-limit, min(limit, -f.scale*inner/square))
		return -t*t*square/(2*f.scale) - t*inner
	}
	t := min(limit, 1)
	c := f.Head.Outputs
	p := make([]float64, c)
	var sum float64
	for i, y := range f.targets {
		op.Softmax(f.out[i*c:][:c], p)
		for k, v := range p {
			q := t * v
			if k == int(y) {
				// 1 - t (1 - p), without the cancellation when p is nearly 1.
				var rest float64
				for l, w := range p {
					if l != k {
						rest += w
					}
				}
				q = 1 - t*rest
			}
			if q > 0 {
				sum -= q * math.Log(q)
			}
		}
	}
	return f.scale * sum
}

// Outputs returns the outputs (N,R,c) at the point of the last call of Gradient,
// Certify or Solve included.
func (f *ConvexFit) Outputs() []float64 { return f.out }

// ConvexOutputs returns the outputs (n,R,c) of a head with gates (J,a) and
// weights z on examples x (n,s,d), from the graph a fit uses.
func ConvexOutputs(h op.ConvexHead, gates, z, x []float64, n, workers int) ([]float64, error) {
	a, _ := h.BlockShape()
	c, err := newConvexGraph(workers, func(c *convexGraph[float64]) (G.Nodes, error) {
		c.env.Inference = true
		out, err := op.ConvexOperator(c.env, h, c.input("x", x, n, h.Tokens, h.Channels), c.input("gates", gates, h.BlockCount(), a), c.input("z", z, h.Size()))
		if err != nil {
			return nil, err
		}
		return c.only(out)
	})
	if err != nil {
		return nil, err
	}
	out := make([]float64, n*h.Rows()*h.Outputs)
	_, err = c.run(out)
	return out, err
}

var _ optim.Smooth = (*ConvexFit)(nil)

// dtype returns the tensor type of T.
func dtype[T float32 | float64]() tensor.Dtype {
	if _, ok := any(T(0)).(float64); ok {
		return tensor.Float64
	}
	return tensor.Float32
}
