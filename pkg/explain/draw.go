package explain

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// canvas is a picture being drawn.
type canvas struct{ *image.RGBA }

func newCanvas(w, h int) canvas { return canvas{image.NewRGBA(image.Rect(0, 0, w, h))} }

func (c canvas) fill(r image.Rectangle, col color.Color) {
	draw.Draw(c, r, image.NewUniform(col), image.Point{}, draw.Src)
}

// path fills the area inside closed polygons, by the non-zero rule.
func (c canvas) path(col color.Color, polygons ...[][2]float64) {
	// The rasterizer costs its whole area: let it be that of the polygons.
	lo, hi := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for _, p := range polygons {
		for _, v := range p {
			for i := range v {
				lo[i], hi[i] = min(lo[i], v[i]), max(hi[i], v[i])
			}
		}
	}
	box := image.Rect(int(math.Floor(lo[0])), int(math.Floor(lo[1])), int(math.Ceil(hi[0]))+1, int(math.Ceil(hi[1]))+1)
	r := vector.NewRasterizer(box.Dx(), box.Dy())
	for _, p := range polygons {
		for i, v := range p {
			x, y := float32(v[0]-float64(box.Min.X)), float32(v[1]-float64(box.Min.Y))
			if i == 0 {
				r.MoveTo(x, y)
			} else {
				r.LineTo(x, y)
			}
		}
		r.ClosePath()
	}
	// Through a mask: the box may stick out of the picture.
	cover := image.NewAlpha(image.Rect(0, 0, box.Dx(), box.Dy()))
	r.Draw(cover, cover.Rect, image.Opaque, image.Point{})
	draw.DrawMask(c, box, image.NewUniform(col), image.Point{}, cover, image.Point{}, draw.Over)
}

// ellipse returns the outline of one with the given centre and half-axes along
// (ux, uy) and across; reversed, it cuts a hole.
func ellipse(x, y, a, b, ux, uy float64, reversed bool) [][2]float64 {
	const n = 40
	out := make([][2]float64, n)
	for i := range out {
		t := 2 * math.Pi * float64(i) / n
		if reversed {
			t = -t
		}
		p, q := a*math.Cos(t), b*math.Sin(t)
		out[i] = [2]float64{x + p*ux - q*uy, y + p*uy + q*ux}
	}
	return out
}

func circle(x, y, r float64, reversed bool) [][2]float64 { return ellipse(x, y, r, r, 1, 0, reversed) }

// frame draws the outline of a rectangle, width pixels inside it.
func (c canvas) frame(r image.Rectangle, width int, col color.Color) {
	c.fill(image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+width), col)
	c.fill(image.Rect(r.Min.X, r.Max.Y-width, r.Max.X, r.Max.Y), col)
	c.fill(image.Rect(r.Min.X, r.Min.Y, r.Min.X+width, r.Max.Y), col)
	c.fill(image.Rect(r.Max.X-width, r.Min.Y, r.Max.X, r.Max.Y), col)
}

var typeface = sync.OnceValue(func() *opentype.Font {
	f, err := opentype.Parse(gobold.TTF)
	if err != nil {
		panic(err) // compiled in
	}
	return f
})

// text writes s centred on (x, y), light with a dark rim so that it reads on any
// picture.
func (c canvas) text(s string, x, y int, size float64) {
	face, err := opentype.NewFace(typeface(), &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		panic(err) // of positive sizes none is refused
	}
	d := font.Drawer{Dst: c, Face: face}
	width := d.MeasureString(s)
	base := fixed.P(x, y+int(size*.36))
	base.X -= width / 2
	rim := max(1, int(size/12+.5))
	d.Src = image.NewUniform(color.NRGBA{0, 0, 0, 0x70})
	for dy := -rim; dy <= rim; dy++ {
		for dx := -rim; dx <= rim; dx++ {
			if (dx != 0 || dy != 0) && dx*dx+dy*dy <= rim*rim+1 {
				d.Dot = base.Add(fixed.P(dx, dy))
				d.DrawString(s)
			}
		}
	}
	d.Src, d.Dot = image.White, base
	d.DrawString(s)
}

// level is the 8-bit sample of a value in [0,1], clamped.
func level(v float64) uint8 {
	return uint8(min(max(v, 0), 1)*255 + .5)
}

// photo returns planes (c,H,W) as a picture.
func photo(p []float32, c, h, w int) *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		for k := range 3 {
			v := p[i]
			if c == 3 {
				v = p[k*h*w+i]
			}
			out.Pix[4*i+k] = level(float64(v))
		}
		out.Pix[4*i+3] = 255
	}
	return out
}

// zoom returns the part r of a picture, every pixel f times wider and higher.
// Outside of the picture there is the gray of nothing.
func zoom(src image.Image, r image.Rectangle, f int) canvas {
	c := newCanvas(r.Dx()*f, r.Dy()*f)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			col := color.Color(color.NRGBA{0x77, 0x77, 0x77, 255})
			if (image.Point{x, y}).In(src.Bounds()) {
				col = src.At(x, y)
			}
			c.fill(image.Rect(0, 0, f, f).Add(image.Pt((x-r.Min.X)*f, (y-r.Min.Y)*f)), col)
		}
	}
	return c
}

// ramp interpolates between colours at equal distances.
type ramp []color.NRGBA

func (r ramp) at(v float64) color.NRGBA {
	v = min(max(v, 0), 1) * float64(len(r)-1)
	i := min(int(v), len(r)-2)
	t := v - float64(i)
	a, b := r[i], r[i+1]
	mix := func(p, q uint8) uint8 { return uint8(float64(p)*(1-t) + float64(q)*t + .5) }
	return color.NRGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}

// css returns the ramp as a CSS gradient.
func (r ramp) css() string {
	s := "linear-gradient(90deg"
	for _, c := range r {
		s += "," + hex(c)
	}
	return s + ")"
}

func hex(c color.NRGBA) string {
	const digits = "0123456789abcdef"
	b := []byte{'#'}
	for _, v := range []uint8{c.R, c.G, c.B} {
		b = append(b, digits[v>>4], digits[v&15])
	}
	return string(b)
}

// Colours: walls from dark (few neighbours) to light (all); heads; what marks
// weights.
var (
	wallRamp  = ramp{{0x12, 0x10, 0x2b, 255}, {0x4b, 0x1d, 0x6b, 255}, {0xa8, 0x32, 0x6a, 255}, {0xe8, 0x73, 0x4b, 255}, {0xfb, 0xc9, 0x6b, 255}, {0xfd, 0xf6, 0xd8, 255}}
	heads     = []color.NRGBA{{0xe6, 0x8a, 0x00, 255}, {0x2f, 0x7f, 0xd0, 255}, {0x2c, 0x9f, 0x5b, 255}, {0xc2, 0x47, 0x9a, 255}, {0x8a, 0x6d, 0x3b, 255}, {0x6f, 0x62, 0xc9, 255}, {0xb8, 0x3a, 0x3a, 255}, {0x55, 0x8b, 0x91, 255}}
	markFill  = color.NRGBA{0xff, 0xd2, 0x3f, 255}
	markRim   = color.NRGBA{0x20, 0x18, 0x00, 255}
	centreRim = color.NRGBA{0xff, 0xff, 0xff, 255}
)

func headColour(k int) color.NRGBA { return heads[k%len(heads)] }
