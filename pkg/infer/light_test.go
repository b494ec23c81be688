package infer

import (
	"math"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// shot is the scene as a camera of the given balance and matrix would record it:
// linear light, through the inverse of both.
func shot(h, w int, pattern string) (mosaic, want *imageio.Image) {
	want = picture(3, h, w)
	for i, v := range want.Pix {
		want.Pix[i] = 0.1 + 0.8*min(1, max(0, v))
	}
	raw := &imageio.Raw{Pattern: pattern, Balance: [3]float64{2, 1, 1.6}, Exposure: 1,
		Matrix: [9]float64{1.5, -0.5, 0, -0.25, 1.25, 0, 0, -0.5, 1.5}}
	inverse := [9]float64{5. / 7, 2. / 7, 0, 1. / 7, 6. / 7, 0, 1. / 21, 2. / 7, 2. / 3}
	mosaic = imageio.New(1, h, w)
	mosaic.Bits, mosaic.Raw = 16, raw
	n := h * w
	for i := range n {
		var v [3]float64
		for c := range 3 {
			v[c] = float64(imageio.SRGB().Decode(want.Pix[c*n+i]))
		}
		c := strings.IndexByte("rgb", pattern[i/w%2*2+i%w%2])
		mosaic.Pix[i] = float32((inverse[3*c]*v[0] + inverse[3*c+1]*v[1] + inverse[3*c+2]*v[2]) / raw.Balance[c])
	}
	return mosaic, want
}

// A camera's mosaic becomes the scene, whatever its pattern; --linear too; and
// the mosaic is left as it is.
func TestCameraMosaic(t *testing.T) {
	for _, name := range []string{"menon", "uglr-demosaic"} {
		r := resolve(t, data.Demosaic, name)
		for _, pattern := range []string{"rggb", "bggr", "grbg", "gbrg"} {
			for _, linear := range []bool{false, true} {
				if name != "menon" && (pattern != "grbg" || linear) {
					continue // one is enough of the slow one
				}
				mosaic, want := shot(32, 30, pattern)
				before := append([]float32(nil), mosaic.Pix...)
				var o ImageOptions
				o.Linear = linear
				got, err := r.RestoreImage(background, mosaic, o)
				if err != nil {
					t.Fatal(err)
				}
				if got.C != 3 || got.Bits != 16 || got.Raw != nil {
					t.Fatalf("%d channels, %d bits, raw %v", got.C, got.Bits, got.Raw)
				}
				var sum float64
				for i, v := range got.Pix {
					d := float64(v - want.Pix[i])
					sum += d * d
				}
				if psnr := -10 * math.Log10(sum/float64(len(got.Pix))); psnr < 30 {
					t.Errorf("%s, %s, linear %v: PSNR %.1f dB", name, pattern, linear, psnr)
				}
				for i, v := range before {
					if mosaic.Pix[i] != v {
						t.Fatal("the mosaic was changed")
					}
				}
			}
		}
	}
	mosaic, _ := shot(8, 8, "rggb")
	r := resolve(t, data.Demosaic, "menon")
	if _, err := r.RestoreImage(background, mosaic, ImageOptions{Pattern: "bggr"}); err == nil || !strings.Contains(err.Error(), `pattern: found "bggr", expected "rggb"`) {
		t.Errorf("another pattern: %v", err)
	}
	if _, err := resolve(t, data.Scale, "bicubic").RestoreImage(background, mosaic, ImageOptions{}); err == nil || !strings.Contains(err.Error(), "mosaic: found that of a camera") {
		t.Errorf("scaling of a mosaic: %v", err)
	}
	if _, err := r.Simulate(background, mosaic, data.Degradation{Task: data.Demosaic}, 1, Options{}); err == nil {
		t.Error("a mosaic was taken for a complete image")
	}
}

// In linear light the pixel between black and white is half the light, not half
// the coded value; samples are kept.
func TestLinear(t *testing.T) {
	m := imageio.New(1, 1, 2)
	m.Pix[1] = 1
	r := resolve(t, data.Scale, "bilinear")
	for linear, want := range map[bool]float64{false: 0.5, true: 0.735357} {
		var o ImageOptions
		o.Linear = linear
		got, err := r.RestoreImage(background, m, o)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(float64(got.Pix[1])-want) > 1e-5 || got.Pix[0] != 0 || got.Pix[2] != 1 {
			t.Errorf("linear %v: got %v, want %v in the middle", linear, got.Pix[:4], want)
		}
	}
	sim, err := r.Simulate(background, picture(3, 12, 14), data.Degradation{Task: data.Scale, Scale: 2}, 1, Options{Linear: true})
	if err != nil {
		t.Fatal(err)
	}
	if p := sim.PSNR["rgb"]; !(p > 15) {
		t.Errorf("simulated in linear light: PSNR %v", p)
	}
}
