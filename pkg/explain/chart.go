package explain

import (
	"fmt"
	"html/template"
	"image/color"
	"math"
	"strings"
)

// svg is a small chart being written. Text takes the colour of the page.
type svg struct{ strings.Builder }

func newSVG(w, h int, title string) *svg {
	s := new(svg)
	fmt.Fprintf(s, `<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img"><title>%s</title>`, w, h, w, h, template.HTMLEscapeString(title))
	return s
}

func (s *svg) end() template.HTML {
	s.WriteString("</svg>")
	return template.HTML(s.String())
}

// n writes a coordinate.
func n(v float64) string {
	if math.Abs(v) < .005 {
		return "0" // not -0
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

func (s *svg) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(s, `<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`, n(x), n(y), anchor, class, template.HTMLEscapeString(text))
}

func (s *svg) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(s, `<line x1="%s" y1="%s" x2="%s" y2="%s" class="%s"/>`, n(x1), n(y1), n(x2), n(y2), class)
}

func (s *svg) rect(x, y, w, h float64, fill string) {
	fmt.Fprintf(s, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>`, n(x), n(y), n(w), n(h), fill)
}

func (s *svg) curve(xs, ys []float64, col color.NRGBA, dashed bool) {
	var b strings.Builder
	for i := range xs {
		fmt.Fprintf(&b, "%s,%s ", n(xs[i]), n(ys[i]))
	}
	dash := ""
	if dashed {
		dash = ` stroke-dasharray="4 3"`
	}
	fmt.Fprintf(s, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`, strings.TrimSpace(b.String()), hex(col), dash)
	for i := range xs {
		if len(xs) <= 16 {
			fmt.Fprintf(s, `<circle cx="%s" cy="%s" r="2.4" fill="%s"/>`, n(xs[i]), n(ys[i]), hex(col))
		}
	}
}

// figure writes a number with three significant digits.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case math.IsInf(v, 1):
		return "∞"
	case a != 0 && (a < .001 || a >= 1e5):
		return fmt.Sprintf("%.2e", v)
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// decibels writes a PSNR.
func decibels(v float64) string {
	if math.IsInf(v, 1) {
		return "∞ dB"
	}
	return fmt.Sprintf("%.2f dB", v)
}

// nice returns the smallest of 1, 2, 5 times a power of ten that is at least v.
func nice(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 2, 5, 10} {
		if k*p >= v*(1-1e-9) {
			return k * p
		}
	}
	return 10 * p
}

// scoreChart draws PSNR from stage to stage.
func (r *Report) scoreChart() template.HTML {
	names, scores := []string{"start"}, []float64{r.Initial.PSNR}
	for t, b := range r.Blocks {
		names, scores = append(names, fmt.Sprintf("block %d", t+1)), append(scores, b.PSNR)
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range scores {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return ""
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	step := nice((hi - lo + .5) / 4)
	lo, hi = math.Floor((lo-.1)/step)*step, math.Ceil((hi+.1)/step)*step
	const width, height, left, right, top, bottom = 640, 230, 54, 24, 26, 34
	s := newSVG(width, height, "PSNR in dB after the initial interpolation and after each block")
	y := func(v float64) float64 { return top + (height-top-bottom)*(hi-v)/(hi-lo) }
	for v := lo; v <= hi+step/2; v += step {
		s.line(left, y(v), width-right, y(v), "grid")
		s.text(left-8, y(v)+4, "end", "tick", figure(v))
	}
	s.text(8, 14, "start", "tick", "dB")
	var xs, ys []float64
	for i, v := range scores {
		x := float64(left) + 30 + float64(width-left-right-60)*float64(i)/float64(max(len(scores)-1, 1))
		xs, ys = append(xs, x), append(ys, y(v))
		s.text(x, height-10, "middle", "tick", names[i])
	}
	s.curve(xs, ys, headColour(0), false)
	for i, v := range scores {
		s.text(xs[i], ys[i]-9, "middle", "value", fmt.Sprintf("%.2f", v))
	}
	return s.end()
}

// stepChart draws the step sizes of block t: alpha solid and beta dashed, a
// colour for each head.
func (r *Report) stepChart(t int) template.HTML {
	low, top, steps, layers := 0., 0., 0, 0 // the scale is that of all blocks
	for _, b := range r.Blocks {
		for _, h := range b.Heads {
			for _, side := range [][][]float64{h.Alpha, h.Beta} {
				for _, l := range side {
					for _, v := range l {
						low, top = min(low, v), max(top, v)
					}
				}
			}
		}
	}
	b := r.Blocks[t]
	for _, l := range b.Heads[0].Alpha {
		steps, layers = steps+len(l), layers+1
	}
	if steps == 0 {
		return ""
	}
	top = math.Ceil(top*10) / 10
	low = math.Floor(low*10) / 10
	const width, height, left, right, up, down = 440, 200, 34, 10, 12, 28
	s := newSVG(width, height, fmt.Sprintf("Step sizes of block %d", t+1))
	y := func(v float64) float64 { return up + (height-up-down)*(top-v)/(top-low) }
	x := func(i int) float64 { return left + 6 + (width-left-right-12)*float64(i)/float64(max(steps-1, 1)) }
	tick := nice((top - low) / 4)
	for v := math.Ceil(low/tick) * tick; v <= top+1e-9; v += tick {
		s.line(left, y(v), width-right, y(v), "grid")
		s.text(left-5, y(v)+4, "end", "tick", n(v))
	}
	for _, l := range []int{0, steps - 1} {
		s.text(x(l), height-12, "middle", "tick", fmt.Sprint(l+1))
	}
	s.text((left+width-right)/2, height-12, "middle", "tick", "step")
	at := 0
	for l := range layers {
		k := len(b.Heads[0].Alpha[l])
		if l > 0 {
			s.line((x(at)+x(at-1))/2, up, (x(at)+x(at-1))/2, height-down, "cut")
		}
		for h, head := range b.Heads {
			for i, side := range [][]float64{head.Alpha[l], head.Beta[l]} {
				var xs, ys []float64
				for j, v := range side[:min(k, len(side))] {
					if i == 1 && j == len(side)-1 {
						break // the last beta of a run has no effect
					}
					xs, ys = append(xs, x(at+j)), append(ys, y(v))
				}
				s.curve(xs, ys, headColour(h), i == 1)
			}
		}
		at += k
	}
	return s.end()
}

// matrixChart draws a 3x3 matrix as a heat map: blue negative, white zero,
// orange positive.
func matrixChart(m []float64, rows []string, title string) template.HTML {
	const cell, left, top = 46, 30, 20
	s := newSVG(left+3*cell+2, top+3*cell+2, title)
	most := 0.
	for _, v := range m {
		most = max(most, math.Abs(v))
	}
	scale := ramp{{0x1f, 0x5f, 0xa8, 255}, {0x9c, 0xc3, 0xe6, 255}, {0xff, 0xff, 0xff, 255}, {0xf7, 0xc0, 0x86, 255}, {0xd0, 0x66, 0x0a, 255}}
	for c, name := range []string{"R", "G", "B"} {
		s.text(float64(left+c*cell)+cell/2., top-6, "middle", "tick", name)
	}
	for row := range 3 {
		s.text(left-8, float64(top+row*cell)+cell/2.+4, "end", "tick", rows[row])
		for c := range 3 {
			v := m[3*row+c]
			t := .5
			if most > 0 {
				t += .5 * v / most
			}
			s.rect(float64(left+c*cell)+1, float64(top+row*cell)+1, cell-2, cell-2, hex(scale.at(t)))
			ink := "on-light"
			if math.Abs(t-.5) > .38 {
				ink = "on-dark"
			}
			s.text(float64(left+c*cell)+cell/2., float64(top+row*cell)+cell/2.+4, "middle", ink, fmt.Sprintf("%.2f", v))
		}
	}
	return s.end()
}

// barChart draws positive numbers as bars, named.
func barChart(names []string, v []float64, col color.NRGBA, most float64, title string) template.HTML {
	const row, left, width = 26, 84, 250
	s := newSVG(width, row*len(v)+2, title)
	for i, x := range v {
		y := float64(i * row)
		s.text(left-8, y+17, "end", "tick", names[i])
		long := 0.
		if most > 0 {
			long = max(0, x) / most * (width - left - 52)
		}
		s.rect(left, y+5, max(long, 1), row-10, hex(col))
		s.text(left+long+6, y+17, "start", "tick", figure(x))
	}
	return s.end()
}

// sayMixture writes a row of T as a formula: what is asked to be smooth.
func sayMixture(row []float64) string {
	var most float64
	for _, v := range row {
		most = max(most, math.Abs(v))
	}
	out := ""
	for c, v := range row {
		if math.Abs(v) < .05*most || v == 0 {
			continue
		}
		sign := " + "
		if v < 0 {
			sign = " − "
		}
		if out == "" {
			sign = strings.TrimPrefix(strings.TrimSuffix(sign, " "), " ")
			if v > 0 {
				sign = ""
			}
		}
		out += sign + fmt.Sprintf("%.2f ", math.Abs(v)) + string("RGB"[c])
	}
	return out
}
