package explain

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"slices"
)

// Picture is one file of a page.
type Picture struct {
	Name  string // of the file, without folder
	Alt   string // what it shows, for those who cannot see it
	Image image.Image
}

// file names what is drawn for block t (from 0) and head k.
func (r *Report) file(section, t, k int, what string) string {
	name := fmt.Sprintf("%d-block%d", section, t+1)
	if k >= 0 {
		name += fmt.Sprintf("-head%d", k+1)
	}
	return name + "-" + what + ".png"
}

// at names a pixel by its place in the whole image.
func (r *Report) at(p Pixel) image.Point { return p.Point.Add(r.Window.Min) }

func (r *Report) pixelFile(t, k int, p Pixel) string {
	q := r.at(p)
	return r.file(3, t, k, fmt.Sprintf("pixel-%d-%d", q.X, q.Y))
}

// before returns the picture that the graphs of block t were learned from.
func (r *Report) before(t int) Stage {
	if t == 0 {
		return r.Initial
	}
	return r.Blocks[t-1].Stage
}

// last returns the result.
func (r *Report) last() Stage { return r.before(len(r.Blocks)) }

func (r *Report) photo(p []float32) *image.NRGBA {
	h, w := r.Size()
	return photo(p, r.C, h, w)
}

// sampled draws the samples: missing pixels are dark, and where one colour of
// three is known, that is the colour.
func (r *Report) sampled() *image.NRGBA {
	h, w := r.Size()
	img := r.photo(r.Samples)
	for i := range h * w {
		known := false
		for c := range r.C {
			known = known || r.Mask[c*h*w+i] != 0
		}
		if !known {
			copy(img.Pix[4*i:], []uint8{0x1c, 0x1a, 0x22, 255})
		}
	}
	return img
}

// Pictures draws the report.
func (r *Report) Pictures() []Picture {
	var out []Picture
	add := func(name string, img image.Image, alt string, args ...any) {
		out = append(out, Picture{name, fmt.Sprintf(alt, args...), img})
	}
	full := image.Rect(0, 0, r.Window.Dx(), r.Window.Dy())
	small := detailZoom(r.Detail)

	samples, initial := r.sampled(), r.photo(r.Initial.Image)
	add("1-samples.png", samples, "The samples the network was given; missing values are dark.")
	add("1-samples-detail.png", zoom(samples, r.Detail, small), "The samples in a detail, magnified %d times.", small)
	add("2-initial.png", initial, "The picture after the initial interpolation.")
	add("2-initial-detail.png", zoom(initial, r.Detail, small), "The same detail after the initial interpolation.")
	if r.Original != nil {
		img := r.photo(r.Original)
		add("1-original.png", img, "The original picture.")
		add("1-original-detail.png", zoom(img, r.Detail, small), "The same detail of the original.")
	}

	// The graphs.
	for i, p := range r.Pixels {
		q := r.at(p)
		add(fmt.Sprintf("3-pixel-%d-%d.png", q.X, q.Y), r.place(p), "Where pixel (%d, %d) is, marked by a square.", q.X, q.Y)
		most := r.mostShare(i)
		for t := range r.Blocks {
			from := r.photo(r.before(t).Image)
			for k := range r.Blocks[t].Heads {
				add(r.pixelFile(t, k, p), r.listening(from, t, k, i, most),
					"Block %d, head %d: the neighbours of pixel (%d, %d) with discs as large as their weights. %s", t+1, k+1, q.X, q.Y, sayRow(r.Blocks[t].Heads[k].Rows[i]))
			}
		}
	}
	for t, b := range r.Blocks {
		from := r.photo(r.before(t).Image)
		for k := range b.Heads {
			add(r.file(3, t, k, "directions"), r.directions(from, b.Heads[k]), "Block %d, head %d: an ellipse at every few pixels shows where the neighbours lie that the pixel listens to.", t+1, k+1)
			add(r.file(3, t, k, "walls"), r.walls(b.Heads[k]), "Block %d, head %d: number of neighbours every pixel listens to, dark where few.", t+1, k+1)
		}
		if b.Heads[0].Share != nil {
			add(r.file(3, t, -1, "mixing"), r.mixing(b), "Block %d: which head each pixel takes its value from, by colour.", t+1)
		}
	}

	// The stages.
	if r.Original != nil {
		add("4-initial-error.png", r.difference(r.Initial.Image, r.Original, r.errorGain()), "What is wrong with the initial interpolation, amplified.")
	}
	for t, b := range r.Blocks {
		img := r.photo(b.Image)
		gain := r.changeGain(t)
		add(r.file(4, t, -1, "picture"), img, "The picture after block %d.", t+1)
		add(r.file(4, t, -1, "detail"), zoom(img, r.Detail, small), "The detail after block %d.", t+1)
		add(r.file(4, t, -1, "change"), r.difference(b.Image, r.before(t).Image, gain), "What block %d changed, amplified %g times around gray.", t+1, gain)
		if r.Original != nil {
			add(r.file(4, t, -1, "error"), r.difference(b.Image, r.Original, r.errorGain()), "What is still wrong after block %d, amplified %g times around gray.", t+1, r.errorGain())
		}
	}
	add("6-result.png", zoom(r.photo(r.last().Image), full, 1), "The result.")
	return out
}

// detailZoom returns how much a detail is magnified.
func detailZoom(r image.Rectangle) int { return max(1, 256/max(r.Dx(), 1)) }

// difference draws gain times a-b around middle gray.
func (r *Report) difference(a, b []float32, gain float64) *image.NRGBA {
	d := make([]float32, len(a))
	for i := range d {
		d[i] = float32(.5 + gain*(float64(a[i])-float64(b[i])))
	}
	return r.photo(d)
}

// gain returns the largest power of two that keeps all but one in twenty of
// the differences of a and b within the range of a picture around its middle.
func gain(a, b []float32) float64 {
	d := make([]float64, len(a))
	for i := range d {
		d[i] = math.Abs(float64(a[i]) - float64(b[i]))
	}
	slices.Sort(d)
	top := d[len(d)*19/20]
	g := 1.
	for g < 64 && 2*g*top <= .5 {
		g *= 2
	}
	return g
}

// changeGain returns the amplification of what block t changed.
func (r *Report) changeGain(t int) float64 { return gain(r.Blocks[t].Image, r.before(t).Image) }

// errorGain returns the amplification of errors, the same for all stages.
func (r *Report) errorGain() float64 { return gain(r.Initial.Image, r.Original) }

// place shows a pixel in its surroundings.
func (r *Report) place(p Pixel) image.Image {
	const side, f = 56, 4
	h, w := r.Size()
	corner := image.Pt(max(0, min(p.X-side/2, w-side)), max(0, min(p.Y-side/2, h-side)))
	around := image.Rectangle{corner, corner.Add(image.Pt(min(side, w), min(side, h)))}
	c := zoom(r.photo(r.last().Image), around, f)
	rad := r.radius() + contextPixels
	q := p.Sub(corner)
	box := image.Rect((q.X-rad)*f, (q.Y-rad)*f, (q.X+rad+1)*f, (q.Y+rad+1)*f)
	c.frame(box.Inset(-4), 2, markRim)
	c.frame(box.Inset(-2), 2, markFill)
	return c
}

// radius returns how far the neighbours are.
func (r *Report) radius() int {
	rad := 1
	for _, b := range r.Blocks {
		for _, h := range b.Heads {
			for _, row := range h.Rows {
				for _, w := range row {
					rad = max(rad, w.DX, -w.DX, w.DY, -w.DY)
				}
			}
		}
	}
	return rad
}

// mostShare returns the largest share among the neighbours of pixel i, over all
// blocks and heads: its disc fills its square, the others are to scale.
func (r *Report) mostShare(i int) float64 {
	most := 0.
	for _, b := range r.Blocks {
		for _, h := range b.Heads {
			for _, p := range Shares(h.Rows[i]) {
				most = max(most, p)
			}
		}
	}
	return most
}

const (
	contextPixels = 0   // around the neighbours
	listeningSide = 420 // about, in pixels of the drawing
)

// listening draws pixel i and its surroundings as squares, with discs whose area
// is the share of the weight, and the share in per cent.
func (r *Report) listening(from image.Image, t, k, i int, most float64) image.Image {
	rad := r.radius()
	side := 2*(rad+contextPixels) + 1
	f := max(listeningSide/side, 12)
	p := r.Pixels[i].Point
	c := zoom(from, image.Rect(-side/2, -side/2, side/2+1, side/2+1).Add(p), f)
	// The surroundings step back.
	for y := range c.Rect.Dy() {
		for x := range c.Rect.Dx() {
			if d := max(x/f-side/2, side/2-x/f, y/f-side/2, side/2-y/f); d > rad {
				v := c.RGBAAt(x, y)
				fade := func(a uint8) uint8 { return uint8((int(a) + 0x80) / 2) }
				c.SetRGBA(x, y, color.RGBA{fade(v.R), fade(v.G), fade(v.B), 255})
			}
		}
	}
	row := r.Blocks[t].Heads[k].Rows[i]
	shares := Shares(row)
	square := func(dx, dy int) image.Rectangle {
		return image.Rect(0, 0, f, f).Add(image.Pt((dx+side/2)*f, (dy+side/2)*f))
	}
	for j, w := range row {
		if shares[j] == 0 {
			continue
		}
		s := square(w.DX, w.DY)
		x, y := float64(s.Min.X)+float64(f)/2, float64(s.Min.Y)+float64(f)/2
		rr := (float64(f)/2 - 3) * math.Sqrt(shares[j]/most)
		c.path(markRim, circle(x, y, rr+1.5, false))
		c.path(markFill, circle(x, y, rr, false))
	}
	if f >= 28 {
		for j, w := range row {
			if shares[j] < .001 {
				continue
			}
			s := square(w.DX, w.DY)
			c.text(percent(shares[j]), (s.Min.X+s.Max.X)/2, s.Max.Y-f/6, float64(f)*.27)
		}
	}
	s := square(0, 0)
	c.frame(s, 8, markRim)
	c.frame(s.Inset(2), 4, centreRim)
	return c
}

// percent writes a share with the digits it has room for.
func percent(p float64) string {
	switch v := 100 * p; {
	case v >= 9.95:
		return fmt.Sprintf("%.0f", v)
	case v < .05:
		return "0"
	default:
		return fmt.Sprintf("%.1f", v)
	}
}

// sayRow tells the three largest weights in words.
func sayRow(row []Weight) string {
	shares := Shares(row)
	order := make([]int, len(row))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case shares[a] > shares[b]:
			return -1
		case shares[a] < shares[b]:
			return 1
		}
		return 0
	})
	s := "Most weight:"
	for n, i := range order[:min(3, len(order))] {
		if n > 0 {
			s += ","
		}
		s += fmt.Sprintf(" %s %% %s", percent(shares[i]), sayPlace(row[i].DX, row[i].DY))
	}
	return s + "."
}

// sayPlace names a neighbour.
func sayPlace(dx, dy int) string {
	s := ""
	if dy != 0 {
		s = fmt.Sprintf("%d %s", max(dy, -dy), map[bool]string{true: "down", false: "up"}[dy > 0])
	}
	if dx != 0 {
		if s != "" {
			s += " and "
		}
		s += fmt.Sprintf("%d %s", max(dx, -dx), map[bool]string{true: "right", false: "left"}[dx > 0])
	}
	return s
}

// walls draws the number of neighbours that pixels listen to.
func (r *Report) walls(head Head) image.Image {
	h, w := r.Size()
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	most := r.most()
	for i, v := range head.Reach {
		out.SetNRGBA(i%w, i/w, wallRamp.at((float64(v)-1)/(most-1)))
	}
	return out
}

// most returns how many neighbours a pixel has.
func (r *Report) most() float64 {
	n := 2
	for _, b := range r.Blocks {
		for _, h := range b.Heads {
			for _, row := range h.Rows {
				n = max(n, len(row))
			}
		}
	}
	return float64(n)
}

// directionZoom is how much the picture behind the ellipses is magnified.
const directionZoom = 3

// directions draws an ellipse for each shape over a faded picture: its axes are
// the spread of the weights along and across.
func (r *Report) directions(from *image.NRGBA, head Head) image.Image {
	const f = directionZoom
	h, w := r.Size()
	c := newCanvas(w*f, h*f)
	for y := range h * f {
		for x := range w * f {
			i := 4 * (y/f*w + x/f)
			g := uint8((299*int(from.Pix[i]) + 587*int(from.Pix[i+1]) + 114*int(from.Pix[i+2])) / 1000 / 8 * 5) // quantised: the file is smaller
			c.SetRGBA(x, y, color.RGBA{g, g, g, 255})
		}
	}
	step := float64(max(w, h))
	if len(head.Shape) > 1 {
		step = float64(head.Shape[1].X - head.Shape[0].X)
	}
	// A pixel that listens to all neighbours alike gets a circle that fills its
	// place.
	rad := float64(r.radius())
	scale := .4 * step * f / math.Sqrt(rad*(rad+1)/3)
	for _, s := range head.Shape {
		mean, spread := (s.XX+s.YY)/2, math.Hypot((s.XX-s.YY)/2, s.XY)
		angle := math.Atan2(2*s.XY, s.XX-s.YY) / 2
		a, b := math.Sqrt(max(mean+spread, 0))*scale, math.Sqrt(max(mean-spread, 0))*scale
		if a == 0 {
			continue
		}
		b = max(b, 1.6)
		x, y := (float64(s.X)+.5)*f, (float64(s.Y)+.5)*f
		ux, uy := math.Cos(angle), math.Sin(angle)
		c.path(color.NRGBA{0, 0, 0, 0x90}, ellipse(x, y, a+1, b+1, ux, uy, false), ellipse(x, y, max(a-2.6, .1), max(b-2.6, .1), ux, uy, true))
		c.path(markFill, ellipse(x, y, a, b, ux, uy, false), ellipse(x, y, max(a-1.6, .1), max(b-1.6, .1), ux, uy, true))
	}
	return c
}

// mixing draws the share of each head by its colour.
func (r *Report) mixing(b Block) image.Image {
	h, w := r.Size()
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		var rgb [3]float64
		for k, head := range b.Heads {
			col, p := headColour(k), float64(head.Share[i])
			rgb[0] += p * float64(col.R)
			rgb[1] += p * float64(col.G)
			rgb[2] += p * float64(col.B)
		}
		out.SetNRGBA(i%w, i/w, color.NRGBA{level(rgb[0] / 255), level(rgb[1] / 255), level(rgb[2] / 255), 255})
	}
	return out
}
