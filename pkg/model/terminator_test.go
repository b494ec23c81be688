package model

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// cifarTerminator is the network published for CIFAR-10.
func cifarTerminator(form string) Terminator {
	return Terminator{Image: []int{32, 32}, Classes: 10, Factors: []int{4, 3, 2, 2, 2}, Layers: []int{3, 2, 2, 2, 2}, Form: form,
		Mean: []float64{.4914, .4822, .4465}, Std: []float64{.2470, .2435, .2616}}
}

func buildTerminator(t testing.TB, channels int, s Terminator, seed uint64) *terminator {
	t.Helper()
	n, err := newTerminator(Config{Channels: channels, Blocks: len(s.Factors)}, s, seed)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTerminatorParameters holds every part of the published network to its
// number of parameters, and the network of the drawing to its own.
func TestTerminatorParameters(t *testing.T) {
	n := buildTerminator(t, 3, cifarTerminator("published"), 1)
	if c := n.params.Count(); c != 1_336_855 {
		t.Errorf("%d parameters, want 1336855", c)
	}
	count := func(prefix string) (sum int) {
		for _, p := range n.params.All() {
			if strings.HasPrefix(p.Name, prefix) {
				sum += len(p.Data)
			}
		}
		return sum
	}
	for i, want := range []struct {
		kernel, channel, byChannel, byPixel, mixer, gate, bottleneck, total int
		locals                                                              [4]int // without mixer and shift
	}{
		{14467, 2340, 660, 9985, 12, 1072, 372, 53377, [4]int{5804, 5876, 5820, 5844}},
		{10700, 2349, 669, 9985, 156, 1648, 4356, 57824, [4]int{6389, 6461, 6405, 6429}},
		{12260, 2373, 693, 9985, 1332, 6352, 28584, 105188, [4]int{7949, 8021, 7965, 7989}},
		{14600, 2409, 729, 9985, 5256, 22048, 114192, 253580, [4]int{10289, 10361, 10305, 10329}},
		{19280, 2481, 801, 9985, 20880, 84544, 497952, 863996, [4]int{14969, 15041, 14985, 15009}},
	} {
		block := fmt.Sprintf("block%d.", i)
		parts := map[string]int{"kernel": want.kernel, "channel": want.channel, "interaction_channel": want.byChannel, "interaction_pixel": want.byPixel,
			"mixer": want.mixer, "gate_fast": want.gate, "gate_slow": want.gate, "bottleneck": want.bottleneck}
		for j, v := range want.locals {
			parts[fmt.Sprint("local", j)] = v + want.mixer + 1
		}
		for part, v := range parts {
			if c := count(block + part + "."); c != v {
				t.Errorf("%s%s has %d parameters, want %d", block, part, c, v)
			}
		}
		if c := count(block); c != want.total {
			t.Errorf("%s has %d parameters, want %d", block, c, want.total)
		}
	}
	if c := count("head"); c != 2890 {
		t.Errorf("the head has %d parameters, want 2890", c)
	}
	if c := buildTerminator(t, 3, cifarTerminator("figure"), 1).params.Count(); c != 1_113_010 {
		t.Errorf("the network of the drawing has %d parameters, want 1113010", c)
	}
}

// goldenName returns the name here of a parameter of the golden block.
func goldenName(name string) string {
	parts := strings.Split(name, ".")
	heads := map[string]string{"slow_g": "kernel", "hci": "channel", "hi_c": "interaction_channel", "hi_s": "interaction_pixel"}
	tails := map[string]string{"ow": "out.weight", "ob": "out.bias", "bp": "offset", "rw": "reduce.weight", "rb": "reduce.bias", "qw": "query.weight", "qb": "query.bias", "w": "weight", "b": "bias"}
	layers := map[string]string{"k": "key", "v": "value", "q": "query", "y": "out"}
	slow := func(rest []string) string {
		if len(rest) == 1 {
			return tails[rest[0]]
		}
		i := int(rest[1][0] - '0')
		return map[string]string{"fw": fmt.Sprintf("filter%d", i), "fb": fmt.Sprintf("phase%d", i), "lw": fmt.Sprintf("hidden%d.weight", i+1), "lb": fmt.Sprintf("hidden%d.bias", i+1),
			"xw": fmt.Sprintf("score%d.weight", i+1), "xb": fmt.Sprintf("score%d.bias", i+1)}[rest[0]]
	}
	switch parts[0] {
	case "bias":
		return "block0.shift"
	case "slow_l":
		return "block0.local" + parts[1] + "." + slow(parts[2:])
	case "lmix":
		return "block0.local" + parts[1] + ".mix." + tails[parts[2]]
	case "cm", "bott":
		return "block0." + map[string]string{"cm": "mixer", "bott": "bottleneck"}[parts[0]] + "." + tails[parts[1]]
	case "rgu_f", "rgu_s":
		unit := map[string]string{"rgu_f": "block0.gate_fast.", "rgu_s": "block0.gate_slow."}[parts[0]]
		if parts[1] == "bp" {
			return unit + "offset"
		}
		return unit + layers[parts[1]] + "." + tails[parts[2]]
	}
	return "block0." + heads[parts[0]] + "." + slow(parts[1:])
}

// goldenBranch is where the bottleneck of the golden block has each branch of ours:
// o, ox, oh, fast, o s(o), the four local ones, the hyper interaction.
var goldenBranch = []int{0, 3, 7, 2, 5, 4, 1, 6, 8, 9}

func wave(tag float64, i int) float64 {
	x := float64(i)
	return math.Sin(.7*x*x + 1.3*x + tag)
}

func waves(tag float64, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = wave(tag, i)
	}
	return v
}

// TestTerminatorGoldenBlock holds a whole block, values and gradients, to the plain
// reference in float64.
func TestTerminatorGoldenBlock(t *testing.T) {
	var golden struct {
		Inputs  map[string]struct{ V []float64 }
		Outputs []struct{ V []float64 }
		Loss    float64
		Grads   map[string][]float64
	}
	var order [][2]json.RawMessage
	for file, v := range map[string]any{"block_c3_n6": &golden, "block_param_order": &order} {
		data, err := os.ReadFile("testdata/terminator/" + file + ".json")
		if err == nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n := buildTerminator(t, 3, Terminator{Image: []int{6, 6}, Classes: 2, Factors: []int{4, 1}, Layers: []int{3, 1}, Form: "published",
		Mean: []float64{0, 0, 0}, Std: []float64{1, 1, 1}}, 1)
	g := G.NewGraph()
	b := nn.NewDoubleBuilder(g, op.NewEnv(2), n.params)
	filled := map[string]bool{}
	fill := func(name string, v []float64) {
		if len(b.Double[name]) != len(v) {
			t.Fatalf("%s has %d elements, the golden block %d", name, len(b.Double[name]), len(v))
		}
		copy(b.Double[name], v)
		filled[name] = true
	}
	for j, p := range order {
		var name string
		var shape []int
		if json.Unmarshal(p[0], &name) != nil || json.Unmarshal(p[1], &shape) != nil {
			t.Fatalf("order %d: %s", j, p)
		}
		size := 1
		for _, d := range shape {
			size *= d
		}
		v := waves(.37*float64(j), size)
		for i := range v {
			v[i] *= .3
		}
		switch name {
		case "lb":
			for l := range 4 {
				fill(fmt.Sprintf("block0.local%d.shift", l), v[l:l+1])
			}
		case "bott.w":
			w := make([]float64, size)
			for o := range 12 {
				for i, from := range goldenBranch {
					copy(w[o*30+3*i:][:3], v[o*30+3*from:][:3])
				}
			}
			fill("block0.bottleneck.weight", w)
		default:
			fill(goldenName(name), v)
		}
	}
	for _, p := range n.params.All() {
		if strings.HasPrefix(p.Name, "block0.") && !filled[p.Name] {
			t.Fatalf("the golden block has no %s", p.Name)
		}
	}
	x := b.Input("x", golden.Inputs["x"].V, 2, 3, 6, 6)
	out, kernel, err := n.block(b, 0, x, nil)
	if err != nil {
		t.Fatal(err)
	}
	weigh := func(node *G.Node, tag float64) *G.Node {
		w := b.Input(fmt.Sprint("r", tag), waves(tag, node.Shape().TotalSize()), node.Shape()...)
		return G.Must(G.Sum(G.Must(G.HadamardProd(w, node))))
	}
	loss := G.Must(G.Add(weigh(out, 9), weigh(kernel, 10)))
	var names []string
	wrt := G.Nodes{}
	for _, k := range []string{"x", "bias", "cm.w", "rgu_s.q.w", "slow_g.ow", "slow_l.1.ob", "hci.ob", "hi_s.ob"} {
		node := x
		if k != "x" {
			node = b.Param(goldenName(k))
		}
		names, wrt = append(names, k), append(wrt, node)
	}
	for l := range 4 {
		wrt = append(wrt, b.Param(fmt.Sprintf("block0.local%d.shift", l)))
	}
	grads, err := G.Grad(loss, wrt...)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]G.Value, len(grads)+3)
	for i, node := range append(append(G.Nodes{}, grads...), out, kernel, loss) {
		G.Read(node, &values[i])
	}
	m := G.NewTapeMachine(g)
	defer m.Close()
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want []float64) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
		}
		for i, v := range want {
			if !(math.Abs(got[i]-v) <= 1e-9*max(1, math.Abs(v))) {
				t.Fatalf("%s element %d: %.12g, want %.12g", what, i, got[i], v)
			}
		}
	}
	k := len(grads)
	near("result", values[k].Data().([]float64), golden.Outputs[0].V)
	near("hyper-kernel", values[k+1].Data().([]float64), golden.Outputs[1].V)
	near("loss", []float64{values[k+2].Data().(float64)}, []float64{golden.Loss})
	for i, name := range names {
		near("gradient of "+name, values[i].Data().([]float64), golden.Grads[name])
	}
	for l := range 4 {
		near("gradient of a shift", values[len(names)+l].Data().([]float64), golden.Grads["lb"][l:l+1])
	}
}

// smallTerminator has every branch, earlier blocks too, on images of 10 x 10 pixels.
func smallTerminator() Terminator {
	return Terminator{Image: []int{10, 10}, Classes: 3, Factors: []int{12, 2, 1, 1, 1}, Layers: []int{2, 1, 1, 1, 1}, Form: "published", Mean: []float64{.5}, Std: []float64{.25}}
}

// TestTerminatorTrains: steps against the gradient lower the loss, penalties
// included, and give the same bits for any number of threads.
func TestTerminatorTrains(t *testing.T) {
	run := func(workers, steps int) (losses []float32) {
		n := buildTerminator(t, 1, smallTerminator(), 3)
		rng := rand.New(rand.NewPCG(4, 4))
		x := make([]float32, 6*100)
		for i := range x {
			x[i] = rng.Float32()
		}
		g := G.NewGraph()
		b := nn.NewBuilder(g, op.NewEnv(workers), n.params)
		logits, penalty, err := n.ClassifyPenalised(b, b.Input("x", x, 6, 1, 10, 10), 5e-5)
		if err != nil {
			t.Fatal(err)
		}
		loss, err := op.CrossEntropy(b.Env, logits, b.Input("labels", []float32{0, 1, 2, 0, 1, 2}, 1, 6), .09)
		if err != nil {
			t.Fatal(err)
		}
		total := G.Must(G.Add(loss, penalty))
		nodes, params := b.Learnables()
		grads, err := G.Grad(total, nodes...)
		if err != nil {
			t.Fatal(err)
		}
		values := make([]G.Value, len(grads)+1)
		for i, node := range append(append(G.Nodes{}, grads...), total) {
			G.Read(node, &values[i])
		}
		if len(params) != len(n.params.All()) {
			t.Fatalf("%d of %d parameters are used", len(params), len(n.params.All()))
		}
		m := G.NewTapeMachine(g)
		defer m.Close()
		for range steps {
			if err := m.RunAll(); err != nil {
				t.Fatal(err)
			}
			losses = append(losses, values[len(grads)].Data().(float32))
			for i, p := range params {
				for j, d := range values[i].Data().([]float32) { // the first step of Kar
					switch {
					case d > 0:
						p.Data[j] -= .001
					case d < 0:
						p.Data[j] += .001
					}
				}
			}
			m.Reset()
		}
		return losses
	}
	one := run(1, 8)
	if first, last := one[0], one[len(one)-1]; !(last < .9*first) {
		t.Errorf("loss went from %g to %g: %v", first, last, one)
	}
	for i, v := range run(3, 2) {
		if v != one[i] {
			t.Fatalf("step %d: loss %g with three threads, %g with one", i, v, one[i])
		}
	}
}

// TestTerminatorStart holds the untrained network to the statistics that its
// initialisation has: deviations of hyper-kernels, mean of block results, slow loss
// and norms.
func TestTerminatorStart(t *testing.T) {
	const B = 2
	s := cifarTerminator("published")
	s.Mean, s.Std = []float64{0, 0, 0}, []float64{1, 1, 1}
	n := buildTerminator(t, 3, s, 11)
	rng := rand.New(rand.NewPCG(5, 5))
	x := make([]float32, B*3*1024)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	g := G.NewGraph()
	b := nn.NewBuilder(g, op.NewEnv(1), n.params)
	kernels := make([]G.Value, 5)
	b.Observe = func(i int, part string, node *G.Node) {
		if part == "kernel" {
			G.Read(node, &kernels[i])
		}
	}
	logits, penalty, err := n.ClassifyPenalised(b, b.Input("x", x, B, 3, 32, 32), 0)
	if err != nil {
		t.Fatal(err)
	}
	norms, err := n.norms(b, 1)
	if err != nil {
		t.Fatal(err)
	}
	var lv, pv, nv G.Value
	G.Read(logits, &lv)
	G.Read(penalty, &pv)
	G.Read(norms, &nv)
	m := G.NewTapeMachine(g)
	defer m.Close()
	if err := m.RunAll(); err != nil {
		t.Fatal(err)
	}
	// E[u^2] = .5, .75, .875, .9375 after 0 to 3 layers; the kernel's deviation is its
	// root over 32.
	for i, k := range kernels {
		want := math.Sqrt(map[int]float64{2: .875, 3: .9375}[s.Layers[i]]) / 32
		mean, dev := moments(k.Data().([]float32))
		if math.Abs(dev/want-1) > .15 || math.Abs(mean) > 3e-3 {
			t.Errorf("block %d: hyper-kernel of mean %g and deviation %g, want about 0 and %g", i, mean, dev, want)
		}
	}
	if p := float64(pv.Data().(float32)); p < .6 || p > 1.4 {
		t.Errorf("slow loss %g, want .96 +- .14", p)
	}
	if v := float64(nv.Data().(float32)); math.Abs(v/307-1) > .1 {
		t.Errorf("norms add up to %g, want about 307", v)
	}
	if _, dev := moments(lv.Data().([]float32)); !(dev > .1 && dev < .8) {
		t.Errorf("logits of deviation %g, want about .32", dev)
	}
	if k, ok := kernels[4].(*tensor.Dense); !ok || !k.Shape().Eq(tensor.Shape{144, 32, 32}) {
		t.Errorf("the last hyper-kernel is %v", kernels[4].Shape())
	}
}

func moments(x []float32) (mean, deviation float64) {
	for _, v := range x {
		mean += float64(v) / float64(len(x))
	}
	for _, v := range x {
		deviation += (float64(v) - mean) * (float64(v) - mean) / float64(len(x))
	}
	return mean, math.Sqrt(deviation)
}

func TestTerminatorRefusals(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(s *Terminator)
	}{
		{"model.terminator.image: found [32 28], expected as many rows as columns", func(s *Terminator) { s.Image = []int{32, 28} }},
		{"model.terminator.image: found [1 1]", func(s *Terminator) { s.Image = []int{1, 1} }},
		{"model.terminator.factors: found [5 3 2 2 2], which makes 15 channels of block 0, expected a multiple of 12", func(s *Terminator) { s.Factors[0] = 5 }},
		{"model.terminator.factors: found [12]", func(s *Terminator) { s.Factors = []int{12} }},
		{"model.terminator.factors: found [64 64 64 2 2], which makes", func(s *Terminator) { s.Factors = []int{64, 64, 64, 2, 2} }},
		{"model.terminator.layers: found [2], expected one number for each of the 5 blocks", func(s *Terminator) { s.Layers = []int{2} }},
		{"model.terminator.layers: found [0 2 2 2 2]", func(s *Terminator) { s.Layers = []int{0, 2, 2, 2, 2} }},
		{"model.terminator.form", func(s *Terminator) { s.Form = "other" }},
		{"model.terminator.classes: found 1", func(s *Terminator) { s.Classes = 1 }},
		{"model.terminator.mean: found [1]", func(s *Terminator) { s.Mean = []float64{1} }},
		{"model.terminator.std", func(s *Terminator) { s.Std = []float64{1, 0, 1} }},
	} {
		s := cifarTerminator("published")
		c.change(&s)
		if _, err := newTerminator(Config{Channels: 3}, s, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("found error %v, want one with %q", err, c.want)
		}
	}
	n := buildTerminator(t, 1, smallTerminator(), 1)
	b := nn.NewBuilder(G.NewGraph(), op.NewEnv(1), n.params)
	if _, err := n.Classify(b, b.Input("x", make([]float32, 2*121), 2, 1, 11, 11)); err == nil || !strings.Contains(err.Error(), "expected (B,1,10,10)") {
		t.Errorf("images of another size: error %v", err)
	}
}
