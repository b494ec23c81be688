package infer

import (
	"context"
	"fmt"
	"image"
	"runtime/debug"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// ImageOptions says what is missing of an image, and how to restore it. Options
// of another task than the restorer's must be unset.
type ImageOptions struct {
	Options

	// Pattern is the Bayer pattern of a mosaic: rggb, bggr, grbg or gbrg, the
	// colours of its first 2x2 pixels in reading order; "" is what a camera's file
	// says, else rggb.
	Pattern string
	// Scale is how many times larger the result is; 0 is what the network was
	// trained for, or 2.
	Scale int
	// Mask says which pixels to fill: those where it is white (the mean of its
	// channels times its alpha is at least one half). It has the image's size.
	// Pixels of the image whose alpha is 0 are filled as well.
	Mask *imageio.Image
}

// Option is a setting of Network.Restore.
type Option func(*ImageOptions)

// WithPattern sets the Bayer pattern of a mosaic; see ImageOptions.Pattern.
func WithPattern(pattern string) Option { return func(o *ImageOptions) { o.Pattern = pattern } }

// WithScale sets how many times larger the result is.
func WithScale(s int) Option { return func(o *ImageOptions) { o.Scale = s } }

// WithMask says which pixels to fill: the white ones.
func WithMask(mask image.Image) Option {
	return func(o *ImageOptions) { o.Mask = imageio.FromImage(mask) }
}

// WithWorkers sets the number of tiles computed at once; 0 is one for each core.
func WithWorkers(n int) Option { return func(o *ImageOptions) { o.Workers = n } }

// WithTile sets the side of the tiles in pixels; 0 chooses one.
func WithTile(n int) Option { return func(o *ImageOptions) { o.Tile = n } }

// WithEnsemble restores in several orientations and takes the mean; see
// Options.Ensemble.
func WithEnsemble(n int) Option { return func(o *ImageOptions) { o.Ensemble = n } }

// WithMaxMemory bounds the memory of the restoration, in bytes; see
// Options.MaxMemory.
func WithMaxMemory(bytes int64) Option { return func(o *ImageOptions) { o.MaxMemory = bytes } }

// WithProgress sets a function to call after each tile; see Options.Progress.
func WithProgress(f func(done, total int)) Option { return func(o *ImageOptions) { o.Progress = f } }

// Restore fills in what is missing of img, which depends on the network's task:
//
//   - demosaic: img is the one-channel mosaic of a colour sensor; the result has
//     its size and three channels (that of a camera's file, as RestoreImage takes
//     it, is developed into sRGB);
//   - scale: the result is s times wider and higher; sample (i,j) of img is its
//     pixel (s*i, s*j) (see WithScale);
//   - fill: pixels marked by WithMask, and those whose alpha is 0, are replaced
//     and become opaque.
//
// Samples are kept (up to a network trained with soft consistency). The result
// is gray if img is (except for demosaic), and of img's bit depth: *image.Gray,
// *image.Gray16, *image.NRGBA or *image.NRGBA64.
func (n *Network) Restore(ctx context.Context, img image.Image, opts ...Option) (image.Image, error) {
	var o ImageOptions
	for _, set := range opts {
		set(&o)
	}
	out, err := n.Restorer().RestoreImage(ctx, imageio.FromImage(img), o)
	if err != nil {
		return nil, err
	}
	return out.ToImage(), nil
}

// RestoreImage is Restore for decoded files: bit depth, format, alpha and, where
// it still fits, the colour profile of img are carried over. The result shares
// no samples with img.
func (n *Network) RestoreImage(ctx context.Context, img *imageio.Image, o ImageOptions) (*imageio.Image, error) {
	return n.Restorer().RestoreImage(ctx, img, o)
}

// RestoreImage fills in what is missing of img; see Network.Restore and
// Network.RestoreImage.
func (r *Restorer) RestoreImage(ctx context.Context, img *imageio.Image, o ImageOptions) (*imageio.Image, error) {
	img, finish, err := r.prepare(img, &o)
	if err != nil {
		return nil, err
	}
	if err := r.checkImage(img, &o); err != nil {
		return nil, err
	}
	o.hold(img)
	var out *imageio.Image
	switch r.Task {
	case data.Demosaic:
		out, err = r.demosaic(ctx, img, o)
	case data.Scale:
		out, err = r.scale(ctx, img, o)
	default:
		out, err = r.fill(ctx, img, o)
	}
	if err != nil {
		return nil, err
	}
	finish(out)
	return out, nil
}

// hold counts an image that callers may well hold on to, and gives what decoding
// a large one has left behind back to the system: planes are too large to be put
// where it was.
func (o *Options) hold(img *imageio.Image) {
	o.held = 4 * int64(len(img.Pix)+len(img.Alpha))
	if o.held >= collectBytes {
		debug.FreeOSMemory()
	}
}

// checkImage checks what does not depend on the samples, and resolves the
// pattern and the scale.
func (r *Restorer) checkImage(img *imageio.Image, o *ImageOptions) error {
	n := int64(img.W) * int64(img.H)
	switch {
	case img.W < 1 || img.H < 1:
		return fmt.Errorf("image: found %dx%d, expected at least one pixel", img.W, img.H)
	case img.C != 1 && img.C != 3:
		return fmt.Errorf("image: found %d channels, expected 1 or 3", img.C)
	}
	if r.Task == data.Demosaic {
		if o.Pattern == "" {
			o.Pattern = "rggb"
		}
		o.Pattern = strings.ToLower(o.Pattern)
	} else if o.Pattern != "" {
		return fmt.Errorf("pattern: found %q, expected none: %s does %s", o.Pattern, r.Name, r.Task)
	}
	if r.Task == data.Scale {
		trained := 0
		if r.Network != nil {
			trained = r.Network.trained.Scale
		}
		switch {
		case o.Scale == 0:
			o.Scale = max(trained, 2)
		case o.Scale < 2 || o.Scale > 4:
			return fmt.Errorf("scale: found %d, expected 2, 3 or 4", o.Scale)
		case trained != 0 && o.Scale != trained:
			return fmt.Errorf("scale: found %d, expected %d, which %s was trained for", o.Scale, trained, r.Name)
		}
		const most = 1 << 31
		if s := int64(o.Scale); s*int64(img.W) >= most || s*int64(img.H) >= most || s*s*n >= most {
			return fmt.Errorf("scale: found %d times %dx%d, expected a result of fewer than 2^31 pixels", o.Scale, img.W, img.H)
		}
	} else if o.Scale != 0 {
		return fmt.Errorf("scale: found %d, expected none: %s does %s", o.Scale, r.Name, r.Task)
	}
	if r.Task != data.Fill && o.Mask != nil {
		return fmt.Errorf("mask: found one, expected none: %s does %s", r.Name, r.Task)
	}
	if o.Mask != nil && (o.Mask.W != img.W || o.Mask.H != img.H) {
		return fmt.Errorf("mask: found %dx%d, expected the image's %dx%d", o.Mask.W, o.Mask.H, img.W, img.H)
	}
	if int64(len(img.Pix)) != int64(img.C)*n || img.Alpha != nil && int64(len(img.Alpha)) != n {
		return fmt.Errorf("image: found %d samples and %d of alpha, expected %d channels of %dx%d", len(img.Pix), len(img.Alpha), img.C, img.W, img.H)
	}
	return nil
}

// Samples returns what RestoreImage starts from: the known samples y (C,H,W) of
// img, zero where the mask (C,H,W) is 0, at the size of the result; those of a
// camera's mosaic are balanced and coded as the network sees them.
func (r *Restorer) Samples(img *imageio.Image, o ImageOptions) (y, mask []float32, c, h, w int, err error) {
	if img, _, err = r.prepare(img, &o); err != nil {
		return nil, nil, 0, 0, 0, err
	}
	if err := r.checkImage(img, &o); err != nil {
		return nil, nil, 0, 0, 0, err
	}
	var s *signal
	switch r.Task {
	case data.Demosaic:
		s, err = mosaicSignal(img, o.Pattern)
	case data.Scale:
		s = gridSignal(img, o.Scale)
	default:
		s, _, err = holeySignal(img, o.Mask)
	}
	if err != nil {
		return nil, nil, 0, 0, 0, err
	}
	return s.y, s.mask, s.c, s.h, s.w, nil
}

// demosaic turns a mosaic (1,H,W) into RGB (3,H,W).
func (r *Restorer) demosaic(ctx context.Context, img *imageio.Image, o ImageOptions) (*imageio.Image, error) {
	s, err := mosaicSignal(img, o.Pattern)
	if err != nil {
		return nil, err
	}
	head := header(img)
	img = nil // let go of before the restoration
	out, err := r.restore(ctx, s, o.Options)
	if err != nil {
		return nil, err
	}
	return head.WithPix(out, 3), nil
}

// mosaicSignal returns the samples of a mosaic (1,H,W) of the given pattern.
func mosaicSignal(img *imageio.Image, pattern string) (*signal, error) {
	mosaic, ok := plane(img)
	if !ok {
		return nil, fmt.Errorf("mosaic: found a colour image, expected one channel")
	}
	if img.H < 2 || img.W < 2 {
		return nil, fmt.Errorf("mosaic: found %dx%d, expected at least 2x2, one cell of the pattern", img.W, img.H)
	}
	mask, err := data.BayerMask(pattern, 3, img.H, img.W)
	if err != nil {
		return nil, fmt.Errorf("pattern: found %q, expected %s", pattern, strings.Join(data.Patterns(), ", "))
	}
	n := img.H * img.W
	s := &signal{y: make([]float32, 3*n), mask: mask, c: 3, h: img.H, w: img.W, owned: true}
	for c := range 3 {
		y, m := s.y[c*n:(c+1)*n], mask[c*n:(c+1)*n]
		for i, v := range mosaic {
			if m[i] != 0 {
				y[i] = v
			}
		}
	}
	return s, nil
}

// plane returns the samples of a gray image, or the first channel of one whose
// channels are equal.
func plane(img *imageio.Image) ([]float32, bool) {
	n := img.H * img.W
	for c := 1; c < img.C; c++ {
		for i, v := range img.Pix[c*n : (c+1)*n] {
			if v != img.Pix[i] {
				return nil, false
			}
		}
	}
	return img.Pix[:n], true
}

// header returns img without its samples.
func header(img *imageio.Image) *imageio.Image {
	h := *img
	h.Pix = nil
	return &h
}

// scale makes an image o.Scale times larger.
func (r *Restorer) scale(ctx context.Context, img *imageio.Image, o ImageOptions) (*imageio.Image, error) {
	s := gridSignal(img, o.Scale)
	head := header(img)
	head.W, head.H = s.w, s.h
	if img.Alpha != nil {
		head.Alpha = enlarge(img.Alpha, img.H, img.W, o.Scale)
	}
	img = nil // let go of before the restoration
	c := s.c
	out, err := r.restore(ctx, s, o.Options)
	if err != nil {
		return nil, err
	}
	return head.WithPix(out, c), nil
}

// gridSignal returns the samples of img at every f-th row and column.
func gridSignal(img *imageio.Image, f int) *signal {
	h, w := f*img.H, f*img.W
	s := &signal{y: make([]float32, img.C*h*w), c: img.C, h: h, w: w, owned: true}
	for c := range img.C {
		for y := range img.H {
			row := s.y[(c*h+f*y)*w:]
			for x, v := range img.Pix[(c*img.H+y)*img.W:][:img.W] {
				row[f*x] = v
			}
		}
	}
	s.mask = data.GridMask(f, img.C, h, w)
	return s
}

// enlarge returns a plane (H,W) f times larger, sample (i,j) at (f*i, f*j), by
// bilinear interpolation; the last sample is repeated.
func enlarge(p []float32, h, w, f int) []float32 {
	out := make([]float32, f*h*f*w)
	for y := range f * h {
		y0 := y / f
		a, b := p[y0*w:][:w], p[min(y0+1, h-1)*w:][:w]
		v := float32(y%f) / float32(f)
		row := out[y*f*w:][:f*w]
		for x := range row {
			x0 := x / f
			x1 := min(x0+1, w-1)
			u := float32(x%f) / float32(f)
			row[x] = (1-v)*((1-u)*a[x0]+u*a[x1]) + v*((1-u)*b[x0]+u*b[x1])
		}
	}
	return out
}

// fill replaces the pixels that are marked or transparent.
func (r *Restorer) fill(ctx context.Context, img *imageio.Image, o ImageOptions) (*imageio.Image, error) {
	s, missing, err := holeySignal(img, o.Mask)
	if err != nil {
		return nil, err
	}
	head := header(img)
	if img.Alpha != nil {
		head.Alpha = nil
		alpha := append([]float32(nil), img.Alpha...)
		for i, a := range alpha {
			if s.mask[i] == 0 {
				alpha[i] = 1
			} else if a != 1 {
				head.Alpha = alpha // not opaque everywhere
			}
		}
	}
	if missing == 0 {
		return head.WithPix(s.y, s.c), nil
	}
	img = nil // let go of before the restoration
	out, err := r.restore(ctx, s, o.Options)
	if err != nil {
		return nil, err
	}
	return head.WithPix(out, s.c), nil
}

// holeySignal returns the samples of img without the pixels that are marked or
// transparent, and how many those are.
func holeySignal(img, mask *imageio.Image) (s *signal, missing int, err error) {
	if mask == nil && img.Alpha == nil {
		return nil, 0, fmt.Errorf("mask: found none and an image without alpha, expected a mask whose white pixels are missing, or pixels of alpha 0")
	}
	n := img.H * img.W
	s = &signal{y: append([]float32(nil), img.Pix...), mask: make([]float32, img.C*n), c: img.C, h: img.H, w: img.W, owned: true}
	for i := range n {
		if img.Alpha != nil && img.Alpha[i] == 0 || mask != nil && white(mask, i) {
			missing++
			for c := range img.C {
				s.y[c*n+i] = 0
			}
			continue
		}
		for c := range img.C {
			s.mask[c*n+i] = 1
		}
	}
	switch {
	case missing == n:
		return nil, 0, fmt.Errorf("mask: all %d pixels are missing, expected at least one to be known", n)
	case missing == 0 && mask == nil:
		return nil, 0, fmt.Errorf("mask: found none and no pixel of alpha 0, expected something to fill")
	}
	return s, missing, nil
}

// white reports whether pixel i of a mask marks a missing pixel.
func white(m *imageio.Image, i int) bool {
	n := m.H * m.W
	var v float32
	for c := range m.C {
		v += m.Pix[c*n+i]
	}
	v /= float32(m.C)
	if m.Alpha != nil {
		v *= m.Alpha[i]
	}
	return v >= 0.5
}
