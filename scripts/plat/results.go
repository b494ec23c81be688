package main

import (
	"maps"
	"path/filepath"
	"slices"
	"sort"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// results is all that the report is made of: docs/plat.json.
type results struct {
	Trainings []training  `json:"trainings"`
	Figures   []figure    `json:"figures"`
	Attention []diagnosis `json:"attention"`
}

// figure is what one trained network reaches in one condition.
type figure struct {
	Task      string             `json:"task"`
	Form      string             `json:"form"`
	Seed      uint64             `json:"seed"`
	Condition string             `json:"condition"`
	Examples  int                `json:"examples"`
	Values    map[string]float64 `json:"values"` // top1, top5 (shares) and loss, or nats and bits
}

// diagnosis is what the attention of one trained network does, on examples held
// out.
type diagnosis struct {
	Task     string  `json:"task"`
	Form     string  `json:"form"`
	Seed     uint64  `json:"seed"`
	Examples int     `json:"examples"`
	Layers   []layer `json:"layers"` // the embedding first: its cosine alone
}

// layer is one layer of a diagnosis.
type layer struct {
	Cosine  float64   `json:"cosine"` // mean over pairs of tokens of what the layer gives
	Self    []float64 `json:"self,omitempty"`
	Entropy []float64 `json:"entropy,omitempty"` // by head, nats
	P       []float64 `json:"p,omitempty"`
}

// mean of some numbers.
func mean(v []float64) float64 {
	sum := 0.
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// spread is what some numbers differ by at most.
func spread(v []float64) float64 { return slices.Max(v) - slices.Min(v) }

// collect reads the work folder.
func (s *settings) collect() (results, error) {
	var r results
	for _, kind := range []string{"train", "measure"} {
		pattern := filepath.Join(s.Work, kind, "*.json")
		if kind == "measure" {
			pattern = filepath.Join(s.Work, kind, "*", "*.json")
		}
		files, err := filepath.Glob(pattern)
		if err != nil {
			return r, err
		}
		for _, path := range files {
			if kind == "train" {
				var t training
				if _, err := lab.Load(path, &t); err != nil {
					return r, err
				}
				t.Weights = "" // a path of this machine
				r.Trainings = append(r.Trainings, t)
				continue
			}
			var m measurement
			if _, err := lab.Load(path, &m); err != nil {
				return r, err
			}
			if m.Figure != nil {
				r.Figures = append(r.Figures, *m.Figure)
			}
			if m.Attention != nil {
				r.Attention = append(r.Attention, *m.Attention)
			}
		}
	}
	sort.SliceStable(r.Trainings, func(i, j int) bool {
		a, b := r.Trainings[i], r.Trainings[j]
		return rank(a.Task, a.Form, "", a.Seed) < rank(b.Task, b.Form, "", b.Seed)
	})
	sort.SliceStable(r.Figures, func(i, j int) bool {
		a, b := r.Figures[i], r.Figures[j]
		return rank(a.Task, a.Form, a.Condition, a.Seed) < rank(b.Task, b.Form, b.Condition, b.Seed)
	})
	sort.SliceStable(r.Attention, func(i, j int) bool {
		a, b := r.Attention[i], r.Attention[j]
		return rank(a.Task, a.Form, "", a.Seed) < rank(b.Task, b.Form, "", b.Seed)
	})
	return r, nil
}

// rank orders what is published: task, condition, form, seed.
func rank(task, form, id string, seed uint64) int {
	t, f := slices.Index(taskNames(), task), slices.Index(formNames(), form)
	c := slices.IndexFunc(conditions, func(c condition) bool { return c.id == id })
	return ((t*100+c+1)*100+f)*1000 + int(seed%1000)
}

// values returns what a form reaches in a condition, by seed.
func (r results) values(task, form, condition, what string) map[uint64]float64 {
	out := map[uint64]float64{}
	for _, f := range r.Figures {
		if v, ok := f.Values[what]; ok && f.Task == task && f.Form == form && f.Condition == condition {
			out[f.Seed] = v
		}
	}
	return out
}

// bySeed lists values in the order of their seeds.
func bySeed(v map[uint64]float64) []float64 {
	var out []float64
	for _, seed := range slices.Sorted(maps.Keys(v)) {
		out = append(out, v[seed])
	}
	return out
}

// formsOf returns the forms that have figures in a condition of a task.
func (r results) formsOf(task, condition string) []form {
	var out []form
	for _, f := range forms {
		if slices.ContainsFunc(r.Figures, func(g figure) bool { return g.Task == task && g.Form == f.name && g.Condition == condition }) {
			out = append(out, f)
		}
	}
	return out
}

// The outcome of a comparison.
const (
	higher  = "higher"
	lower   = "lower"
	leaning = "the same sign each time, within the seeds"
	within  = "within the seeds"
	few     = "too few seeds to say"
	unknown = "not measured"
)

// leastSeeds is how many trainings each of two forms needs to be compared.
const leastSeeds = 3

// compare holds figures a against figures b of the same seeds, which began with the
// same parameters and saw the same examples in the same order. a is higher or lower
// than b where the difference has the same sign for every seed and its mean is more
// than what the differences spread. differences are in the order of the seeds.
func compare(a, b map[uint64]float64) (outcome string, differences []float64) {
	d := map[uint64]float64{}
	for seed, v := range a {
		if w, ok := b[seed]; ok {
			d[seed] = v - w
		}
	}
	if len(d) == 0 {
		return unknown, nil
	}
	differences = bySeed(d)
	least, most, m := slices.Min(differences), slices.Max(differences), mean(differences)
	switch {
	case len(differences) < leastSeeds:
		return few, differences
	case least <= 0 && most >= 0:
		return within, differences
	case max(m, -m) <= most-least:
		return leaning, differences
	case m > 0:
		return higher, differences
	}
	return lower, differences
}
