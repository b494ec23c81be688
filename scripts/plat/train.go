package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// training is a finished training.
type training struct {
	Task    string  `json:"task"`
	Form    string  `json:"form"`
	Seed    uint64  `json:"seed"`
	Steps   int     `json:"steps"`
	Batch   int     `json:"batch"`
	Params  int     `json:"params"`
	CPU     float64 `json:"cpu_minutes"` // of all its processes, validation included
	Curve   []point `json:"curve"`       // on what is held out of the training part
	Digest  string  `json:"experiment_sha256"`
	Weights string  `json:"weights,omitempty"` // path; not published
}

// point of a training curve.
type point struct {
	Step  int     `json:"step"`
	Value float64 `json:"value"` // top1 or nats
}

func (s *settings) trainID(j job, seed uint64) string { return fmt.Sprintf("%s-s%d", j.id(), seed) }

func (s *settings) trainingPath(j job, seed uint64) string {
	return filepath.Join(s.Work, "train", s.trainID(j, seed)+".json")
}

// train does the trainings: all forms and seeds of a task before the next task, a
// seed of all forms before the next seed.
func (s *settings) train(ctx context.Context) error {
	program, err := s.Build(ctx)
	if err != nil {
		return err
	}
	type order struct {
		job
		seed uint64
	}
	var orders []order
	for _, t := range tasks {
		for _, seed := range s.seeds {
			for _, j := range s.jobs() {
				if j.task.name == t.name {
					orders = append(orders, order{j, seed})
				}
			}
		}
	}
	return s.Parallel(ctx, len(orders), func(ctx context.Context, i int) error {
		return s.trainOne(ctx, program, orders[i].job, orders[i].seed)
	})
}

// experimentDigest is that of an experiment's file and the settings of a trial.
func (s *settings) experimentDigest(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w; the stage configs writes it", err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Append(b, s.sets))), nil
}

// trainOne trains, or continues, or returns at once where it is done.
func (s *settings) trainOne(ctx context.Context, program string, j job, seed uint64) error {
	id, path := s.trainID(j, seed), s.trainingPath(j, seed)
	digest, err := s.experimentDigest(j.path)
	if err != nil {
		return err
	}
	var t training
	if ok, err := lab.Load(path, &t); err != nil {
		return err
	} else if ok {
		if t.Digest != digest {
			return fmt.Errorf("%s: found a training of another experiment than %s; remove it and its run, or use another -work", path, j.path)
		}
		return nil
	}
	dir := filepath.Join(s.Work, "runs", id)
	sets := slices.Concat([]string{"name=" + id, fmt.Sprint("seed=", seed), "data.train=" + s.data[j.task.data], "train.workers=1"}, s.sets)
	e, err := config.Load(j.path, sets)
	if err != nil {
		return err
	}
	m, err := model.Build(e.Model, seed)
	if err != nil {
		return err
	}
	s.Say("begin %s", id)
	used, err := lab.Train(ctx, program, j.path, dir, sets)
	if err != nil {
		return err
	}
	t = training{
		Task: j.task.name, Form: j.form.name, Seed: seed, Steps: e.Train.Steps, Batch: e.Train.Batch, Params: m.Params().Count(),
		CPU: used, Digest: digest, Weights: filepath.Join(dir, "model.safetensors"),
	}
	text, err := os.ReadFile(filepath.Join(dir, "validation.csv"))
	if err != nil {
		return err
	}
	if t.Curve, err = curve(text, j.task.figure); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	s.Say("done  %s: %.2f CPU minutes, %s %.4f", id, t.CPU, j.task.figure, t.last())
	return lab.Save(path, t)
}

// last returns the figure at the end.
func (t training) last() float64 {
	if len(t.Curve) == 0 {
		return 0
	}
	return t.Curve[len(t.Curve)-1].Value
}

// curve reads one figure of validation.csv.
func curve(text []byte, figure string) (points []point, err error) {
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("validation.csv: %w", err)
	}
	if len(rows) == 0 || len(rows[0]) < 4 || rows[0][0] != "step" || rows[0][2] != "figure" || rows[0][3] != "value" {
		return nil, fmt.Errorf("validation.csv: found no rows of step, examples, figure, value")
	}
	for _, r := range rows[1:] {
		if r[2] != figure {
			continue
		}
		step, err1 := strconv.Atoi(r[0])
		v, err2 := strconv.ParseFloat(r[3], 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("validation.csv: %w", err)
		}
		points = append(points, point{step, v})
	}
	if len(points) == 0 {
		return nil, fmt.Errorf("validation.csv: found no %s", figure)
	}
	return points, nil
}
