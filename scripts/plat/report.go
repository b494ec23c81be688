package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
	"github.com/unrollnet/unrollnet/scripts/internal/page"
)

//go:embed plat.md.tmpl
var pageText string

// report writes the page, its charts and its data from the work folder, or from the
// data alone where there is no work folder.
func (s *settings) report(context.Context) error {
	base := strings.TrimSuffix(s.out, filepath.Ext(s.out))
	r, err := s.collect()
	if err != nil {
		return err
	}
	if len(r.Trainings) == 0 {
		if ok, err := lab.Load(base+".json", &r); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("found neither trainings in %s nor %s.json, expected one of them", s.Work, base)
		}
	} else {
		b, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			return err
		}
		if err := lab.WriteFile(base+".json", append(b, '\n')); err != nil {
			return err
		}
	}
	files, err := render(r, filepath.Base(base))
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := lab.WriteFile(filepath.Join(filepath.Dir(s.out), name), text); err != nil {
			return err
		}
	}
	s.Say("wrote %s, from %d trainings", s.out, len(r.Trainings))
	return nil
}

// render returns the page and its charts by file name. It depends on r alone.
func render(r results, base string) (map[string][]byte, error) {
	p := parts{r}
	t, err := template.New("page").Funcs(template.FuncMap{
		"trainings": p.trainings, "figures": p.figures, "robust": p.robust, "attention": p.attention, "verdicts": p.verdicts, "curves": p.curves,
		"examples": p.examples, "conditions": func(id string) string { return base + "-" + id + ".svg" },
	}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, nil); err != nil {
		return nil, err
	}
	return map[string][]byte{
		base + ".md":            page.Tidy(b.Bytes()),
		base + "-training.svg":  trainingChart(r),
		base + "-attention.svg": attentionChart(r),
	}, nil
}

// parts makes the parts of the page.
type parts struct{ r results }

// shown formats a figure of a task: shares as percent.
func (t task) shown(v float64) string {
	if t.classifier() {
		return fmt.Sprintf("%.2f %%", 100*v)
	}
	return fmt.Sprintf("%.4f", v)
}

// shownDifference formats a difference of figures, with its sign.
func (t task) shownDifference(v float64) string {
	if t.classifier() {
		return fmt.Sprintf("%+.2f", 100*v)
	}
	return fmt.Sprintf("%+.4f", v)
}

// trainings is the table of what was trained, at what cost.
func (p parts) trainings() string {
	var rows [][]string
	for _, t := range tasks {
		count, params, cpu, steps, batch := 0, 0, 0., 0, 0
		for _, x := range p.r.Trainings {
			if x.Task == t.name {
				count, params, steps, batch = count+1, max(params, x.Params), x.Steps, x.Batch
				cpu += x.CPU
			}
		}
		if count > 0 {
			rows = append(rows, []string{t.title, page.Thousands(params), page.Thousands(steps), fmt.Sprint(batch), fmt.Sprint(count), fmt.Sprintf("%.1f", cpu/float64(count))})
		}
	}
	return page.Table([]string{"task", "parameters", "steps", "examples a step", "trainings", "CPU minutes each"}, rows)
}

// figures is the table of a task: each form's figures by seed, their mean, and what
// that is above or below softmax.
func (p parts) figures(name string) string {
	t := taskOf(name)
	base := p.r.values(name, forms[0].name, "clean", t.figure)
	var rows [][]string
	for _, f := range p.r.formsOf(name, "clean") {
		v := p.r.values(name, f.name, "clean", t.figure)
		var seeds []string
		for _, x := range v {
			seeds = append(seeds, t.shown(x))
		}
		row := []string{f.title, strings.Join(seeds, ", "), t.shown(mean(v)), "", ""}
		if f.name != forms[0].name {
			if what, d := compare(v, base); what != unknown {
				row[3], row[4] = t.shownDifference(d), what
			}
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return "Not measured.\n"
	}
	what := "right, by seed"
	if !t.classifier() {
		what = "nats a character, by seed"
	}
	return page.Table([]string{"attention", what, "mean", "against softmax", "that is"}, rows)
}

// examples is how many examples a task was measured on.
func (p parts) examples(name string) string {
	for _, f := range p.r.Figures {
		if f.Task == name && f.Condition == "clean" {
			return page.Thousands(f.Examples)
		}
	}
	return "no"
}

// robust is the table of a classifier in a group of conditions: means over seeds,
// and what is lost from clean images.
func (p parts) robust(name string) string {
	t := taskOf(name)
	head, use := []string{"attention"}, []condition{}
	for _, c := range conditions {
		if c.table != "attention" && len(p.r.formsOf(name, c.id)) > 0 {
			use, head = append(use, c), append(head, c.title)
		}
	}
	if len(use) < 2 {
		return "Not measured.\n"
	}
	var rows [][]string
	for _, f := range p.r.formsOf(name, use[0].id) {
		row := []string{f.title}
		for _, c := range use {
			v := p.r.values(name, f.name, c.id, t.figure)
			if len(v) == 0 {
				row = append(row, "-")
				continue
			}
			row = append(row, fmt.Sprintf("%s (±%.2f)", t.shown(mean(v)), 50*spread(v)))
		}
		rows = append(rows, row)
	}
	return page.Table(head, rows)
}

// layersOf returns, by layer with the embedding first, the means over seeds (and
// heads) of what attention does; nil where it was not measured.
func (r results) layersOf(task, form string) (out []layer) {
	n := 0
	for _, d := range r.Attention {
		if d.Task != task || d.Form != form {
			continue
		}
		if out == nil {
			out = make([]layer, len(d.Layers))
			for i := range out {
				out[i].Self, out[i].Entropy = []float64{0}, []float64{0}
			}
		}
		n++
		for i, l := range d.Layers {
			out[i].Cosine += l.Cosine
			if len(l.Self) > 0 {
				out[i].Self[0] += mean(l.Self)
				out[i].Entropy[0] += mean(l.Entropy)
			}
		}
	}
	for i := range out {
		out[i].Cosine /= float64(n)
		out[i].Self[0] /= float64(n)
		out[i].Entropy[0] /= float64(n)
	}
	return out
}

// attention is the table of cosines, self weights and entropies by layer.
func (p parts) attention(name string) string {
	var rows [][]string
	for _, f := range forms {
		layers := p.r.layersOf(name, f.name)
		if layers == nil {
			continue
		}
		var cosine, self, entropy []string
		for i, l := range layers {
			cosine = append(cosine, fmt.Sprintf("%.3f", l.Cosine))
			if i > 0 {
				self, entropy = append(self, fmt.Sprintf("%.3f", l.Self[0])), append(entropy, fmt.Sprintf("%.2f", l.Entropy[0]))
			}
		}
		rows = append(rows, []string{f.title, strings.Join(cosine, " "), strings.Join(self, " "), strings.Join(entropy, " ")})
	}
	if len(rows) == 0 {
		return "Not measured.\n"
	}
	return page.Table([]string{"attention", "cosine: embedding, then each layer", "self weight by layer", "entropy by layer, nats"}, rows)
}

// verdicts says of every form and task what three seeds tell.
func (p parts) verdicts() string {
	var b strings.Builder
	for _, f := range forms[1:] {
		var said []string
		for _, t := range tasks {
			v, base := p.r.values(t.name, f.name, "clean", t.figure), p.r.values(t.name, forms[0].name, "clean", t.figure)
			what, d := compare(v, base)
			switch what {
			case unknown:
				continue
			case higher, lower:
				better := (what == higher) == t.classifier()
				what = map[bool]string{true: "better", false: "worse"}[better]
			}
			said = append(said, fmt.Sprintf("%s: %s (%s)", t.title, what, t.shownDifference(d)))
		}
		if len(said) > 0 {
			fmt.Fprintf(&b, "- %s. %s.\n", f.title, strings.Join(said, "; "))
		}
	}
	if b.Len() == 0 {
		return "Nothing was measured.\n"
	}
	return b.String()
}

// curves is the table of validation figures over the share of the steps, of seed 1.
func (p parts) curves(name string) string {
	t := taskOf(name)
	shares := []float64{.2, .4, .6, .8, 1}
	head := []string{"seed 1"}
	for _, s := range shares {
		head = append(head, fmt.Sprintf("%g %% of the steps", 100*s))
	}
	var rows [][]string
	for _, x := range p.r.Trainings {
		if x.Task != name || x.Seed != 1 || len(x.Curve) == 0 {
			continue
		}
		row := []string{formOf(x.Form).title}
		for _, s := range shares {
			at := x.Curve[0]
			for _, q := range x.Curve {
				if math.Abs(float64(q.Step)-s*float64(x.Steps)) < math.Abs(float64(at.Step)-s*float64(x.Steps)) {
					at = q
				}
			}
			row = append(row, t.shown(at.Value))
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return "Nothing was trained.\n"
	}
	return page.Table(head, rows)
}

// colors of the forms on all charts (Okabe and Ito).
var colors = map[string]string{"softmax": "#000000", "p1.5": "#0072b2", "p2.5": "#d55e00", "mixed": "#009e73", "neutreno": "#cc79a7", "p1.5-neutral": "#56b4e9", "p3": "#e69f00", "learned": "#8c4a7d"}

// trainingChart draws validation figures over the steps, of seed 1, a panel a task.
func trainingChart(r results) []byte {
	var panels []page.Panel
	for _, t := range tasks {
		p := page.Panel{Title: t.title, XLabel: "steps", YLabel: "right on held-out images, %", Lines: true, Last: "%.1f"}
		scale := 100.
		if !t.classifier() {
			p.YLabel, p.Last, scale = "nats a held-out character", "%.3f", 1
		}
		for _, x := range r.Trainings {
			if x.Task != t.name || x.Seed != 1 || colors[x.Form] == "" {
				continue
			}
			s := page.Series{Name: formOf(x.Form).name, Color: colors[x.Form], Kind: "trained"}
			for _, q := range x.Curve {
				s.X, s.Y = append(s.X, float64(q.Step)), append(s.Y, scale*q.Value)
			}
			p.Series = append(p.Series, s)
		}
		panels = append(panels, p)
	}
	return page.Draw(panels)
}

// attentionChart draws the mean cosine of tokens by layer, and beside it the weight
// that tokens give themselves.
func attentionChart(r results) []byte {
	var panels []page.Panel
	for _, t := range tasks {
		cosine := page.Panel{Title: t.title + ": tokens alike", XLabel: "layer (0: embedding)", YLabel: "mean cosine of tokens", Lines: true}
		self := page.Panel{Title: t.title + ": self weight", XLabel: "layer", YLabel: "weight of a token to itself", Lines: true}
		for _, f := range forms {
			if colors[f.name] == "" || !slices.Contains([]string{"cifar10", "lm"}, t.name) {
				continue
			}
			a, b := page.Series{Name: f.name, Color: colors[f.name]}, page.Series{Name: f.name, Color: colors[f.name]}
			for i, l := range r.layersOf(t.name, f.name) {
				a.X, a.Y = append(a.X, float64(i)), append(a.Y, l.Cosine)
				if i > 0 {
					b.X, b.Y = append(b.X, float64(i)), append(b.Y, l.Self[0])
				}
			}
			if len(a.X) > 0 {
				cosine.Series, self.Series = append(cosine.Series, a), append(self.Series, b)
			}
		}
		panels = append(panels, cosine, self)
	}
	return page.Draw(panels)
}
