package main

import (
	"strings"

	"github.com/unrollnet/unrollnet/scripts/internal/page"
)

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
	var panels []page.Panel
	for _, t := range []struct{ condition, protocol, title string }{
		{"demosaic-kodak", "rgb", "Demosaicking, Kodak, rgb"},
		{"x2-kodak", "y", "Scaling x2, Kodak, y"},
		{"fill80-kodak", "rgb", "Filling 80 %, Kodak, rgb"},
	} {
		p := page.Panel{Title: t.title, XLabel: "CPU seconds per megapixel, one thread", YLabel: "PSNR, dB", LogX: true}
		for _, c := range r.cells(t.condition, t.protocol) {
			if c.cpu > 0 {
				p.Series = append(p.Series, page.Series{Name: c.label, Color: colorOf(c.label, c.kind), Kind: c.kind, X: []float64{c.cpu}, Y: []float64{c.mean()}})
			}
		}
		panels = append(panels, p)
	}
	return page.Draw(panels)
}

// trainingChart draws validation PSNR against the CPU minutes of training.
func trainingChart(r results) []byte {
	var panels []page.Panel
	for _, c := range comparisons {
		p := page.Panel{Title: c.title + ": training", XLabel: "CPU minutes of training", YLabel: "validation PSNR, dB", Lines: true, Last: "%.2f dB",
			Top: 4} // the first validations lie far below: what matters is the upper part
		for _, n := range networks {
			first := true
			for _, t := range r.Trainings {
				if t.Task != c.name || t.Model != n.name || len(t.Curve) == 0 {
					continue
				}
				s := page.Series{Name: t.Model, Color: colorOf(t.Model, "trained"), Kind: "trained", Dashed: !first}
				for _, q := range t.Curve {
					s.X, s.Y = append(s.X, q.Minutes), append(s.Y, q.PSNR)
				}
				if !first {
					s.Name = ""
				}
				first = false
				p.Series = append(p.Series, s)
			}
		}
		panels = append(panels, p)
	}
	return page.Draw(panels)
}

// longChart draws validation PSNR against the steps of longer trainings.
func longChart(r results) []byte {
	p := page.Panel{Title: "Demosaicking: longer trainings", XLabel: "steps of eight patches", YLabel: "validation PSNR, dB", Lines: true, Last: "%.2f dB", Top: 4}
	for _, l := range r.Long {
		s := page.Series{Name: l.Name, Color: colorOf(strings.TrimSuffix(l.Name, "-demosaic"), "trained"), Kind: "trained"}
		for _, q := range l.Curve {
			s.X, s.Y = append(s.X, float64(q.Step)), append(s.Y, q.PSNR)
		}
		p.Series = append(p.Series, s)
	}
	return page.Draw([]page.Panel{p})
}
