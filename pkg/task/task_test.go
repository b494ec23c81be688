package task

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// list is a dataset of given images.
type list []*imageio.Image

func (l list) Len() int                            { return len(l) }
func (l list) Image(i int) (*imageio.Image, error) { return l[i], nil }

// noise draws images of the given sizes.
func noise(sizes ...[2]int) list {
	var l list
	for i, s := range sizes {
		img := imageio.New(3, s[0], s[1])
		rng := data.Rand(1, 2, uint64(i))
		for j := range img.Pix {
			img.Pix[j] = float32(rng.IntN(256)) / 255
		}
		l = append(l, img)
	}
	return l
}

var (
	halfMissing = data.Degradation{Task: "fill", Missing: 0.5}
	rgb         = []metric.Protocol{"rgb"}
)

// zeros returns the samples as they are.
func zeros(y, mask []float32, c, h, w int) ([]float32, error) { return slices.Clone(y), nil }

func TestEvaluateIsTheMeanOfImages(t *testing.T) {
	images := noise([2]int{16, 24}, [2]int{20, 14}, [2]int{32, 32})
	var want float64
	for i, img := range images {
		y, _ := halfMissing.Apply(img.Pix, 3, img.H, img.W, data.Rand(5, 0, uint64(i)))
		var sum float64
		for j, v := range y {
			d := float64(v - img.Pix[j])
			sum += d * d
		}
		want += -10 * math.Log10(sum/float64(len(y))) / 3
	}
	for _, workers := range []int{1, 4} {
		clock := time.Unix(0, 0)
		opt := Options{Seed: 5, Workers: workers}
		if workers == 1 {
			opt.Now = func() time.Time { clock = clock.Add(time.Second); return clock }
		}
		var done atomic.Int32
		opt.Done = func(Item) { done.Add(1) }
		r, err := Evaluate(context.Background(), zeros, images, halfMissing, rgb, opt)
		if err != nil {
			t.Fatal(err)
		}
		if d := math.Abs(float64(r.PSNR["rgb"]) - want); d > 1e-4 {
			t.Errorf("%d workers: PSNR %v, expected %v", workers, r.PSNR["rgb"], want)
		}
		if r.Images != 3 || done.Load() != 3 || len(r.PerItem) != 3 || r.PerItem[1].Width != 14 {
			t.Errorf("%d workers: found %+v", workers, r)
		}
		if workers == 1 && r.Seconds != 3 {
			t.Errorf("seconds %v, expected one for each image", r.Seconds)
		}
	}
}

func TestEvaluateLuma(t *testing.T) {
	images := noise([2]int{24, 24})
	var seen []float32
	d := data.Degradation{Task: "scale", Scale: 2}
	r, err := Evaluate(context.Background(), func(y, mask []float32, c, h, w int) ([]float32, error) {
		seen = mask
		if c != 1 {
			t.Errorf("found %d channels, expected 1", c)
		}
		return images[0].Luma(), nil
	}, images, d, []metric.Protocol{"y"}, Options{Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 24*24 || seen[0] != 1 || seen[1] != 0 {
		t.Error("the mask is not a grid over one channel")
	}
	if !math.IsInf(float64(r.PSNR["y"]), 1) {
		t.Errorf("PSNR of the original %v, expected +Inf", r.PSNR["y"])
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"psnr":{"y":null}`) {
		t.Errorf("JSON %s (%v), expected null for an infinite PSNR", b, err)
	}
}

func TestEvaluateErrors(t *testing.T) {
	boom := errors.New("boom")
	bad := func(y, mask []float32, c, h, w int) ([]float32, error) { return nil, boom }
	if _, err := Evaluate(context.Background(), bad, noise([2]int{16, 16}), halfMissing, rgb, Options{}); !errors.Is(err, boom) {
		t.Errorf("found %v, expected the restorer's error", err)
	}
	short := func(y, mask []float32, c, h, w int) ([]float32, error) { return y[:5], nil }
	if _, err := Evaluate(context.Background(), short, noise([2]int{16, 16}), halfMissing, rgb, Options{}); err == nil {
		t.Error("a result of the wrong size was measured")
	}
	if _, err := Evaluate(context.Background(), zeros, list{}, halfMissing, rgb, Options{}); err == nil {
		t.Error("no images gave a result")
	}
	if _, err := Evaluate(context.Background(), zeros, noise([2]int{16, 16}), data.Degradation{Task: "demosaic"}, rgb, Options{Channels: 1}); err == nil {
		t.Error("a mosaic of one channel was measured")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Evaluate(ctx, zeros, noise([2]int{16, 16}), halfMissing, rgb, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("found %v, expected context.Canceled", err)
	}
}

func TestCrops(t *testing.T) {
	img := imageio.New(3, 13, 30)
	for i := range img.Pix {
		img.Pix[i] = float32(i)
	}
	got, err := Crops(list{img}, 8).Image(0)
	if err != nil {
		t.Fatal(err)
	}
	// Offsets (13-8)/4*2 = 2 and (30-8)/4*2 = 10.
	if got.H != 8 || got.W != 8 || got.Pix[0] != 2*30+10 || got.Pix[8*8+9] != 13*30+3*30+11 {
		t.Errorf("found %dx%d crop beginning %v", got.W, got.H, got.Pix[:3])
	}
	if same, _ := Crops(list{img}, 64).Image(0); same != img {
		t.Error("an image smaller than the crop was changed")
	}
}

func TestSideBySide(t *testing.T) {
	m := SideBySide(1, 2, 2, []float32{0, 1, 2, 3}, []float32{4, 5, 6, 7})
	want := []float32{0, 1, 1, 1, 4, 5, 2, 3, 1, 1, 6, 7}
	if m.W != 6 || !slices.Equal(m.Pix, want) {
		t.Errorf("found %v, expected %v", m.Pix, want)
	}
}

// TestNetworksOfOneAndThreeChannels runs every part of the task on a tiny network.
func TestNetworksOfOneAndThreeChannels(t *testing.T) {
	for _, channels := range []int{1, 3} {
		net, err := model.New(model.Config{Preset: "tiny", Channels: channels}, 1)
		if err != nil {
			t.Fatal(err)
		}
		images := noise([2]int{40, 44}, [2]int{40, 44}, [2]int{44, 40})
		d := data.Degradation{Task: "scale", Scale: 2}
		s, err := data.NewSampler(images, data.SamplerConfig{Batch: 2, Channels: channels, Patch: 16, Degradation: d})
		if err != nil {
			t.Fatal(err)
		}
		r := &Restore{Degradation: d, Channels: channels, Patch: 16, Sampler: s, LossName: "l1",
			Validation: Validation{Images: images, Crop: 32, Protocols: []metric.Protocol{"y"}, Workers: 2}}
		a, err := r.Measure(context.Background(), net)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Measure(context.Background(), net)
		if err != nil {
			t.Fatal(err)
		}
		if a.PSNR["y"] != b.PSNR["y"] || a.Images != 3 || a.Params != net.Params().Count() {
			t.Errorf("%d channels: %+v, then %+v", channels, a, b)
		}
		rep, err := r.Validate(context.Background(), net)
		if err != nil {
			t.Fatal(err)
		}
		if v := rep.Value; rep.Name != "psnr_y" || v != float64(a.PSNR["y"]) || !(v > 3 && v < 60) || rep.Examples != 3 || rep.Lower {
			t.Errorf("%d channels: report %+v", channels, rep)
		}
		if len(rep.Rows) != 1 || len(rep.Rows[0].Fields) != len(r.Columns()) || rep.Rows[0].Fields[1] != "y" {
			t.Errorf("%d channels: rows %v of columns %v", channels, rep.Rows, r.Columns())
		}
		img, err := r.Sample(net, 4)
		if err != nil {
			t.Fatal(err)
		}
		if img.C != channels || img.H != 32 || img.W != 3*32+4 {
			t.Errorf("sample is %d channels of %dx%d", img.C, img.W, img.H)
		}
		// Parameters are read where they are: a change shows without a new graph.
		net.Params().All()[0].Data[0] += 0.5
		if c, err := r.Measure(context.Background(), net); err != nil || c.PSNR["y"] == a.PSNR["y"] {
			t.Errorf("%d channels: PSNR %v after a change of weights (%v)", channels, c.PSNR["y"], err)
		}
	}
}

// TestEvaluateCPU: the processor time is that spent in the restorer, and belongs
// to one worker alone.
func TestEvaluateCPU(t *testing.T) {
	images := noise([2]int{16, 24}, [2]int{20, 14})
	var clock time.Duration
	busy := func(y, mask []float32, c, h, w int) ([]float32, error) {
		clock += 3 * time.Second
		return slices.Clone(y), nil
	}
	opt := Options{Workers: 1, CPU: func() time.Duration { clock += time.Millisecond; return clock }}
	r, err := Evaluate(context.Background(), busy, images, halfMissing, rgb, opt)
	if err != nil {
		t.Fatal(err)
	}
	const mpx = (16*24 + 20*14) / 1e6
	if math.Abs(r.CPU-6.002) > 1e-9 || math.Abs(r.Megapixels-mpx) > 1e-12 || math.Abs(r.CPUPerMpx-6.002/mpx) > 1e-6 {
		t.Errorf("found %v s of processor time over %v Mpx, %v a Mpx", r.CPU, r.Megapixels, r.CPUPerMpx)
	}
	opt.Workers = 2
	if r, err = Evaluate(context.Background(), zeros, images, halfMissing, rgb, opt); err != nil || r.CPU != 0 || r.CPUPerMpx != 0 {
		t.Errorf("two workers: found %v s of processor time (%v), expected none", r.CPU, err)
	}
}
