package page

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Series is one mark, or the points of one line, of a chart.
type Series struct {
	Name   string
	Color  string
	Kind   string // the form of a mark: classical (square) | given (diamond) | else a circle
	X, Y   []float64
	Dashed bool
}

// Panel is one pair of axes, with marks or, where Lines, with lines.
type Panel struct {
	Title, XLabel, YLabel string
	LogX, Lines           bool
	Last                  string  // of lines: the last value beside the name, in this format; "" for none
	Top                   float64 // of lines: how far below the highest value the axis begins at most; 0 for all
	Room                  float64 // of lines: names stand in this share of the height, kept free above, in two columns; 0 for below, at the right
	Series                []Series
}

// Sizes of a chart in pixels.
const (
	panelW, panelH                   = 420, 360
	padLeft, padRight, padTop, padUp = 52, 14, 34, 44
)

// Draw lays panels out side by side as SVG; those with nothing in them are left out.
func Draw(panels []Panel) []byte {
	panels = slices.DeleteFunc(slices.Clone(panels), func(p Panel) bool { return len(p.Series) == 0 })
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
func span(p Panel, of func(Series) []float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, s := range p.Series {
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
		out = append(out, k*step+0) // no -0
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

func drawPanel(b *bytes.Buffer, p Panel, left float64) {
	x0, x1 := span(p, func(s Series) []float64 { return s.X })
	y0, y1 := span(p, func(s Series) []float64 { return s.Y })
	if p.Lines {
		x0 = 0
		if p.Top > 0 {
			y0 = max(y0, y1-p.Top)
		}
	}
	grow := func(lo, hi, by float64) (float64, float64) {
		d := (hi - lo) * by
		if d == 0 {
			d = 0.5
		}
		return lo - d, hi + d
	}
	y0, y1 = grow(y0, y1, 0.08)
	if p.Lines {
		y1 += (y1 - y0) * p.Room / (1 - p.Room)
	}
	if p.LogX {
		a, z := grow(math.Log(x0), math.Log(x1), 0.12)
		x0, x1 = math.Exp(a), math.Exp(z)
	} else if x1 == x0 {
		x1 = x0 + 1
	}
	l, r, t, u := left+padLeft, left+panelW-padRight, float64(padTop), float64(panelH-padUp)
	px := func(v float64) float64 {
		f := (v - x0) / (x1 - x0)
		if p.LogX {
			f = math.Log(v/x0) / math.Log(x1/x0)
		}
		return l + f*(r-l)
	}
	py := func(v float64) float64 { return u - (v-y0)/(y1-y0)*(u-t) }

	fmt.Fprintf(b, `<text x="%.0f" y="20" font-weight="bold">%s</text>`+"\n", l, escape.Replace(p.Title))
	xt := ticks(x0, x1, 6)
	if p.LogX {
		xt = logTicks(x0, x1)
	}
	for _, v := range xt {
		fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1f" stroke="#e5e5e5"/><text x="%.1f" y="%.0f" text-anchor="middle" fill="#444">%s</text>`+"\n", px(v), t, u, px(v), u+16, number(v))
	}
	for _, v := range ticks(y0, y1, 7) {
		fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1f" stroke="#e5e5e5"/><text x="%.1f" y="%.1f" text-anchor="end" fill="#444">%s</text>`+"\n", l, py(v), r, l-6, py(v)+4, number(v))
	}
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="none" stroke="#999"/>`+"\n", l, t, r-l, u-t)
	fmt.Fprintf(b, `<text x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n", (l+r)/2, panelH-8, escape.Replace(p.XLabel))
	fmt.Fprintf(b, `<text transform="translate(%.0f %.0f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", left+14, (t+u)/2, escape.Replace(p.YLabel))

	var taken []box
	for _, s := range p.Series {
		for k := range s.X {
			x, y := px(s.X[k]), py(s.Y[k])
			if !p.Lines {
				taken = append(taken, box{x - 5, y - 5, x + 5, y + 5})
			}
		}
	}
	for _, s := range p.Series {
		if p.Lines {
			var path []string
			for k := range s.X {
				if y := py(s.Y[k]); y <= u {
					path = append(path, fmt.Sprintf("%.1f %.1f", px(s.X[k]), y))
				}
			}
			dash := ""
			if s.Dashed {
				dash = ` stroke-dasharray="5 4"`
			}
			if len(path) > 0 {
				fmt.Fprintf(b, `<path d="M%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(path, "L"), s.Color, dash)
			}
			if s.Name == "" {
				continue
			}
			// Labels stand in a column at the right, below the curves.
			n := 0
			for _, q := range p.Series {
				if q.Name != "" && q.Name < s.Name {
					n++
				}
			}
			x, y := r-136, u-12-16*float64(n)
			if p.Room > 0 { // two columns
				x, y = l+10+float64(n%2)*(r-l)/2, t+18+16*float64(n/2)
			}
			label := escape.Replace(s.Name)
			if p.Last != "" {
				label += fmt.Sprintf(", "+p.Last, s.Y[len(s.Y)-1])
			}
			fmt.Fprintf(b, `<path d="M%.1f %.1fh18" stroke="%s" stroke-width="3"/><text x="%.1f" y="%.1f">%s</text>`+"\n",
				x, y-4, s.Color, x+24, y, label)
			continue
		}
		x, y := px(s.X[0]), py(s.Y[0])
		switch s.Kind {
		case "classical":
			fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="8" height="8" fill="%s"/>`+"\n", x-4, y-4, s.Color)
		case "given":
			fmt.Fprintf(b, `<path d="M%.1f %.1fl5 5l-5 5l-5 -5z" fill="%s"/>`+"\n", x, y-5, s.Color)
		default:
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="5" fill="%s"/>`+"\n", x, y, s.Color)
		}
		at := place(s.Name, x, y, l, r, t, u, taken)
		taken = append(taken, at)
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", at.x0, at.y1-3, s.Color, escape.Replace(s.Name))
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
