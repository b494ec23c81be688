// Package imageio reads and writes images as planar float32: PNG, JPEG, TIFF, PGM
// and PPM, 8 and 16 bit, gray and colour, with the transparency, the colour
// profile, the EXIF data and the bit depth kept aside; and it reads the mosaics
// of cameras in DNG files. Files are told apart by their first
// bytes, never by name; sizes are checked before anything is allocated; bad
// input is an error that names the file, what was found and what was expected.
package imageio

import (
	"image"
	"image/color"
	"math"
)

// Image is a decoded picture.
type Image struct {
	W, H  int       // width and height in pixels
	C     int       // channels: 1 (gray) or 3 (R, G, B)
	Pix   []float32 // (C,H,W), values in [0,1]: sample / (2^Bits - 1)
	Alpha []float32 // nil where every pixel is opaque, else (H,W) in [0,1]; Pix is not premultiplied
	Bits  int       // bits per sample of the source, and of what is written: 8 or 16
	Gray  bool      // the source was gray (C is then 1)

	ICC    []byte // colour profile, nil if there is none
	Exif   []byte // EXIF data from its TIFF header on, orientation 1; nil if there is none
	Format string // "png", "jpeg", "tiff", "dng", "pnm", or "" for an image that came from no file

	// Raw is not nil for the mosaic of a camera, whose samples are linear light.
	Raw *Raw

	chunks []chunk // of a PNG: what they say of colour
}

// New returns a black, opaque, 8-bit image of c channels (1 or 3).
func New(c, h, w int) *Image {
	return &Image{W: w, H: h, C: c, Pix: make([]float32, c*h*w), Bits: 8, Gray: c == 1}
}

// WithPix returns a copy of the image's description around other samples: pix
// (c,H,W) of the same width and height. Alpha, EXIF data and profile are shared
// with the receiver, the profile only if the channel count stays the same; what
// Raw says of a mosaic is not true of other samples, and left out.
func (m *Image) WithPix(pix []float32, c int) *Image {
	n := *m
	n.Pix, n.C, n.Gray, n.Raw = pix, c, c == 1, nil
	if c != m.C {
		n.ICC = nil
	}
	return &n
}

// RGB returns the image with three channels: itself if it has three, else a
// copy with the gray plane repeated.
func (m *Image) RGB() *Image {
	if m.C == 3 {
		return m
	}
	n := m.H * m.W
	pix := make([]float32, 3*n)
	for c := range 3 {
		copy(pix[c*n:(c+1)*n], m.Pix[:n])
	}
	return m.WithPix(pix, 3)
}

// Luma returns the luma plane (H,W) of studio-range YCbCr (ITU-R BT.601)
// divided by 255: Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255, which lies
// in [16/255, 235/255]. A gray image counts as R = G = B.
func (m *Image) Luma() []float32 {
	n := m.H * m.W
	y := make([]float32, n)
	if m.C == 1 {
		for i, v := range m.Pix[:n] {
			y[i] = float32((16 + 219*float64(v)) / 255)
		}
		return y
	}
	r, g, b := m.Pix[:n], m.Pix[n:2*n], m.Pix[2*n:3*n]
	for i := range y {
		y[i] = float32((16 + 65.481*float64(r[i]) + 128.553*float64(g[i]) + 24.966*float64(b[i])) / 255)
	}
	return y
}

// Round8 replaces every value by the nearest k/255, k = 0..255: what an 8-bit
// file would hold. Values outside [0,1] are clamped; NaN becomes 0.
func Round8(pix []float32) {
	for i, v := range pix {
		pix[i] = from8[quant8(v)]
	}
}

// from8[k] is k/255, the float32 of an 8-bit sample.
var from8 = func() (t [256]float32) {
	for k := range t {
		t[k] = float32(k) / 255
	}
	return t
}()

// quant8 is the nearest 8-bit sample, halves up, clamped; NaN gives 0.
func quant8(v float32) uint8 {
	if !(v > 0) {
		return 0
	}
	if v >= 1 {
		return 255
	}
	return uint8(float64(v)*255 + 0.5)
}

// quant16 is the nearest 16-bit sample, halves up, clamped; NaN gives 0.
func quant16(v float32) uint16 {
	if !(v > 0) {
		return 0
	}
	if v >= 1 {
		return 65535
	}
	return uint16(float64(v)*65535 + 0.5)
}

// ToImage converts to the standard library's types: *image.Gray or *image.Gray16
// for an opaque gray image, *image.NRGBA or *image.NRGBA64 otherwise, by Bits.
// Values are rounded and clamped; NaN becomes 0. It is the inverse of FromImage
// up to the rounding.
func (m *Image) ToImage() image.Image {
	n, rect := m.H*m.W, image.Rect(0, 0, m.W, m.H)
	if m.C == 1 && m.Alpha == nil {
		if m.Bits == 16 {
			g := image.NewGray16(rect)
			for i, v := range m.Pix[:n] {
				q := quant16(v)
				g.Pix[2*i], g.Pix[2*i+1] = uint8(q>>8), uint8(q)
			}
			return g
		}
		g := image.NewGray(rect)
		for i, v := range m.Pix[:n] {
			g.Pix[i] = quant8(v)
		}
		return g
	}
	r, g, b := m.Pix[:n], m.Pix[:n], m.Pix[:n]
	if m.C == 3 {
		g, b = m.Pix[n:2*n], m.Pix[2*n:3*n]
	}
	if m.Bits == 16 {
		o := image.NewNRGBA64(rect)
		for i := range n {
			a := uint16(65535)
			if m.Alpha != nil {
				a = quant16(m.Alpha[i])
			}
			p := o.Pix[8*i : 8*i+8 : 8*i+8]
			for k, q := range [4]uint16{quant16(r[i]), quant16(g[i]), quant16(b[i]), a} {
				p[2*k], p[2*k+1] = uint8(q>>8), uint8(q)
			}
		}
		return o
	}
	o := image.NewNRGBA(rect)
	for i := range n {
		p := o.Pix[4*i : 4*i+4 : 4*i+4]
		p[0], p[1], p[2], p[3] = quant8(r[i]), quant8(g[i]), quant8(b[i]), 255
		if m.Alpha != nil {
			p[3] = quant8(m.Alpha[i])
		}
	}
	return o
}

// FromImage converts any image.Image: gray types (and palettes of grays) to one
// channel, everything else to three, 16-bit types to Bits 16, premultiplied
// colours divided by their alpha (0 where alpha is 0). Alpha stays nil if every
// pixel is opaque.
func FromImage(src image.Image) *Image {
	b := src.Bounds()
	w, h := b.Dx(), b.Dy()
	switch s := src.(type) {
	case *image.Gray:
		m := New(1, h, w)
		for y := range h {
			row := s.Pix[y*s.Stride : y*s.Stride+w]
			for x, v := range row {
				m.Pix[y*w+x] = from8[v]
			}
		}
		return m
	case *image.Gray16:
		m := New(1, h, w)
		m.Bits = 16
		for y := range h {
			row := s.Pix[y*s.Stride : y*s.Stride+2*w]
			for x := range w {
				m.Pix[y*w+x] = from16(row[2*x:])
			}
		}
		return m
	case *image.NRGBA:
		return fromRGBA8(s.Pix, s.Stride, h, w, false)
	case *image.RGBA:
		return fromRGBA8(s.Pix, s.Stride, h, w, true)
	case *image.NRGBA64:
		return fromRGBA16(s.Pix, s.Stride, h, w, false)
	case *image.RGBA64:
		return fromRGBA16(s.Pix, s.Stride, h, w, true)
	case *image.YCbCr:
		m := New(3, h, w)
		n := w * h
		for y := range h {
			for x := range w {
				yi, ci := s.YOffset(b.Min.X+x, b.Min.Y+y), s.COffset(b.Min.X+x, b.Min.Y+y)
				r, g, bl := color.YCbCrToRGB(s.Y[yi], s.Cb[ci], s.Cr[ci])
				i := y*w + x
				m.Pix[i], m.Pix[n+i], m.Pix[2*n+i] = from8[r], from8[g], from8[bl]
			}
		}
		return m
	case *image.CMYK:
		m := New(3, h, w)
		n := w * h
		for y := range h {
			row := s.Pix[y*s.Stride : y*s.Stride+4*w]
			for x := range w {
				r, g, bl := color.CMYKToRGB(row[4*x], row[4*x+1], row[4*x+2], row[4*x+3])
				i := y*w + x
				m.Pix[i], m.Pix[n+i], m.Pix[2*n+i] = from8[r], from8[g], from8[bl]
			}
		}
		return m
	case *image.Paletted:
		return fromPaletted(s)
	}
	return fromAny(src)
}

func from16(p []byte) float32 { return float32(uint16(p[0])<<8|uint16(p[1])) / 65535 }

// fromRGBA8 reads interleaved 8-bit RGBA rows; premult says whether colours are
// multiplied by alpha.
func fromRGBA8(pix []byte, stride, h, w int, premult bool) *Image {
	m, n := New(3, h, w), h*w
	for y := range h {
		row := pix[y*stride : y*stride+4*w]
		for x := range w {
			p := row[4*x : 4*x+4 : 4*x+4]
			i := y*w + x
			if a := p[3]; a != 255 {
				m.setAlpha(i, from8[a])
				if premult {
					if a != 0 {
						inv := 1 / float32(a)
						for c := range 3 {
							m.Pix[c*n+i] = min(1, float32(p[c])*inv)
						}
					}
					continue
				}
			}
			m.Pix[i], m.Pix[n+i], m.Pix[2*n+i] = from8[p[0]], from8[p[1]], from8[p[2]]
		}
	}
	return m
}

// fromRGBA16 is fromRGBA8 for big-endian 16-bit samples.
func fromRGBA16(pix []byte, stride, h, w int, premult bool) *Image {
	m, n := New(3, h, w), h*w
	m.Bits = 16
	for y := range h {
		row := pix[y*stride : y*stride+8*w]
		for x := range w {
			p := row[8*x : 8*x+8 : 8*x+8]
			i := y*w + x
			div := float32(1)
			if p[6] != 255 || p[7] != 255 {
				a := from16(p[6:])
				m.setAlpha(i, a)
				if premult {
					if a == 0 {
						continue
					}
					div = a
				}
			}
			for c := range 3 {
				m.Pix[c*n+i] = min(1, from16(p[2*c:])/div)
			}
		}
	}
	return m
}

// setAlpha sets one pixel's alpha; the plane is made, opaque, when first needed.
func (m *Image) setAlpha(i int, a float32) {
	if m.Alpha == nil {
		m.Alpha = make([]float32, m.H*m.W)
		for k := range m.Alpha {
			m.Alpha[k] = 1
		}
	}
	m.Alpha[i] = a
}

// fromPaletted looks every index up. An index without an entry counts as opaque
// black here; Decode refuses such files before they come to this.
func fromPaletted(s *image.Paletted) *Image {
	w, h := s.Rect.Dx(), s.Rect.Dy()
	var lut [256][4]float32
	gray, bits := true, 8
	for k := range lut {
		lut[k][3] = 1
	}
	for k, col := range s.Palette {
		if k > 255 {
			break
		}
		c := color.NRGBA64Model.Convert(col).(color.NRGBA64)
		// A palette entry may be given as 8-bit premultiplied or straight; the
		// straight 8-bit case must not pass through premultiplication.
		if q, ok := col.(color.NRGBA); ok {
			lut[k] = [4]float32{from8[q.R], from8[q.G], from8[q.B], from8[q.A]}
		} else {
			lut[k] = [4]float32{float32(c.R) / 65535, float32(c.G) / 65535, float32(c.B) / 65535, float32(c.A) / 65535}
		}
		gray = gray && lut[k][0] == lut[k][1] && lut[k][1] == lut[k][2]
		if c.A == 65535 && (c.R%257 != 0 || c.G%257 != 0 || c.B%257 != 0) {
			bits = 16 // a TIFF palette of colours that 8 bits do not hold
		}
	}
	ch := 3
	if gray {
		ch = 1
	}
	m, n := New(ch, h, w), h*w
	m.Bits = bits
	for y := range h {
		row := s.Pix[y*s.Stride : y*s.Stride+w]
		for x, v := range row {
			e, i := &lut[v], y*w+x
			for c := range ch {
				m.Pix[c*n+i] = e[c]
			}
			if e[3] != 1 {
				m.setAlpha(i, e[3])
			}
		}
	}
	return m
}

// fromAny reads pixel by pixel through the colour model, at 16 bit if the model
// has more than eight.
func fromAny(src image.Image) *Image {
	b := src.Bounds()
	w, h := b.Dx(), b.Dy()
	m, n := New(3, h, w), h*w
	switch src.ColorModel() {
	case color.RGBAModel, color.NRGBAModel, color.AlphaModel, color.YCbCrModel, color.NYCbCrAModel, color.CMYKModel:
	case color.GrayModel, color.Gray16Model:
		m = New(1, h, w)
		m.Bits = 16
		if src.ColorModel() == color.GrayModel {
			m.Bits = 8
		}
		for y := range h {
			for x := range w {
				g := color.Gray16Model.Convert(src.At(b.Min.X+x, b.Min.Y+y)).(color.Gray16)
				m.Pix[y*w+x] = float32(g.Y) / 65535
			}
		}
		return m
	default:
		m.Bits = 16
	}
	for y := range h {
		for x := range w {
			c := color.NRGBA64Model.Convert(src.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA64)
			i := y*w + x
			m.Pix[i], m.Pix[n+i], m.Pix[2*n+i] = float32(c.R)/65535, float32(c.G)/65535, float32(c.B)/65535
			if c.A != 65535 {
				m.setAlpha(i, float32(c.A)/65535)
			}
		}
	}
	return m
}

// toGray keeps the first plane only: for sources that say they are gray but
// were decoded as R = G = B.
func (m *Image) toGray() {
	n := m.W * m.H
	m.Pix, m.C, m.Gray = m.Pix[:n:n], 1, true
}

// finite reports the first value that is not a finite number, or -1.
func finite(v []float32) int {
	for i, x := range v {
		if x != x || x > math.MaxFloat32 || x < -math.MaxFloat32 {
			return i
		}
	}
	return -1
}
