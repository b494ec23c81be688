package main

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// results is all that the report is made of: docs/results.json.
type results struct {
	Trainings    []training             `json:"trainings"`
	Searches     []training             `json:"searches"`
	Calibrations map[string]calibration `json:"calibrations"` // by experiment
	Long         []longRun              `json:"long,omitempty"`
	Figures      []figure               `json:"figures"`
}

// figure is what one restorer reaches in one condition.
type figure struct {
	Label     string             `json:"label"`
	Kind      string             `json:"kind"` // trained | given | classical
	Task      string             `json:"task"`
	Seed      uint64             `json:"seed,omitempty"`
	Condition string             `json:"condition"`
	Images    int                `json:"images"`
	Params    int                `json:"params"`
	PSNR      map[string]float64 `json:"psnr"`
	SSIM      map[string]float64 `json:"ssim,omitempty"`
	CPUPerMpx float64            `json:"cpu_seconds_per_megapixel,omitempty"`
	Peak      int64              `json:"peak_bytes,omitempty"`
}

// cleanOf names the condition without noise, on the same images.
func cleanOf(task string) string { return task + "-clean" }

// mainKodak is the condition that clean subsets are part of.
var mainKodak = map[string]string{"demosaic": "demosaic-kodak", "x2": "x2-kodak", "fill": "fill80-kodak"}

// collect reads the work folder.
func (s *settings) collect() (results, error) {
	r := results{Calibrations: map[string]calibration{}}
	for _, c := range comparisons {
		for _, n := range networks {
			j := job{comparison: c, network: n}
			var cal calibration
			if ok, err := lab.Load(s.calibrationPath(j), &cal); err != nil {
				return r, err
			} else if ok {
				r.Calibrations[j.id()] = cal
			}
		}
	}
	for kind, to := range map[string]*[]training{"train": &r.Trainings, "search": &r.Searches} {
		files, err := filepath.Glob(filepath.Join(s.Work, kind, "*.json"))
		if err != nil {
			return r, err
		}
		for _, path := range files {
			var t training
			if _, err := lab.Load(path, &t); err != nil {
				return r, err
			}
			t.Weights = "" // a path of this machine
			*to = append(*to, t)
		}
	}
	files, err := filepath.Glob(filepath.Join(s.Work, "measure", "*", "*.json"))
	if err != nil {
		return r, err
	}
	var all []measurement
	for _, path := range files {
		var m measurement
		if _, err := lab.Load(path, &m); err != nil {
			return r, err
		}
		all = append(all, m)
	}
	r.Figures = figures(all)
	if r.Long, err = s.longRuns(); err != nil {
		return r, err
	}
	return r, nil
}

// figures leaves of measurements what the report needs, and takes the means over
// the images of the noise tables out of the clean measurements.
func figures(all []measurement) []figure {
	subset := map[string]int{} // images of the noise measurements by label, seed and task
	id := func(m measurement) string { return fmt.Sprint(m.Label, "\n", m.Kind, "\n", m.Seed, "\n", m.Task) }
	for _, m := range all {
		if strings.Contains(m.Condition, "-noise") {
			subset[id(m)] = m.Images
		}
	}
	var out []figure
	for _, m := range all {
		f := figure{Label: m.Label, Kind: m.Kind, Task: m.Task, Seed: m.Seed, Condition: m.Condition, Images: m.Images, Params: m.Params,
			PSNR: finite(m.PSNR), SSIM: finite(m.SSIM), CPUPerMpx: m.CPUPerMpx, Peak: m.Peak}
		out = append(out, f)
		n := subset[id(m)]
		if m.Condition != mainKodak[m.Task] || n == 0 || n > len(m.PerImage) {
			continue
		}
		f.Condition, f.Images, f.SSIM, f.CPUPerMpx, f.Peak = cleanOf(m.Task), n, nil, 0, 0
		f.PSNR = map[string]float64{}
		for p := range m.PSNR {
			sum := 0.
			for _, it := range m.PerImage[:n] {
				if it[p] == nil {
					sum = math.NaN()
					break
				}
				sum += *it[p]
			}
			if sum == sum {
				f.PSNR[p] = sum / float64(n)
			}
		}
		out = append(out, f)
	}
	order := []string{"classical", "trained", "given"}
	rank := map[string]int{}
	for i, n := range modelNames() {
		rank[n] = i + 1
	}
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		switch {
		case a.Condition != b.Condition:
			return a.Condition < b.Condition
		case a.Kind != b.Kind:
			return slices.Index(order, a.Kind) < slices.Index(order, b.Kind)
		case rank[a.Label] != rank[b.Label]:
			return rank[a.Label] < rank[b.Label]
		case a.Label != b.Label:
			return a.Label < b.Label
		}
		return a.Seed < b.Seed
	})
	return out
}

// finite drops values there are none of (null in JSON).
func finite(m map[string]*float64) map[string]float64 {
	out := map[string]float64{}
	for k, v := range m {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}

// cell is what all seeds of a restorer reach in one condition by one protocol.
type cell struct {
	label, kind string
	values      []float64 // by seed
	params      int
	images      int
	cpu         float64 // the least
	peak        int64
}

// mean over the seeds.
func (c cell) mean() float64 {
	sum := 0.
	for _, v := range c.values {
		sum += v
	}
	return sum / float64(len(c.values))
}

// cells returns a condition's restorers in the order of the report; a restorer
// without a figure by that protocol is left out.
func (r results) cells(condition, protocol string) []cell {
	var out []cell
	for _, f := range r.Figures {
		v, ok := f.PSNR[protocol]
		if f.Condition != condition || !ok {
			continue
		}
		i := slices.IndexFunc(out, func(c cell) bool { return c.label == f.Label && c.kind == f.Kind })
		if i < 0 {
			out = append(out, cell{label: f.Label, kind: f.Kind, params: f.Params, images: f.Images, cpu: f.CPUPerMpx, peak: f.Peak})
			i = len(out) - 1
		}
		c := &out[i]
		c.values = append(c.values, v)
		if f.CPUPerMpx > 0 && (c.cpu == 0 || f.CPUPerMpx < c.cpu) {
			c.cpu = f.CPUPerMpx
		}
		c.peak = max(c.peak, f.Peak)
	}
	return out
}

// cell returns one restorer's; ok is false where it was not measured.
func (r results) cell(label, condition, protocol string) (cell, bool) {
	for _, c := range r.cells(condition, protocol) {
		if c.label == label {
			return c, true
		}
	}
	return cell{}, false
}

// labels returns the restorers measured in any of the conditions, in the order of
// the report.
func (r results) labels(conditions []string, kinds ...string) []string {
	var out []string
	for _, kind := range kinds {
		for _, id := range conditions {
			for _, f := range r.Figures {
				if f.Condition == id && f.Kind == kind && !slices.Contains(out, f.Label) {
					out = append(out, f.Label)
				}
			}
		}
	}
	return out
}

// Comparison of two restorers.
const (
	above   = "above"
	below   = "below"
	level   = "level"
	unknown = "not measured"
)

// claimFrom is the difference in dB that one training each can tell from chance.
const claimFrom = 0.2

// compare says whether a is above b in a condition. A difference of less than 0.2
// dB counts only with at least two seeds each, every one of the one above every one
// of the other; a restorer that was not trained here has no seeds and counts as it
// is.
func (r results) compare(a, b, condition, protocol string) (verdict string, difference float64) {
	x, ok := r.cell(a, condition, protocol)
	y, ok2 := r.cell(b, condition, protocol)
	if !ok || !ok2 {
		return unknown, 0
	}
	difference = x.mean() - y.mean()
	enough := func(c cell) bool { return c.kind == "classical" || len(c.values) >= 2 }
	switch {
	case difference >= claimFrom:
		return above, difference
	case difference <= -claimFrom:
		return below, difference
	case !enough(x) || !enough(y):
		return level, difference
	case slices.Min(x.values) > slices.Max(y.values):
		return above, difference
	case slices.Max(x.values) < slices.Min(y.values):
		return below, difference
	}
	return level, difference
}
