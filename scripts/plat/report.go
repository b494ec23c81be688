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
		"examples": p.examples, "steadier": p.steadier, "apart": p.apart, "learned": p.learned, "count": p.count, "answer": p.answer, "control": p.control,
		"chart": func(name string) string { return base + "-" + name + ".svg" },
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
		return fmt.Sprintf("%.2f", 100*v)
	}
	return fmt.Sprintf("%.3f", v)
}

// shownDifference formats a difference of figures, with its sign.
func (t task) shownDifference(v float64) string {
	if t.classifier() {
		return fmt.Sprintf("%+.2f", 100*v)
	}
	return fmt.Sprintf("%+.3f", v)
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
// they are above or below softmax.
func (p parts) figures(name string) string {
	t := taskOf(name)
	base := p.r.values(name, forms[0].name, "clean", t.figure)
	var rows [][]string
	for _, f := range p.r.formsOf(name, "clean") {
		v := p.r.values(name, f.name, "clean", t.figure)
		var seeds []string
		for _, x := range bySeed(v) {
			seeds = append(seeds, t.shown(x))
		}
		row := []string{f.title, strings.Join(seeds, ", "), t.shown(mean(bySeed(v))), "", ""}
		if what, d := compare(v, base); f.name != forms[0].name && what != unknown {
			var by []string
			for _, x := range d {
				by = append(by, t.shownDifference(x))
			}
			row[3], row[4] = strings.Join(by, ", "), t.judged(what)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return "Not measured.\n"
	}
	what := "right, %, by seed"
	if !t.classifier() {
		what = "nats a character, by seed"
	}
	return page.Table([]string{"attention", what, "mean", "less softmax, by seed", "that is"}, rows)
}

// judged says better or worse for higher or lower.
func (t task) judged(outcome string) string {
	switch outcome {
	case higher, lower:
		return map[bool]string{true: "**better**", false: "**worse**"}[(outcome == higher) == t.classifier()]
	}
	return outcome
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

// robust is the table of a classifier in all conditions: means over seeds, and by how
// much they are above or below those of softmax. A star marks what is beyond the
// seeds.
func (p parts) robust(name string) string {
	t := taskOf(name)
	head, use := []string{"attention"}, p.conditions(name)
	if len(use) < 2 {
		return "Not measured.\n"
	}
	for _, c := range use {
		head = append(head, c.title)
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
			cell := t.shown(mean(bySeed(v)))
			if what, d := compare(v, p.r.values(name, forms[0].name, c.id, t.figure)); f.name != forms[0].name && what != unknown {
				cell += " (" + t.shownDifference(mean(d))
				if what == higher || what == lower {
					cell += "*"
				}
				cell += ")"
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return page.Table(head, rows)
}

// conditions lists those a task was measured in, as it is first.
func (p parts) conditions(name string) []condition {
	var use []condition
	for _, c := range conditions {
		if c.table != "attention" && len(p.r.formsOf(name, c.id)) > 0 {
			use = append(use, c)
		}
	}
	return use
}

// steadier says of every form in which conditions it loses less, or more, of what it
// gets right on clean images than softmax does.
func (p parts) steadier() string {
	var b strings.Builder
	for _, f := range forms[1:] {
		for _, t := range tasks {
			use := p.conditions(t.name)
			if !t.classifier() || len(use) < 2 || len(p.r.values(t.name, f.name, use[0].id, t.figure)) == 0 {
				continue
			}
			drop := func(form, id string) map[uint64]float64 {
				d, clean := p.r.values(t.name, form, id, t.figure), p.r.values(t.name, form, use[0].id, t.figure)
				for seed := range d {
					d[seed] = clean[seed] - d[seed]
				}
				return d
			}
			var less, more []string
			few3 := false
			for _, c := range use[1:] {
				what, d := compare(drop(f.name, c.id), drop(forms[0].name, c.id))
				said := fmt.Sprintf("%s (by %.1f points)", c.title, 100*math.Abs(mean(d)))
				switch what {
				case lower:
					less = append(less, said)
				case higher:
					more = append(more, said)
				case few, unknown:
					few3 = true
				}
			}
			said := "no difference beyond the seeds"
			switch {
			case few3:
				said = few
			case len(less) > 0 && len(more) > 0:
				said = "loses less at " + strings.Join(less, ", ") + "; more at " + strings.Join(more, ", ")
			case len(less) > 0:
				said = "loses less at " + strings.Join(less, ", ")
			case len(more) > 0:
				said = "loses more at " + strings.Join(more, ", ")
			}
			fmt.Fprintf(&b, "- %s, %s: %s.\n", f.title, t.title, said)
		}
	}
	if b.Len() == 0 {
		return "Nothing was measured.\n"
	}
	return b.String()
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

// verdicts says of every form and task what the seeds tell.
func (p parts) verdicts() string {
	var b strings.Builder
	for _, f := range forms[1:] {
		var said []string
		for _, t := range tasks {
			v, base := p.r.values(t.name, f.name, "clean", t.figure), p.r.values(t.name, forms[0].name, "clean", t.figure)
			if what, d := compare(v, base); what != unknown {
				said = append(said, fmt.Sprintf("%s: %s (%s)", t.title, t.judged(what), t.shownDifference(mean(d))))
			}
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

// count says how many comparisons with softmax the page makes on unharmed data, and
// how many are beyond the seeds.
func (p parts) count() string {
	all, beyond := 0, 0
	for _, f := range forms[1:] {
		for _, t := range tasks {
			what, _ := compare(p.r.values(t.name, f.name, "clean", t.figure), p.r.values(t.name, forms[0].name, "clean", t.figure))
			switch what {
			case higher, lower:
				beyond++
				all++
			case leaning, within:
				all++
			}
		}
	}
	return fmt.Sprintf("%d of %d", beyond, all)
}

// answer lists where an exponent other than 2 is better than softmax beyond the
// seeds, and where every seed leans that way.
func (p parts) answer() string {
	var better, leans []string
	for _, f := range forms[1:] {
		for _, t := range tasks {
			if f.name == "neutreno" {
				continue
			}
			what, d := compare(p.r.values(t.name, f.name, "clean", t.figure), p.r.values(t.name, forms[0].name, "clean", t.figure))
			if len(d) == 0 || (mean(d) > 0) != t.classifier() {
				continue
			}
			at := fmt.Sprintf("%s at %s", f.title, t.title)
			switch what {
			case higher, lower:
				better = append(better, at)
			case leaning:
				leans = append(leans, at)
			}
		}
	}
	list := func(v []string) string {
		if len(v) == 0 {
			return "nowhere"
		}
		return strings.Join(v, "; ")
	}
	return fmt.Sprintf("An exponent other than 2 is better than softmax beyond the seeds: %s. Better with every seed, though not by more than they spread: %s.", list(better), list(leans))
}

// apart says of every form and task whether tokens after the last layer are less or
// more alike than with softmax, and what the mean self weight is beside.
func (p parts) apart() string {
	last := func(task, form string) (cosine, self map[uint64]float64) {
		cosine, self = map[uint64]float64{}, map[uint64]float64{}
		for _, d := range p.r.Attention {
			if d.Task == task && d.Form == form {
				cosine[d.Seed] = d.Layers[len(d.Layers)-1].Cosine
				sum := 0.
				for _, l := range d.Layers[1:] {
					sum += mean(l.Self)
				}
				self[d.Seed] = sum / float64(len(d.Layers)-1)
			}
		}
		return cosine, self
	}
	var b strings.Builder
	for _, t := range tasks {
		base, baseSelf := last(t.name, forms[0].name)
		var said []string
		for _, f := range forms[1:] {
			cosine, self := last(t.name, f.name)
			what, d := compare(cosine, base)
			if what == unknown || what == few {
				continue
			}
			word := map[string]string{higher: "more alike", lower: "less alike"}[what]
			if word == "" {
				word = "no difference beyond the seeds"
			}
			said = append(said, fmt.Sprintf("%s: %s (%+.3f), self weight %.3f", f.title, word, mean(d), mean(bySeed(self))))
		}
		if len(said) > 0 {
			fmt.Fprintf(&b, "- %s (softmax: cosine %.3f, self weight %.3f). %s.\n", t.title, mean(bySeed(base)), mean(bySeed(baseSelf)), strings.Join(said, "; "))
		}
	}
	if b.Len() == 0 {
		return "Nothing was measured.\n"
	}
	return b.String()
}

// learned is the table of what exponents became where they were learned.
func (p parts) learned() string {
	var rows [][]string
	for _, d := range p.r.Attention {
		if d.Form != "learned" {
			continue
		}
		row := []string{fmt.Sprintf("%s, seed %d", taskOf(d.Task).title, d.Seed)}
		for _, l := range d.Layers[1:] {
			var heads []string
			for _, v := range l.P {
				heads = append(heads, fmt.Sprintf("%.2f", v))
			}
			row = append(row, strings.Join(heads, " "))
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return "Not measured.\n"
	}
	head := []string{"p of the heads after training"}
	for i := range len(rows[0]) - 1 {
		head = append(head, fmt.Sprintf("layer %d", i+1))
	}
	return page.Table(head, rows)
}

// control is what a second, independent implementation of the task lm, with exact
// differences of values and absolute eps of 0.1, gave: nats of one seed or two.
var control = []struct {
	form  string
	value []float64
}{
	{"softmax", []float64{2.2148, 2.2129}}, {"p1.5-absolute", []float64{2.2969, 2.2905}}, {"p1.5-neutral", []float64{2.2324}},
	{"mixed", []float64{2.2291}}, {"p2.5-absolute", []float64{2.1704, 2.1763}}, {"p3", []float64{2.1765}},
}

// control holds the text task against the control: each form less softmax, on the
// seeds there are.
func (p parts) control() string {
	base := p.r.values("lm", forms[0].name, "clean", "nats")
	var rows [][]string
	for _, c := range control[1:] {
		if _, d := compare(p.r.values("lm", c.form, "clean", "nats"), base); len(d) > 0 {
			rows = append(rows, []string{formOf(c.form).title, fmt.Sprintf("%+.3f", mean(d)), fmt.Sprintf("%+.3f", mean(c.value)-mean(control[0].value))})
		}
	}
	if len(rows) == 0 {
		return "Not measured.\n"
	}
	return page.Table([]string{"nats less softmax", "here", "control"}, rows) +
		fmt.Sprintf("\nSoftmax itself: %.3f here, %.3f there.\n", mean(bySeed(base)), mean(control[0].value))
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
		p := page.Panel{Title: t.title, XLabel: "steps", YLabel: "right on held-out images, %", Lines: true, Last: "%.1f", Room: .3}
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
		cosine := page.Panel{Title: t.title + ": tokens alike", XLabel: "layer (0: embedding)", YLabel: "mean cosine of tokens", Lines: true, Room: .3}
		self := page.Panel{Title: t.title + ": self weight", XLabel: "layer", YLabel: "weight of a token to itself", Lines: true, Room: .3}
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
