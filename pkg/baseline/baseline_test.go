package baseline

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func random(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.IntN(256)) / 255
	}
	return v
}

func restore(t testing.TB, m Method, y, mask []float32, c, h, w int) []float32 {
	t.Helper()
	out, err := m.Restore(y, mask, c, h, w)
	if err != nil {
		t.Fatalf("%s, (%d,%d,%d): %v", m.Name(), c, h, w, err)
	}
	if len(out) != c*h*w {
		t.Fatalf("%s: %d values for (%d,%d,%d)", m.Name(), len(out), c, h, w)
	}
	for i, v := range out {
		if v-v != 0 {
			t.Fatalf("%s: %v at %d", m.Name(), v, i)
		}
		if mask[i] == 1 && v != y[i] {
			t.Fatalf("%s: known sample %d moved from %v to %v", m.Name(), i, y[i], v)
		}
	}
	return out
}

func closeTo(t *testing.T, what string, got, want []float32, tol float64) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= tol) {
			t.Fatalf("%s, value %d: got %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestLookup(t *testing.T) {
	if d := cmp.Diff([]string{"bilinear", "malvar", "menon"}, Names("demosaic")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"bilinear", "bicubic"}, Names("scale")); d != "" {
		t.Error(d)
	}
	for _, task := range Tasks() {
		for _, name := range Names(task) {
			m, err := Lookup(task, name)
			if err != nil || m.Name() != name || m.Task() != task {
				t.Errorf("%s %s: %v", task, name, err)
			}
		}
	}
	for _, c := range [][3]string{
		{"demosaic", "malvarr", `found "malvarr", expected one of bilinear, malvar, menon; did you mean "malvar"?`},
		{"scale", "Bicubic", `did you mean "bicubic"?`},
		{"fill", "xyz", `found "xyz", expected one of harmonic`},
		{"demosaik", "menon", `task: found "demosaik", expected one of demosaic, scale, fill; did you mean "demosaic"?`},
	} {
		_, err := Lookup(c[0], c[1])
		if err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%v: got %v", c, err)
		}
	}
	if _, err := Lookup("fill", "xyz"); strings.Contains(err.Error(), "did you mean") {
		t.Errorf("far-fetched: %v", err)
	}
	if Names("classify") != nil {
		t.Error("names for a task without baselines")
	}
}

// All sizes from one pixel up, all phases: samples stay, values are finite,
// and a constant image comes back.
func TestDemosaicTiny(t *testing.T) {
	for _, name := range Names("demosaic") {
		m := lookup(t, "demosaic", name)
		for h := 1; h <= 7; h++ {
			for w := 1; w <= 7; w++ {
				for phase := range 4 {
					y, mask := mosaic(random(3*h*w, uint64(h*w)), h, w, phase>>1, phase&1)
					restore(t, m, y, mask, 3, h, w)
					flat := make([]float32, 3*h*w)
					for i := range flat {
						flat[i] = 0.25
					}
					y, mask = mosaic(flat, h, w, phase>>1, phase&1)
					closeTo(t, fmt.Sprintf("%s %dx%d phase %d, flat", name, h, w, phase), restore(t, m, y, mask, 3, h, w), flat, 1e-6)
				}
			}
		}
	}
}

func TestDemosaicThinLongImages(t *testing.T) {
	for _, name := range Names("demosaic") {
		for _, s := range [][2]int{{1, 70000}, {70000, 1}, {2, 3000}, {3000, 3}} {
			y, mask := mosaic(random(3*s[0]*s[1], 9), s[0], s[1], 1, 0)
			restore(t, lookup(t, "demosaic", name), y, mask, 3, s[0], s[1])
		}
	}
}

// By hand: a row R G R G.
func TestBilinearRow(t *testing.T) {
	pix := []float32{0.2, 0, 0.6, 0 /* G */, 0, 0.5, 0, 0.7 /* B */, 0, 0, 0, 0}
	y, mask := mosaic(pix, 1, 4, 0, 0)
	got := restore(t, lookup(t, "demosaic", "bilinear"), y, mask, 3, 1, 4)
	closeTo(t, "row", got, []float32{
		0.2, 0.4, 0.6, 0.6,
		0.5, 0.5, 0.6, 0.7,
		0.35, 0.45, 0.6, 0.65, // no blue: mean of red and green
	}, 1e-6)
}

// By hand: one 2x2 cell, mirrored.
//
//	R=.1 G=.2
//	G=.3 B=.4
func TestBilinearCell(t *testing.T) {
	pix := []float32{.1, 0, 0, 0 /* G */, 0, .2, .3, 0 /* B */, 0, 0, 0, .4}
	y, mask := mosaic(pix, 2, 2, 0, 0)
	got := restore(t, lookup(t, "demosaic", "bilinear"), y, mask, 3, 2, 2)
	closeTo(t, "cell", got, []float32{.1, .1, .1, .1, .25, .2, .3, .25, .4, .4, .4, .4}, 1e-6)
}

// The filters of Malvar, He and Cutler as printed, times 8, applied with a
// delta at every place of the window.
func TestMalvarFilters(t *testing.T) {
	greenAtRB := [5][5]float32{{0, 0, -1, 0, 0}, {0, 0, 2, 0, 0}, {-1, 2, 4, 2, -1}, {0, 0, 2, 0, 0}, {0, 0, -1, 0, 0}}
	inRow := [5][5]float32{{0, 0, .5, 0, 0}, {0, -1, 0, -1, 0}, {-1, 4, 5, 4, -1}, {0, -1, 0, -1, 0}, {0, 0, .5, 0, 0}}
	opposite := [5][5]float32{{0, 0, -1.5, 0, 0}, {0, 2, 0, 2, 0}, {-1.5, 0, 6, 0, -1.5}, {0, 2, 0, 2, 0}, {0, 0, -1.5, 0, 0}}
	var inCol [5][5]float32
	for i := range 5 {
		for j := range 5 {
			inCol[i][j] = inRow[j][i]
		}
	}
	const h, w = 12, 13
	for phase := range 4 {
		for _, c := range []struct {
			y, x int // red-relative place of the output
			ch   int
			f    [5][5]float32
		}{
			{0, 0, 1, greenAtRB}, {1, 1, 1, greenAtRB},
			{0, 1, 0, inRow}, {1, 0, 0, inCol},
			{1, 0, 2, inRow}, {0, 1, 2, inCol},
			{1, 1, 0, opposite}, {0, 0, 2, opposite},
		} {
			py, px := 4+phase>>1+c.y, 4+phase&1+c.x
			for i := range 5 {
				for j := range 5 {
					all := make([]float32, 3*h*w)
					for k := range 3 {
						all[(k*h+py+i-2)*w+px+j-2] = 8
					}
					y, mask := mosaic(all, h, w, phase>>1, phase&1)
					got := restore(t, lookup(t, "demosaic", "malvar"), y, mask, 3, h, w)
					if v := got[(c.ch*h+py)*w+px]; v != c.f[i][j] {
						t.Fatalf("phase %d, channel %d at red-relative (%d,%d), tap (%d,%d): got %v/8, want %v/8", phase, c.ch, c.y, c.x, i, j, v, c.f[i][j])
					}
				}
			}
		}
	}
}

// A colour ramp is restored exactly away from the border by every method.
func TestDemosaicRamp(t *testing.T) {
	const h, w, margin = 40, 45, 12
	pix := make([]float32, 3*h*w)
	for i := range pix {
		c, y, x := i/(h*w), i/w%h, i%w
		pix[i] = float32(0.1 + 0.2*float64(c) + 0.004*float64(y) + 0.007*float64(x))
	}
	for _, name := range Names("demosaic") {
		for phase := range 4 {
			y, mask := mosaic(pix, h, w, phase>>1, phase&1)
			got := restore(t, lookup(t, "demosaic", name), y, mask, 3, h, w)
			for i := range pix {
				if r, x := i/w%h, i%w; r >= margin && r < h-margin && x >= margin && x < w-margin {
					if d := math.Abs(float64(got[i] - pix[i])); d > 2e-6 {
						t.Fatalf("%s, phase %d, value %d: off by %v", name, phase, i, d)
					}
				}
			}
		}
	}
}

// Menon's point: a gray pattern of random rows (or columns) has no error at
// all, since the right direction is found everywhere, up to the border.
func TestMenonFindsTheDirection(t *testing.T) {
	const h, w = 21, 24
	line := random(max(h, w), 4)
	for _, rows := range []bool{true, false} {
		pix := make([]float32, 3*h*w)
		for i := range pix {
			if rows {
				pix[i] = line[i/w%h]
			} else {
				pix[i] = line[i%w]
			}
		}
		for phase := range 4 {
			y, mask := mosaic(pix, h, w, phase>>1, phase&1)
			got := restore(t, lookup(t, "demosaic", "menon"), y, mask, 3, h, w)
			closeTo(t, fmt.Sprintf("rows %v, phase %d", rows, phase), got, pix, 1e-5)
		}
	}
}

// slowMenon is the method of Menon, Andriani and Calvagno as whole-image
// operations in float64, on a mosaic extended so far that borders do not
// matter. R, G, B (n), masks of where each colour is sampled.
func slowMenon(cfa []float64, h, w, redY, redX int) [3][]float64 {
	n := h * w
	at := func(p []float64, y, x int) float64 { return p[mirror(y, h)*w+mirror(x, w)] }
	each := func(f func(y, x int) float64) []float64 {
		o := make([]float64, n)
		for y := range h {
			for x := range w {
				o[y*w+x] = f(y, x)
			}
		}
		return o
	}
	colour := func(y, x int) int { return (y+redY)&1 + (x+redX)&1 }
	redRow := func(y int) bool { return (y+redY)&1 == 0 }
	filt := func(p []float64, y, x int, row bool, k ...float64) (s float64) {
		for i, v := range k {
			if o := i - len(k)/2; row {
				s += v * at(p, y, x+o)
			} else {
				s += v * at(p, y+o, x)
			}
		}
		return s
	}
	var g, d [2][]float64 // green and colour difference: along rows, along columns
	var delta [2][]float64
	for dir := range 2 {
		row := dir == 0
		g[dir] = each(func(y, x int) float64 {
			if colour(y, x) == 1 {
				return at(cfa, y, x)
			}
			return filt(cfa, y, x, row, -.25, .5, .5, .5, -.25)
		})
		d[dir] = each(func(y, x int) float64 {
			if colour(y, x) == 1 {
				return 0
			}
			return at(cfa, y, x) - at(g[dir], y, x)
		})
		delta[dir] = each(func(y, x int) float64 {
			if row {
				return math.Abs(at(d[dir], y, x) - at(d[dir], y, x+2))
			}
			return math.Abs(at(d[dir], y, x) - at(d[dir], y+2, x))
		})
	}
	// The classifier: spans inside the 5x5 window, the central line three times.
	row := make([]bool, n)
	for y := range h {
		for x := range w {
			var s [2]float64
			for a := -2; a <= 2; a++ { // across
				for b := -2; b <= 0; b++ { // along: the span's first pixel
					wt := 1.0
					if a == 0 {
						wt = 3
					}
					s[0] += wt * at(delta[0], y+a, x+b)
					s[1] += wt * at(delta[1], y+b, x+a)
				}
			}
			row[y*w+x] = s[1] >= s[0]
		}
	}
	G := each(func(y, x int) float64 {
		if row[y*w+x] {
			return g[0][y*w+x]
		}
		return g[1][y*w+x]
	})
	var P [3][]float64
	for c := range 3 {
		P[c] = each(func(y, x int) float64 {
			if colour(y, x) == c {
				return cfa[y*w+x]
			}
			return 0
		})
	}
	P[1] = G
	diff := func(a, b []float64) []float64 {
		return each(func(y, x int) float64 { return a[y*w+x] - b[y*w+x] })
	}
	rbAtGreen := func() {
		for c := 0; c <= 2; c += 2 {
			e := diff(P[c], P[1])
			P[c] = each(func(y, x int) float64 {
				if colour(y, x) != 1 {
					return P[c][y*w+x]
				}
				return P[1][y*w+x] + filt(e, y, x, redRow(y) == (c == 0), .5, 0, .5)
			})
		}
	}
	rbAtBR := func(k ...float64) {
		e := diff(P[0], P[2])
		r := each(func(y, x int) float64 {
			if colour(y, x) != 2 {
				return P[0][y*w+x]
			}
			return P[2][y*w+x] + filt(e, y, x, row[y*w+x], k...)
		})
		b := each(func(y, x int) float64 {
			if colour(y, x) != 0 {
				return P[2][y*w+x]
			}
			return P[0][y*w+x] - filt(e, y, x, row[y*w+x], k...)
		})
		P[0], P[2] = r, b
	}
	rbAtGreen()
	rbAtBR(.5, 0, .5)
	third := 1. / 3
	var low [3][]float64
	for c := 0; c <= 2; c += 2 {
		e := diff(P[c], P[1])
		low[c] = each(func(y, x int) float64 { return filt(e, y, x, row[y*w+x], third, third, third) })
	}
	P[1] = each(func(y, x int) float64 {
		if c := colour(y, x); c != 1 {
			return P[c][y*w+x] - low[c][y*w+x]
		}
		return P[1][y*w+x]
	})
	rbAtGreen()
	rbAtBR(third, third, third)
	return P
}

func TestMenonAgainstDefinition(t *testing.T) {
	// Mirroring commutes with every step on a mosaic that is itself mirrored,
	// so only the pixels further inside than the reach are compared.
	const h, w, margin = 40, 44, 10
	for phase := range 4 {
		pix := random(3*h*w, uint64(20+phase))
		y, mask := mosaic(pix, h, w, phase>>1, phase&1)
		cfa := make([]float64, h*w)
		for i := range y {
			cfa[i%(h*w)] += float64(y[i])
		}
		want := slowMenon(cfa, h, w, phase>>1, phase&1)
		got := restore(t, lookup(t, "demosaic", "menon"), y, mask, 3, h, w)
		for i := range got {
			if r, x := i/w%h, i%w; r < margin || x < margin || r >= h-margin || x >= w-margin {
				continue
			}
			if d := math.Abs(float64(got[i]) - want[i/(h*w)][i%(h*w)]); d > 5e-6 {
				t.Fatalf("phase %d, value %d: got %v, want %v", phase, i, got[i], want[i/(h*w)][i%(h*w)])
			}
		}
	}
}

// The four phases are one method: mirroring the image mirrors the result.
func TestDemosaicPhases(t *testing.T) {
	for _, size := range [][2]int{{16, 18}, {15, 19}, {5, 6}} {
		h, w := size[0], size[1]
		pix := random(3*h*w, 11)
		flip := func(p []float32, ud, lr bool) []float32 {
			o := make([]float32, len(p))
			for i := range p {
				y, x := i/w%h, i%w
				if ud {
					y = h - 1 - y
				}
				if lr {
					x = w - 1 - x
				}
				o[i] = p[(i/(h*w)*h+y)*w+x]
			}
			return o
		}
		for _, name := range Names("demosaic") {
			m := lookup(t, "demosaic", name)
			y, mask := mosaic(pix, h, w, 0, 0)
			want := restore(t, m, y, mask, 3, h, w)
			for k := 1; k < 4; k++ {
				ud, lr := k&1 == 1, k&2 == 2
				got := restore(t, m, flip(y, ud, lr), flip(mask, ud, lr), 3, h, w)
				closeTo(t, fmt.Sprintf("%s %dx%d flipped %v %v", name, h, w, ud, lr), flip(got, ud, lr), want, 1e-5)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	nan := float32(math.NaN())
	y, mask := mosaic(random(3*6*8, 1), 6, 8, 0, 0)
	ones := make([]float32, 3*6*8)
	for i := range ones {
		ones[i] = 1
	}
	spoil := func(v []float32, i int, x float32) []float32 {
		o := append([]float32(nil), v...)
		o[i] = x
		return o
	}
	zeros := make([]float32, 3*6*8)
	gy, gm := decimate(random(3*6*8, 1), 6, 8, 2, 0, 0)
	for _, task := range Tasks() {
		for _, name := range Names(task) {
			m := lookup(t, task, name)
			type bad struct {
				what    string
				y, mask []float32
				c, h, w int
				text    string
			}
			good := bad{y: y, mask: mask}
			if task != "demosaic" {
				good = bad{y: gy, mask: gm}
			}
			cases := []bad{
				{"no pixels", nil, nil, 3, 0, 8, "(3,0,8)"},
				{"short", y[:5], mask, 3, 6, 8, "found 5 samples"},
				{"half mask", good.y, spoil(good.mask, 3, 0.5), 3, 6, 8, "mask value 0.5 in channel 0 at column 3, row 0"},
				{"NaN mask", good.y, spoil(good.mask, 3, nan), 3, 6, 8, "mask value NaN"},
				{"NaN sample", spoil(good.y, 0, nan), good.mask, 3, 6, 8, "NaN in channel 0 at column 0, row 0"},
				{"nothing known", zeros, zeros, 3, 6, 8, "found"},
			}
			switch task {
			case "demosaic":
				cases = append(cases,
					bad{"all known", y, ones, 3, 6, 8, "expected a Bayer mosaic"},
					bad{"one odd pixel", y, spoil(mask, 6*8+21, 1-mask[6*8+21]), 3, 6, 8, "in channel 1 at column 5, row 2"},
					bad{"grid", gy, gm, 3, 6, 8, "expected a Bayer mosaic"},
					bad{"one channel", y[:48], mask[:48], 1, 6, 8, "found 1 channels"},
				)
			case "scale":
				cases = append(cases,
					bad{"mosaic", y, mask, 3, 6, 8, "one sampling grid for all channels"},
					bad{"one odd pixel", gy[:48], spoil(gm[:48], 21, 1), 1, 6, 8, "off any regular grid"},
				)
			}
			for _, b := range cases {
				out, err := m.Restore(b.y, b.mask, b.c, b.h, b.w)
				if err == nil || out != nil {
					t.Errorf("%s %s, %s: accepted", task, name, b.what)
				} else if !strings.Contains(err.Error(), b.text) || !strings.HasPrefix(err.Error(), task+" "+name+": found ") {
					t.Errorf("%s %s, %s: got %q, want it to say %q", task, name, b.what, err, b.text)
				}
			}
			// What lies under the mask does not matter.
			want := restore(t, m, good.y, good.mask, 3, 6, 8)
			dirty := append([]float32(nil), good.y...)
			for i := range dirty {
				if good.mask[i] == 0 {
					dirty[i] = nan
				}
			}
			if d := cmp.Diff(want, restore(t, m, dirty, good.mask, 3, 6, 8)); d != "" {
				t.Errorf("%s %s looks at missing samples: %s", task, name, d)
			}
		}
	}
}

// Cubic convolution with a = -1/2 reproduces quadratics, linear interpolation
// ramps, wherever the taps lie inside; at any step and offset.
func TestScaleReproducesPolynomials(t *testing.T) {
	for s := 2; s <= 4; s++ {
		for oy := range s {
			for ox := range s {
				h, w := 6*s+oy, 7*s+1
				pix := make([]float32, h*w)
				ramp := make([]float32, h*w)
				for i := range pix {
					y, x := float64(i/w)/float64(h), float64(i%w)/float64(w)
					ramp[i] = float32(0.3 + 0.2*y - 0.1*x)
					pix[i] = float32(0.3 + 0.2*y - 0.1*x + 0.3*y*y - 0.2*x*x + 0.1*x*y)
				}
				for name, p := range map[string][]float32{"bicubic": pix, "bilinear": ramp} {
					y, mask := decimate(p, h, w, s, oy, ox)
					got := restore(t, lookup(t, "scale", name), y, mask, 1, h, w)
					for i := range p {
						r, x := i/w, i%w
						m := 2 * s
						if r < oy+m || x < ox+m || r > h-1-m || x > w-1-m {
							continue
						}
						if math.Abs(float64(got[i]-p[i])) > 1e-6 {
							t.Fatalf("%s x%d offset %d,%d at %d,%d: got %v, want %v", name, s, oy, ox, r, x, got[i], p[i])
						}
					}
				}
			}
		}
	}
}

// By hand: samples 0 1 0 0 at step 2, edges repeated, weights (-1,9,9,-1)/16.
func TestBicubicByHand(t *testing.T) {
	pix := []float32{0, 0, 1, 0, 0, 0, 0, 0}
	y, mask := decimate(pix, 1, 8, 2, 0, 0)
	got := restore(t, lookup(t, "scale", "bicubic"), y, mask, 1, 1, 8)
	closeTo(t, "bicubic", got, []float32{0, 9. / 16, 1, 9. / 16, 0, -1. / 16, 0, 0}, 1e-7)
	got = restore(t, lookup(t, "scale", "bilinear"), y, mask, 1, 1, 8)
	closeTo(t, "bilinear", got, []float32{0, 0.5, 1, 0.5, 0, 0, 0, 0}, 1e-7)
	// At a third: 21/27, at 2/3: 9/27, at 4/3: -2/27, at 5/3: -1/27.
	y, mask = decimate([]float32{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, 1, 12, 3, 0, 0)
	got = restore(t, lookup(t, "scale", "bicubic"), y, mask, 1, 1, 12)
	closeTo(t, "x3", got, []float32{0, 9. / 27, 21. / 27, 1, 21. / 27, 9. / 27, 0, -2. / 27, -1. / 27, 0, 0, 0}, 1e-6)
}

func TestScaleTiny(t *testing.T) {
	for _, name := range Names("scale") {
		m := lookup(t, "scale", name)
		for s := 2; s <= 4; s++ {
			for h := 1; h <= 6; h++ {
				for w := 1; w <= 6; w++ {
					for oy := 0; oy < min(s, h); oy++ {
						for ox := 0; ox < min(s, w); ox++ {
							y, mask := decimate(random(2*h*w, 3), h, w, s, oy, ox)
							restore(t, m, y, mask, 2, h, w)
						}
					}
				}
			}
		}
		full := random(3*5*4, 8)
		ones := make([]float32, len(full))
		for i := range ones {
			ones[i] = 1
		}
		closeTo(t, "complete image", restore(t, m, full, ones, 3, 5, 4), full, 0)
		y, mask := decimate(random(70001, 2), 1, 70001, 2, 0, 0)
		restore(t, m, y, mask, 1, 1, 70001)
	}
}

// dense solves the harmonic problem of one channel by Gaussian elimination.
func dense(y, mask []float32, h, w int) []float64 {
	var unknown []int
	index := map[int]int{}
	for i, m := range mask {
		if m == 0 {
			index[i] = len(unknown)
			unknown = append(unknown, i)
		}
	}
	n := len(unknown)
	a := make([][]float64, n)
	for u, i := range unknown {
		a[u] = make([]float64, n+1)
		for dy := -2; dy <= 2; dy++ {
			for dx := -2; dx <= 2; dx++ {
				r, x := i/w+dy, i%w+dx
				if r < 0 || r >= h || x < 0 || x >= w || dy == 0 && dx == 0 {
					continue
				}
				a[u][u]++
				if j := r*w + x; mask[j] == 1 {
					a[u][n] += float64(y[j])
				} else {
					a[u][index[j]]--
				}
			}
		}
	}
	for k := range n { // the matrix is positive definite: no pivoting
		for i := k + 1; i < n; i++ {
			f := a[i][k] / a[k][k]
			for j := k; j <= n; j++ {
				a[i][j] -= f * a[k][j]
			}
		}
	}
	for k := n - 1; k >= 0; k-- {
		for j := k + 1; j < n; j++ {
			a[k][n] -= a[k][j] * a[j][n]
		}
		a[k][n] /= a[k][k]
	}
	out := make([]float64, len(y))
	for i := range out {
		if u, ok := index[i]; ok {
			out[i] = a[u][n]
		} else {
			out[i] = float64(y[i])
		}
	}
	return out
}

func TestHarmonicAgainstElimination(t *testing.T) {
	m := lookup(t, "fill", "harmonic")
	rng := rand.New(rand.NewPCG(7, 7))
	for _, s := range [][2]int{{1, 1}, {1, 2}, {1, 30}, {2, 2}, {30, 1}, {3, 3}, {4, 9}, {5, 5}, {13, 11}, {17, 6}} {
		h, w := s[0], s[1]
		n := h * w
		for _, share := range []float64{0.3, 0.8, 1} {
			y, mask := random(3*n, 5), make([]float32, 3*n)
			for i := range mask {
				if rng.Float64() >= share {
					mask[i] = 1
				}
			}
			for c := range 3 { // at least one sample, at a place of its own
				mask[c*n+rng.IntN(n)] = 1
			}
			for i := range y {
				y[i] *= mask[i]
			}
			got := restore(t, m, y, mask, 3, h, w)
			for c := range 3 {
				want := dense(y[c*n:(c+1)*n], mask[c*n:(c+1)*n], h, w)
				for i, v := range want {
					if math.Abs(float64(got[c*n+i])-v) > 1e-5 {
						t.Fatalf("%dx%d, %.0f %% missing, channel %d, pixel %d: got %v, want %v", h, w, 100*share, c, i, got[c*n+i], v)
					}
				}
			}
		}
	}
}

// Values lie between the smallest and the largest sample, one sample fills the
// whole channel, and a large hole converges.
func TestHarmonicProperties(t *testing.T) {
	m := lookup(t, "fill", "harmonic")
	const h, w = 120, 90
	y, mask := make([]float32, h*w), make([]float32, h*w)
	y[37*w+11], mask[37*w+11] = 0.625, 1
	for i, v := range restore(t, m, y, mask, 1, h, w) {
		if v != 0.625 {
			t.Fatalf("one sample: got %v at %d", v, i)
		}
	}
	y[100*w+80], mask[100*w+80] = 0.125, 1
	var lo, hi float32 = 1, 0
	for _, v := range restore(t, m, y, mask, 1, h, w) {
		lo, hi = min(lo, v), max(hi, v)
	}
	if lo < 0.125-1e-5 || hi > 0.625+1e-5 {
		t.Fatalf("two samples: range %v to %v", lo, hi)
	}
}

// A channel without a sample takes the mean of the others.
func TestHarmonicEmptyChannel(t *testing.T) {
	const h, w = 9, 8
	y, mask := mosaic(random(3*h*w, 2), h, w, 0, 0)
	for i := range h * w {
		y[h*w+i], mask[h*w+i] = 0, 0
	}
	got := restore(t, lookup(t, "fill", "harmonic"), y, mask, 3, h, w)
	for i := range h * w {
		if want := (got[i] + got[2*h*w+i]) / 2; math.Abs(float64(got[h*w+i]-want)) > 1e-6 {
			t.Fatalf("pixel %d: got %v, want %v", i, got[h*w+i], want)
		}
	}
}

func TestMirror(t *testing.T) {
	for n := 1; n < 6; n++ {
		for i := -25; i < 25; i++ {
			want := i
			for n > 1 && (want < 0 || want >= n) {
				if want < 0 {
					want = -want
				} else {
					want = 2*(n-1) - want
				}
			}
			if n == 1 {
				want = 0
			}
			if got := mirror(i, n); got != want {
				t.Fatalf("mirror(%d, %d) = %d, want %d", i, n, got, want)
			}
		}
	}
}
