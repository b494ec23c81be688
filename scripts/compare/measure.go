package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/infer"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// tableNames are the groups of conditions: test sets as trained for, and what was
// not seen in training.
var tableNames = []string{"main", "noise", "pattern", "density", "x3"}

// condition is one thing measured: a test set and how its images are degraded.
type condition struct {
	id, table, task string // task: demosaic | x2 | fill
	set             string
	args            []string // of eval
	networksOnly    bool     // classical methods have no phase, they read it off the mask
	subset          bool     // only the first images, by -robust-limit
}

// seenMissing are the shares of missing pixels within what networks for filling are
// trained on, unseenMissing those outside.
var (
	seenMissing   = []float64{0.5, 0.8, 0.9}
	unseenMissing = []float64{0.2, 0.95, 0.98}
	sigmas        = []float64{10, 20, 30, 50}
	unseenPhases  = []string{"grbg", "gbrg", "bggr"}
)

func demosaicArgs() []string {
	return []string{"--task", "demosaic", "--protocol", "rgb,cpsnr-b10"}
}

func scaleArgs(s int) []string {
	return []string{"--task", "scale", "--scale", fmt.Sprint(s), "--channels", "1", "--protocol", "y"}
}

func fillArgs(missing float64) []string {
	return []string{"--task", "fill", "--missing", fmt.Sprint(missing), "--seed", "1", "--protocol", "rgb"}
}

// percent names a share.
func percent(x float64) string { return fmt.Sprint(math.Round(1000*x) / 10) }

// conditions lists everything the tables need, main tables first.
func conditions() []condition {
	var all []condition
	for _, set := range []string{"kodak", "mcm", "set14"} {
		all = append(all, condition{id: "demosaic-" + set, table: "main", task: "demosaic", set: set, args: demosaicArgs()})
	}
	for _, set := range []string{"kodak", "set14", "set5", "mcm"} {
		all = append(all, condition{id: "x2-" + set, table: "main", task: "x2", set: set, args: scaleArgs(2)})
	}
	for _, m := range seenMissing {
		all = append(all, condition{id: "fill" + percent(m) + "-kodak", table: "main", task: "fill", set: "kodak", args: fillArgs(m)})
	}
	for _, task := range taskNames() {
		for _, sigma := range sigmas {
			args := map[string][]string{"demosaic": demosaicArgs(), "x2": scaleArgs(2), "fill": fillArgs(.8)}[task]
			all = append(all, condition{
				id: fmt.Sprintf("%s-noise%g", task, sigma), table: "noise", task: task, set: "kodak", subset: true,
				args: append(args, "--noise", fmt.Sprint(sigma), "--seed", "1"),
			})
		}
	}
	for _, p := range unseenPhases {
		args := append(demosaicArgs(), "--pattern", p)
		all = append(all, condition{id: "raw-" + p, table: "pattern", task: "demosaic", set: "kodak", subset: true, networksOnly: true, args: append(args, "--raw-phase")})
	}
	all = append(all, condition{id: "served-bggr", table: "pattern", task: "demosaic", set: "kodak", subset: true, args: append(demosaicArgs(), "--pattern", "bggr")})
	for _, m := range unseenMissing {
		all = append(all, condition{id: "fill" + percent(m), table: "density", task: "fill", set: "kodak", subset: true, args: fillArgs(m)})
	}
	for _, set := range []string{"kodak", "set14"} {
		all = append(all, condition{id: "x3-" + set, table: "x3", task: "x2", set: set, subset: set == "kodak", args: append(scaleArgs(3), "--beyond")})
	}
	return all
}

// entry is a restorer measured: a network trained here, one given, or a classical
// method.
type entry struct {
	label, kind, task, ref string // kind: trained | given | classical; task: demosaic | x2 | fill
	seed                   uint64
	params                 int
	ensemble               int // orientations, where more than one
}

// key names the entry's results among those of its label.
func (e entry) key() string {
	if e.kind == "trained" {
		return fmt.Sprintf("%s-s%d", e.label, e.seed)
	}
	return e.label
}

// measurement is what the work folder keeps of one condition and entry.
type measurement struct {
	Label     string                `json:"label"`
	Kind      string                `json:"kind"`
	Task      string                `json:"task"`
	Seed      uint64                `json:"seed,omitempty"`
	Condition string                `json:"condition"`
	Digest    string                `json:"weights_sha256"`
	Args      []string              `json:"args"`
	Limit     int                   `json:"limit,omitempty"`
	Images    int                   `json:"images"`
	Params    int                   `json:"params"`
	PSNR      map[string]*float64   `json:"psnr"`
	SSIM      map[string]*float64   `json:"ssim"`
	CPUPerMpx float64               `json:"cpu_seconds_per_megapixel"` // the least of the images: a shared machine slows others down
	Peak      int64                 `json:"peak_bytes"`
	PerImage  []map[string]*float64 `json:"per_image_psnr"`
}

// entries lists what there is to measure: trainings that are finished, networks
// given, and the classical methods.
func (s *settings) entries() ([]entry, error) {
	var all []entry
	for _, c := range comparisons {
		if !slices.Contains(s.tasks, c.name) {
			continue
		}
		for _, name := range infer.Names(taskOf(c.name)) {
			if n, err := infer.Resolve(taskOf(c.name), name); err == nil && n.Network == nil {
				all = append(all, entry{label: name, kind: "classical", task: c.name, ref: name})
			}
		}
		for _, seed := range s.seeds {
			for _, n := range networks {
				var t training
				ok, err := lab.Load(s.trainingPath("train", fmt.Sprintf("%s-s%d", configName(c.name, n.name), seed)), &t)
				if err != nil {
					return nil, err
				}
				if ok && slices.Contains(s.models, n.name) {
					all = append(all, entry{label: n.name, kind: "trained", task: c.name, ref: t.Weights, seed: seed, params: t.Params})
				}
			}
		}
	}
	for _, g := range s.given {
		n, err := infer.Open(g.ref)
		if err != nil {
			return nil, err
		}
		e := entry{label: g.label, kind: "given", task: n.Task(), ref: g.ref, params: n.Params()}
		if e.task == data.Scale {
			if n.Trained().Scale != 2 {
				return nil, fmt.Errorf("-weights %s: found a network for scale %d, expected one for 2", g.label, n.Trained().Scale)
			}
			e.task = "x2"
		}
		if !slices.Contains(s.tasks, e.task) {
			continue
		}
		all = append(all, e)
		if s.ensemble > 1 && e.task == "demosaic" {
			e.label, e.ensemble = fmt.Sprintf("%s, %d orientations", e.label, s.ensemble), s.ensemble
			all = append(all, e)
		}
	}
	return all, nil
}

// measure measures all entries in all conditions asked for.
func (s *settings) measure(ctx context.Context) error {
	program, err := s.Build(ctx)
	if err != nil {
		return err
	}
	entries, err := s.entries()
	if err != nil {
		return err
	}
	type work struct {
		e entry
		c condition
	}
	var pending []work
	for _, c := range conditions() {
		if !slices.Contains(s.tables, c.table) || !slices.Contains(s.sets, c.set) {
			continue
		}
		for _, e := range entries {
			if e.task == c.task && !(c.networksOnly && e.kind == "classical") && (e.ensemble == 0 || c.table == "main") {
				pending = append(pending, work{e, c})
			}
		}
	}
	return s.Parallel(ctx, len(pending), func(ctx context.Context, i int) error {
		return s.measureOne(ctx, program, pending[i].e, pending[i].c)
	})
}

// images returns how many images of a condition are measured, 0 for all.
func (s *settings) images(c condition) int {
	n := s.limit
	if c.subset && s.robustLimit > 0 && (n == 0 || s.robustLimit < n) {
		n = s.robustLimit
	}
	return n
}

func (s *settings) measurePath(e entry, c condition) string {
	return filepath.Join(s.Work, "measure", c.id, lab.FileName(e.key())+".json")
}

func (s *settings) measureOne(ctx context.Context, program string, e entry, c condition) error {
	path := s.measurePath(e, c)
	args := slices.Concat([]string{"eval", "--model", e.ref, "--data", filepath.Join(s.setsDir, c.set), "--jobs", "1", "--json", "--per-image"}, c.args)
	limit := s.images(c)
	if limit > 0 {
		args = append(args, "--limit", fmt.Sprint(limit))
	}
	if e.ensemble > 0 {
		args = append(args, "--ensemble", fmt.Sprint(e.ensemble))
	}
	var old measurement
	if ok, err := lab.Load(path, &old); err != nil {
		return err
	} else if ok && old.Digest == digest(e.ref) && old.Limit == limit && slices.Equal(old.Args, c.args) {
		return nil
	}
	cmd := lab.Command(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", c.id, e.key(), err, strings.TrimSpace(stderr.String()))
	}
	m, err := parseEval(out)
	if err != nil {
		return fmt.Errorf("%s %s: %w", c.id, e.key(), err)
	}
	m.Label, m.Kind, m.Task, m.Seed, m.Condition, m.Digest, m.Args, m.Limit = e.label, e.kind, e.task, e.seed, c.id, digest(e.ref), c.args, limit
	first := ""
	for p, v := range m.PSNR {
		if v != nil && (first == "" || p == "rgb" || p == "y") {
			first = fmt.Sprintf("%s %.2f dB", p, *v)
		}
	}
	s.Say("%-18s %-16s %s, %.2f CPU s/Mpx", c.id, e.key(), first, m.CPUPerMpx)
	return lab.Save(path, m)
}

// parseEval reads a line of eval --json --per-image --jobs 1.
func parseEval(line []byte) (m measurement, err error) {
	var r struct {
		Images   int
		Params   int
		PSNR     map[string]*float64
		SSIM     map[string]*float64
		Peak     int64 `json:"peak_bytes"`
		PerImage []struct {
			Width, Height int
			PSNR          map[string]*float64
			CPU           float64 `json:"cpu_seconds"`
		} `json:"per_image"`
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return m, fmt.Errorf("eval --json: %w", err)
	}
	if r.Images == 0 || len(r.PerImage) != r.Images {
		return m, fmt.Errorf("eval --json: found %d images and figures of %d, expected as many", r.Images, len(r.PerImage))
	}
	m = measurement{Images: r.Images, Params: r.Params, PSNR: r.PSNR, SSIM: r.SSIM, Peak: r.Peak}
	for _, it := range r.PerImage {
		m.PerImage = append(m.PerImage, it.PSNR)
		cpu := it.CPU / (float64(it.Width) * float64(it.Height) / 1e6)
		if cpu > 0 && (m.CPUPerMpx == 0 || cpu < m.CPUPerMpx) {
			m.CPUPerMpx = cpu
		}
	}
	return m, nil
}
