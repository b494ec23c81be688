package task

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/metric"
)

// Restorer computes the whole image (C,H,W) from its samples y (C,H,W), zero
// where mask (C,H,W) is zero.
type Restorer func(y, mask []float32, c, h, w int) ([]float32, error)

// Score is a figure in dB or an SSIM. In JSON, values that are not finite (the
// PSNR of equal images, a metric that an image is too small for) are null.
type Score float64

// MarshalJSON implements json.Marshaler.
func (s Score) MarshalJSON() ([]byte, error) {
	if v := float64(s); math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(s))
}

// Result is what Evaluate measured: means of per-image values, by protocol.
type Result struct {
	Model   string           `json:"model"`
	Task    string           `json:"task,omitempty"`
	Data    string           `json:"data"`
	Images  int              `json:"images"`
	Params  int              `json:"params"`
	PSNR    map[string]Score `json:"psnr"`
	SSIM    map[string]Score `json:"ssim"`
	Seconds float64          `json:"seconds"` // spent restoring, all images together
	// Megapixels is the size of all images together, 1e6 pixels each.
	Megapixels float64 `json:"megapixels"`
	// CPU is the processor time spent restoring, in seconds, and CPUPerMpx that
	// over Megapixels; both 0 where it was not measured.
	CPU       float64 `json:"cpu_seconds,omitempty"`
	CPUPerMpx float64 `json:"cpu_seconds_per_megapixel,omitempty"`
	PerItem   []Item  `json:"per_image,omitempty"`
}

// Item is the result for one image.
type Item struct {
	Name    string           `json:"name"`
	Width   int              `json:"width"`
	Height  int              `json:"height"`
	PSNR    map[string]Score `json:"psnr"`
	SSIM    map[string]Score `json:"ssim"`
	Seconds float64          `json:"seconds"`
	CPU     float64          `json:"cpu_seconds,omitempty"` // 0 where not measured
}

// Options of Evaluate. The zero value measures all images in colour.
type Options struct {
	Channels int              // 3 or 0: colour; 1: studio-range luma
	Seed     uint64           // of masks and noise; image i draws from (Seed, i)
	Limit    int              // measure the first Limit images only; 0 for all
	Workers  int              // images at a time; the restorer must allow it. At least 1
	Now      func() time.Time // clock for Result.Seconds; nil leaves it 0
	Done     func(Item)       // called after each image, in order of completion, never concurrently
	// CPU tells the processor time of the whole process; nil leaves Result.CPU 0.
	// It is asked with one worker alone: of several, none knows its share.
	CPU func() time.Duration
}

// Evaluate degrades images by d, restores them whole and compares with the
// originals by each protocol. Every mean is that of the per-image values; a
// colour image of one channel counts as three equal ones. The result does not
// depend on opt.Workers. Model, Data and Params are left to the caller.
func Evaluate(ctx context.Context, restore Restorer, images data.Dataset, d data.Degradation, protocols []metric.Protocol, opt Options) (Result, error) {
	d, err := d.Resolved()
	if err != nil {
		return Result{}, err
	}
	n := images.Len()
	if opt.Limit > 0 {
		n = min(n, opt.Limit)
	}
	if n == 0 {
		return Result{}, fmt.Errorf("evaluation: found no images, expected at least one")
	}
	if opt.Channels == 0 {
		opt.Channels = 3
	}
	if opt.Workers > 1 {
		opt.CPU = nil
	}
	if err := d.CheckChannels(opt.Channels); err != nil {
		return Result{}, err
	}
	items := make([]Item, n)
	err = parallel(ctx, n, opt.Workers, func(i int) error {
		item, err := evaluateOne(restore, images, i, d, protocols, opt)
		if err != nil {
			return fmt.Errorf("%s: %w", nameOf(images, i), err)
		}
		items[i] = item
		return nil
	}, func(i int) {
		if opt.Done != nil {
			opt.Done(items[i])
		}
	})
	if err != nil {
		return Result{}, err
	}
	return summarise(d.Task, protocols, items), nil
}

// DefaultProtocols returns how results of a degradation are usually compared:
// upscaled images and networks of one channel by luma, mosaics in colour with
// and without a border, others in colour.
func DefaultProtocols(d data.Degradation, channels int) []metric.Protocol {
	switch {
	case channels == 1 || d.Task == data.Scale:
		return []metric.Protocol{metric.Y}
	case d.Task == data.Demosaic:
		return []metric.Protocol{metric.RGB, metric.CPSNR}
	}
	return []metric.Protocol{metric.RGB}
}

// Planar returns the channels (1: studio-range luma, 3: colour) of an image as
// (C,H,W).
func Planar(img *imageio.Image, channels int) []float32 {
	if channels == 1 {
		return img.Luma()
	}
	return img.RGB().Pix
}

// nameOf returns the name of image i, or its number where images have none.
func nameOf(images data.Dataset, i int) string {
	if n, ok := images.(data.Namer); ok {
		return n.Name(i)
	}
	return fmt.Sprintf("image %d", i)
}

func evaluateOne(restore Restorer, images data.Dataset, i int, d data.Degradation, protocols []metric.Protocol, opt Options) (Item, error) {
	img, err := images.Image(i)
	if err != nil {
		return Item{}, err
	}
	c, h, w := opt.Channels, img.H, img.W
	clean := Planar(img, c)
	y, mask := d.Apply(clean, c, h, w, data.Rand(opt.Seed, 0, uint64(i)))
	item := Item{Name: nameOf(images, i), Width: w, Height: h, PSNR: map[string]Score{}, SSIM: map[string]Score{}}
	var start time.Time
	var cpu time.Duration
	if opt.Now != nil {
		start = opt.Now()
	}
	if opt.CPU != nil {
		cpu = opt.CPU()
	}
	got, err := restore(y, mask, c, h, w)
	if err != nil {
		return Item{}, err
	}
	if opt.CPU != nil {
		item.CPU = (opt.CPU() - cpu).Seconds()
	}
	if opt.Now != nil {
		item.Seconds = opt.Now().Sub(start).Seconds()
	}
	if len(got) != len(clean) {
		return Item{}, fmt.Errorf("restored to %d values, expected %d", len(got), len(clean))
	}
	for _, p := range protocols {
		v, err := metric.Measure(p, d.Scale, clean, got, c, h, w)
		if err != nil {
			return Item{}, fmt.Errorf("protocol %s: %w", p, err)
		}
		item.PSNR[string(p)] = Score(v)
	}
	item.SSIM[ssimName(c)] = Score(metric.SSIM(clean, got, c, h, w))
	return item, nil
}

// ssimName names what SSIM is computed on: all channels ("rgb") or luma ("y").
func ssimName(channels int) string {
	if channels == 1 {
		return "y"
	}
	return "rgb"
}

func summarise(task string, protocols []metric.Protocol, items []Item) Result {
	r := Result{Task: task, Images: len(items), PSNR: map[string]Score{}, SSIM: map[string]Score{}, PerItem: items}
	mean := func(get func(Item) (Score, bool)) (Score, bool) {
		var sum float64
		for _, it := range items {
			v, ok := get(it)
			if !ok {
				return 0, false
			}
			sum += float64(v)
		}
		return Score(sum / float64(len(items))), true
	}
	for _, p := range protocols {
		r.PSNR[string(p)], _ = mean(func(it Item) (Score, bool) { v, ok := it.PSNR[string(p)]; return v, ok })
	}
	for _, name := range []string{"rgb", "y"} {
		if v, ok := mean(func(it Item) (Score, bool) { v, ok := it.SSIM[name]; return v, ok }); ok {
			r.SSIM[name] = v
		}
	}
	for _, it := range items {
		r.Seconds += it.Seconds
		r.CPU += it.CPU
		r.Megapixels += float64(it.Width) * float64(it.Height) / 1e6
	}
	r.CPUPerMpx = r.CPU / r.Megapixels
	return r
}
