package task

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// Restore is the task of computing an image from some of its samples
// (demosaicking, upscaling, filling): input y holds the samples, zero where mask
// is zero, target the clean patch, each (C,Patch,Patch).
type Restore struct {
	Degradation data.Degradation
	Channels    int
	Patch       int
	Sampler     *data.Sampler
	LossName    string  // l1 | l2 | charbonnier
	Epsilon     float64 // of charbonnier
	Validation  Validation
}

// Validation is how a network is measured while it trains: on the centre crops
// of the validation images.
type Validation struct {
	Images    data.Dataset
	Crop      int // side of the crops in pixels, a multiple of the network's Align
	Limit     int // images used, 0 for all
	Protocols []metric.Protocol
	Workers   int
	Seed      uint64

	forward forwardCache
}

// Inputs implements Task.
func (r *Restore) Inputs() []Input {
	shape := []int{r.Channels, r.Patch, r.Patch}
	return []Input{{Name: "y", Shape: shape}, {Name: "mask", Shape: shape}, {Name: "target", Shape: shape}}
}

// Batch implements Task.
func (r *Restore) Batch(step int, dst [][]float32) error {
	return r.Sampler.Batch(step, dst[0], dst[1], dst[2])
}

// Loss implements Task: the mean over all elements of |d| (l1), d^2 (l2) or
// sqrt(d^2 + eps^2) (charbonnier), d being restored minus clean.
func (r *Restore) Loss(b *nn.Builder, m model.Model, in []*G.Node) (*G.Node, error) {
	net, ok := m.(model.Network)
	if !ok {
		return nil, wrongKind(m, model.Restore)
	}
	out, err := net.Forward(b, in[0], in[1])
	if err != nil {
		return nil, err
	}
	switch r.LossName {
	case "l1":
		return op.L1Loss(b.Env, out, in[2])
	case "l2":
		return op.L2Loss(b.Env, out, in[2])
	case "charbonnier":
		return op.CharbonnierLoss(b.Env, out, in[2], r.Epsilon)
	}
	return nil, fmt.Errorf("train.loss: found %q, expected l1 | l2 | charbonnier", r.LossName)
}

// Columns implements Task.
func (r *Restore) Columns() []string { return []string{"images", "protocol", "psnr", "ssim"} }

// Measure restores the validation images.
func (r *Restore) Measure(ctx context.Context, net model.Network) (Result, error) {
	v := &r.Validation
	if v.Images == nil || v.Images.Len() == 0 {
		return Result{}, fmt.Errorf("validation: found no images, expected at least one")
	}
	res, err := Evaluate(ctx, v.forward.restorer(net), Crops(v.Images, v.Crop), r.Degradation, v.Protocols,
		Options{Channels: r.Channels, Seed: v.Seed, Limit: v.Limit, Workers: v.Workers})
	res.Params = net.Params().Count()
	return res, err
}

// Validate implements Task; networks are compared by the PSNR of the first
// protocol.
func (r *Restore) Validate(ctx context.Context, m model.Model) (Report, error) {
	net, ok := m.(model.Network)
	if !ok {
		return Report{}, wrongKind(m, model.Restore)
	}
	res, err := r.Measure(ctx, net)
	if err != nil {
		return Report{}, err
	}
	first := string(r.Validation.Protocols[0])
	rep := Report{Examples: res.Images, Unit: "images", Name: "psnr_" + first, Value: float64(res.PSNR[first]), Digits: 3,
		Event: map[string]any{"images": res.Images, "psnr": res.PSNR, "ssim": res.SSIM}}
	for _, p := range slices.Sorted(maps.Keys(res.PSNR)) {
		ssim := ""
		if v, ok := res.SSIM[p]; ok {
			ssim = number(float64(v))
		}
		psnr := float64(res.PSNR[p])
		rep.Rows = append(rep.Rows, Row{"psnr_" + p, psnr, []string{strconv.Itoa(res.Images), p, number(psnr), ssim}})
	}
	return rep, nil
}

// number formats a figure for a table read by machines.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 8, 64) }

// Sample implements Sampler: samples, restored and original side by side.
func (r *Restore) Sample(m model.Model, i int) (*imageio.Image, error) {
	net, ok := m.(model.Network)
	if !ok {
		return nil, wrongKind(m, model.Restore)
	}
	v := &r.Validation
	if v.Images == nil || v.Images.Len() == 0 {
		return nil, fmt.Errorf("samples: found no validation images, expected at least one")
	}
	img, err := Crops(v.Images, v.Crop).Image(i % v.Images.Len())
	if err != nil {
		return nil, err
	}
	c, h, w := r.Channels, img.H, img.W
	clean := Planar(img, c)
	y, mask := r.Degradation.Apply(clean, c, h, w, data.Rand(v.Seed, 0, uint64(i)))
	got, err := v.forward.restorer(net)(y, mask, c, h, w)
	if err != nil {
		return nil, err
	}
	return SideBySide(c, h, w, y, got, clean), nil
}

// SideBySide joins pictures (c,h,w) from left to right, two white pixels apart.
func SideBySide(c, h, w int, pix ...[]float32) *imageio.Image {
	const gap = 2
	width := len(pix)*(w+gap) - gap
	out := imageio.New(c, h, width)
	for i := range out.Pix {
		out.Pix[i] = 1
	}
	for k, p := range pix {
		for row := range c * h {
			copy(out.Pix[row*width+k*(w+gap):], p[row*w:(row+1)*w])
		}
	}
	return out
}

// Crops is images cut to their centre: side pixels square where they are large
// enough. Offsets are even, so that a mosaic cut from the image is the mosaic of
// the crop.
func Crops(images data.Dataset, side int) data.Dataset { return crops{images, side} }

type crops struct {
	data.Dataset
	side int
}

// Name implements data.Namer.
func (d crops) Name(i int) string { return nameOf(d.Dataset, i) }

// Image implements data.Dataset.
func (d crops) Image(i int) (*imageio.Image, error) {
	img, err := d.Dataset.Image(i)
	if err != nil || d.side <= 0 || img.H <= d.side && img.W <= d.side {
		return img, err
	}
	h, w := min(d.side, img.H), min(d.side, img.W)
	y0, x0 := (img.H-h)/4*2, (img.W-w)/4*2
	out := imageio.New(img.C, h, w)
	for c := range img.C {
		for y := range h {
			src := (c*img.H+y0+y)*img.W + x0
			copy(out.Pix[(c*h+y)*w:(c*h+y+1)*w], img.Pix[src:src+w])
		}
	}
	return out, nil
}
