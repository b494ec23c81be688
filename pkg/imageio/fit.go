package imageio

import (
	"fmt"
	"image"

	"github.com/disintegration/imaging"
)

// Fit returns the middle of m as samples (C,H,W) in [0,1], for networks that take
// images of one size: the largest part around the centre whose sides are as w:h,
// rounded to whole pixels, is resampled to h rows of w pixels by Lanczos's filter
// of three lobes, widened where the part becomes smaller so that all of its pixels
// count. A part of the right size is taken as it is, unrounded; a resampled one
// has 8 bits.
//
// With c = 1 colours become gray, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, full
// range); with c = 3 gray becomes three equal planes. What is transparent is shown
// on white. It is an error if c is neither or a size is not positive.
func (m *Image) Fit(c, h, w int) ([]float32, error) {
	switch {
	case c != 1 && c != 3:
		return nil, fmt.Errorf("fit: found %d channels, expected 1 or 3", c)
	case h < 1 || w < 1:
		return nil, fmt.Errorf("fit: found a size of %dx%d, expected at least 1x1", w, h)
	case m.H < 1 || m.W < 1 || len(m.Pix) < m.C*m.H*m.W || m.C != 1 && m.C != 3:
		return nil, fmt.Errorf("fit: found an image of %d channels of %dx%d, expected 1 or 3 of at least 1x1", m.C, m.W, m.H)
	}
	part := middle(m.H, m.W, h, w)
	pix := make([]float32, m.C*h*w)
	if part.Dx() == w && part.Dy() == h {
		for k := range m.C {
			for y := range h {
				for x := range w {
					pix[(k*h+y)*w+x] = m.onWhite(k, part.Min.Y+y, part.Min.X+x)
				}
			}
		}
	} else {
		src := image.NewNRGBA(image.Rect(0, 0, part.Dx(), part.Dy()))
		for y := range part.Dy() {
			for x := range part.Dx() {
				at := src.PixOffset(x, y)
				for k := range 3 {
					src.Pix[at+k] = quant8(m.onWhite(min(k, m.C-1), part.Min.Y+y, part.Min.X+x))
				}
				src.Pix[at+3] = 255
			}
		}
		dst := imaging.Resize(src, w, h, imaging.Lanczos)
		for y := range h {
			for x := range w {
				for k := range m.C {
					pix[(k*h+y)*w+x] = from8[dst.Pix[dst.PixOffset(x, y)+k]]
				}
			}
		}
	}
	n := h * w
	switch {
	case c == m.C:
		return pix, nil
	case c == 3:
		return append(append(pix[:n:n], pix...), pix...), nil
	}
	for i := range n {
		pix[i] = float32(0.299*float64(pix[i]) + 0.587*float64(pix[n+i]) + 0.114*float64(pix[2*n+i]))
	}
	return pix[:n:n], nil
}

// middle returns the largest part of an image of height by width around its
// centre whose sides are as w:h.
func middle(height, width, h, w int) image.Rectangle {
	a, b := int64(width)*int64(h), int64(height)*int64(w)
	ph, pw := height, width
	if a > b {
		pw = max(int((2*b+int64(h))/int64(2*h)), 1)
	} else {
		ph = max(int((2*a+int64(w))/int64(2*w)), 1)
	}
	at := image.Pt((width-pw)/2, (height-ph)/2)
	return image.Rect(at.X, at.Y, at.X+pw, at.Y+ph)
}

// onWhite returns a sample as it looks on white paper.
func (m *Image) onWhite(c, y, x int) float32 {
	v := min(max(m.Pix[(c*m.H+y)*m.W+x], 0), 1)
	if m.Alpha == nil {
		return v
	}
	a := min(max(m.Alpha[y*m.W+x], 0), 1)
	return a*v + 1 - a
}
