package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
	"github.com/unrollnet/unrollnet/scripts/internal/page"
)

//go:embed results.md.tmpl
var pageText string

//go:embed claims.md.tmpl
var claimsText string

// report writes the data, the charts and the page from what is in the work folder;
// with an empty one, charts and page from the data there is.
func (s *settings) report(context.Context) error {
	base := strings.TrimSuffix(s.out, filepath.Ext(s.out))
	r, err := s.collect()
	if err != nil {
		return err
	}
	if len(r.Figures) == 0 && len(r.Trainings) == 0 {
		if ok, err := lab.Load(base+".json", &r); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("found neither measurements in %s nor %s.json, expected one of them", s.Work, base)
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
	s.Say("wrote %s, from %d figures of %d trainings", s.out, len(r.Figures), len(r.Trainings))
	return nil
}

// render returns the page and its charts by file name. It depends on r alone.
func render(r results, base string) (map[string][]byte, error) {
	p := parts{r}
	t := template.New("claims").Funcs(template.FuncMap{
		"trainings": p.trainings, "searches": p.searches, "quality": p.quality, "robust": p.robust, "curves": p.curves, "long": p.long,
		"versus": p.versus, "verdict": p.verdict, "db": p.db, "params": p.params, "cpu": p.cpu, "mb": p.mb, "ratio": p.ratio,
		"has": p.has, "drop": p.drop, "steadiest": p.steadiest, "images": p.images, "seeds": p.seeds, "budgets": p.budgets,
		"chart": func(name string) string { return base + "-" + name + ".svg" }, "main": func() string { return base + ".svg" },
	})
	if _, err := t.Parse(claimsText); err != nil {
		return nil, err
	}
	if _, err := t.New("page").Parse(pageText); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "page", nil); err != nil {
		return nil, err
	}
	files := map[string][]byte{
		base + ".md":           page.Tidy(b.Bytes()),
		base + ".svg":          qualityChart(r),
		base + "-training.svg": trainingChart(r),
	}
	if len(r.Long) > 0 {
		files[base+"-long.svg"] = longChart(r)
	}
	return files, nil
}

// parts makes the parts of the report.
type parts struct{ r results }

// mainConditions lists the conditions of a task that it was trained for, with the
// protocol and a title of each column.
func mainConditions(task string) (ids, protocols, titles []string) {
	names := map[string]string{"kodak": "Kodak", "mcm": "McM", "set14": "Set14", "set5": "Set5"}
	for _, c := range conditions() {
		if c.table != "main" || c.task != task {
			continue
		}
		switch task {
		case "demosaic":
			ids, protocols = append(ids, c.id, c.id), append(protocols, "rgb", "cpsnr-b10")
			titles = append(titles, names[c.set]+" `rgb`", names[c.set]+" `cpsnr-b10`")
		case "x2":
			ids, protocols, titles = append(ids, c.id), append(protocols, "y"), append(titles, names[c.set]+" `y`")
		default:
			missing := strings.TrimSuffix(strings.TrimPrefix(c.id, "fill"), "-"+c.set)
			ids, protocols, titles = append(ids, c.id), append(protocols, "rgb"), append(titles, names[c.set]+", "+missing+" % missing, `rgb`")
		}
	}
	return ids, protocols, titles
}

// decibels formats the mean over seeds, with what they differ by at most.
func decibels(c cell) string {
	if len(c.values) > 1 {
		return fmt.Sprintf("%.2f (±%.2f)", c.mean(), (slices.Max(c.values)-slices.Min(c.values))/2)
	}
	return fmt.Sprintf("%.2f", c.mean())
}

// shown is a label as the page shows it: what was trained elsewhere stands apart.
func (p parts) shown(label string) string {
	for _, f := range p.r.Figures {
		if f.Label == label && f.Kind == "given" {
			return label + " †"
		}
	}
	return label
}

// quality is the table of a task in the conditions it was trained for.
func (p parts) quality(task string) string {
	ids, protocols, titles := mainConditions(task)
	// Columns nobody was measured in are left out.
	var use []int
	for i := range ids {
		if len(p.r.cells(ids[i], protocols[i])) > 0 {
			use = append(use, i)
		}
	}
	if len(use) == 0 {
		return "Not measured.\n"
	}
	head := []string{"", "parameters"}
	best := map[int]float64{}
	for _, i := range use {
		head = append(head, titles[i])
		for _, c := range p.r.cells(ids[i], protocols[i]) {
			best[i] = max(best[i], c.mean())
		}
	}
	head = append(head, "CPU s/Mpx", "peak MB")
	var rows [][]string
	for _, label := range p.r.labels(ids, "classical", "trained", "given") {
		row := []string{p.shown(label), ""}
		cpu, peak := "", ""
		for k, i := range use {
			c, ok := p.r.cell(label, ids[i], protocols[i])
			if !ok {
				row = append(row, "-")
				continue
			}
			text := decibels(c)
			if c.mean() == best[i] {
				text = "**" + text + "**"
			}
			row = append(row, text)
			row[1] = page.Thousands(c.params)
			if k == 0 || cpu == "" {
				cpu, peak = fmt.Sprintf("%.2f", c.cpu), fmt.Sprintf("%.0f", float64(c.peak)/1e6)
			}
		}
		rows = append(rows, append(row, cpu, peak))
	}
	return page.Table(head, rows)
}

// robustColumns are the columns of a table of what was not seen in training.
func robustColumns(what, task string) (ids, titles []string, protocol string) {
	protocol = "rgb"
	if task == "x2" {
		protocol = "y"
	}
	add := func(id, title string) { ids, titles = append(ids, id), append(titles, title) }
	switch what {
	case "noise":
		add(cleanOf(task), "no noise")
		for _, s := range sigmas {
			add(fmt.Sprintf("%s-noise%g", task, s), fmt.Sprintf("σ = %g", s))
		}
	case "pattern":
		add(cleanOf(task), "RGGB, as trained")
		for _, p := range unseenPhases {
			add("raw-"+p, strings.ToUpper(p)+", raw")
		}
		add("served-bggr", "BGGR, mirrored")
	case "density":
		for _, m := range unseenMissing {
			add("fill"+percent(m), percent(m)+" % missing")
		}
	case "x3":
		add("x3-kodak", "Kodak x3")
		add("x3-set14", "Set14 x3")
	}
	return ids, titles, protocol
}

// robust is a table of what was not seen in training.
func (p parts) robust(what, task string) string {
	ids, titles, protocol := robustColumns(what, task)
	head := []string{""}
	var use []string
	for i, id := range ids {
		if len(p.r.cells(id, protocol)) > 0 {
			use, head = append(use, id), append(head, titles[i])
		}
	}
	if len(use) == 0 {
		return "Not measured.\n"
	}
	if what == "noise" {
		head = append(head, "lost at σ = 10", "lost at σ = 50")
	}
	var rows [][]string
	for _, label := range p.r.labels(use, "classical", "trained", "given") {
		row := []string{p.shown(label)}
		for _, id := range use {
			c, ok := p.r.cell(label, id, protocol)
			if !ok {
				row = append(row, "-")
				continue
			}
			row = append(row, decibels(c))
		}
		if what == "noise" {
			row = append(row, p.drop(label, cleanOf(task), task+"-noise10", protocol), p.drop(label, cleanOf(task), task+"-noise50", protocol))
		}
		rows = append(rows, row)
	}
	return page.Table(head, rows)
}

// drop is how many dB a restorer loses from one condition to another.
func (p parts) drop(label, from, to, protocol string) string {
	a, ok := p.r.cell(label, from, protocol)
	b, ok2 := p.r.cell(label, to, protocol)
	if !ok || !ok2 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a.mean()-b.mean())
}

// steadiest says which of the networks trained here is best in a condition, and
// which loses least from another one to it.
func (p parts) steadiest(from, to, protocol string) string {
	best, least := "", ""
	var high, low float64
	for _, c := range p.r.cells(to, protocol) {
		if c.kind != "trained" {
			continue
		}
		if best == "" || c.mean() > high {
			best, high = c.label, c.mean()
		}
		if a, ok := p.r.cell(c.label, from, protocol); ok {
			if d := a.mean() - c.mean(); least == "" || d < low {
				least, low = c.label, d
			}
		}
	}
	if best == "" {
		return "not measured"
	}
	s := fmt.Sprintf("best is %s (%.2f dB)", best, high)
	if least != "" {
		s += fmt.Sprintf(", and %s loses least (%.2f dB)", least, low)
	}
	return s
}

// trainings is the table of what was trained at what cost.
func (p parts) trainings() string {
	if len(p.r.Trainings) == 0 {
		return "Nothing was trained.\n"
	}
	var rows [][]string
	for _, c := range comparisons {
		for _, n := range networks {
			for _, t := range p.r.Trainings {
				if t.Task != c.name || t.Model != n.name {
					continue
				}
				cal := p.r.Calibrations[configName(c.name, n.name)]
				rows = append(rows, []string{
					fmt.Sprintf("%s %s, seed %d", t.Task, t.Model, t.Seed), page.Thousands(t.Params), fmt.Sprintf("%g", t.LR), page.Thousands(t.Steps), page.Thousands(t.Examples),
					fmt.Sprintf("%.3f", cal.Seconds), fmt.Sprintf("%g", t.Budget), fmt.Sprintf("%.1f", t.CPU), fmt.Sprintf("%.1f", float64(cal.Held)/1e6),
				})
			}
		}
	}
	return page.Table([]string{"training", "parameters", "learning rate", "steps", "examples seen", "CPU s a step", "budget, CPU min", "used, CPU min", "MB held"}, rows)
}

// searches is the table of learning rates tried.
func (p parts) searches() string {
	if len(p.r.Searches) == 0 {
		return "No search was made: the learning rates are those of the experiments.\n"
	}
	var rows [][]string
	for _, c := range comparisons {
		for _, n := range networks {
			var cells []string
			steps := 0
			var list []training
			for _, t := range p.r.Searches {
				if t.Task == c.name && t.Model == n.name {
					list = append(list, t)
				}
			}
			slices.SortFunc(list, func(a, b training) int {
				if a.LR < b.LR {
					return -1
				}
				return 1
			})
			for _, t := range list {
				cells = append(cells, fmt.Sprintf("%g: %.2f", t.LR, t.last()))
				steps = t.Steps
			}
			if len(cells) > 0 {
				rows = append(rows, []string{c.name + " " + n.name, page.Thousands(steps), strings.Join(cells, ", ")})
			}
		}
	}
	return page.Table([]string{"search", "steps each", "validation PSNR by learning rate"}, rows)
}

// curves is the table of validation figures over the share of the budget spent.
func (p parts) curves(task string) string {
	shares := []float64{.25, .5, .75, 1}
	head := []string{"validation PSNR, dB"}
	for _, s := range shares {
		head = append(head, fmt.Sprintf("%g %% of the steps", 100*s))
	}
	var rows [][]string
	for _, n := range networks {
		for _, t := range p.r.Trainings {
			if t.Task != task || t.Model != n.name || len(t.Curve) == 0 {
				continue
			}
			row := []string{fmt.Sprintf("%s, seed %d", t.Model, t.Seed)}
			for _, s := range shares {
				// The validation nearest to the share.
				at := t.Curve[0]
				for _, c := range t.Curve {
					if abs(float64(c.Step)-s*float64(t.Steps)) < abs(float64(at.Step)-s*float64(t.Steps)) {
						at = c
					}
				}
				row = append(row, fmt.Sprintf("%.2f", at.PSNR))
			}
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return ""
	}
	return page.Table(head, rows)
}

// long is the table of the curves of longer trainings: at most eight validations of
// each, evenly spread, the last one among them.
func (p parts) long() string {
	if len(p.r.Long) == 0 {
		return ""
	}
	var rows [][]string
	for _, l := range p.r.Long {
		const most = 8
		var steps, values []string
		for i := range min(most, len(l.Curve)) {
			q := l.Curve[(i+1)*len(l.Curve)/min(most, len(l.Curve))-1]
			steps, values = append(steps, page.Thousands(q.Step)), append(values, fmt.Sprintf("%.2f", q.PSNR))
		}
		rows = append(rows, []string{l.Name, strings.Join(steps, ", "), strings.Join(values, ", ")})
	}
	return page.Table([]string{"training", "steps", "validation PSNR, dB"}, rows)
}

func abs(x float64) float64 { return max(x, -x) }

// versus lists a against b in every condition of a task that both were trained for.
func (p parts) versus(a, b, task string) string {
	ids, protocols, titles := mainConditions(task)
	var parts []string
	for i := range ids {
		v, d := p.r.compare(a, b, ids[i], protocols[i])
		if v == unknown {
			continue
		}
		note := ""
		if v == level {
			note = ", no difference claimed"
		}
		parts = append(parts, fmt.Sprintf("%s %+.2f dB%s", titles[i], d, note))
	}
	if len(parts) == 0 {
		return "not measured"
	}
	return strings.Join(parts, "; ")
}

// verdict says in words how often a is above b, over the test sets of all tasks by
// the first protocol of each.
func (p parts) verdict(a, b string) string {
	n := map[string]int{}
	var where []string
	for _, task := range taskNames() {
		ids, protocols, titles := mainConditions(task)
		for i := range ids {
			if protocols[i] == "cpsnr-b10" {
				continue // the same images as rgb
			}
			v, _ := p.r.compare(a, b, ids[i], protocols[i])
			n[v]++
			if v == below {
				where = append(where, task+" on "+titles[i])
			}
		}
	}
	total := n[above] + n[below] + n[level]
	if total == 0 {
		return fmt.Sprintf("%s and %s were not both measured.", a, b)
	}
	s := fmt.Sprintf("Of %d test sets and densities, %s is above %s in %d, below in %d and level in %d", total, a, b, n[above], n[below], n[level])
	if len(where) > 0 {
		s += " (below: " + strings.Join(where, "; ") + ")"
	}
	return s + "."
}

// db is one figure.
func (p parts) db(label, condition, protocol string) string {
	c, ok := p.r.cell(label, condition, protocol)
	if !ok {
		return "not measured"
	}
	return fmt.Sprintf("%.2f", c.mean())
}

// has says whether all of these were measured in a condition.
func (p parts) has(condition, protocol string, labels ...string) bool {
	for _, l := range labels {
		if _, ok := p.r.cell(l, condition, protocol); !ok {
			return false
		}
	}
	return true
}

// images is how many images a condition was measured on.
func (p parts) images(condition string) string {
	for _, f := range p.r.Figures {
		if f.Condition == condition {
			return fmt.Sprint(f.Images)
		}
	}
	return "no"
}

// params is the number of parameters of a restorer in a condition.
func (p parts) params(label, condition, protocol string) string {
	c, ok := p.r.cell(label, condition, protocol)
	if !ok {
		return "not measured"
	}
	return page.Thousands(c.params)
}

// cpu is the processor time of restoring a megapixel.
func (p parts) cpu(label, condition, protocol string) string {
	c, ok := p.r.cell(label, condition, protocol)
	if !ok {
		return "not measured"
	}
	return fmt.Sprintf("%.2f", c.cpu)
}

// mb is what a training step of one patch holds.
func (p parts) mb(task, model string) string {
	c, ok := p.r.Calibrations[configName(task, model)]
	if !ok {
		return "not measured"
	}
	return fmt.Sprintf("%.1f", float64(c.Held)/1e6)
}

// ratio is the processor time of a over that of b.
func (p parts) ratio(a, b, condition, protocol string) string {
	x, ok := p.r.cell(a, condition, protocol)
	y, ok2 := p.r.cell(b, condition, protocol)
	if !ok || !ok2 || y.cpu == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%.1f", x.cpu/y.cpu)
}

// seeds says how many trainings of a task there are of each network.
func (p parts) seeds() string {
	most := map[string]int{}
	count := map[string]int{}
	for _, t := range p.r.Trainings {
		key := configName(t.Task, t.Model)
		count[key]++
		most[t.Task] = max(most[t.Task], count[key])
	}
	var parts []string
	for _, name := range taskNames() {
		if n := most[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// budgets are the CPU minutes of a training of each task, as the flag -budget has
// them.
func (p parts) budgets() string {
	var parts []string
	for _, task := range taskNames() {
		i := slices.IndexFunc(p.r.Trainings, func(t training) bool { return t.Task == task })
		if i >= 0 {
			parts = append(parts, fmt.Sprintf("%s=%g", task, p.r.Trainings[i].Budget))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ",")
}
