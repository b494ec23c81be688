package data

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 77)) }

func TestBayerMask(t *testing.T) {
	// Channel known at (0,0), (0,1), (1,0), (1,1), from the name of the pattern.
	for _, p := range Patterns() {
		for _, size := range [][2]int{{1, 1}, {2, 2}, {5, 3}, {4, 7}} {
			h, w := size[0], size[1]
			m, err := BayerMask(p, 3, h, w)
			if err != nil {
				t.Fatal(err)
			}
			for c := range 3 {
				for y := range h {
					for x := range w {
						want := float32(0)
						if strings.IndexByte("rgb", p[2*(y%2)+x%2]) == c {
							want = 1
						}
						if got := m[(c*h+y)*w+x]; got != want {
							t.Fatalf("%s channel %d (%d,%d): found %v, expected %v", p, c, y, x, got, want)
						}
					}
				}
			}
		}
	}
	for _, bad := range []string{"", "RGGB", "rgbg", "any"} {
		if _, err := BayerMask(bad, 3, 2, 2); err == nil || !strings.Contains(err.Error(), "rggb") {
			t.Errorf("%q: found %v, expected an error listing the patterns", bad, err)
		}
	}
	if _, err := BayerMask("rggb", 1, 2, 2); err == nil {
		t.Error("one channel: found no error")
	}
}

func TestScaleMask(t *testing.T) {
	for s := 2; s <= 4; s++ {
		for _, c := range []int{1, 3} {
			h, w := 9, 10
			m := Degradation{Task: Scale, Scale: s}.Mask(c, h, w, nil)
			for i, v := range m {
				y, x := i/w%h, i%w
				if want := y%s == 0 && x%s == 0; (v == 1) != want || v != 0 && v != 1 {
					t.Fatalf("scale %d (%d,%d): found %v", s, y, x, v)
				}
			}
			if !slices.Equal(m, GridMask(s, c, h, w)) {
				t.Error("GridMask differs")
			}
		}
	}
}

func TestAnyPatternDrawsAllFour(t *testing.T) {
	d := Degradation{Task: Demosaic, Pattern: "any"}
	r := rng(1)
	seen := map[string]int{}
	for range 400 {
		m := d.Mask(3, 4, 4, r)
		for _, p := range Patterns() {
			if want, _ := BayerMask(p, 3, 4, 4); slices.Equal(m, want) {
				seen[p]++
			}
		}
	}
	total := 0
	for _, p := range Patterns() {
		// 400 draws of probability 1/4: mean 100, standard deviation 8.7.
		if n := seen[p]; n < 60 || n > 140 {
			t.Errorf("%s: found %d of 400", p, n)
		}
		total += seen[p]
	}
	if total != 400 {
		t.Errorf("found %d masks of a known pattern, expected 400", total)
	}
}

func holes(mask []float32) (n int) {
	for _, v := range mask {
		if v == 0 {
			n++
		}
	}
	return n
}

func TestFillMask(t *testing.T) {
	for _, shape := range []string{"random", "block"} {
		for _, missing := range []float64{0.01, 0.5, 0.8, 0.999} {
			for _, size := range [][2]int{{1, 1}, {1, 9}, {7, 5}, {64, 64}} {
				h, w := size[0], size[1]
				n := h * w
				d := Degradation{Task: Fill, Missing: missing, Shape: shape}
				m := d.Mask(3, h, w, rng(3))
				want := min(int(math.Round(missing*float64(n))), n-1)
				if got := holes(m[:n]); got != want {
					t.Errorf("%s %v %dx%d: found %d holes, expected %d", shape, missing, h, w, got, want)
				}
				if !slices.Equal(m[:n], m[n:2*n]) || !slices.Equal(m[:n], m[2*n:]) {
					t.Errorf("%s: the channels differ", shape)
				}
				for _, v := range m {
					if v != 0 && v != 1 {
						t.Fatalf("found %v in a mask", v)
					}
				}
			}
		}
	}
}

// TestRandomMaskIsUniform: each pixel is missing equally often.
func TestRandomMaskIsUniform(t *testing.T) {
	const runs, h, w = 4000, 4, 5
	r := rng(4)
	var count [h * w]float64
	for range runs {
		for i, v := range (Degradation{Task: Fill, Missing: 0.3}).Mask(1, h, w, r) {
			count[i] += 1 - float64(v)
		}
	}
	// Mean 1200, standard deviation 29: five of them.
	for i, n := range count {
		if math.Abs(n-0.3*runs) > 145 {
			t.Errorf("pixel %d: missing %v times of %d, expected about %v", i, n, runs, 0.3*runs)
		}
	}
}

// TestBlocksAreBlocks: with few pixels missing, the holes form one square or the
// part of it inside the image.
func TestBlocksAreBlocks(t *testing.T) {
	const side, h, w = 6, 40, 40
	for seed := range uint64(50) {
		m := Degradation{Task: Fill, Missing: 10.0 / (h * w), Shape: "block", Block: side}.Mask(1, h, w, rng(seed))
		y0, y1, x0, x1 := h, 0, w, 0
		for i, v := range m {
			if v == 0 {
				y0, y1, x0, x1 = min(y0, i/w), max(y1, i/w), min(x0, i%w), max(x1, i%w)
			}
		}
		inside := y0 > 0 && x0 > 0 && y1 < h-1 && x1 < w-1
		if inside && (y1-y0 >= side || x1-x0 >= side) {
			t.Errorf("seed %d: found holes over %dx%d, expected at most %dx%d", seed, y1-y0+1, x1-x0+1, side, side)
		}
	}
}

func TestMissingRange(t *testing.T) {
	d := Degradation{Task: Fill, MissingRange: [2]float64{0.2, 0.6}}
	r := rng(5)
	var lo, hi, sum float64 = 1, 0, 0
	for range 500 {
		f := float64(holes(d.Mask(1, 32, 32, r))) / 1024
		lo, hi, sum = min(lo, f), max(hi, f), sum+f
	}
	if lo < 0.199 || hi > 0.601 || lo > 0.22 || hi < 0.58 || math.Abs(sum/500-0.4) > 0.03 {
		t.Errorf("found fractions %v to %v, mean %v, expected 0.2 to 0.6, mean 0.4", lo, hi, sum/500)
	}
}

func TestApply(t *testing.T) {
	const c, h, w = 3, 16, 12
	clean := make([]float32, c*h*w)
	r := rng(6)
	for i := range clean {
		clean[i] = r.Float32()
	}
	for _, d := range []Degradation{{Task: Demosaic}, {Task: Scale, Scale: 3}, {Task: Fill, Missing: 0.7}} {
		y, mask := d.Apply(clean, c, h, w, rng(8))
		for i := range clean {
			if y[i] != clean[i]*mask[i] {
				t.Fatalf("%s[%d]: found %v, expected %v", d.Task, i, y[i], clean[i]*mask[i])
			}
		}
		if !slices.Equal(mask, d.Mask(c, h, w, rng(8))) {
			t.Errorf("%s: Apply and Mask draw different masks", d.Task)
		}
		// Noise leaves the mask and the zeros, and does not depend on the image.
		d.Noise = 10
		yn, mn := d.Apply(clean, c, h, w, rng(8))
		if !slices.Equal(mask, mn) {
			t.Errorf("%s: noise changed the mask", d.Task)
		}
		for i := range yn {
			if mask[i] == 0 && yn[i] != 0 || mask[i] == 1 && yn[i] == clean[i] {
				t.Fatalf("%s[%d]: found %v of %v under mask %v", d.Task, i, yn[i], clean[i], mask[i])
			}
		}
	}
	// A NaN at a missing pixel stays out; one at a sample stays.
	bad := slices.Clone(clean)
	for i := range bad {
		bad[i] = float32(math.NaN())
	}
	y, mask := Degradation{Task: Scale}.Apply(bad, c, h, w, nil)
	for i, v := range y {
		if (v != v) != (mask[i] == 1) {
			t.Fatalf("[%d]: found %v under mask %v", i, v, mask[i])
		}
	}
}

func TestNoiseStrength(t *testing.T) {
	const n = 200
	clean := make([]float32, n*n)
	y, _ := Degradation{Task: Scale, Scale: 2, Noise: 25.5}.Apply(clean, 1, n, n, rng(9))
	var sum, sq float64
	for i, v := range y {
		if i/n%2 == 0 && i%2 == 0 {
			sum += float64(v)
			sq += float64(v) * float64(v)
		}
	}
	const count = n * n / 4 // 10000 samples of sigma 0.1: mean within 0.004, sigma within 0.003
	mean, sigma := sum/count, math.Sqrt(sq/count)
	if math.Abs(mean) > 0.004 || math.Abs(sigma-0.1) > 0.003 {
		t.Errorf("found mean %v, sigma %v, expected 0 and 0.1", mean, sigma)
	}
}

func TestDegradationErrors(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		key string
		d   Degradation
	}{
		{"task", Degradation{}},
		{"task", Degradation{Task: "denoise"}},
		{"pattern", Degradation{Task: Demosaic, Pattern: "RGGB"}},
		{"pattern", Degradation{Task: Scale, Pattern: "rggb"}},
		{"scale", Degradation{Task: Scale, Scale: 1}},
		{"scale", Degradation{Task: Scale, Scale: 5}},
		{"scale", Degradation{Task: Fill, Missing: 0.5, Scale: 2}},
		{"missing", Degradation{Task: Fill}},
		{"missing", Degradation{Task: Fill, Missing: 1}},
		{"missing", Degradation{Task: Fill, Missing: -0.1}},
		{"missing", Degradation{Task: Fill, Missing: nan}},
		{"missing", Degradation{Task: Fill, Missing: 0.5, MissingRange: [2]float64{0.1, 0.2}}},
		{"missing", Degradation{Task: Demosaic, Missing: 0.5}},
		{"missing_range", Degradation{Task: Fill, MissingRange: [2]float64{0.5, 0.2}}},
		{"missing_range", Degradation{Task: Fill, MissingRange: [2]float64{0.5, 1}}},
		{"missing_range", Degradation{Task: Fill, MissingRange: [2]float64{nan, 0.5}}},
		{"missing_range", Degradation{Task: Scale, MissingRange: [2]float64{0.1, 0.5}}},
		{"shape", Degradation{Task: Fill, Missing: 0.5, Shape: "disc"}},
		{"shape", Degradation{Task: Demosaic, Shape: "random"}},
		{"block", Degradation{Task: Fill, Missing: 0.5, Shape: "block", Block: -1}},
		{"block", Degradation{Task: Fill, Missing: 0.5, Block: 4}},
		{"block", Degradation{Task: Demosaic, Block: 4}},
		{"noise", Degradation{Task: Demosaic, Noise: -1}},
		{"noise", Degradation{Task: Demosaic, Noise: nan}},
		{"noise", Degradation{Task: Demosaic, Noise: math.Inf(1)}},
	} {
		err := c.d.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "data.degradation."+c.key+": found") || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%+v: found %v, expected an error on %s", c.d, err, c.key)
		}
	}
	d, err := Degradation{Task: Fill, Missing: 0.5, Shape: "block"}.Resolved()
	if err != nil || d.Block != 8 {
		t.Errorf("found %+v, %v, expected block 8", d, err)
	}
	again, err := d.Resolved()
	if err != nil || again != d {
		t.Errorf("resolving twice: found %+v, %v", again, err)
	}
	if err := (Degradation{Task: Demosaic}).CheckChannels(1); err == nil {
		t.Error("demosaicking one channel: found no error")
	}
	if err := (Degradation{Task: Scale}).CheckChannels(2); err == nil {
		t.Error("two channels: found no error")
	}
}

func TestRandStreamsDiffer(t *testing.T) {
	seen := map[[2]uint64]string{}
	for seed := range uint64(5) {
		for a := range uint64(30) {
			for b := range uint64(30) {
				r := Rand(seed, a, b)
				k := [2]uint64{r.Uint64(), r.Uint64()}
				name := fmt.Sprint(seed, a, b)
				if other, ok := seen[k]; ok {
					t.Fatalf("%s and %s begin alike", name, other)
				}
				seen[k] = name
			}
		}
	}
	if Rand(1, 2, 3).Uint64() != Rand(1, 2, 3).Uint64() {
		t.Error("the same arguments give different streams")
	}
}

const pinnedA, pinnedB = 0x4b89f20814561754, 0xd7de8bb934d86f3b

// TestRandIsPinned: the streams belong to the file formats, so to speak: a run
// must resume with a newer binary.
func TestRandIsPinned(t *testing.T) {
	r := Rand(1, 2, 3)
	if a, b := r.Uint64(), r.Uint64(); a != pinnedA || b != pinnedB {
		t.Errorf("found %#x, %#x, expected %#x, %#x", a, b, uint64(pinnedA), uint64(pinnedB))
	}
}
