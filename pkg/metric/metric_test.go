package metric

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tol {
		t.Errorf("%s: got %.12g, want %.12g", what, got, want)
	}
}

func levels(v ...float32) []float32 {
	for i := range v {
		v[i] /= 255
	}
	return v
}

func TestPSNR(t *testing.T) {
	// Squared differences 1, 4, 0, 9: MSE 3.5, 10 log10(65025/3.5).
	near(t, "by hand", PSNR(levels(10, 20, 30, 40), levels(11, 18, 30, 43)), 42.690123165, 1e-9)
	// One level everywhere: 20 log10 255.
	near(t, "one level", PSNR(levels(1, 2, 3), levels(2, 3, 4)), 48.130803608679, 1e-9)
	near(t, "black and white", PSNR([]float32{0}, []float32{1}), 0, 0)
	// Both sides are rounded and clamped: 9.6 and 10.4 are the same level.
	if got := PSNR(levels(9.6, -50, 300), levels(10.4, 0, 255)); !math.IsInf(got, 1) {
		t.Errorf("equal after rounding: got %v", got)
	}
	// 10.5 goes up: one level from 10, so not equal.
	near(t, "half", PSNR([]float32{10.5 / 255}, levels(10)), 48.130803608679, 1e-9)
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if got := PSNR([]float32{v, 0}, []float32{0, 0}); !math.IsNaN(got) {
			t.Errorf("%v: got %v", v, got)
		}
	}
	if !math.IsNaN(PSNR(nil, nil)) {
		t.Error("no samples: not NaN")
	}
}

// Each protocol looks at its own pixels: one error is placed where only some
// of them see it.
func TestProtocolsSeeTheirPixels(t *testing.T) {
	const h, w = 31, 40
	ref := make([]float32, 3*h*w)
	for i := range ref {
		ref[i] = 0.5
	}
	Inf := math.Inf(1)
	// db is the PSNR of one error of d levels among n samples.
	db := func(d float64, n int) float64 { return 10 * math.Log10(65025*float64(n)/(d*d)) }
	for _, c := range []struct {
		y, x                int
		rgb, cpsnr, y2, y10 float64
	}{
		{0, 0, db(51, 3*h*w), Inf, Inf, Inf},
		{1, 20, db(51, 3*h*w), Inf, Inf, Inf},
		{2, 2, db(51, 3*h*w), Inf, db(26, (h-4)*(w-4)), Inf},
		{9, 12, db(51, 3*h*w), Inf, db(26, (h-4)*(w-4)), Inf},
		{10, 10, db(51, 3*h*w), db(51, 3*(h-20)*(w-20)), db(26, (h-4)*(w-4)), db(26, (h-20)*(w-20))},
		{20, 29, db(51, 3*h*w), db(51, 3*(h-20)*(w-20)), db(26, (h-4)*(w-4)), db(26, (h-20)*(w-20))},
		{21, 29, db(51, 3*h*w), Inf, db(26, (h-4)*(w-4)), Inf},
	} {
		got := append([]float32(nil), ref...)
		// Green 128 -> 179: 51 levels. Luma 125.93 -> 151.64, rounded 126 -> 152:
		// 26 levels.
		got[h*w+c.y*w+c.x] = 179. / 255
		for _, m := range []struct {
			p     Protocol
			scale int
			want  float64
		}{{RGB, 2, c.rgb}, {CPSNR, 2, c.cpsnr}, {Y, 2, c.y2}, {Y, 10, c.y10}} {
			v, err := Measure(m.p, m.scale, ref, got, 3, h, w)
			if err != nil {
				t.Fatal(err)
			}
			if v != m.want {
				near(t, string(m.p), v, m.want, 1e-9)
			}
		}
	}
}

func TestLumaOfOneChannelIsTaken(t *testing.T) {
	ref, got := levels(100, 100, 100, 100), levels(100, 102, 100, 100)
	v, err := Measure(Y, 0, ref, got, 1, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "one channel", v, 48.130803608679, 1e-9) // MSE 4/4
}

func TestMeasureErrors(t *testing.T) {
	z := make([]float32, 3*20*21)
	for _, c := range []struct {
		p        Protocol
		s        int
		n        []float32
		c, h, w  int
		text     string
		tooSmall bool
	}{
		{CPSNR, 1, z, 3, 20, 21, "20", true},
		{Y, 10, z, 3, 20, 21, "20", true},
		{"ycbcr", 1, z, 3, 20, 21, `"ycbcr"`, false},
		{RGB, 1, z[:5], 3, 20, 21, "5", false},
		{RGB, 1, z[:2*20*21], 2, 20, 21, "2 channels", false},
		{RGB, 1, nil, 3, 0, 21, "21 x 0", true},
	} {
		_, err := Measure(c.p, c.s, c.n, c.n, c.c, c.h, c.w)
		if err == nil || !strings.Contains(err.Error(), c.text) || errors.Is(err, ErrTooSmall) != c.tooSmall {
			t.Errorf("%v: got %v", c, err)
		}
	}
	bad := append([]float32(nil), z...)
	bad[7] = float32(math.NaN())
	if _, err := Measure(RGB, 1, z, bad, 3, 20, 21); err == nil || !strings.Contains(err.Error(), "sample 7") {
		t.Errorf("NaN: got %v", err)
	}
}

func TestProtocolNames(t *testing.T) {
	if d := cmp.Diff([]string{"rgb", "cpsnr-b10", "y"}, ProtocolNames()); d != "" {
		t.Error(d)
	}
	for _, n := range ProtocolNames() {
		if p, err := ParseProtocol(n); err != nil || string(p) != n {
			t.Errorf("%s: %v, %v", n, p, err)
		}
	}
	if _, err := ParseProtocol("RGB"); err == nil {
		t.Error("RGB was accepted")
	}
}

// slowSSIM is the definition: every window on its own, means first, then
// central moments.
func slowSSIM(a, b []float32, c, h, w int) float64 {
	var g [11][11]float64
	var norm float64
	for i := range 11 {
		for j := range 11 {
			g[i][j] = math.Exp(-float64((i-5)*(i-5)+(j-5)*(j-5)) / (2 * 1.5 * 1.5))
			norm += g[i][j]
		}
	}
	q := func(v float32) float64 { return math.Round(math.Min(255, math.Max(0, float64(v)*255))) }
	var sum float64
	n := 0
	for k := range c {
		for y := 5; y < h-5; y++ {
			for x := 5; x < w-5; x++ {
				var ma, mb, saa, sbb, sab float64
				for i := range 11 {
					for j := range 11 {
						p := k*h*w + (y+i-5)*w + x + j - 5
						ma += g[i][j] / norm * q(a[p])
						mb += g[i][j] / norm * q(b[p])
					}
				}
				for i := range 11 {
					for j := range 11 {
						p := k*h*w + (y+i-5)*w + x + j - 5
						da, db := q(a[p])-ma, q(b[p])-mb
						saa += g[i][j] / norm * da * da
						sbb += g[i][j] / norm * db * db
						sab += g[i][j] / norm * da * db
					}
				}
				c1, c2 := 6.5025, 58.5225
				sum += (2*ma*mb + c1) * (2*sab + c2) / ((ma*ma + mb*mb + c1) * (saa + sbb + c2))
				n++
			}
		}
	}
	return sum / float64(n)
}

func TestSSIMAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, s := range [][3]int{{1, 11, 11}, {3, 11, 14}, {1, 23, 12}, {3, 19, 27}} {
		c, h, w := s[0], s[1], s[2]
		a, b := make([]float32, c*h*w), make([]float32, c*h*w)
		for i := range a {
			a[i] = float32(0.5 + 0.4*math.Sin(float64(i)/7))
			b[i] = a[i] + float32(rng.NormFloat64())*0.1
		}
		near(t, "ssim", SSIM(a, b, c, h, w), slowSSIM(a, b, c, h, w), 1e-10)
		near(t, "ssim of equal images", SSIM(a, a, c, h, w), 1, 1e-12)
	}
}

func TestSSIMByHand(t *testing.T) {
	// Two constant images: variances 0, so only the luminance term is left:
	// (2*100*120 + C1) / (100^2 + 120^2 + C1).
	a, b := make([]float32, 12*12), make([]float32, 12*12)
	for i := range a {
		a[i], b[i] = 100./255, 120./255
	}
	near(t, "constants", SSIM(a, b, 1, 12, 12), (24000+6.5025)/(24400+6.5025), 1e-12)
}

func TestSSIMUndefined(t *testing.T) {
	z := make([]float32, 3*12*12)
	nan := append([]float32(nil), z...)
	nan[200] = float32(math.NaN())
	for name, v := range map[string]float64{
		"10 rows":      SSIM(z[:120], z[:120], 1, 10, 12),
		"10 columns":   SSIM(z[:120], z[:120], 1, 12, 10),
		"wrong length": SSIM(z, z[:5], 3, 12, 12),
		"NaN":          SSIM(z, nan, 3, 12, 12),
	} {
		if !math.IsNaN(v) {
			t.Errorf("%s: got %v, want NaN", name, v)
		}
	}
}

func BenchmarkSSIM(b *testing.B) {
	z := make([]float32, 3*512*768)
	for i := range z {
		z[i] = float32(i%251) / 251
	}
	for b.Loop() {
		SSIM(z, z, 3, 512, 768)
	}
}
