package infer

import (
	"fmt"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// WithLinear restores in linear light; see Options.Linear.
func WithLinear() Option { return func(o *ImageOptions) { o.Linear = true } }

// prepare returns the image in the form that goes through a restorer, and what
// turns the result into the picture; img itself is left as it is.
//
//   - The mosaic of a camera (img.Raw) is balanced, so that gray is gray to the
//     network, and coded as in sRGB, which is what networks are trained on; the
//     result is decoded, taken through the camera's matrix and coded again. With
//     o.Linear the network sees the balanced light itself.
//   - With o.Linear any other image is decoded to light by its tone curves, and
//     the result coded again.
func (r *Restorer) prepare(img *imageio.Image, o *ImageOptions) (in *imageio.Image, finish func(*imageio.Image), err error) {
	if int64(len(img.Pix)) != int64(img.C)*int64(img.H)*int64(img.W) || img.C != 1 && img.C != 3 {
		return img, func(*imageio.Image) {}, nil // checkImage says what is wrong
	}
	if raw := img.Raw; raw != nil {
		switch {
		case r.Task != data.Demosaic:
			return nil, nil, fmt.Errorf("mosaic: found that of a camera, expected a restorer for %s: %s does %s", data.Demosaic, r.Name, r.Task)
		case o.Pattern != "" && strings.ToLower(o.Pattern) != raw.Pattern:
			return nil, nil, fmt.Errorf("pattern: found %q, expected %q, which the file states", o.Pattern, raw.Pattern)
		}
		o.Pattern = raw.Pattern
		in = img.WithPix(raw.Balanced(img.Pix, img.H, img.W), 1)
		curves := imageio.Curves{imageio.SRGB()}
		if !o.Linear {
			curves.Encode(in.Pix, 1)
		}
		return in, func(out *imageio.Image) {
			if !o.Linear {
				curves.Decode(out.Pix, 3)
			}
			raw.Develop(out.Pix)
		}, nil
	}
	if !o.Linear {
		return img, func(*imageio.Image) {}, nil
	}
	curves, err := img.Curves()
	if err != nil {
		return nil, nil, err
	}
	in = img.WithPix(append([]float32(nil), img.Pix...), img.C)
	curves.Decode(in.Pix, in.C)
	return in, func(out *imageio.Image) { curves.Encode(out.Pix, out.C) }, nil
}
