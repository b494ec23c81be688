package infer

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/baseline"
	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/model"
)

var background = context.Background()

// picture is the scene as a decoded file.
func picture(c, h, w int) *imageio.Image {
	m := imageio.New(c, h, w)
	m.Pix = scene(c, h, w)
	return m
}

func resolve(t testing.TB, task, name string) *Restorer {
	t.Helper()
	r, err := Resolve(task, name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// restorers of a task: a network and a classical method, which must keep to the
// same geometry.
func restorers(t testing.TB, task string) map[string]*Restorer {
	classical := map[string]string{data.Demosaic: "bilinear", data.Scale: "bicubic", data.Fill: "harmonic"}
	return map[string]*Restorer{
		"network":   newFake(3, 2, 3, true).network(task).Restorer(),
		"classical": resolve(t, task, classical[task]),
	}
}

func TestScaleGeometry(t *testing.T) {
	for name, r := range restorers(t, data.Scale) {
		for _, size := range [][2]int{{1, 1}, {2, 2}, {1, 50}, {50, 1}, {13, 17}} {
			for _, c := range []int{1, 3} {
				for _, s := range []int{0, 2, 3, 4} {
					if name == "network" && s > 2 {
						continue // trained for 2
					}
					img := picture(c, size[0], size[1])
					out, err := r.RestoreImage(background, img, ImageOptions{Scale: s})
					if err != nil {
						t.Fatalf("%s, %dx%d, scale %d: %v", name, img.W, img.H, s, err)
					}
					f := max(s, 2)
					if out.W != f*img.W || out.H != f*img.H || out.C != c || out.Gray != (c == 1) || len(out.Pix) != c*out.W*out.H {
						t.Fatalf("%s: %d channels of %dx%d times %d gave %d of %dx%d", name, c, img.W, img.H, f, out.C, out.W, out.H)
					}
					for k := range c {
						for i := range img.H {
							for j := range img.W {
								got, want := out.Pix[(k*out.H+f*i)*out.W+f*j], img.Pix[(k*img.H+i)*img.W+j]
								if got != want {
									t.Fatalf("%s, scale %d: sample (%d,%d) became %v at (%d,%d), expected %v", name, f, i, j, got, f*i, f*j, want)
								}
							}
						}
					}
				}
			}
		}
	}
}

func TestScaleAlpha(t *testing.T) {
	img := picture(3, 2, 3)
	img.Alpha = []float32{0, 1, 1, 0.5, 1, 0}
	out, err := resolve(t, data.Scale, "bicubic").RestoreImage(background, img, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{
		0, 0.5, 1, 1, 1, 1,
		0.25, 0.625, 1, 0.75, 0.5, 0.5,
		0.5, 0.75, 1, 0.5, 0, 0,
		0.5, 0.75, 1, 0.5, 0, 0,
	}
	if different(out.Alpha, want) >= 0 {
		t.Errorf("alpha is %v, expected %v", out.Alpha, want)
	}
}

func TestDemosaicGeometry(t *testing.T) {
	for name, r := range restorers(t, data.Demosaic) {
		for _, size := range [][2]int{{2, 2}, {3, 50}, {50, 3}, {21, 34}} {
			for _, pattern := range append(data.Patterns(), "", "RGGB") {
				if name == "network" {
					r.Network.trained.Pattern = "any"
				}
				img := picture(1, size[0], size[1])
				img.Gray, img.ICC, img.Bits = true, []byte("a gray profile"), 16
				before := append([]float32(nil), img.Pix...)
				out, err := r.RestoreImage(background, img, ImageOptions{Pattern: pattern})
				if err != nil {
					t.Fatalf("%s, %s: %v", name, pattern, err)
				}
				if out.C != 3 || out.W != img.W || out.H != img.H || out.Gray || out.ICC != nil || out.Bits != 16 {
					t.Fatalf("%s: mosaic gave %d channels of %dx%d, gray %v, %d bits, profile %q", name, out.C, out.W, out.H, out.Gray, out.Bits, out.ICC)
				}
				colours := strings.ToLower(pattern)
				if colours == "" {
					colours = "rggb"
				}
				for i := range img.H {
					for j := range img.W {
						c := strings.IndexByte("rgb", colours[i%2*2+j%2])
						if got := out.Pix[(c*img.H+i)*img.W+j]; got != img.Pix[i*img.W+j] {
							t.Fatalf("%s, %s: sample (%d,%d) became %v in channel %d, expected %v", name, pattern, i, j, got, c, img.Pix[i*img.W+j])
						}
					}
				}
				if different(before, img.Pix) >= 0 {
					t.Fatalf("%s: the mosaic was changed", name)
				}
			}
		}
	}
}

// A network trained on one pattern restores a mosaic of another as the part of
// one of its own that it is.
func TestMosaicOfAnotherPattern(t *testing.T) {
	net, err := model.New(model.Config{Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	trained := New("rggb only", net, data.Degradation{Task: data.Demosaic, Pattern: "rggb"})
	const h, w = 71, 76
	// The mosaic bggr of a picture is, from row 1 and column 1 on, the mosaic rggb
	// of the picture from there on.
	whole := picture(3, h+1, w+1)
	mosaic := func(pattern string, dy, dx, h, w int) *imageio.Image {
		mask, err := data.BayerMask(pattern, 3, h, w)
		if err != nil {
			t.Fatal(err)
		}
		m := imageio.New(1, h, w)
		for i := range mask {
			if c, y, x := place(i, h, w); mask[i] != 0 {
				m.Pix[y*w+x] = whole.Pix[(c*whole.H+y+dy)*whole.W+x+dx]
			}
		}
		return m
	}
	for _, c := range []struct {
		pattern string
		dy, dx  int
	}{{"bggr", 1, 1}, {"gbrg", 1, 0}, {"grbg", 0, 1}} {
		got, err := trained.RestoreImage(background, mosaic(c.pattern, c.dy, c.dx, h, w), ImageOptions{Pattern: c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		full, err := trained.RestoreImage(background, mosaic("rggb", 0, 0, h+c.dy, w+c.dx), ImageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		// They differ by what the row and the column before the first hold, as far
		// as blocks and the initial interpolation reach.
		far, equal := trained.ReceptiveField()/2+2, 0
		for k := range 3 {
			for y := c.dy * far; y < h; y++ {
				for x := c.dx * far; x < w; x++ {
					a, b := got.Pix[(k*h+y)*w+x], full.Pix[(k*full.H+y+c.dy)*full.W+x+c.dx]
					if equal++; a != b {
						t.Fatalf("%s: channel %d, pixel (%d,%d) is %v, expected %v", c.pattern, k, x, y, a, b)
					}
				}
			}
		}
		if equal == 0 {
			t.Fatalf("%s: nothing lies beyond %d pixels", c.pattern, far)
		}
		if out := len(got.Pix); out != 3*h*w || got.H != h || got.W != w {
			t.Errorf("%s: result has %d values, expected %d", c.pattern, out, 3*h*w)
		}
	}
}

func TestFillGeometry(t *testing.T) {
	for name, r := range restorers(t, data.Fill) {
		for _, c := range []int{1, 3} {
			const h, w = 19, 23
			img := picture(c, h, w)
			img.ICC = []byte("profile")
			img.Alpha = make([]float32, h*w)
			mask := imageio.New(3, h, w)
			for i := range h * w {
				img.Alpha[i] = 1
				switch {
				case i%7 == 0:
					img.Alpha[i] = 0
				case i%7 == 1:
					img.Alpha[i] = 0.25
				case i%7 == 2:
					mask.Pix[i], mask.Pix[h*w+i], mask.Pix[2*h*w+i] = 1, 1, 1
				case i%7 == 3:
					mask.Pix[i] = 1 // red is not white
				}
			}
			missing := func(i int) bool { return i%7 == 0 || i%7 == 2 }
			before := append([]float32(nil), img.Pix...)
			out, err := r.RestoreImage(background, img, ImageOptions{Mask: mask})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if out.C != c || out.W != w || out.H != h || string(out.ICC) != "profile" {
				t.Fatalf("%s: result is %d channels of %dx%d, profile %q", name, out.C, out.W, out.H, out.ICC)
			}
			changed := 0
			for i := range h * w {
				for k := range c {
					if out.Pix[k*h*w+i] != img.Pix[k*h*w+i] {
						changed++
						if !missing(i) {
							t.Fatalf("%s: pixel %d was known and changed", name, i)
						}
					}
				}
				want := img.Alpha[i]
				if missing(i) {
					want = 1
				}
				if out.Alpha[i] != want {
					t.Fatalf("%s: alpha of pixel %d is %v, expected %v", name, i, out.Alpha[i], want)
				}
			}
			if changed == 0 {
				t.Fatalf("%s: nothing was filled", name)
			}
			if different(before, img.Pix) >= 0 {
				t.Fatalf("%s: the image was changed", name)
			}

			for i := range img.Alpha { // transparent or opaque, nothing between
				if img.Alpha[i] != 0 {
					img.Alpha[i] = 1
				}
			}
			if out, err = r.RestoreImage(background, img, ImageOptions{}); err != nil || out.Alpha != nil {
				t.Errorf("%s: holes alone gave %v and alpha of %d, expected an opaque image", name, err, len(out.Alpha))
			}
			black := imageio.New(1, h, w)
			img.Alpha = nil
			if out, err = r.RestoreImage(background, img, ImageOptions{Mask: black}); err != nil || different(out.Pix, img.Pix) >= 0 {
				t.Errorf("%s: a mask without holes did not return the image (%v)", name, err)
			}
		}
	}
}

func TestImageRefusals(t *testing.T) {
	opaque := picture(3, 8, 9)
	visible := picture(1, 8, 9)
	visible.Alpha = make([]float32, 72)
	for i := range visible.Alpha {
		visible.Alpha[i] = 1
	}
	white := imageio.New(1, 8, 9)
	for i := range white.Pix {
		white.Pix[i] = 1
	}
	torn := picture(3, 8, 9)
	torn.Pix = torn.Pix[1:]
	for _, c := range []struct {
		task, want string
		img        *imageio.Image
		o          ImageOptions
	}{
		{data.Demosaic, "mosaic: found a colour image", opaque, ImageOptions{}},
		{data.Demosaic, `pattern: found "rgbg", expected rggb`, picture(1, 8, 9), ImageOptions{Pattern: "rgbg"}},
		{data.Demosaic, "mosaic: found 9x1, expected at least 2x2", picture(1, 1, 9), ImageOptions{}},
		{data.Demosaic, "mosaic: found 1x1, expected at least 2x2", picture(1, 1, 1), ImageOptions{}},
		{data.Demosaic, "scale: found 2, expected none", picture(1, 8, 9), ImageOptions{Scale: 2}},
		{data.Demosaic, "mask: found one, expected none", picture(1, 8, 9), ImageOptions{Mask: white}},
		{data.Scale, "scale: found 5, expected 2, 3 or 4", opaque, ImageOptions{Scale: 5}},
		{data.Scale, "scale: found 3, expected 2, which fake-scale was trained for", opaque, ImageOptions{Scale: 3}},
		{data.Scale, "pattern: found", opaque, ImageOptions{Pattern: "rggb"}},
		{data.Scale, "fewer than 2^31 pixels", &imageio.Image{W: 1 << 15, H: 1 << 14, C: 1}, ImageOptions{}},
		{data.Fill, "mask: found none and an image without alpha", opaque, ImageOptions{}},
		{data.Fill, "mask: found none and no pixel of alpha 0", visible, ImageOptions{}},
		{data.Fill, "mask: all 72 pixels are missing", opaque, ImageOptions{Mask: white}},
		{data.Fill, "mask: found 9x7, expected the image's 9x8", opaque, ImageOptions{Mask: imageio.New(1, 7, 9)}},
		{data.Fill, "image: found 215 samples", torn, ImageOptions{Mask: white}},
		{data.Fill, "image: found 0x0", &imageio.Image{C: 1}, ImageOptions{}},
		{data.Fill, "tile: found -3", picture(1, 8, 9), ImageOptions{Options: Options{Tile: -3}, Mask: hole(8, 9)}},
	} {
		r := newFake(3, 2, 3, false).network(c.task).Restorer()
		out, err := r.RestoreImage(background, c.img, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || out != nil {
			t.Errorf("%s: found %v, expected one line with %q", c.task, err, c.want)
		}
	}
}

// hole is a mask with one white pixel.
func hole(h, w int) *imageio.Image {
	m := imageio.New(1, h, w)
	m.Pix[w+1] = 1
	return m
}

func TestRestoreKeepsTypeAndDepth(t *testing.T) {
	n := newFake(3, 2, 3, false).network(data.Scale)
	r := image.Rect(3, 4, 10, 9) // an origin that is not (0,0)
	gray, gray16 := image.NewGray(r), image.NewGray16(r)
	rgb, rgb16 := image.NewNRGBA(r), image.NewNRGBA64(r)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			v := uint16(x*5501 + y*771)
			gray.Set(x, y, color.Gray16{Y: v})
			gray16.Set(x, y, color.Gray16{Y: v})
			rgb.Set(x, y, color.NRGBA64{R: v, G: 3 * v, B: ^v, A: 65535})
			rgb16.Set(x, y, color.NRGBA64{R: v, G: 3 * v, B: ^v, A: 65535})
		}
	}
	for _, in := range []image.Image{gray, gray16, rgb, rgb16} {
		out, err := n.Restore(background, in, WithScale(2), WithWorkers(2), WithTile(4), WithMaxMemory(1<<30), WithProgress(func(int, int) {}))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := out.Bounds(), image.Rect(0, 0, 14, 10); got != want {
			t.Errorf("%T: bounds %v, expected %v", in, got, want)
		}
		if got, want := out.ColorModel(), in.ColorModel(); got != want {
			t.Errorf("%T gave %T", in, out)
		}
		for y := range r.Dy() {
			for x := range r.Dx() {
				if got, want := out.At(2*x, 2*y), in.At(r.Min.X+x, r.Min.Y+y); got != want {
					t.Fatalf("%T: sample (%d,%d) is %v, expected %v", in, x, y, got, want)
				}
			}
		}
	}
	filled, err := newFake(3, 2, 3, false).network(data.Fill).Restore(background, rgb, WithMask(hole(5, 7).ToImage()))
	if err != nil {
		t.Fatal(err)
	}
	if filled.At(1, 1) == rgb.At(4, 5) || filled.At(2, 2) != rgb.At(5, 6) {
		t.Error("the white pixel was not filled, or another was")
	}
	if _, err := n.Restore(background, rgb, WithPattern("rggb")); err == nil {
		t.Error("a pattern was accepted for scaling")
	}
}

func TestSimulate(t *testing.T) {
	for _, c := range []struct {
		d     data.Degradation
		name  string
		least float64 // what the method reaches on the scene, rounded down
	}{
		{data.Degradation{Task: data.Demosaic, Pattern: "grbg"}, "malvar", 24},
		{data.Degradation{Task: data.Scale}, "bicubic", 22},
		{data.Degradation{Task: data.Fill, Missing: 0.5}, "harmonic", 22},
	} {
		r := resolve(t, c.d.Task, c.name)
		img := picture(3, 60, 64)
		a, err := r.Simulate(background, img, c.d, 7, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(a.PSNR) != 3 || a.PSNR["rgb"] < c.least || !(a.SSIM["rgb"] > 0.5 && a.SSIM["rgb"] < 1) || a.Restored.C != 3 {
			t.Errorf("%s: PSNR %v, SSIM %v, expected at least %v dB", c.name, a.PSNR, a.SSIM, c.least)
		}
		b, err := r.Simulate(background, img, c.d, 7, Options{})
		if err != nil || different(a.Restored.Pix, b.Restored.Pix) >= 0 {
			t.Errorf("%s: the same seed gave another image (%v)", c.name, err)
		}
		if c.d.Drawn() {
			b, err := r.Simulate(background, img, c.d, 8, Options{})
			if err != nil || different(a.Restored.Pix, b.Restored.Pix) < 0 {
				t.Errorf("%s: another seed gave the same image (%v)", c.name, err)
			}
		}
	}
	r := resolve(t, data.Fill, "harmonic")
	small, err := r.Simulate(background, picture(1, 3, 3), data.Degradation{Task: data.Fill, Missing: 0.3}, 1, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := small.PSNR["rgb"]; !ok || len(small.PSNR) == 3 || len(small.SSIM) != 0 || small.Restored.C != 1 {
		t.Errorf("3x3 pixels have the figures %v and %v", small.PSNR, small.SSIM)
	}
	var wrong *TaskError
	if _, err := r.Simulate(background, picture(3, 9, 9), data.Degradation{Task: data.Scale}, 1, Options{}); !errors.As(err, &wrong) {
		t.Errorf("simulating another task gave %v", err)
	}
	if _, err := r.Simulate(background, picture(3, 9, 9), data.Degradation{Task: data.Fill}, 1, Options{}); err == nil {
		t.Error("a degradation without missing pixels was accepted")
	}
	x2 := newFake(3, 2, 3, false).network(data.Scale).Restorer()
	if _, err := x2.Simulate(background, picture(3, 9, 9), data.Degradation{Task: data.Scale, Scale: 3}, 1, Options{}); err == nil {
		t.Error("a network for x2 was simulated on x3")
	}
}

// tinyFile writes the weights of a tiny network to a file.
func tinyFile(t testing.TB, change func(f *checkpoint.File)) string {
	t.Helper()
	net, err := model.New(model.Config{Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	f := model.Save(net, `{"task":"demosaic","pattern":"any"}`, nil)
	if change != nil {
		change(f)
	}
	path := filepath.Join(t.TempDir(), "net.safetensors")
	if err := checkpoint.WriteFile(path, f); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenFile(t *testing.T) {
	path := tinyFile(t, nil)
	n, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if n.Name() != path || n.Task() != data.Demosaic || n.Trained().Pattern != "any" || n.Params() != n.Model().Params().Count() || n.ReceptiveField() != 2*(n.Model().Reach(0)+n.Model().Reach(1))+1 {
		t.Errorf("opened %q for %q (%+v), %d parameters, field %d", n.Name(), n.Task(), n.Trained(), n.Params(), n.ReceptiveField())
	}
	net, _ := model.New(model.Config{Preset: "tiny"}, 3)
	y, mask := degraded(t, n.Trained(), 3, 20, 22)
	got, err := n.RestorePlanar(background, y, mask, 3, 20, 22, Options{})
	if err != nil || different(got, forward(t, net, y, mask, 20, 22)) >= 0 {
		t.Errorf("the file restores differently from the network saved to it (%v)", err)
	}
	r, err := Resolve(data.Demosaic, path)
	if err != nil || r.Network == nil || r.Params != n.Params() || r.Name != path {
		t.Errorf("Resolve gave %+v, %v", r, err)
	}
	if again, err := r.Restore(background, y, mask, 3, 20, 22); err != nil || different(got, again) >= 0 {
		t.Errorf("the restorer differs from the network (%v)", err)
	}
	var wrong *TaskError
	if _, err := Resolve(data.Fill, path); !errors.As(err, &wrong) || wrong.Task != data.Demosaic {
		t.Errorf("a demosaicking file for filling gave %v", err)
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	good, err := os.ReadFile(tinyFile(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	huge := append([]byte{0, 0, 0, 0, 1, 0, 0, 0}, good[8:]...) // a header of 4 GB
	for name, path := range map[string]string{
		"empty":          write("empty.safetensors", nil),
		"truncated":      write("short.safetensors", good[:len(good)-1]),
		"longer":         write("long.safetensors", append(bytes.Clone(good), 0)),
		"4 GB header":    write("huge.safetensors", huge),
		"an image":       write("image.safetensors", []byte("\x89PNG\r\n\x1a\n0123456789")),
		"folder":         dir,
		"no model":       tinyFile(t, func(f *checkpoint.File) { delete(f.Metadata, model.MetaModel) }),
		"no task":        tinyFile(t, func(f *checkpoint.File) { delete(f.Metadata, model.MetaTask) }),
		"unknown task":   tinyFile(t, func(f *checkpoint.File) { f.Metadata[model.MetaTask] = `{"task":"paint"}` }),
		"task is text":   tinyFile(t, func(f *checkpoint.File) { f.Metadata[model.MetaTask] = `demosaic` }),
		"tensor missing": tinyFile(t, func(f *checkpoint.File) { f.Tensors = f.Tensors[1:] }),
		"NaN": tinyFile(t, func(f *checkpoint.File) {
			nan := append([]float32(nil), f.Tensors[0].Data...)
			nan[1] = float32(math.NaN())
			f.Tensors[0].Data = nan
		}),
	} {
		n, err := Open(path)
		if err == nil || n != nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: found %v, expected one line that names the file", name, err)
		}
		if _, err := Resolve("", path); err == nil {
			t.Errorf("%s: Resolve accepted it", name)
		}
	}
}

func TestNotFound(t *testing.T) {
	for _, c := range []struct{ task, name, nearest string }{
		{data.Demosaic, "malvr", "malvar"},
		{data.Demosaic, "mennon", "menon"},
		{data.Scale, "bicubik", "bicubic"},
		{data.Fill, "nothing like it", ""},
		{"", "harmnic", "harmonic"},
		{data.Fill, "", ""},
	} {
		_, err := Resolve(c.task, c.name)
		var nf *NotFoundError
		if !errors.As(err, &nf) || nf.Nearest != c.nearest || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), strings.Join(nf.Known, ", ")) {
			t.Errorf("%s %q: found %v, expected the nearest name %q", c.task, c.name, err, c.nearest)
		}
	}
	var nf *NotFoundError
	if _, err := Open("no/such.safetensors"); !errors.As(err, &nf) {
		t.Errorf("a missing file gave %v", err)
	}
	if _, err := Resolve("paint", "malvar"); err == nil || !strings.Contains(err.Error(), "demosaic | scale | fill") {
		t.Errorf("an unknown task gave %v", err)
	}
	var several *AmbiguousError
	if _, err := Resolve("", "bilinear"); !errors.As(err, &several) || !strings.Contains(err.Error(), "demosaic, scale") {
		t.Errorf("a name of two tasks gave %v", err)
	}
	var wrong *TaskError
	if _, err := Resolve(data.Fill, "malvar"); !errors.As(err, &wrong) || wrong.Task != data.Demosaic {
		t.Errorf("a demosaicking method for filling gave %v", err)
	}
	if r := resolve(t, "", "malvar"); r.Task != data.Demosaic || r.Params != 0 {
		t.Errorf("malvar is %+v", r)
	}
}

func TestNamesResolve(t *testing.T) {
	for _, task := range Tasks {
		names := Names(task)
		if len(names) < len(baseline.Names(task)) {
			t.Errorf("%s: only %v", task, names)
		}
		for _, name := range names {
			if r := resolve(t, task, name); r.Name != name || r.Task != task {
				t.Errorf("%s: %q resolves to %+v", task, name, r)
			}
		}
		if name, ok := Default(task, 2); ok {
			if r := resolve(t, task, name); r.Network == nil {
				t.Errorf("%s: the default %q is no network", task, name)
			}
		}
	}
	if _, ok := Default(data.Scale, 3); ok && !strings.Contains(strings.Join(Names(data.Scale), " "), "uglr-x3") {
		t.Error("a default for x3 that no name has")
	}
}
