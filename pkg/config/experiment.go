// Package config describes an experiment: the typed form of the YAML files in
// configs/, its defaults, how a file, the environment and --set are merged into
// it, and what values are legal. Files are read strictly: an unknown or
// repeated key, a wrong type or a value out of range is an error that names the
// file, the line, the key, what was found and what was expected.
package config

import (
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/metric"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// Experiment is everything that decides the result of a training run, apart
// from the pixels of its images.
type Experiment struct {
	Name       string       `yaml:"name" json:"name"`
	Seed       uint64       `yaml:"seed" json:"seed"`
	Model      model.Config `yaml:"model" json:"model"`
	Data       Data         `yaml:"data" json:"data"`
	Train      Train        `yaml:"train" json:"train"`
	Optim      Optim        `yaml:"optim" json:"optim"`
	Schedule   Schedule     `yaml:"schedule" json:"schedule"`
	Eval       Eval         `yaml:"eval" json:"eval"`
	Log        Log          `yaml:"log" json:"log"`
	Checkpoint Checkpoint   `yaml:"checkpoint" json:"checkpoint"`
}

// Data says where examples come from. Which keys there are depends on the kind
// of the network.
type Data struct {
	Train   string  `yaml:"train" json:"train"`     // folder of pictures, or "synthetic"; of labelled images; text
	Val     string  `yaml:"val" json:"val"`         // the same for evaluation; "" splits it off train
	Holdout Holdout `yaml:"holdout" json:"holdout"` // the split, when val is ""

	// Pictures to restore: how they are degraded and cut.
	Degradation data.Degradation `yaml:"degradation" json:"degradation,omitzero"` // what is taken away from a picture
	Patch       int              `yaml:"patch" json:"patch,omitzero"`             // side of training crops, pixels
	Augment     bool             `yaml:"augment" json:"augment"`                  // flips and quarter turns
	CacheMB     int              `yaml:"cache_mb" json:"cache_mb"`                // decoded pictures kept in memory, MiB

	Labelled data.Labelled `yaml:"labelled" json:"labelled,omitzero"` // images to classify
	Text     data.Text     `yaml:"text" json:"text,omitzero"`         // text to predict
}

// Holdout splits validation pictures off the training folder: of the sorted
// files, those with index = offset modulo every.
type Holdout struct {
	Every  int `yaml:"every" json:"every"`
	Offset int `yaml:"offset" json:"offset"`
}

// Train is the loop.
type Train struct {
	Steps          int     `yaml:"steps" json:"steps"`
	Batch          int     `yaml:"batch" json:"batch"`
	MicroBatch     int     `yaml:"micro_batch" json:"micro_batch"`
	Workers        int     `yaml:"workers" json:"workers"`
	Loss           string  `yaml:"loss" json:"loss"`
	CharbonnierEps float64 `yaml:"charbonnier_eps" json:"charbonnier_eps"`
	LabelSmoothing float64 `yaml:"label_smoothing" json:"label_smoothing,omitzero"`
	EMA            float64 `yaml:"ema" json:"ema"`
	Clip           float64 `yaml:"clip" json:"clip"`
	MaxBadSteps    int     `yaml:"max_bad_steps" json:"max_bad_steps"`
}

// Optim is the optimiser.
type Optim struct {
	Type        string  `yaml:"type" json:"type"`
	Beta1       float64 `yaml:"beta1" json:"beta1"`
	Beta2       float64 `yaml:"beta2" json:"beta2"`
	Eps         float64 `yaml:"eps" json:"eps"`
	WeightDecay float64 `yaml:"weight_decay" json:"weight_decay"`
	Momentum    float64 `yaml:"momentum" json:"momentum"`
	SolverRate  float64 `yaml:"solver_rate" json:"solver_rate"`
}

// Schedule is the learning rate over the steps.
type Schedule struct {
	Type       string  `yaml:"type" json:"type"`
	LR         float64 `yaml:"lr" json:"lr"`
	MinLR      float64 `yaml:"min_lr" json:"min_lr"`
	Warmup     int     `yaml:"warmup" json:"warmup"`
	Milestones []int   `yaml:"milestones" json:"milestones"`
	Gamma      float64 `yaml:"gamma" json:"gamma"`
}

// Eval is the evaluation during training.
type Eval struct {
	Every     int      `yaml:"every" json:"every"`
	Images    int      `yaml:"images" json:"images"`
	Protocols []string `yaml:"protocols" json:"protocols"`
}

// Log is what training writes down.
type Log struct {
	Every        int `yaml:"every" json:"every"`
	SamplesEvery int `yaml:"samples_every" json:"samples_every"`
}

// Checkpoint is when training saves its state.
type Checkpoint struct {
	Every   int     `yaml:"every" json:"every"`
	Keep    int     `yaml:"keep" json:"keep"`
	Minutes float64 `yaml:"minutes" json:"minutes"`
}

// Generated is the value of data.train and data.val that stands for pictures
// drawn from the seed, with nothing to download.
const Generated = data.SyntheticName

// synonyms are keys accepted in place of another: the learning rate is where
// its schedule is, and people look for it at the optimiser.
var synonyms = map[string]string{"optim.lr": "schedule.lr"}

// Default returns the experiment that an empty file stands for: one that
// restores images. Its model is the default preset, not yet resolved. (A file
// with a network of another kind begins with defaults of its own.)
func Default() Experiment {
	return Experiment{
		Name: "unnamed",
		Seed: 1,
		Data: Data{
			Holdout:     Holdout{Every: 16},
			Degradation: data.Degradation{Task: data.Demosaic},
			Patch:       64,
			Augment:     true,
			CacheMB:     512,
		},
		Train: Train{
			Steps: 20000, Batch: 16, MicroBatch: 4,
			Loss: "l1", CharbonnierEps: 1e-3,
			EMA: 0.999, Clip: 1, MaxBadSteps: 10,
		},
		Optim:      Optim{Type: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 1e-4, Momentum: 0.9, SolverRate: 5},
		Schedule:   Schedule{Type: "cosine", LR: 1e-3, MinLR: 1e-6, Warmup: 200, Gamma: 0.5},
		Eval:       Eval{Every: 1000},
		Log:        Log{Every: 50},
		Checkpoint: Checkpoint{Every: 1000, Keep: 3, Minutes: 15},
	}
}

// Protocols returns the protocols a task is measured by unless told otherwise:
// rgb and cpsnr-b10, or for scaling y, the luma.
func Protocols(task string) []string {
	if task == data.Scale {
		return []string{string(metric.Y)}
	}
	return []string{string(metric.RGB), string(metric.CPSNR)}
}
