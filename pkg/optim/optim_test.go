package optim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var tensors = []Tensor{{Name: "w", Len: 7}, {Name: "b", Len: 3, NoDecay: true}, {Name: "empty", Len: 0}}

// random gives one slice per tensor.
func random(rng *rand.Rand, scale float64) [][]float32 {
	out := alloc(tensors)
	for _, s := range out {
		for i := range s {
			s[i] = float32(scale * rng.NormFloat64())
		}
	}
	return out
}

func clone(s [][]float32) [][]float32 {
	out := make([][]float32, len(s))
	for i := range s {
		out[i] = slices.Clone(s[i])
	}
	return out
}

// equalBits compares bit by bit.
func equalBits(a, b [][]float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if len(a[i]) != len(b[i]) {
			return false
		}
		for j := range a[i] {
			if math.Float32bits(a[i][j]) != math.Float32bits(b[i][j]) {
				return false
			}
		}
	}
	return true
}

func mustNew(t testing.TB, c Config, ts []Tensor) Optimizer {
	t.Helper()
	o, err := New(c, ts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol) {
		t.Errorf("%s: found %.9g, expected %.9g within %g", what, got, want, tol)
	}
}

// TestByHand: values worked out on paper. One parameter 1, gradients 0.5 then
// -1, beta1 0.9, beta2 0.99, eps 0 (1e-30), lr 0.1.
func TestByHand(t *testing.T) {
	run := func(c Config, noDecay bool) (p1, p2 float64) {
		o := mustNew(t, c, []Tensor{{Name: "p", Len: 1, NoDecay: noDecay}})
		p := [][]float32{{1}}
		o.Step(p, [][]float32{{0.5}}, 0.1)
		p1 = float64(p[0][0])
		o.Step(p, [][]float32{{-1}}, 0.1)
		return p1, float64(p[0][0])
	}
	adam := Config{Type: "adam", Beta1: 0.9, Beta2: 0.99, Eps: 1e-30}

	// Step 1: m = 0.05, v = 0.0025; corrected 0.5 and 0.25: the step is lr * 1.
	// Step 2: m = 0.045 - 0.1 = -0.055, v = 0.002475 + 0.01 = 0.012475;
	// corrected -0.055/0.19 = -0.289473684, 0.012475/0.0199 = 0.626884422,
	// root 0.791760; quotient -0.365608; p = 0.9 + 0.0365608.
	p1, p2 := run(adam, false)
	near(t, "adam 1", p1, 0.9, 1e-7)
	near(t, "adam 2", p2, 0.93656078, 1e-6)

	// Decoupled decay 0.5: factor 1 - 0.1*0.5 = 0.95 before each step:
	// 0.95 - 0.1 = 0.85; 0.8075 + 0.03656078.
	w := adam
	w.Type, w.WeightDecay = "adamw", 0.5
	p1, p2 = run(w, false)
	near(t, "adamw 1", p1, 0.85, 1e-7)
	near(t, "adamw 2", p2, 0.84406078, 1e-6)
	p1, p2 = run(w, true)
	near(t, "adamw without decay 1", p1, 0.9, 1e-7)
	near(t, "adamw without decay 2", p2, 0.93656078, 1e-6)

	// Eps counts after the bias correction: 0.5/(0.5 + 0.5) of lr.
	e := adam
	e.Eps = 0.5
	p1, _ = run(e, false)
	near(t, "eps", p1, 0.95, 1e-7)

	// L2 in adam: gradient 0.5 + 0.5*1 = 1, the first step is lr all the same;
	// second: gradient -1 + 0.45 = -0.55, m = 0.09 - 0.055 = 0.035,
	// v = 0.0099 + 0.003025 = 0.012925; 0.184210526 / sqrt(0.649497487) = 0.228572;
	// p = 0.9 - 0.0228572.
	l := adam
	l.WeightDecay = 0.5
	p1, p2 = run(l, false)
	near(t, "adam with decay 1", p1, 0.9, 1e-7)
	near(t, "adam with decay 2", p2, 0.87714276, 1e-6)

	// SGD, momentum 0.9: u = 0.5, p = 0.95; u = 0.45 - 1 = -0.55, p = 1.005.
	s := Config{Type: "sgd", Momentum: 0.9}
	p1, p2 = run(s, false)
	near(t, "sgd 1", p1, 0.95, 1e-7)
	near(t, "sgd 2", p2, 1.005, 1e-6)
	// Decay 0.2: u = 0.7, p = 0.93; u = 0.63 - 1 + 0.186 = -0.184, p = 0.9484.
	s.WeightDecay = 0.2
	p1, p2 = run(s, false)
	near(t, "sgd with decay 1", p1, 0.93, 1e-7)
	near(t, "sgd with decay 2", p2, 0.9484, 1e-6)
}

// twin is the same mathematics in float64, written from the published formulas.
func twin(c Config, p, g, m, v []float64, t int, lr float64, noDecay bool) {
	for i := range p {
		wd := c.WeightDecay
		if noDecay {
			wd = 0
		}
		gi := g[i]
		if c.Type == "sgd" {
			m[i] = c.Momentum*m[i] + gi + wd*p[i]
			p[i] -= lr * m[i]
			continue
		}
		if c.Type == "adam" {
			gi += wd * p[i]
		} else {
			p[i] -= lr * wd * p[i]
		}
		m[i] = c.Beta1*m[i] + (1-c.Beta1)*gi
		v[i] = c.Beta2*v[i] + (1-c.Beta2)*gi*gi
		mh := m[i] / (1 - math.Pow(c.Beta1, float64(t)))
		vh := v[i] / (1 - math.Pow(c.Beta2, float64(t)))
		p[i] -= lr * mh / (math.Sqrt(vh) + c.Eps)
	}
}

var configs = []Config{
	{Type: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.05},
	{Type: "adamw", Beta1: 0.8, Beta2: 0.95, Eps: 1e-3},
	{Type: "adam", Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.01},
	{Type: "sgd", Momentum: 0.9, WeightDecay: 0.01},
	{Type: "sgd"},
}

func TestFloat64Twin(t *testing.T) {
	for _, c := range configs {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			o := mustNew(t, c, tensors)
			p := random(rng, 1)
			var p64, m64, v64 [][]float64
			wide := func(s []float32) []float64 {
				out := make([]float64, len(s))
				for i, x := range s {
					out[i] = float64(x)
				}
				return out
			}
			for _, s := range p {
				p64 = append(p64, wide(s))
				m64 = append(m64, make([]float64, len(s)))
				v64 = append(v64, make([]float64, len(s)))
			}
			for step := 1; step <= 60; step++ {
				g := random(rng, math.Pow(10, rng.Float64()*4-3))
				before := clone(g)
				lr := 0.02 / float64(1+step%5)
				o.Step(p, g, lr)
				if !equalBits(g, before) {
					t.Fatal("Step changed the gradients")
				}
				for i, d := range tensors {
					twin(c, p64[i], wide(g[i]), m64[i], v64[i], step, lr, d.NoDecay)
					for j := range p[i] {
						// 60 steps of rounding at 2^-24 of values of size 1.
						near(t, fmt.Sprintf("step %d %s[%d]", step, d.Name, j), float64(p[i][j]), p64[i][j], 60*0x1p-24*4)
					}
				}
			}
		})
	}
}

// TestResume: N + M steps equal N steps, a state saved and restored into a new
// optimiser, and M steps; bit by bit.
func TestResume(t *testing.T) {
	const n, m = 7, 9
	for _, c := range configs {
		run := func(cut bool) ([][]float32, State, State) {
			rng := rand.New(rand.NewPCG(3, 4))
			p := random(rng, 1)
			o := mustNew(t, c, tensors)
			e, err := NewEMA(0.9, tensors, p)
			if err != nil {
				t.Fatal(err)
			}
			for step := range n + m {
				if cut && step == n {
					so, se := o.State(), e.State()
					o = mustNew(t, c, tensors)
					other := random(rand.New(rand.NewPCG(9, 9)), 1)
					if e, err = NewEMA(0.9, tensors, other); err != nil {
						t.Fatal(err)
					}
					if err := o.Restore(so); err != nil {
						t.Fatal(err)
					}
					if err := e.Restore(se); err != nil {
						t.Fatal(err)
					}
					for _, s := range so.Tensors { // a restored state is a copy
						for i := range s {
							s[i] = 99
						}
					}
				}
				o.Step(p, random(rng, 0.3), 0.01)
				e.Update(p)
			}
			return p, o.State(), e.State()
		}
		p1, o1, e1 := run(false)
		p2, o2, e2 := run(true)
		if !equalBits(p1, p2) {
			t.Errorf("%s: parameters differ", c.Type)
		}
		for _, pair := range [][2]State{{o1, o2}, {e1, e2}} {
			if fmt.Sprint(pair[0].Ints) != fmt.Sprint(pair[1].Ints) || len(pair[0].Tensors) != len(pair[1].Tensors) {
				t.Errorf("%s: found %v, expected %v", c.Type, pair[1].Ints, pair[0].Ints)
			}
			for k, v := range pair[0].Tensors {
				if !equalBits([][]float32{v}, [][]float32{pair[1].Tensors[k]}) {
					t.Errorf("%s: %s differs", c.Type, k)
				}
			}
		}
	}
}

func TestStateIsACopy(t *testing.T) {
	o := mustNew(t, Defaults(), tensors)
	p, g := alloc(tensors), alloc(tensors)
	for _, s := range g {
		for i := range s {
			s[i] = 1
		}
	}
	o.Step(p, g, 0.1)
	s := o.State()
	was := s.Tensors["exp_avg/w"][0]
	o.Step(p, g, 0.1)
	if s.Tensors["exp_avg/w"][0] != was || s.Ints["steps"] != 1 {
		t.Error("a later step changed an exported state")
	}
	if got := o.State().Tensors["exp_avg/w"][0]; got == was {
		t.Error("the second step left the first moment")
	}
}

func TestRestoreRefuses(t *testing.T) {
	fresh := func() State {
		s := mustNew(t, Defaults(), tensors).State()
		s.Ints["steps"] = 3
		s.Tensors["exp_avg/w"][0] = 5
		return s
	}
	for what, spoil := range map[string]func(*State){
		"exp_avg/w is missing":       func(s *State) { delete(s.Tensors, "exp_avg/w") },
		"found 1 values, expected 3": func(s *State) { s.Tensors["exp_avg_sq/b"] = []float32{1} },
		"first unknown: other":       func(s *State) { s.Tensors["other"] = nil },
		`counter "steps"`:            func(s *State) { delete(s.Ints, "steps") },
		"found -1":                   func(s *State) { s.Ints["steps"] = -1 },
		"found 2 counters":           func(s *State) { s.Ints["x"] = 1 },
	} {
		s := fresh()
		spoil(&s)
		o := mustNew(t, Defaults(), tensors)
		if err := o.Restore(s); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("found %v, expected an error with %q", err, what)
		}
		if st := o.State(); st.Ints["steps"] != 0 || st.Tensors["exp_avg/w"][0] != 0 {
			t.Errorf("%s: a refused state left traces", what)
		}
	}
	if err := mustNew(t, Defaults(), tensors).Restore(fresh()); err != nil {
		t.Error(err)
	}
	if err := mustNew(t, Config{Type: "sgd"}, tensors).Restore(fresh()); err == nil {
		t.Error("sgd took the state of adamw")
	}
}

func TestStepPanicsOnOtherShapes(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("found no panic, expected one")
		}
	}()
	mustNew(t, Defaults(), tensors).Step(alloc(tensors), alloc(tensors[:2]), 0.1)
}

func TestConfigErrors(t *testing.T) {
	for key, change := range map[string]func(*Config){
		"optim.type":         func(c *Config) { c.Type = "lion" },
		"optim.beta1":        func(c *Config) { c.Beta1 = 1 },
		"optim.beta2":        func(c *Config) { c.Beta2 = -0.1 },
		"optim.eps":          func(c *Config) { c.Eps = 0 },
		"optim.weight_decay": func(c *Config) { c.WeightDecay = math.NaN() },
		"optim.momentum":     func(c *Config) { c.Momentum = 1.5 },
	} {
		c := Defaults()
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+": found") || !strings.Contains(err.Error(), "expected") {
			t.Errorf("found %v, expected an error on %s", err, key)
		}
	}
	if _, err := New(Defaults(), []Tensor{{Name: "a"}, {Name: "a"}}); err == nil {
		t.Error("found no error for a repeated name")
	}
	good := ScheduleConfig{Type: "cosine", LR: 1}
	for key, change := range map[string]func(*ScheduleConfig){
		"schedule.type":       func(c *ScheduleConfig) { c.Type = "step" },
		"schedule.lr":         func(c *ScheduleConfig) { c.LR = math.Inf(1) },
		"schedule.min_lr":     func(c *ScheduleConfig) { c.MinLR = 2 },
		"schedule.warmup":     func(c *ScheduleConfig) { c.Warmup = -1 },
		"schedule.gamma":      func(c *ScheduleConfig) { c.Type, c.Milestones, c.Gamma = "multistep", []int{1}, 0 },
		"schedule.milestones": func(c *ScheduleConfig) { c.Milestones = []int{5, 5} },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+": found") {
			t.Errorf("found %v, expected an error on %s", err, key)
		}
	}
	if err := (ScheduleConfig{LR: 1, Type: "multistep", Gamma: 0.5}).Validate(); err == nil {
		t.Error("multistep without milestones: found no error")
	}
	if _, err := NewSchedule(ScheduleConfig{Type: "cosine", LR: 1, Warmup: 10}, 10); err == nil {
		t.Error("warm-up as long as the run: found no error")
	}
	if _, err := NewSchedule(good, 0); err == nil {
		t.Error("no steps: found no error")
	}
}

func TestSchedules(t *testing.T) {
	type point struct {
		step int
		lr   float64
	}
	for _, c := range []struct {
		name  string
		cfg   ScheduleConfig
		steps int
		want  []point
	}{
		{"constant", ScheduleConfig{Type: "constant", LR: 0.5}, 10, []point{{0, 0.5}, {9, 0.5}, {100, 0.5}}},
		{"warm-up", ScheduleConfig{Type: "constant", LR: 1, Warmup: 4}, 10, []point{{0, 0.25}, {1, 0.5}, {3, 1}, {4, 1}}},
		// cos(0) = 1, cos(pi/3) = 1/2, cos(pi/2) = 0, cos(2 pi/3) = -1/2
		{"cosine", ScheduleConfig{Type: "cosine", LR: 1, MinLR: 0.2}, 12, []point{{0, 1}, {4, 0.8}, {6, 0.6}, {8, 0.4}, {12, 0.2}, {99, 0.2}}},
		{"cosine with warm-up", ScheduleConfig{Type: "cosine", LR: 2, Warmup: 2}, 14, []point{{0, 1}, {1, 2}, {2, 2}, {6, 1.5}, {8, 1}, {14, 0}}},
		{"multistep", ScheduleConfig{Type: "multistep", LR: 1, Milestones: []int{3, 6}, Gamma: 0.5, Warmup: 2}, 10,
			[]point{{0, 0.5}, {2, 1}, {3, 0.5}, {5, 0.5}, {6, 0.25}, {50, 0.25}}},
	} {
		s, err := NewSchedule(c.cfg, c.steps)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.want {
			near(t, fmt.Sprintf("%s step %d", c.name, p.step), s.LR(p.step), p.lr, 1e-15)
		}
	}
}

func TestClip(t *testing.T) {
	// 9 + 16 + 144 = 169
	make3 := func() [][]float32 { return [][]float32{{3}, {}, {-4, 0, 0, 0, 0, 12}} }
	g := make3()
	if n := ClipGlobalNorm(g, 6.5); n != 13 {
		t.Errorf("found norm %v, expected 13", n)
	}
	if g[0][0] != 1.5 || g[2][0] != -2 || g[2][5] != 6 {
		t.Errorf("found %v, expected the half", g)
	}
	for _, max := range []float64{13, 100, 0, -1} {
		g := make3()
		if n := ClipGlobalNorm(g, max); n != 13 || !equalBits(g, make3()) {
			t.Errorf("max %v: found norm %v, %v, expected no change", max, n, g)
		}
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		g := make3()
		g[2][1] = float32(bad)
		n := ClipGlobalNorm(g, 1)
		if !math.IsNaN(n) && !math.IsInf(n, 1) || g[0][0] != 3 {
			t.Errorf("%v: found norm %v, first value %v, expected a norm that is not finite and no change", bad, n, g[0][0])
		}
	}
	// No overflow where float32 squares would.
	if n := GlobalNorm([][]float32{{3e38, 0, 0, 0}, {3e38}}); math.Abs(n/(3e38*math.Sqrt2)-1) > 1e-6 {
		t.Errorf("found %v, expected %v", n, 3e38*math.Sqrt2)
	}
	// Against the plain sum, all lengths around the unrolling.
	rng := rand.New(rand.NewPCG(5, 6))
	for n := range 20 {
		s := make([]float32, n)
		var want float64
		for i := range s {
			s[i] = float32(rng.NormFloat64())
			want += float64(s[i]) * float64(s[i])
		}
		near(t, fmt.Sprintf("length %d", n), GlobalNorm([][]float32{s}), math.Sqrt(want), 1e-14*float64(n+1))
	}
}

func TestEMA(t *testing.T) {
	one := []Tensor{{Name: "p", Len: 1}}
	p := [][]float32{{1}}
	e, err := NewEMA(0.15, one, p)
	if err != nil {
		t.Fatal(err)
	}
	p[0][0] = 2
	if e.Values()[0][0] != 1 {
		t.Error("the average shares memory with the parameters")
	}
	// t = 0: d = 1/10: 1 + 0.9*(2-1) = 1.9
	e.Update(p)
	near(t, "first", float64(e.Values()[0][0]), 1.9, 1e-6)
	// t = 1: 2/11 > 0.15: d = 0.15: 1.9 + 0.85*(5-1.9) = 4.535
	p[0][0] = 5
	e.Update(p)
	near(t, "second", float64(e.Values()[0][0]), 4.535, 1e-6)

	// A high decay warms up: t = 0, 1, 2 give 1/10, 2/11, 3/12.
	e, err = NewEMA(0.999, one, [][]float32{{0}})
	if err != nil {
		t.Fatal(err)
	}
	want := 0.0
	for i, d := range []float64{1.0 / 10, 2.0 / 11, 3.0 / 12} {
		e.Update([][]float32{{float32(i + 1)}})
		want = d*want + (1-d)*float64(i+1)
	}
	near(t, "warm-up", float64(e.Values()[0][0]), want, 1e-6)

	for _, bad := range []float64{-0.1, 1, math.NaN()} {
		if _, err := NewEMA(bad, one, p); err == nil {
			t.Errorf("decay %v: found no error", bad)
		}
	}
}

func BenchmarkAdamW(b *testing.B) {
	const n = 323410
	ts := []Tensor{{Name: "w", Len: n}}
	o := mustNew(b, Config{Type: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01}, ts)
	rng := rand.New(rand.NewPCG(1, 1))
	p, g := alloc(ts), alloc(ts)
	for i := range g[0] {
		g[0][i] = float32(rng.NormFloat64())
	}
	e, err := NewEMA(0.999, ts, p)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		ClipGlobalNorm(g, 1e9)
		o.Step(p, g, 1e-3)
		e.Update(p)
	}
}
