package imageio

import (
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"path/filepath"
	"strings"
)

// JPEGQuality is the quality of written JPEG files, on the usual scale to 100.
const JPEGQuality = 95

// FormatOf names the format that a file name's ending asks for: "png", "jpeg",
// "tiff" or "pnm".
func FormatOf(path string) (string, error) {
	switch ext := filepath.Ext(path); strings.ToLower(ext) {
	case ".png":
		return "png", nil
	case ".jpg", ".jpeg":
		return "jpeg", nil
	case ".tif", ".tiff":
		return "tiff", nil
	case ".pgm", ".ppm", ".pnm":
		return "pnm", nil
	default:
		return "", &FormatError{Name: path, Found: fmt.Sprintf("the ending %q", ext), Expected: ".png, .jpg, .jpeg, .tif, .tiff, .pgm, .ppm or .pnm"}
	}
}

// check refuses what no encoder could write truthfully.
func (m *Image) check() error {
	switch {
	case m.W < 1 || m.H < 1:
		return fmt.Errorf("found an image of %d x %d pixels, expected at least 1 x 1", m.W, m.H)
	case m.C != 1 && m.C != 3:
		return fmt.Errorf("found %d channels, expected 1 or 3", m.C)
	case m.Bits != 8 && m.Bits != 16:
		return fmt.Errorf("found %d bits per sample, expected 8 or 16", m.Bits)
	case len(m.Pix) != m.C*m.H*m.W:
		return fmt.Errorf("found %d samples, expected %d x %d x %d", len(m.Pix), m.C, m.H, m.W)
	case m.Alpha != nil && len(m.Alpha) != m.H*m.W:
		return fmt.Errorf("found %d alpha samples, expected %d x %d", len(m.Alpha), m.H, m.W)
	}
	if i := finite(m.Pix); i >= 0 {
		n := m.H * m.W
		return fmt.Errorf("found %v in channel %d at column %d, row %d, expected finite samples", m.Pix[i], i/n, i%n%m.W, i%n/m.W)
	}
	if i := finite(m.Alpha); i >= 0 {
		return fmt.Errorf("found alpha %v at column %d, row %d, expected finite samples", m.Alpha[i], i%m.W, i/m.W)
	}
	return nil
}

// Encode writes the image as "png", "jpeg", "tiff" or "pnm" (PGM or PPM). Values
// are clamped to [0,1] and rounded to Bits; NaN and infinities are refused. PNG,
// TIFF and PNM keep the bit depth, PNG and TIFF alpha as well. JPEG is always 8
// bit; it and PNM refuse transparent images. The colour profile, if it fits the
// channels, and EXIF data go into PNG, JPEG (EXIF up to 64 KiB) and TIFF; what
// the chunks of a PNG said of colour goes into PNG alone.
func Encode(w io.Writer, m *Image, format string) error {
	if err := m.check(); err != nil {
		return fmt.Errorf("encode %s: %w", format, err)
	}
	icc := m.ICC
	if space := iccSpace(icc); (m.C == 1 && space != "GRAY") || (m.C == 3 && space != "RGB ") {
		icc = nil
	}
	switch format {
	case "png":
		extra, err := m.pngExtra(icc)
		if err != nil {
			return fmt.Errorf("encode png: %w", err)
		}
		if len(extra) > 0 {
			// Behind the signature (8 bytes) and the header chunk (25).
			w = &injector{w: w, after: 33, extra: extra}
		}
		if m.C == 1 && m.Alpha != nil {
			return wrapEncode(format, encodeGrayAlpha(w, m))
		}
		return wrapEncode(format, png.Encode(w, m.ToImage()))
	case "jpeg":
		if m.Alpha != nil {
			return fmt.Errorf("encode jpeg: found an alpha channel, expected an opaque image (JPEG has no transparency)")
		}
		if m.W > 65535 || m.H > 65535 {
			return fmt.Errorf("encode jpeg: found an image of %d x %d pixels, expected sides of at most 65535", m.W, m.H)
		}
		var extra []byte
		if block := resized(m.Exif, m.W, m.H); block != nil {
			extra = jpegExif(block)
		}
		if icc != nil {
			extra = append(extra, jpegICC(icc)...)
		}
		if len(extra) > 0 {
			w = &injector{w: w, after: 2, extra: extra}
		}
		m8 := *m
		m8.Bits = 8
		pic := m8.ToImage()
		if p, ok := pic.(*image.NRGBA); ok {
			// The encoder is several times faster on RGBA; opaque, the two are equal.
			pic = &image.RGBA{Pix: p.Pix, Stride: p.Stride, Rect: p.Rect}
		}
		return wrapEncode(format, jpeg.Encode(w, pic, &jpeg.Options{Quality: JPEGQuality}))
	case "tiff":
		return wrapEncode(format, encodeTIFF(w, m, icc))
	case "pnm":
		if m.Alpha != nil {
			return fmt.Errorf("encode pnm: found an alpha channel, expected an opaque image (PGM and PPM have no transparency)")
		}
		return wrapEncode(format, encodePNM(w, m))
	}
	return fmt.Errorf("encode: found format %q, expected png, jpeg, tiff or pnm", format)
}

func wrapEncode(format string, err error) error {
	if err != nil {
		return fmt.Errorf("encode %s: %w", format, err)
	}
	return nil
}

// injector passes a stream on and adds extra bytes after the first `after`.
type injector struct {
	w     io.Writer
	after int
	extra []byte
}

func (j *injector) Write(p []byte) (int, error) {
	if j.after == 0 {
		return j.w.Write(p)
	}
	head := p[:min(j.after, len(p))]
	n, err := j.w.Write(head)
	if err != nil {
		return n, err
	}
	if j.after -= len(head); j.after > 0 {
		return n, nil
	}
	if _, err := j.w.Write(j.extra); err != nil {
		return n, err
	}
	if len(head) == len(p) {
		return n, nil
	}
	k, err := j.w.Write(p[len(head):])
	return n + k, err
}
