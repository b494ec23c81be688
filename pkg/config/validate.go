package config

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// Legal words of keys that name one.
var (
	losses = map[model.Kind][]string{
		model.Restore: {"l1", "l2", "charbonnier"}, model.Classify: {"cross_entropy"}, model.Language: {"cross_entropy"},
	}
	optimisers = []string{"adamw", "adam", "sgd"}
	schedules  = []string{"cosine", "multistep", "constant"}
)

// validate checks every section but model, whose resolution has checked it, and
// what sections ask of each other. Errors begin with the key.
func (e Experiment) validate() error {
	if e.Name == "" || strings.ContainsAny(e.Name, "/\\\x00\n") || e.Name == "." || e.Name == ".." {
		return fmt.Errorf("name: found %q, expected a word that can name a folder", e.Name)
	}
	for _, k := range []struct {
		key         string
		v, min, max int
	}{
		{"data.holdout.every", e.Data.Holdout.Every, 2, 1 << 20},
		{"data.holdout.offset", e.Data.Holdout.Offset, 0, e.Data.Holdout.Every - 1},
		{"data.patch", e.Data.Patch, 8, 4096},
		{"data.cache_mb", e.Data.CacheMB, 0, 1 << 20},
		{"train.steps", e.Train.Steps, 1, math.MaxInt32},
		{"train.batch", e.Train.Batch, 1, 4096},
		{"train.micro_batch", e.Train.MicroBatch, 1, e.Train.Batch},
		{"train.workers", e.Train.Workers, 0, 1024},
		{"train.max_bad_steps", e.Train.MaxBadSteps, 1, math.MaxInt32},
		{"schedule.warmup", e.Schedule.Warmup, 0, e.Train.Steps - 1},
		{"eval.every", e.Eval.Every, 0, math.MaxInt32},
		{"eval.images", e.Eval.Images, 0, math.MaxInt32},
		{"log.every", e.Log.Every, 1, math.MaxInt32},
		{"log.samples_every", e.Log.SamplesEvery, 0, math.MaxInt32},
		{"checkpoint.every", e.Checkpoint.Every, 0, math.MaxInt32},
		{"checkpoint.keep", e.Checkpoint.Keep, 1, 10000},
	} {
		if (k.v < k.min || k.v > k.max) && e.Uses(k.key) {
			return fmt.Errorf("%s: found %d, expected %s", k.key, k.v, intRange(k.min, k.max))
		}
	}
	if e.Train.Batch%e.Train.MicroBatch != 0 {
		return fmt.Errorf("train.micro_batch: found %d, expected a divisor of train.batch (%d)", e.Train.MicroBatch, e.Train.Batch)
	}
	for _, k := range []struct {
		key   string
		v     float64
		ok    bool
		legal string
	}{
		{"train.charbonnier_eps", e.Train.CharbonnierEps, e.Train.CharbonnierEps > 0, "more than 0"},
		{"train.label_smoothing", e.Train.LabelSmoothing, in01(e.Train.LabelSmoothing), "0 to less than 1"},
		{"train.ema", e.Train.EMA, in01(e.Train.EMA), "0 (off) to less than 1"},
		{"train.clip", e.Train.Clip, e.Train.Clip >= 0, "0 (off) or more"},
		{"optim.beta1", e.Optim.Beta1, in01(e.Optim.Beta1), "0 to less than 1"},
		{"optim.beta2", e.Optim.Beta2, in01(e.Optim.Beta2), "0 to less than 1"},
		{"optim.eps", e.Optim.Eps, e.Optim.Eps > 0, "more than 0"},
		{"optim.weight_decay", e.Optim.WeightDecay, e.Optim.WeightDecay >= 0, "0 or more"},
		{"optim.momentum", e.Optim.Momentum, in01(e.Optim.Momentum), "0 to less than 1"},
		{"optim.solver_rate", e.Optim.SolverRate, e.Optim.SolverRate >= 0 && e.Optim.SolverRate <= 1000, "0 to 1000"},
		{"schedule.lr", e.Schedule.LR, e.Schedule.LR > 0 && e.Schedule.LR <= 100, "more than 0, at most 100"},
		{"schedule.min_lr", e.Schedule.MinLR, e.Schedule.MinLR >= 0 && e.Schedule.MinLR <= e.Schedule.LR, "0 to schedule.lr"},
		{"schedule.gamma", e.Schedule.Gamma, e.Schedule.Gamma > 0 && e.Schedule.Gamma <= 1, "more than 0, at most 1"},
		{"checkpoint.minutes", e.Checkpoint.Minutes, e.Checkpoint.Minutes >= 0, "0 (off) or more"},
	} {
		if !k.ok && e.Uses(k.key) {
			return fmt.Errorf("%s: found %v, expected %s", k.key, k.v, k.legal)
		}
	}
	for _, k := range []struct {
		key, v string
		legal  []string
	}{
		{"train.loss", e.Train.Loss, losses[e.Kind()]},
		{"optim.type", e.Optim.Type, optimisers},
		{"schedule.type", e.Schedule.Type, schedules},
	} {
		if err := oneOf(k.key, k.v, k.legal); err != nil {
			return err
		}
	}
	for i, m := range e.Schedule.Milestones {
		if m < 1 || i > 0 && m <= e.Schedule.Milestones[i-1] {
			return fmt.Errorf("schedule.milestones: found %v, expected steps in rising order", e.Schedule.Milestones)
		}
	}
	for _, p := range e.Eval.Protocols {
		if err := oneOf("eval.protocols", p, metric.ProtocolNames()); err != nil {
			return err
		}
	}
	return e.crossCheck()
}

// crossCheck holds sections against each other. What asks for the data itself,
// such as its classes, is checked where that is opened.
func (e Experiment) crossCheck() error {
	switch e.Kind() {
	case model.Language:
		if e.Log.SamplesEvery != 0 {
			return fmt.Errorf("log.samples_every: found %d, expected 0: of a language model there is nothing to draw", e.Log.SamplesEvery)
		}
		return nil
	case model.Classify:
		return nil
	}
	if err := e.Data.Degradation.CheckChannels(e.Model.Channels); err != nil {
		return err
	}
	align := 1
	if e.Model.Align() == 2 || e.Data.Degradation.Task == data.Demosaic {
		align = 2
	}
	if e.Data.Degradation.Task == data.Scale {
		s := e.Data.Degradation.Scale
		if s%align != 0 {
			s *= align
		}
		align = s
	}
	if e.Data.Patch%align != 0 {
		return fmt.Errorf("data.patch: found %d, expected a multiple of %d for this model and task", e.Data.Patch, align)
	}
	return nil
}

func in01(x float64) bool { return x >= 0 && x < 1 }

func intRange(lo, hi int) string {
	if hi >= 1<<20 {
		return fmt.Sprintf("%d or more", lo)
	}
	return fmt.Sprintf("%d to %d", lo, hi)
}

// oneOf checks that found is one of the legal words.
func oneOf(key, found string, legal []string) error {
	if slices.Contains(legal, found) {
		return nil
	}
	return fmt.Errorf("%s: found %q%s, expected %s", key, found, didYouMean(found, legal), strings.Join(legal, " | "))
}
