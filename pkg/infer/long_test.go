package infer

import (
	"bytes"
	"image"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/internal/testdata"
	"github.com/unrollnet/unrollnet/pkg/model"
)

func long(t *testing.T) {
	t.Helper()
	if os.Getenv("UNROLLNET_LONG") == "" {
		t.Skip("takes minutes: set UNROLLNET_LONG=1")
	}
}

// peakMemory returns the most memory the process has had resident, in bytes, as
// Linux says (VmHWM).
func peakMemory(t *testing.T) int64 {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("peak memory is read from /proc")
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Skip("no VmHWM in /proc/self/status")
	return 0
}

// resetPeak makes VmHWM start anew from what is resident now.
func resetPeak(t *testing.T) {
	t.Helper()
	runtime.GC()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Logf("the peak includes what ran before: %v", err)
	}
}

const bound24 = 1_500_000_000 // bytes

// A photograph of 24 megapixels goes from an encoded mosaic to an encoded picture
// in less than 1.5 GB, with the default options and the default network.
func TestLong24MegapixelMosaic(t *testing.T) {
	long(t)
	const h, w = 4000, 6000
	mosaic := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			mosaic.Pix[y*w+x] = uint8(40 + (x*x/977+y*y/1913+x*y/4001)%170)
		}
	}
	var file bytes.Buffer
	if err := imageio.Encode(&file, imageio.FromImage(mosaic), "png"); err != nil {
		t.Fatal(err)
	}
	mosaic = nil
	net, err := model.New(model.Config{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	n := New("default", net, data.Degradation{Task: data.Demosaic, Pattern: "any"})
	resetPeak(t)

	start := time.Now()
	img, err := imageio.Decode(&file, "mosaic.png", imageio.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	decoded := peakMemory(t)
	var phase int64
	out, err := n.RestoreImage(background, img, ImageOptions{Options: Options{Workers: 2, Progress: func(done, total int) {
		if done == 1 {
			phase = peakMemory(t)
			t.Logf("%d tiles", total)
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	restored := peakMemory(t)
	if err := imageio.Encode(io.Discard, out, "png"); err != nil {
		t.Fatal(err)
	}
	peak := peakMemory(t)
	t.Logf("peak after decoding %d MB, at the first tile %d, after restoring %d, after encoding %d; %.0f s; a window's pixel takes %.0f bytes",
		decoded>>20, phase>>20, restored>>20, peak>>20, time.Since(start).Seconds(), n.engine.cache.measured)
	if peak >= bound24 {
		t.Errorf("peak memory is %d MB, expected less than %d", peak>>20, bound24>>20)
	}
	for _, v := range []int{0, h*w - 1, 2*h*w + w + 1} {
		if c, y, x := place(v, h, w); out.Pix[v] != img.Pix[y*w+x] && y%2+x%2 == c {
			t.Errorf("the sample at channel %d, pixel (%d,%d) was not kept", c, x, y)
		}
	}
}

// The same on a complete photograph that is degraded first and compared after.
func TestLong24MegapixelSimulation(t *testing.T) {
	long(t)
	const h, w = 4000, 6000
	photo := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range photo.Pix {
		x, y := i/4%w, i/4/w
		photo.Pix[i] = uint8(40 + (x*x/977+y*y/1913+x*y/4001+7*(i%4))%170)
		if i%4 == 3 {
			photo.Pix[i] = 255
		}
	}
	var file bytes.Buffer
	if err := imageio.Encode(&file, imageio.FromImage(photo), "png"); err != nil {
		t.Fatal(err)
	}
	photo = nil
	net, err := model.New(model.Config{Preset: "tiny"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	n := New("tiny", net, data.Degradation{Task: data.Demosaic, Pattern: "any"})
	resetPeak(t)
	img, err := imageio.Decode(&file, "photo.png", imageio.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	var phase int64
	s, err := n.Simulate(background, img, data.Degradation{Task: data.Demosaic}, 1, Options{Workers: 2, Progress: func(int, int) { phase = peakMemory(t) }})
	if err != nil {
		t.Fatal(err)
	}
	peak := peakMemory(t)
	t.Logf("PSNR %.2f; peak after restoring %d MB, after measuring %d MB", s.PSNR["rgb"], phase>>20, peak>>20)
	if peak >= bound24 {
		t.Errorf("peak memory is %d MB, expected less than %d", peak>>20, bound24>>20)
	}
}

// The default network on a photograph, all tile sizes and worker counts.
func TestLongPhotographTiles(t *testing.T) {
	long(t)
	img, err := imageio.DecodeFile(testdata.Images(t, "kodak")[0], imageio.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []model.Config{{}, {Features: model.Features{Carry: on()}}} {
		net, err := model.New(cfg, 1)
		if err != nil {
			t.Fatal(err)
		}
		d := data.Degradation{Task: data.Demosaic}
		n := New(filepath.Base(t.Name()), net, d)
		y, mask := d.Apply(img.Pix, 3, img.H, img.W, nil)
		want := forward(t, net, y, mask, img.H, img.W)
		for _, opt := range append(tilings(), Options{Tile: 1 << 20, Workers: 1}) {
			if opt.Tile == 32 && opt.Workers != 2 || opt.Tile == 64 && opt.Workers == 1 {
				continue
			}
			got, err := n.RestorePlanar(background, y, mask, 3, img.H, img.W, opt)
			if err != nil {
				t.Fatal(err)
			}
			if i := different(got, want); i >= 0 {
				t.Errorf("%+v: element %d is %v, expected %v", opt, i, got[i], want[i])
			}
		}
	}
}
