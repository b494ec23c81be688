package optim

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestKarGolden holds four steps of kar3 to those of the plain reference.
func TestKarGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/kar3.json")
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		LR       float64
		Betas    []float64
		P0       []float32
		Grads, P [][]float32
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	o := mustNew(t, Config{Type: "kar3", Beta1: g.Betas[0], Beta2: g.Betas[1]}, []Tensor{{Name: "p", Len: len(g.P0)}})
	p := [][]float32{slices.Clone(g.P0)}
	for i, grad := range g.Grads {
		o.Step(p, [][]float32{grad}, g.LR)
		for j, want := range g.P[i] {
			near(t, "parameter", float64(p[0][j]), float64(want), 1e-7)
		}
	}
}

// TestKarMoves: the first step moves every value by lr, later ones by lr or 3 lr
// (kar3), by 0 or 2 lr (kar2), and a gradient that was always 0 moves nothing.
func TestKarMoves(t *testing.T) {
	rng := rand.New(rand.NewPCG(81, 1))
	for typ, moves := range map[string][]float64{"kar3": {1, 3}, "kar2": {0, 2}} {
		c := Config{Type: typ, Beta1: .95, Beta2: .5}
		o := mustNew(t, c, []Tensor{{Name: "p", Len: 64}, {Name: "fast", Len: 64, Rate: 2}})
		p := [][]float32{make([]float32, 64), make([]float32, 64)}
		seen := map[float64]bool{}
		for step := range 6 {
			g := [][]float32{make([]float32, 64), make([]float32, 64)}
			for _, s := range g {
				for j := 1; j < len(s); j++ { // the first is always 0
					s[j] = float32(rng.NormFloat64())
				}
			}
			before := clone(p)
			o.Step(p, g, .125)
			for i := range p {
				if p[i][0] != 0 {
					t.Fatalf("%s: a value without gradient moved to %g", typ, p[i][0])
				}
				for j := 1; j < 64; j++ {
					moved := math.Abs(float64(p[i][j]-before[i][j])) / .125 / float64(i+1)
					if step == 0 && moved != 1 || step > 0 && !slices.Contains(moves, moved) {
						t.Fatalf("%s step %d: moved by %g learning rates", typ, step, moved)
					}
					seen[moved] = step > 0 || seen[moved]
				}
			}
		}
		for _, m := range moves {
			if !seen[m] {
				t.Errorf("%s: no value moved by %g learning rates", typ, m)
			}
		}
	}
}

// TestKarResumes: a restored state goes on with the same bits, and a state of the
// other kind is refused.
func TestKarResumes(t *testing.T) {
	for _, typ := range []string{"kar2", "kar3"} {
		rng := rand.New(rand.NewPCG(82, 1))
		c := Config{Type: typ, Beta1: .5, Beta2: .95}
		o := mustNew(t, c, tensors)
		p := random(rng, 1)
		for range 3 {
			o.Step(p, random(rng, 1), 1e-3)
		}
		q, other := clone(p), mustNew(t, c, tensors)
		if err := other.Restore(o.State()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			g := random(rng, 1)
			o.Step(p, g, 1e-3)
			other.Step(q, g, 1e-3)
		}
		if !equalBits(p, q) {
			t.Errorf("%s: the restored optimiser went elsewhere", typ)
		}
		wrong := map[string]string{"kar2": "kar3", "kar3": "kar2"}[typ]
		c.Type = wrong
		if err := mustNew(t, c, tensors).Restore(o.State()); err == nil || !strings.Contains(err.Error(), "optim: state") {
			t.Errorf("the state of %s restored as %s: error %v", typ, wrong, err)
		}
	}
}

// TestChainedSchedule holds the curve to the two schedulers it is made of, run
// step by step as they multiply the rate of the step before, and to the ratios
// that the published runs had.
func TestChainedSchedule(t *testing.T) {
	const w, n = 8 * 781, 100 * 781
	s, err := NewSchedule(ScheduleConfig{Type: "chained", LR: 2, Warmup: w}, n)
	if err != nil {
		t.Fatal(err)
	}
	for epoch, want := range map[int]float64{1: .1256, 4: .507, 8: 1.0189, 10: 1.018, 20: .977, 30: .882, 50: .579, 70: .245, 90: .029} {
		near(t, "ratio of an epoch", s.LR(epoch*781)/2, want, 6e-4)
	}
	short, err := NewSchedule(ScheduleConfig{Type: "chained", LR: 1, Warmup: 5}, 40)
	if err != nil {
		t.Fatal(err)
	}
	wave := func(t int) float64 { return 1 + math.Cos(math.Pi*float64(t-5)/35) }
	rate := chainedStart
	for step := range 40 {
		near(t, "step by step", short.LR(step), rate, 1e-12)
		if step == 0 {
			rate = .2 // the warm-up's factor leaves 1e-8
			rate *= wave(1) / wave(0)
			continue
		}
		if step < 5 {
			rate *= float64(step+1) / float64(step)
		}
		rate *= wave(step+1) / wave(step)
	}
	if short.LR(40) != 0 || short.LR(41) != 0 {
		t.Errorf("after the end: %g, %g", short.LR(40), short.LR(41))
	}
	if _, err := NewSchedule(ScheduleConfig{Type: "chained", LR: 1, Warmup: 20}, 40); err == nil || !strings.Contains(err.Error(), "schedule.warmup: found 20, expected fewer than half") {
		t.Errorf("a warm-up of half the run: error %v", err)
	}
}
