package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// tableNames are the groups of conditions.
var tableNames = []string{"main", "noise", "occlusion", "attention"}

// condition is one thing measured of every trained network.
type condition struct {
	id, table, title string
	args             []string // of eval
	tasks            []string // nil for all
}

var images = []string{"mnist-patches", "cifar10"}

// conditions in the order of the report.
var conditions = []condition{
	{"clean", "main", "as it is", nil, nil},
	{"noise25", "noise", "noise, σ = 25", []string{"--noise", "25", "--seed", "1"}, images},
	{"noise50", "noise", "σ = 50", []string{"--noise", "50", "--seed", "1"}, images},
	{"noise100", "noise", "σ = 100", []string{"--noise", "100", "--seed", "1"}, images},
	{"occlude0.1", "occlusion", "10 % hidden", []string{"--occlude", "0.1", "--seed", "1"}, images},
	{"occlude0.25", "occlusion", "25 % hidden", []string{"--occlude", "0.25", "--seed", "1"}, images},
	{"attention", "attention", "", []string{"--diagnose"}, nil},
}

func conditionOf(id string) condition {
	return conditions[slices.IndexFunc(conditions, func(c condition) bool { return c.id == id })]
}

// measurement is what the work folder keeps of one condition and training.
type measurement struct {
	Digest    string     `json:"weights_sha256"`
	Args      []string   `json:"args"`
	Figure    *figure    `json:"figure,omitempty"`
	Attention *diagnosis `json:"attention,omitempty"`
}

// measure measures all trainings that are finished.
func (s *settings) measure(ctx context.Context) error {
	program, err := s.Build(ctx)
	if err != nil {
		return err
	}
	type work struct {
		job
		t training
		c condition
	}
	var pending []work
	for _, c := range conditions {
		if !slices.Contains(s.tables, c.table) {
			continue
		}
		for _, j := range s.jobs() {
			if c.tasks != nil && !slices.Contains(c.tasks, j.task.name) {
				continue
			}
			for _, seed := range s.seeds {
				var t training
				ok, err := lab.Load(s.trainingPath(j, seed), &t)
				if err != nil {
					return err
				}
				if ok {
					pending = append(pending, work{j, t, c})
				}
			}
		}
	}
	return s.Parallel(ctx, len(pending), func(ctx context.Context, i int) error {
		w := pending[i]
		return s.measureOne(ctx, program, w.job, w.t, w.c)
	})
}

func (s *settings) measureOne(ctx context.Context, program string, j job, t training, c condition) error {
	id := s.trainID(j, t.Seed)
	path := filepath.Join(s.Work, "measure", c.id, id+".json")
	weights, err := os.ReadFile(t.Weights)
	if err != nil {
		return err
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(weights))
	args := slices.Concat([]string{"--part", j.task.part}, c.args)
	if s.limit > 0 {
		args = append(args, "--limit", fmt.Sprint(s.limit))
	}
	var old measurement
	if ok, err := lab.Load(path, &old); err != nil {
		return err
	} else if ok && old.Digest == digest && slices.Equal(old.Args, args) {
		return nil
	}
	cmd := lab.Command(ctx, program, slices.Concat([]string{
		"eval", j.path, "--weights", t.Weights, "--jobs", "1", "--json", "--set", "data.train=" + s.data[j.task.data]}, args)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", c.id, id, err, strings.TrimSpace(stderr.String()))
	}
	m := measurement{Digest: digest, Args: args}
	if c.table == "attention" {
		m.Attention, err = parseAttention(out)
	} else {
		m.Figure, err = parseEval(out, j.task.classifier())
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", c.id, id, err)
	}
	if f := m.Figure; f != nil {
		f.Task, f.Form, f.Seed, f.Condition = j.task.name, j.form.name, t.Seed, c.id
		s.Say("%-12s %-24s %s %.4f", c.id, id, j.task.figure, f.Values[j.task.figure])
	}
	if a := m.Attention; a != nil {
		a.Task, a.Form, a.Seed = j.task.name, j.form.name, t.Seed
		s.Say("%-12s %-24s cosine %.3f after the last layer", c.id, id, a.Layers[len(a.Layers)-1].Cosine)
	}
	return lab.Save(path, m)
}

// parseEval reads a line of eval --json.
func parseEval(line []byte, classifier bool) (*figure, error) {
	var r struct {
		Images, Symbols        int
		Top1, Top5, Loss       *float64
		Nats, Bits, Perplexity *float64
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("eval --json: %w", err)
	}
	f := &figure{Examples: r.Symbols, Values: map[string]float64{}}
	values := map[string]*float64{"nats": r.Nats, "bits": r.Bits}
	if classifier {
		f.Examples, values = r.Images, map[string]*float64{"top1": r.Top1, "top5": r.Top5, "loss": r.Loss}
	}
	for name, v := range values {
		if v == nil {
			return nil, fmt.Errorf("eval --json: found no finite %s", name)
		}
		f.Values[name] = *v
	}
	if f.Examples == 0 {
		return nil, fmt.Errorf("eval --json: found no examples")
	}
	return f, nil
}

// parseAttention reads the diagnostics of a line of eval --json --diagnose.
func parseAttention(line []byte) (*diagnosis, error) {
	var r struct {
		Diagnostics *struct {
			Inputs    int
			Embedding float64 `json:"embedding_cosine"`
			Layers    []struct {
				Cosine float64
				Heads  []struct {
					P, Entropy float64
					Self       float64 `json:"self_weight"`
				}
			}
		}
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("eval --json: %w", err)
	}
	if r.Diagnostics == nil || len(r.Diagnostics.Layers) == 0 {
		return nil, fmt.Errorf("eval --json --diagnose: found no layers")
	}
	d := &diagnosis{Examples: r.Diagnostics.Inputs, Layers: []layer{{Cosine: r.Diagnostics.Embedding}}}
	for _, l := range r.Diagnostics.Layers {
		x := layer{Cosine: l.Cosine}
		for _, h := range l.Heads {
			x.Self, x.Entropy, x.P = append(x.Self, h.Self), append(x.Entropy, h.Entropy), append(x.P, h.P)
		}
		d.Layers = append(d.Layers, x)
	}
	return d, nil
}
