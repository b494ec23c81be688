package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// Terminator is the size of a network of hyper-kernels. Its blocks keep the size of
// the image; block i has factors[i] times as many channels at its end as at its
// start.
type Terminator struct {
	Image   []int     `yaml:"image" json:"image"`     // rows and columns, the same number
	Classes int       `yaml:"classes" json:"classes"` // of images
	Factors []int     `yaml:"factors" json:"factors"` // of each block
	Layers  []int     `yaml:"layers" json:"layers"`   // hidden layers of each block's global slow network
	Form    string    `yaml:"form" json:"form"`       // published (ten branches, earlier blocks among a later one's inputs) | figure (nine, the drawing's)
	Mean    []float64 `yaml:"mean" json:"mean"`       // of each channel, taken from images
	Std     []float64 `yaml:"std" json:"std"`         // of each channel, images are divided by it
}

// localKernel is a branch with a kernel of its own: its side, and which images of
// the block its slow network sees and it is applied to.
type localKernel struct {
	side        int
	from, along string
}

// locals are the local branches of a form.
var terminatorLocals = map[string][]localKernel{
	"published": {{3, "x", "hci"}, {9, "hci", "x"}, {5, "mix", "x"}, {7, "x", "mix"}},
	"figure":    {{5, "x", "hci"}, {7, "x", "mix"}, {9, "mix", "x"}},
}

// Hidden units of the slow networks: of images, of local kernels, and of channels,
// for the channel and for the hyper interaction.
const (
	slowHidden, localHidden          = 64, 32
	channelHidden, interactionHidden = 32, 16
	slowLayers                       = 2 // of all but the global ones
	slowOmega                        = 2000
	terminatorPenalty                = 1e-6 // of the slow networks' matrices
)

// terminator is the image classifier of Zhang, arXiv 2401.17948, as its author
// published it: of blocks
//
//	K = slow network(pixels)           Z = x K
//	fast = IS(R_s(Z) + R_f(x))         mix = IS(W x + b)         hci = IS(channel interaction(x))
//	o = Z fast    ox = Z mix    oh = Z hci               products of images as matrices
//	l_j = Gelu(BS(W_j (k_j * image) + b_j)) + beta_j     k_j = slow network(pixels, image)
//	y = W [o, ox, oh, fast, o s(o), l_1, ..., hyper interaction(x, o), earlier blocks] + b
//	out = Gelu(G-IBS(y)) + beta
//
// R being recursive gated units, IS, BS and G-IBS the standardisations over an
// instance, a batch and both in turn, and s the sigmoid. Block i >= 2 has the result
// of block i-2 among its inputs, and from i = 4 on that of i-3, as often as
// makes up x's channels. The mean over pixels goes to a linear head.
//
// Statistics and local kernels are a batch's, in use as in training: what the
// network says of an image depends on the others in its batch.
type terminator struct {
	cfg    Config
	t      Terminator
	params *nn.Params
}

func (n *terminator) Config() Config     { return n.cfg }
func (n *terminator) Params() *nn.Params { return n.params }

func (n *terminator) Input() (channels, height, width int) {
	return n.cfg.Channels, n.t.Image[0], n.t.Image[1]
}

func (n *terminator) Classes() int { return n.t.Classes }

// channels returns those at the start of block i; of i = blocks those of the last.
func (n *terminator) channels(i int) int {
	c := n.cfg.Channels
	for _, f := range n.t.Factors[:i] {
		c *= f
	}
	return c
}

// earlier returns the blocks whose results block i has among its inputs.
func (t Terminator) earlier(i int) []int {
	switch {
	case t.Form != "published" || i < 2:
		return nil
	case i < 4:
		return []int{i - 2}
	}
	return []int{i - 2, i - 3}
}

// check holds the keys against each other.
func (t Terminator) check(channels int) error {
	if len(t.Image) != 2 || t.Image[0] < 2 || t.Image[0] > maxImageSide {
		return fmt.Errorf("model.terminator.image: found %v, expected [rows, columns], each 2 to %d", t.Image, maxImageSide)
	}
	if t.Image[0] != t.Image[1] {
		return fmt.Errorf("model.terminator.image: found %v, expected as many rows as columns: images are multiplied as matrices", t.Image)
	}
	if _, ok := terminatorLocals[t.Form]; !ok {
		return oneOf("model.terminator.form", t.Form, []string{"published", "figure"})
	}
	if t.Classes < 2 || t.Classes > 100_000 {
		return fmt.Errorf("model.terminator.classes: found %d, expected 2 to 100000", t.Classes)
	}
	if len(t.Factors) < 2 || len(t.Factors) > 16 {
		return fmt.Errorf("model.terminator.factors: found %v, expected one for each of 2 to 16 blocks", t.Factors)
	}
	if len(t.Layers) != len(t.Factors) {
		return fmt.Errorf("model.terminator.layers: found %v, expected one number for each of the %d blocks of model.terminator.factors", t.Layers, len(t.Factors))
	}
	starts := []int{channels}
	for i, f := range t.Factors {
		if f < 1 || f > 64 {
			return fmt.Errorf("model.terminator.factors: found %v, expected numbers from 1 to 64", t.Factors)
		}
		if l := t.Layers[i]; l < 1 || l > 16 {
			return fmt.Errorf("model.terminator.layers: found %v, expected numbers from 1 to 16", t.Layers)
		}
		c := starts[i] * f
		if c%op.StandardiseGroups != 0 {
			return fmt.Errorf("model.terminator.factors: found %v, which makes %d channels of block %d, expected a multiple of %d, the groups it is standardised in", t.Factors, c, i, op.StandardiseGroups)
		}
		if c > 1<<14 {
			return fmt.Errorf("model.terminator.factors: found %v, which makes %d channels of block %d, expected at most %d", t.Factors, c, i, 1<<14)
		}
		starts = append(starts, c)
	}
	if len(t.Mean) != channels || len(t.Std) != channels {
		return fmt.Errorf("model.terminator.mean: found %v beside std %v, expected a number in each for each of the %d channels", t.Mean, t.Std, channels)
	}
	for i, s := range t.Std {
		if !(s > 0 && s <= 1e6) || !(math.Abs(t.Mean[i]) <= 1e6) {
			return fmt.Errorf("model.terminator.std: found %v beside mean %v, expected numbers above 0", t.Std, t.Mean)
		}
	}
	return nil
}

// newTerminator builds the network with parameters drawn from seed.
func newTerminator(cfg Config, t Terminator, seed uint64) (*terminator, error) {
	if err := t.check(cfg.Channels); err != nil {
		return nil, err
	}
	n := &terminator{cfg: cfg, t: t, params: nn.NewParams()}
	p := terminatorInit{n.params, rand.New(rand.NewPCG(seed, 0x7465726d696e6174))} // "terminat"
	side := t.Image[0]
	for i, f := range t.Factors {
		c, block := n.channels(i), fmt.Sprintf("block%d.", i)
		image, channel := []int{side, side}, []int{c}
		p.slow(block+"kernel", image, slowHidden, c, t.Layers[i])
		for j, l := range terminatorLocals[t.Form] {
			name := fmt.Sprintf("%slocal%d", block, j)
			p.slow(name, []int{l.side, l.side}, localHidden, c, slowLayers)
			p.context(name, c)
			p.normal(name+".mix", c, c)
			p.constant(name+".shift", 0, 1)
		}
		p.normal(block+"mixer", c, c)
		p.gated(block+"gate_fast", c, image)
		p.gated(block+"gate_slow", c, image)
		p.slow(block+"channel", channel, channelHidden, 1, slowLayers)
		p.slow(block+"interaction_channel", channel, interactionHidden, 1, slowLayers)
		p.slow(block+"interaction_pixel", image, slowHidden, 1, slowLayers)
		p.normal(block+"bottleneck", c*n.branches(i), c*f)
		p.constant(block+"shift", 0, 1)
	}
	last := n.channels(len(t.Factors))
	n.params.Add("head.weight", p.gauss(math.Sqrt(2/float64(last))), t.Classes, last, 1, 1)
	p.constant("head.bias", 0, t.Classes)
	return n, nil
}

// branches returns how many times x's channels go into the bottleneck of block i.
func (n *terminator) branches(i int) int {
	return 6 + len(terminatorLocals[n.t.Form]) + len(n.t.earlier(i))
}

// terminatorInit adds parameters as the published network draws them.
type terminatorInit struct {
	*nn.Params
	rng *rand.Rand
}

func (p terminatorInit) gauss(deviation float64) func(int) float32 {
	return func(int) float32 { return float32(p.rng.NormFloat64() * deviation) }
}

func (p terminatorInit) constant(name string, v float32, shape ...int) {
	p.Add(name, nn.Constant(v), shape...).NoDecay = true
}

// normal adds a 1x1 convolution of deviation sqrt(2/inputs).
func (p terminatorInit) normal(name string, in, out int) {
	p.Add(name+".weight", p.gauss(math.Sqrt(2/float64(in))), out, in)
	p.constant(name+".bias", 0, out)
}

// uniform adds a matrix drawn evenly from within sqrt(3/inputs), and its bias.
func (p terminatorInit) uniform(name string, in, out int, bias float32) {
	p.Add(name+".weight", nn.Uniform(p.rng, math.Sqrt(3/float64(in))), out, in)
	p.constant(name+".bias", bias, out)
}

// slow adds a slow network on a grid. Its frequencies are so high that at first
// the kernel is noise, of deviation sqrt(E/points), E being E_0 = 1/2 and
// (E_{i-1}+1)/2 layer by layer.
func (p terminatorInit) slow(name string, grid []int, hidden, outputs, layers int) {
	points := 1
	for _, k := range grid {
		points *= k
	}
	dims := len(grid)
	for i := range layers + 1 {
		p.Add(fmt.Sprintf("%s.filter%d", name, i), func(int) float32 {
			draw := (2*p.rng.Float64() - 1) / math.Sqrt(float64(dims))
			return float32(draw * 2 * math.Pi * slowOmega * gamma(p.rng, 6/float64(i+1)))
		}, hidden, dims)
		p.constant(fmt.Sprintf("%s.phase%d", name, i), 0, hidden)
	}
	for i := 1; i <= layers; i++ {
		p.uniform(fmt.Sprintf("%s.hidden%d", name, i), hidden, hidden, 1)
	}
	p.Add(name+".out.weight", nn.Uniform(p.rng, math.Sqrt(3/float64(hidden))/math.Sqrt(float64(points))), outputs, hidden)
	p.constant(name+".out.bias", 0, outputs)
	p.constant(name+".offset", 0, grid...)
}

// gamma draws from the gamma distribution of shape a >= 1 and rate 1 (Marsaglia and
// Tsang, ACM TOMS 26, 2000).
func gamma(rng *rand.Rand, a float64) float64 {
	d := a - 1./3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-rng.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// context adds what a slow network that sees an image of c channels has besides.
func (p terminatorInit) context(name string, c int) {
	for _, l := range []struct {
		name string
		in   int
	}{{".reduce", c}, {".query", localHidden}} {
		bound := 1 / math.Sqrt(float64(l.in))
		p.Add(name+l.name+".weight", nn.Uniform(p.rng, bound), localHidden, l.in)
		p.Add(name+l.name+".bias", nn.Uniform(p.rng, bound), localHidden).NoDecay = true
	}
	for i := 1; i <= slowLayers; i++ {
		p.uniform(fmt.Sprintf("%s.score%d", name, i), localHidden, localHidden, 1)
	}
}

// gated adds a recursive gated unit.
func (p terminatorInit) gated(name string, c int, image []int) {
	for _, l := range []string{".key", ".value", ".query", ".out"} {
		p.uniform(name+l, c, c, 0)
	}
	p.constant(name+".offset", 0, image...)
}

// slowNet returns the nodes of a slow network.
func slowNet(b *nn.Builder, name string, layers int) op.SlowNet {
	s := op.SlowNet{Out: b.Param(name + ".out.weight"), OutBias: b.Param(name + ".out.bias"), Offset: b.Param(name + ".offset")}
	for i := range layers + 1 {
		s.Filters = append(s.Filters, b.Param(fmt.Sprintf("%s.filter%d", name, i)))
		s.Phases = append(s.Phases, b.Param(fmt.Sprintf("%s.phase%d", name, i)))
		if i > 0 {
			s.Mixers = append(s.Mixers, b.Param(fmt.Sprintf("%s.hidden%d.weight", name, i)))
			s.Biases = append(s.Biases, b.Param(fmt.Sprintf("%s.hidden%d.bias", name, i)))
		}
	}
	return s
}

func localSlowNet(b *nn.Builder, name string) op.LocalSlowNet {
	l := op.LocalSlowNet{SlowNet: slowNet(b, name, slowLayers),
		Reduce: b.Param(name + ".reduce.weight"), ReduceBias: b.Param(name + ".reduce.bias"),
		Query: b.Param(name + ".query.weight"), QueryBias: b.Param(name + ".query.bias")}
	for i := 1; i <= slowLayers; i++ {
		l.Scores = append(l.Scores, b.Param(fmt.Sprintf("%s.score%d.weight", name, i)))
		l.ScoreBiases = append(l.ScoreBiases, b.Param(fmt.Sprintf("%s.score%d.bias", name, i)))
	}
	return l
}

func gatedNet(b *nn.Builder, name string) op.Gated {
	w := func(part string) *G.Node { return b.Param(name + part) }
	return op.Gated{Key: w(".key.weight"), KeyBias: w(".key.bias"), Value: w(".value.weight"), ValueBias: w(".value.bias"),
		Query: w(".query.weight"), QueryBias: w(".query.bias"), Out: w(".out.weight"), OutBias: w(".out.bias"), Offset: w(".offset")}
}

// chain runs operations one after another until one fails.
type chain struct {
	b   *nn.Builder
	err error
}

func (c *chain) do(f func(e *op.Env) (*G.Node, error)) *G.Node {
	if c.err != nil {
		return nil
	}
	var n *G.Node
	n, c.err = f(c.b.Env)
	return n
}

func (c *chain) mix(name string, parts ...op.Part) *G.Node {
	return c.do(func(e *op.Env) (*G.Node, error) {
		return op.Pointwise(e, c.b.Param(name+".weight"), c.b.Param(name+".bias"), parts...)
	})
}

func (c *chain) standardise(x *G.Node, s op.Statistics) *G.Node {
	return c.do(func(e *op.Env) (*G.Node, error) { return op.Standardise(e, x, s) })
}

func (c *chain) gelu(x *G.Node, shift string) *G.Node {
	return c.do(func(e *op.Env) (*G.Node, error) { return op.GeluShift(e, x, c.b.Param(shift)) })
}

func once(x *G.Node) op.Part { return op.Part{X: x, Copies: 1} }

// block adds block i on x, earlier being the results of earlier(i), and returns its
// result and its hyper-kernel. Watched are (i,"kernel"), and (i,"scores"), Z.
func (n *terminator) block(b *nn.Builder, i int, x *G.Node, earlier []*G.Node) (out, kernel *G.Node, err error) {
	c, name := &chain{b: b}, fmt.Sprintf("block%d.", i)
	slow := func(part string, layers int) *G.Node {
		return c.do(func(e *op.Env) (*G.Node, error) { return op.SlowNetwork(e, slowNet(b, name+part, layers)) })
	}
	gate := func(part string, x *G.Node) *G.Node {
		return c.do(func(e *op.Env) (*G.Node, error) { return op.RecursiveGatedUnit(e, x, gatedNet(b, name+part)) })
	}
	kernel = slow("kernel", n.t.Layers[i])
	z := c.do(func(e *op.Env) (*G.Node, error) { return op.Modulate(e, x, kernel) })
	units := gate("gate_slow", z)
	ofX := gate("gate_fast", x)
	fast := c.standardise(c.do(func(e *op.Env) (*G.Node, error) { return op.Sum(e, units, ofX) }), op.InstanceStatistics)
	mix := c.standardise(c.mix(name+"mixer", once(x)), op.InstanceStatistics)
	channel := slow("channel", slowLayers)
	hci := c.standardise(c.do(func(e *op.Env) (*G.Node, error) { return op.HyperChannel(e, x, channel) }), op.InstanceStatistics)
	o := c.do(func(e *op.Env) (*G.Node, error) { return op.GlobalProduct(e, op.MatrixProduct, z, fast) })
	others := c.do(func(e *op.Env) (*G.Node, error) { return op.GlobalProduct(e, op.MatrixProduct, z, mix, hci) })
	parts := []op.Part{once(o), {X: others, Copies: 1, Stack: 2}, once(fast),
		once(c.do(func(e *op.Env) (*G.Node, error) { return op.SiGLU(e, o) }))}
	images := map[string]*G.Node{"x": x, "mix": mix, "hci": hci}
	for j, l := range terminatorLocals[n.t.Form] {
		local := fmt.Sprintf("%slocal%d", name, j)
		context := c.do(func(e *op.Env) (*G.Node, error) { return op.ContextMean(e, images[l.from], l.side, l.side) })
		k := c.do(func(e *op.Env) (*G.Node, error) { return op.LocalSlowNetwork(e, context, localSlowNet(b, local)) })
		y := c.do(func(e *op.Env) (*G.Node, error) { return op.Depthwise(e, images[l.along], k) })
		parts = append(parts, once(c.gelu(c.standardise(c.mix(local+".mix", once(y)), op.BatchStatistics), local+".shift")))
	}
	byChannel, byPixel := slow("interaction_channel", slowLayers), slow("interaction_pixel", slowLayers)
	parts = append(parts, once(c.do(func(e *op.Env) (*G.Node, error) { return op.HyperInteraction(e, x, o, byChannel, byPixel) })))
	for _, p := range earlier {
		parts = append(parts, op.Part{X: p, Copies: n.channels(i) / p.Shape()[1]})
	}
	out = c.gelu(c.standardise(c.mix(name+"bottleneck", parts...), op.AlternatingStatistics), name+"shift")
	if c.err != nil {
		return nil, nil, fmt.Errorf("block %d: %w", i, c.err)
	}
	b.Watch(i, "kernel", kernel)
	b.Watch(i, "scores", z)
	return out, kernel, nil
}

// Classify adds the network; see Classifier.
func (n *terminator) Classify(b *nn.Builder, x *G.Node) (*G.Node, error) {
	logits, _, err := n.classify(b, x)
	return logits, err
}

// ClassifyPenalised is Classify with what the published training adds to the loss of
// the logits: the slow neural loss of the blocks' hyper-kernels, and regularisation
// times the norms, not squared, of the bottlenecks, mixers and shifts, plus 1e-6 of
// those of the slow networks' and gated units' matrices.
func (n *terminator) ClassifyPenalised(b *nn.Builder, x *G.Node, regularisation float64) (logits, penalty *G.Node, err error) {
	logits, kernels, err := n.classify(b, x)
	if err != nil {
		return nil, nil, err
	}
	if penalty, err = op.SlowLoss(b.Env, kernels...); err != nil || regularisation == 0 {
		return logits, penalty, err
	}
	norms, err := n.norms(b, regularisation)
	if err == nil {
		penalty, err = G.Add(penalty, norms)
	}
	return logits, penalty, err
}

// norms adds the regulariser of ClassifyPenalised.
func (n *terminator) norms(b *nn.Builder, regularisation float64) (*G.Node, error) {
	var weights []float64
	var params []*G.Node
	for i := range n.t.Factors {
		block := fmt.Sprintf("block%d.", i)
		add := func(weight float64, names ...string) {
			for _, name := range names {
				params, weights = append(params, b.Param(block+name)), append(weights, weight*regularisation)
			}
		}
		slow := func(name string, layers int) {
			for l := range layers + 1 {
				add(terminatorPenalty, fmt.Sprintf("%s.filter%d", name, l))
				if l > 0 {
					add(terminatorPenalty, fmt.Sprintf("%s.hidden%d.weight", name, l))
				}
			}
			add(terminatorPenalty, name+".out.weight")
		}
		add(1, "bottleneck.weight", "bottleneck.bias", "mixer.weight", "mixer.bias")
		slow("kernel", n.t.Layers[i])
		slow("interaction_pixel", slowLayers)
		for j := range terminatorLocals[n.t.Form] {
			local := fmt.Sprintf("local%d", j)
			add(1, local+".mix.weight", local+".mix.bias", local+".shift")
			slow(local, slowLayers)
			add(terminatorPenalty, local+".reduce.weight", local+".query.weight")
			for l := 1; l <= slowLayers; l++ {
				add(terminatorPenalty, fmt.Sprintf("%s.score%d.weight", local, l))
			}
		}
		for _, unit := range []string{"gate_fast", "gate_slow"} {
			add(terminatorPenalty, unit+".key.weight", unit+".value.weight", unit+".query.weight", unit+".out.weight")
		}
	}
	return op.NormPenalty(b.Env, weights, params...)
}

// classify returns the logits and the hyper-kernels of the blocks.
func (n *terminator) classify(b *nn.Builder, x *G.Node) (logits *G.Node, kernels []*G.Node, err error) {
	ch, h, w := n.Input()
	if s := x.Shape(); s.Dims() != 4 || s[0] < 1 || s[1] != ch || s[2] != h || s[3] != w {
		return nil, nil, fmt.Errorf("images: found shape %v, expected (B,%d,%d,%d)", s, ch, h, w)
	}
	if x, err = op.NormalizeChannels(b.Env, x, n.t.Mean, n.t.Std); err != nil {
		return nil, nil, err
	}
	var results []*G.Node
	for i := range n.t.Factors {
		var earlier []*G.Node
		for _, j := range n.t.earlier(i) {
			earlier = append(earlier, results[j])
		}
		var kernel *G.Node
		if x, kernel, err = n.block(b, i, x, earlier); err != nil {
			return nil, nil, err
		}
		results, kernels = append(results, x), append(kernels, kernel)
	}
	mean, err := op.GlobalMean(b.Env, x)
	if err != nil {
		return nil, nil, err
	}
	logits, err = op.Conv(b.Env, mean, b.Param("head.weight"), b.Param("head.bias"), 1, false)
	return logits, kernels, err
}
