package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// series is one mark, or the points of one line, of a chart.
type series struct {
	name   string
	color  string
	kind   string // trained | given | classical: the form of the mark
	x, y   []float64
	dashed bool
}

// panel is one pair of axes.
type panel struct {
	title, xlabel, ylabel string
	logx, lines           bool
	series                []series
}

// colors of the networks, the same on all charts; readable in print and with the
// common colour blindnesses (Okabe and Ito).
var colors = map[string]string{"uglr": "#0072b2", "ugtv": "#d55e00", "ugpl": "#009e73", "swin": "#cc79a7", "swin-base": "#8c4a7d", "uglr-paper": "#56b4e9", "ugtv-paper": "#e69f00"}

func colorOf(label, kind string) string {
	switch {
	case kind == "classical":
		return "#777777"
	case colors[label] != "":
		return colors[label]
	}
	return "#444444"
}

// qualityChart draws PSNR against processor time for every restorer, a panel for
// each task.
func qualityChart(r results) []byte {
	var panels []panel
	for _, t := range []struct{ condition, protocol, title string }{
		{"demosaic-kodak", "rgb", "Demosaicking, Kodak, rgb"},
		{"x2-kodak", "y", "Scaling x2, Kodak, y"},
		{"fill80-kodak", "rgb", "Filling 80 %, Kodak, rgb"},
	} {
		p := panel{title: t.title, xlabel: "CPU seconds per megapixel, one thread", ylabel: "PSNR, dB", logx: true}
		for _, c := range r.cells(t.condition, t.protocol) {
			if c.cpu > 0 {
				p.series = append(p.series, series{name: c.label, color: colorOf(c.label, c.kind), kind: c.kind, x: []float64{c.cpu}, y: []float64{c.mean()}})
			}
		}
		panels = append(panels, p)
	}
	return draw(panels)
}

// trainingChart draws validation PSNR against the CPU minutes of training.
func trainingChart(r results) []byte {
	var panels []panel
	for _, c := range comparisons {
		p := panel{title: c.title + ": training", xlabel: "CPU minutes of training", ylabel: "validation PSNR, dB", lines: true}
		for _, n := range networks {
			first := true
			for _, t := range r.Trainings {
				if t.Task != c.name || t.Model != n.name || len(t.Curve) == 0 {
					continue
				}
				s := series{name: t.Model, color: colorOf(t.Model, "trained"), kind: "trained", dashed: !first}
				for _, q := range t.Curve {
					s.x, s.y = append(s.x, q.Minutes), append(s.y, q.PSNR)
				}
				if !first {
					s.name = ""
				}
				first = false
				p.series = append(p.series, s)
			}
		}
		panels = append(panels, p)
	}
	return draw(panels)
}

// Sizes of a chart in pixels.
const (
	panelW, panelH                   = 420, 360
	padLeft, padRight, padTop, padUp = 52, 14, 34, 44
)

// draw lays panels out side by side as SVG; those with nothing in them are left out.
func draw(panels []panel) []byte {
	panels = slices.DeleteFunc(slices.Clone(panels), func(p panel) bool { return len(p.series) == 0 })
	var b bytes.Buffer
	w := max(len(panels), 1) * panelW
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", w, panelH, w, panelH)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", w, panelH)
	for i, p := range panels {
		drawPanel(&b, p, float64(i*panelW))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// span returns the least and the greatest of all values.
func span(p panel, of func(series) []float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, s := range p.series {
		for _, v := range of(s) {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	return lo, hi
}

// ticks returns round numbers within [lo, hi], about n of them.
func ticks(lo, hi float64, n int) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, f := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(f*step) <= float64(n) {
			step *= f
			break
		}
	}
	var out []float64
	for k := math.Ceil(lo / step); k*step <= hi; k++ {
		out = append(out, k*step)
	}
	return out
}

// logTicks returns 1, 2 and 5 times powers of ten within [lo, hi].
func logTicks(lo, hi float64) []float64 {
	var out []float64
	for e := math.Floor(math.Log10(lo)); e <= math.Ceil(math.Log10(hi)); e++ {
		for _, f := range []float64{1, 2, 5} {
			if v := f * math.Pow(10, e); v >= lo && v <= hi {
				out = append(out, v)
			}
		}
	}
	if len(out) > 7 { // powers of ten alone
		out = slices.DeleteFunc(out, func(v float64) bool { e := math.Log10(v); return math.Abs(e-math.Round(e)) > 1e-9 })
	}
	return out
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func drawPanel(b *bytes.Buffer, p panel, left float64) {
	x0, x1 := span(p, func(s series) []float64 { return s.x })
	y0, y1 := span(p, func(s series) []float64 { return s.y })
	if p.lines {
		x0 = 0
		// The first validations lie far below: what matters is the upper part.
		y0 = max(y0, y1-4)
	}
	grow := func(lo, hi, by float64) (float64, float64) {
		d := (hi - lo) * by
		if d == 0 {
			d = 0.5
		}
		return lo - d, hi + d
	}
	y0, y1 = grow(y0, y1, 0.08)
	if p.logx {
		a, z := grow(math.Log(x0), math.Log(x1), 0.12)
		x0, x1 = math.Exp(a), math.Exp(z)
	} else if x1 == x0 {
		x1 = x0 + 1
	}
	l, r, t, u := left+padLeft, left+panelW-padRight, float64(padTop), float64(panelH-padUp)
	px := func(v float64) float64 {
		f := (v - x0) / (x1 - x0)
		if p.logx {
			f = math.Log(v/x0) / math.Log(x1/x0)
		}
		return l + f*(r-l)
	}
	py := func(v float64) float64 { return u - (v-y0)/(y1-y0)*(u-t) }

	fmt.Fprintf(b, `<text x="%.0f" y="20" font-weight="bold">%s</text>`+"\n", l, escape.Replace(p.title))
	xt := ticks(x0, x1, 6)
	if p.logx {
		xt = logTicks(x0, x1)
	}
	for _, v := range xt {
		fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1f" stroke="#e5e5e5"/><text x="%.1f" y="%.0f" text-anchor="middle" fill="#444">%s</text>`+"\n", px(v), t, u, px(v), u+16, number(v))
	}
	for _, v := range ticks(y0, y1, 7) {
		fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1f" stroke="#e5e5e5"/><text x="%.1f" y="%.1f" text-anchor="end" fill="#444">%s</text>`+"\n", l, py(v), r, l-6, py(v)+4, number(v))
	}
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="none" stroke="#999"/>`+"\n", l, t, r-l, u-t)
	fmt.Fprintf(b, `<text x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n", (l+r)/2, panelH-8, escape.Replace(p.xlabel))
	fmt.Fprintf(b, `<text transform="translate(%.0f %.0f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", left+14, (t+u)/2, escape.Replace(p.ylabel))

	var taken []box
	for _, s := range p.series {
		for k := range s.x {
			x, y := px(s.x[k]), py(s.y[k])
			if !p.lines {
				taken = append(taken, box{x - 5, y - 5, x + 5, y + 5})
			}
		}
	}
	for _, s := range p.series {
		if p.lines {
			var path []string
			for k := range s.x {
				if y := py(s.y[k]); y <= u {
					path = append(path, fmt.Sprintf("%.1f %.1f", px(s.x[k]), y))
				}
			}
			dash := ""
			if s.dashed {
				dash = ` stroke-dasharray="5 4"`
			}
			if len(path) > 0 {
				fmt.Fprintf(b, `<path d="M%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(path, "L"), s.color, dash)
			}
			if s.name == "" {
				continue
			}
			// Labels stand in a column at the right, below the curves.
			n := 0
			for _, q := range p.series {
				if q.name != "" && q.name < s.name {
					n++
				}
			}
			y := u - 12 - 16*float64(n)
			fmt.Fprintf(b, `<path d="M%.1f %.1fh18" stroke="%s" stroke-width="3"/><text x="%.1f" y="%.1f">%s, %s dB</text>`+"\n",
				r-136, y-4, s.color, r-112, y, escape.Replace(s.name), strconv.FormatFloat(s.y[len(s.y)-1], 'f', 2, 64))
			continue
		}
		x, y := px(s.x[0]), py(s.y[0])
		switch s.kind {
		case "classical":
			fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="8" height="8" fill="%s"/>`+"\n", x-4, y-4, s.color)
		case "given":
			fmt.Fprintf(b, `<path d="M%.1f %.1fl5 5l-5 5l-5 -5z" fill="%s"/>`+"\n", x, y-5, s.color)
		default:
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="5" fill="%s"/>`+"\n", x, y, s.color)
		}
		at := place(s.name, x, y, l, r, t, u, taken)
		taken = append(taken, at)
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", at.x0, at.y1-3, s.color, escape.Replace(s.name))
	}
}

// box is a rectangle that is taken, in pixels.
type box struct{ x0, y0, x1, y1 float64 }

func (a box) meets(b box) bool { return a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1 }

// place finds room for a label beside its mark, inside the panel and off what is
// taken; where there is none it stands to the right.
func place(name string, x, y, l, r, t, u float64, taken []box) box {
	w, h := 6.6*float64(len([]rune(name))), 14.
	var first box
	for i, dy := range []float64{0, -12, 12, -20, 20, -30, 30, -42, 42, -54, 54} {
		for k, x0 := range []float64{x + 8, x - 8 - w, x - w/2} {
			if k == 2 && math.Abs(dy) < 20 {
				continue // over its own mark
			}
			a := box{x0, y + dy - h/2, x0 + w, y + dy + h/2}
			if i == 0 && k == 0 {
				first = a
			}
			if a.x0 < l || a.x1 > r || a.y0 < t || a.y1 > u || slices.ContainsFunc(taken, a.meets) {
				continue
			}
			return a
		}
	}
	return first
}
