package infer

import (
	"context"
	"fmt"
	"math"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/metric"
)

// Simulation is what Simulate found. Figures that an image is too small for are
// left out of the maps.
type Simulation struct {
	Restored *imageio.Image
	PSNR     map[string]float64 // dB against the original, by protocol (see package metric); +Inf for no difference
	SSIM     map[string]float64 // by protocol: "rgb"
}

// Degrade takes samples from a complete image as d says: y and mask (C,H,W) with
// C = 3 for demosaicking and the image's own otherwise. The same seed gives the
// same samples.
func Degrade(img *imageio.Image, d data.Degradation, seed uint64) (y, mask []float32, c int, err error) {
	d, err = d.Resolved()
	if err != nil {
		return nil, nil, 0, err
	}
	if d.Task == data.Demosaic {
		img = img.RGB()
	}
	if err := d.CheckChannels(img.C); err != nil {
		return nil, nil, 0, err
	}
	y, mask = d.Apply(img.Pix, img.C, img.H, img.W, data.Rand(seed, 0, 0))
	return y, mask, img.C, nil
}

// Simulate degrades a complete image, restores it and compares the result with
// the original: how a restorer can be tried on any photograph.
func (n *Network) Simulate(ctx context.Context, img *imageio.Image, d data.Degradation, seed uint64, opt Options) (*Simulation, error) {
	return n.Restorer().Simulate(ctx, img, d, seed, opt)
}

// Simulate degrades a complete image, restores it and compares the result with
// the original; d.Task must be the restorer's.
func (r *Restorer) Simulate(ctx context.Context, img *imageio.Image, d data.Degradation, seed uint64, opt Options) (*Simulation, error) {
	if img.Raw != nil {
		return nil, fmt.Errorf("mosaic: found that of a camera, expected a complete image")
	}
	if err := r.checkImage(img, &ImageOptions{}); err != nil {
		return nil, err
	}
	light, finish, err := r.prepare(img, &ImageOptions{Options: opt})
	if err != nil {
		return nil, err
	}
	d, err = d.Resolved()
	if err != nil {
		return nil, err
	}
	if d.Task != r.Task {
		return nil, &TaskError{Name: r.Name, Task: r.Task, Want: d.Task}
	}
	if r.Network != nil && d.Task == data.Scale {
		if t := r.Network.trained.Scale; t != 0 && t != d.Scale {
			return nil, fmt.Errorf("scale: found %d, expected %d, which %s was trained for", d.Scale, t, r.Name)
		}
	}
	opt.hold(img)
	s := &signal{h: img.H, w: img.W, owned: true}
	s.y, s.mask, s.c, err = Degrade(light, d, seed)
	if err != nil {
		return nil, err
	}
	out, err := r.restore(ctx, s, opt)
	if err != nil {
		return nil, err
	}
	if s.c == 3 {
		img = img.RGB()
	}
	sim := &Simulation{Restored: img.WithPix(out, s.c)}
	finish(sim.Restored)
	sim.PSNR, sim.SSIM = Measure(d, img.Pix, out, s.c, s.h, s.w)
	return sim, nil
}

// Measure compares a restored image with the original, both (C,H,W): PSNR by
// every protocol and SSIM. Protocols whose crop leaves nothing are left out.
func Measure(d data.Degradation, want, got []float32, c, h, w int) (psnr, ssim map[string]float64) {
	psnr, ssim = map[string]float64{}, map[string]float64{}
	for _, name := range metric.ProtocolNames() {
		v, err := metric.Measure(metric.Protocol(name), max(d.Scale, 1), want, got, c, h, w)
		if err == nil && !math.IsNaN(v) {
			psnr[string(name)] = v
		}
	}
	if v := metric.SSIM(want, got, c, h, w); !math.IsNaN(v) {
		ssim["rgb"] = v
	}
	return psnr, ssim
}
