// Package explain shows what a network of learned graphs does with an image:
// which neighbours every pixel listens to, how the picture changes from block to
// block, and the few numbers the network has learned for its solver. Explain
// gives all of it as plain data, Pictures draws it, and Write makes a page.
package explain

import (
	"context"
	"fmt"
	"image"
	"math"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// Input is an image as a network gets it, or the part of one that begins at
// Origin of a whole of Whole.X by Whole.Y pixels.
type Input struct {
	Y, Mask  []float32 // (C,H,W): samples, zero where the mask is 0; 1 where a sample is known
	Original []float32 // (C,H,W), or nil where it is not known
	C, H, W  int

	Origin, Whole image.Point // zero: the image is complete
}

// Options says what to look at. Coordinates are those of the whole image, at the
// size of the result.
type Options struct {
	Crop    image.Rectangle // the part explained; empty for up to DefaultSide squared
	Pixels  []image.Point   // whose weights are shown; none for a few that are chosen
	Workers int             // threads, at least 1
}

// Report is what Explain found. Signals are (C,H,W) with values around [0,1],
// maps are (H,W).
type Report struct {
	Type   string // of the network: uglr, ugtv, ugpl
	Task   string // demosaic, scale, fill
	Params int    // learned scalars

	Window image.Rectangle // the part explained, in pixels of the whole image
	Whole  image.Point     // width and height of the whole image
	Notes  []string        // what was done to the input to fit the network
	C      int             // channels shown, 1 or 3

	Samples, Mask []float32 // (C,H,W)
	Original      []float32 // (C,H,W) or nil
	Known         float64   // the fraction of values that are samples

	Initial Stage
	Blocks  []Block

	Pixels []Pixel
	Detail image.Rectangle // a small part of the window that changes much, in window coordinates

	// For the footer of the page; set by the caller, none needed.
	Model, Command, Version string
}

// Stage is the picture at one point of the network.
type Stage struct {
	Image []float32 // (C,H,W)
	PSNR  float64   // dB against the original, protocol rgb; NaN where that is not known
	SSIM  float64   // NaN where the original is not known or the window too small
}

// Block is one block: graphs learned from the picture before it, and the picture
// its solver finds on them.
type Block struct {
	Stage
	Heads []Head
	Coefficients
}

// Head is one graph of a block and what was solved on it.
type Head struct {
	Reach []float32  // (H,W): how many neighbours a pixel listens to, 1/sum of squared shares
	Shape []Shape    // where they lie, on a grid of places
	Rows  [][]Weight // for every pixel of Report.Pixels: its weights

	Share []float32 // (H,W): the share of this head in the mixture; nil where one number serves the whole image
	PSNR  float64   // of this head's solution on its own; NaN where the original is not known

	HeadCoefficients
}

// Weight is an entry omega_ij of the graph operator, i being the pixel and j its
// neighbour at (X+DX, Y+DY). Neighbours outside the window have none.
type Weight struct {
	DX, DY int
	Value  float32
}

// Shape is the weighted scatter of a pixel's neighbours: the second moments
// sum share d d' of their places d = (DX, DY).
type Shape struct {
	X, Y       int
	XX, XY, YY float64
}

// Pixel is one whose weights are shown.
type Pixel struct {
	image.Point        // in window coordinates
	Kind        string // why it was chosen: edge, texture, flat, or asked
}

// Sides of the part explained, in pixels.
const (
	DefaultSide = 256
	MaxSide     = 512 // memory grows with the area: some 2 kB a pixel while a block runs
	minSide     = 8
)

// Explains says whether networks like this one have graphs to show.
func Explains(cfg model.Config) bool { return cfg.Uses("normalization") }

// Explainable lists the types of networks that have graphs.
func Explainable() []string {
	var names []string
	for _, t := range model.Types {
		if Explains(model.Config{Type: t}) {
			names = append(names, t)
		}
	}
	return names
}

// UnsupportedError says that a network has no graphs.
type UnsupportedError struct{ Name, Found string }

// Error names what can be explained.
func (e *UnsupportedError) Error() string {
	list := ""
	for i, t := range Explainable() {
		if i > 0 {
			list += ", "
		}
		list += t
	}
	return fmt.Sprintf("model %q: found %s, which has no graphs to show, expected a network of type %s", e.Name, e.Found, list)
}

// PlaceError says that a part or a pixel lies outside of what can be shown.
type PlaceError struct {
	What            string // crop or pixel
	Found, Expected string
}

// Error names the place, what was found and what was expected.
func (e *PlaceError) Error() string {
	return fmt.Sprintf("%s: found %s, expected %s", e.What, e.Found, e.Expected)
}

func placef(what, found, expected string, args ...any) error {
	return &PlaceError{what, found, fmt.Sprintf(expected, args...)}
}

// Explain runs net over a part of an image and reports what happened inside.
// trained is what the network was trained to undo; a mosaic is cut so that it
// begins as the one the network knows. The part is restored as if it were an
// image of its own, so pixels within a few of its border may differ slightly
// from those of the whole image restored.
//
// It is an error if the network has no graphs, if crop or pixels lie outside the
// image, or if a sample or result is not finite.
func Explain(ctx context.Context, net model.Network, trained data.Degradation, in Input, opt Options) (*Report, error) {
	cfg := net.Config()
	if !Explains(cfg) {
		return nil, &UnsupportedError{Name: cfg.Type, Found: "type " + cfg.Type}
	}
	if in.Whole == (image.Point{}) {
		in.Whole = image.Pt(in.W, in.H)
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	r := &Report{Type: cfg.Type, Task: trained.Task, Params: net.Params().Count(), Whole: in.Whole}
	phase, err := in.phase(trained)
	if err != nil {
		return nil, err
	}
	period := period(net, trained)
	r.Window, err = window(in.Whole, opt.Crop, period, phase, &in)
	if err != nil {
		return nil, err
	}
	if !opt.Crop.Empty() && r.Window != opt.Crop {
		r.Notes = append(r.Notes, fmt.Sprintf("The part asked for was moved to begin at (%d, %d), so that samples and missing values lie as the network knows them.", r.Window.Min.X, r.Window.Min.Y))
	}
	have := image.Rect(0, 0, in.W, in.H).Add(in.Origin)
	if !r.Window.In(have) {
		return nil, fmt.Errorf("explain: found samples of %v, expected those of %v", have, r.Window)
	}
	in = in.crop(r.Window.Sub(in.Origin))
	r.C = in.C
	r.Samples, r.Mask, r.Original = in.Y, in.Mask, in.Original
	r.adapt(net)
	known := 0
	for _, m := range r.Mask {
		if m != 0 {
			known++
		}
	}
	r.Known = float64(known) / float64(len(r.Mask))
	if known == 0 {
		return nil, fmt.Errorf("explain: found no sample inside %v, expected a part of the image in which some are known", r.Window)
	}

	for _, p := range opt.Pixels {
		if !p.In(image.Rectangle{Max: in.Whole}) {
			return nil, placef("pixel", fmt.Sprintf("%d,%d", p.X, p.Y), "one inside the image of %dx%d", in.Whole.X, in.Whole.Y)
		}
		if !p.In(r.Window) {
			return nil, placef("pixel", fmt.Sprintf("%d,%d", p.X, p.Y), "one inside the part shown, %s", r.where())
		}
		r.Pixels = append(r.Pixels, Pixel{p.Sub(r.Window.Min), "asked"})
	}
	if err := r.run(ctx, net, opt.Workers); err != nil {
		return nil, err
	}
	return r, nil
}

// where names the window in words.
func (r *Report) where() string {
	return fmt.Sprintf("columns %d to %d and rows %d to %d", r.Window.Min.X, r.Window.Max.X-1, r.Window.Min.Y, r.Window.Max.Y-1)
}

// Size returns the height and width of the window.
func (r *Report) Size() (h, w int) { return r.Window.Dy(), r.Window.Dx() }

// check reports sizes that do not fit and values a restoration cannot start from.
func (in *Input) check() error {
	n := in.C * in.H * in.W
	switch {
	case in.C != 1 && in.C != 3:
		return fmt.Errorf("explain: found %d channels, expected 1 or 3", in.C)
	case in.H < 1 || in.W < 1:
		return fmt.Errorf("explain: found %dx%d pixels, expected at least 1x1", in.W, in.H)
	case len(in.Y) != n || len(in.Mask) != n || in.Original != nil && len(in.Original) != n:
		return fmt.Errorf("explain: found %d samples, a mask of %d and an original of %d, expected %d each", len(in.Y), len(in.Mask), len(in.Original), n)
	}
	for i, m := range in.Mask {
		if m != 0 && m != 1 {
			return fmt.Errorf("explain: mask: found %v at element %d, expected 0 or 1", m, i)
		}
		if v := in.Y[i]; m == 1 && v-v != 0 {
			return fmt.Errorf("explain: found a sample of %v at element %d, expected a finite number", v, i)
		}
	}
	return nil
}

// phase returns where, modulo 2, the mosaic of in begins as the one of training:
// zero for every other task.
func (in *Input) phase(trained data.Degradation) (image.Point, error) {
	if trained.Task != data.Demosaic || in.C != 3 || in.H < 2 || in.W < 2 {
		return image.Point{}, nil
	}
	want, err := data.BayerMask(trained.Pattern, 3, 2, 2)
	if err != nil {
		return image.Point{}, nil // trained on any pattern
	}
	for _, p := range []image.Point{{0, 0}, {1, 0}, {0, 1}, {1, 1}} {
		fits := true
		for c := range 3 {
			for i := range 4 {
				y, x := i/2, i%2
				fits = fits && in.Mask[(c*in.H+(y+p.Y)%2)*in.W+(x+p.X)%2] == want[c*4+i]
			}
		}
		if fits {
			p = p.Add(in.Origin)
			return image.Pt(p.X%2, p.Y%2), nil
		}
	}
	return image.Point{}, fmt.Errorf("explain: found a mask that is no Bayer mosaic, expected one for a network trained on %s", trained.Pattern)
}

// period returns what places in an image must be moved by for a network to see
// samples and blocks of pixels as before.
func period(net model.Network, trained data.Degradation) int {
	p := max(net.Align(), 1)
	k := 1
	switch trained.Task {
	case data.Demosaic:
		k = 2
	case data.Scale:
		k = max(trained.Scale, 1)
	}
	for m := p; ; m += p {
		if m%k == 0 {
			return m
		}
	}
}

// Window returns the part of an image of w by h pixels that Explain would look
// at, for a network whose samples lie on a regular grid: crop moved up and left to
// where such a grid begins or, if crop is empty, the middle.
func Window(net model.Network, trained data.Degradation, w, h int, crop image.Rectangle) (image.Rectangle, error) {
	return window(image.Pt(w, h), crop, period(net, trained), image.Point{}, nil)
}

func window(whole image.Point, crop image.Rectangle, period int, phase image.Point, in *Input) (image.Rectangle, error) {
	none := image.Rectangle{}
	snap := func(v, phase, limit int) int {
		v = v - ((v-phase)%period+period)%period
		for v < 0 {
			v += period
		}
		return min(v, max(limit-1, 0))
	}
	if crop.Empty() {
		w, h := min(whole.X, DefaultSide), min(whole.Y, DefaultSide)
		at := image.Pt(snap((whole.X-w)/2, phase.X, whole.X), snap((whole.Y-h)/2, phase.Y, whole.Y))
		if in != nil {
			at = in.busiest(at, w, h, period, phase)
		}
		return image.Rect(at.X, at.Y, min(at.X+w, whole.X), min(at.Y+h, whole.Y)), nil
	}
	size := fmt.Sprintf("%dx%d", crop.Dx(), crop.Dy())
	switch {
	case !crop.In(image.Rectangle{Max: whole}):
		return none, placef("crop", fmt.Sprintf("%s at %d,%d", size, crop.Min.X, crop.Min.Y), "a part of the image of %dx%d", whole.X, whole.Y)
	case crop.Dx() > MaxSide || crop.Dy() > MaxSide:
		return none, placef("crop", size, "at most %dx%d", MaxSide, MaxSide)
	case crop.Dx() < minSide || crop.Dy() < minSide:
		return none, placef("crop", size, "at least %dx%d", minSide, minSide)
	}
	at := image.Pt(snap(crop.Min.X, phase.X, whole.X), snap(crop.Min.Y, phase.Y, whole.Y))
	return image.Rect(at.X, at.Y, min(at.X+crop.Dx(), whole.X), min(at.Y+crop.Dy(), whole.Y)), nil
}

// busiest returns at, unless nothing is missing there: then, of the places on a
// grid, the first with most missing values.
func (in *Input) busiest(at image.Point, w, h, period int, phase image.Point) image.Point {
	missing := func(p image.Point) (n int) {
		if p.X < 0 || p.Y < 0 || p.X+w > in.W || p.Y+h > in.H {
			return 0
		}
		for y := p.Y; y < p.Y+h; y++ {
			for _, m := range in.Mask[y*in.W+p.X:][:w] {
				if m == 0 {
					n++
				}
			}
		}
		return n
	}
	if in.Origin != (image.Point{}) || in.W != in.Whole.X || in.H != in.Whole.Y || missing(at) > 0 {
		return at
	}
	best, most := at, 0
	step := 64 / period * period
	for y := phase.Y; y < in.H; y += step {
		for x := phase.X; x < in.W; x += step {
			p := image.Pt(min(x, (in.W-w-phase.X)/period*period+phase.X), min(y, (in.H-h-phase.Y)/period*period+phase.Y))
			if n := missing(p); n > most {
				best, most = p, n
			}
		}
	}
	return best
}

// crop returns a copy of the part r of in.
func (in Input) crop(r image.Rectangle) Input {
	cut := func(src []float32) []float32 {
		if src == nil {
			return nil
		}
		dst := make([]float32, 0, in.C*r.Dx()*r.Dy())
		for c := range in.C {
			for y := r.Min.Y; y < r.Max.Y; y++ {
				dst = append(dst, src[(c*in.H+y)*in.W+r.Min.X:][:r.Dx()]...)
			}
		}
		return dst
	}
	in.Y, in.Mask, in.Original = cut(in.Y), cut(in.Mask), cut(in.Original)
	in.Origin, in.H, in.W = in.Origin.Add(r.Min), r.Dy(), r.Dx()
	for i, m := range in.Mask {
		if m == 0 {
			in.Y[i] = 0
		}
	}
	return in
}

// adapt makes the samples fit a network of another number of channels: of a
// colour image a network of one channel is shown the green one; a gray image goes
// through a network of three as three equal channels, see repeat.
func (r *Report) adapt(net model.Network) {
	h, w := r.Size()
	n := h * w
	switch nc := net.Channels(); {
	case nc == 1 && r.C == 3:
		r.Notes = append(r.Notes, "The network treats each colour on its own; what is shown is the green one.")
		r.Samples, r.Mask, r.C = r.Samples[n:2*n], r.Mask[n:2*n], 1
		if r.Original != nil {
			r.Original = r.Original[n : 2*n]
		}
	case nc == 3 && r.C == 1:
		r.Notes = append(r.Notes, "The network works in colour; it is given the gray picture as three equal colours, and the mean of its three results is shown.")
	}
}

// repeat returns the planes p (C,H,W) as nc channels.
func repeat(p []float32, c, nc int) []float32 {
	if c == nc {
		return p
	}
	out := make([]float32, 0, nc*len(p))
	for range nc {
		out = append(out, p...)
	}
	return out
}

// shown returns a signal of nc channels as the c that are shown.
func shown(p []float32, nc, c int) []float32 {
	if nc == c {
		return append([]float32(nil), p...)
	}
	n := len(p) / nc
	out := make([]float32, n)
	for i := range out {
		var sum float32
		for k := range nc {
			sum += p[k*n+i]
		}
		out[i] = sum / float32(nc)
	}
	return out
}

// stage measures a picture.
func (r *Report) stage(img []float32) Stage {
	s := Stage{Image: img, PSNR: math.NaN(), SSIM: math.NaN()}
	if r.Original != nil {
		h, w := r.Size()
		if v, err := metric.Measure(metric.RGB, 1, r.Original, img, r.C, h, w); err == nil {
			s.PSNR = v
		}
		s.SSIM = metric.SSIM(r.Original, img, r.C, h, w)
	}
	return s
}

// run carries the samples through the network, block by block.
func (r *Report) run(ctx context.Context, net model.Network, workers int) error {
	h, w := r.Size()
	nc := net.Channels()
	y, mask := repeat(r.Samples, r.C, nc), repeat(r.Mask, r.C, nc)
	x := make([]float32, len(y))
	graph.Initial(x, y, mask, nc, h, w)
	r.Initial = r.stage(shown(x, nc, r.C))
	if r.Pixels == nil {
		r.Pixels = r.choose(x, nc)
	}
	var state *tensorValue
	for t := range net.Blocks() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		seen, err := runBlock(net, t, h, w, workers, x, y, mask, state)
		if err != nil {
			return fmt.Errorf("block %d: %w", t, err)
		}
		for i, v := range seen.next.data {
			if v-v != 0 {
				return fmt.Errorf("block %d: found %v at element %d of its estimate, expected a finite number: the network does not fit this image or its weights are damaged", t, v, i)
			}
		}
		b := Block{Stage: r.stage(shown(seen.next.data, nc, r.C)), Coefficients: coefficients(net, t)}
		if b.Heads, err = r.heads(net, t, seen); err != nil {
			return fmt.Errorf("block %d: %w", t, err)
		}
		r.Blocks = append(r.Blocks, b)
		x, state = seen.next.data, seen.state
	}
	r.Detail = r.detail()
	return nil
}
