package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/model"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// network is one of the networks compared.
type network struct {
	name, typ, preset string
	lr                float64 // the search centres on it
}

// The learning rates are those the architectures are usually trained with: what
// served uGLR best in earlier trainings, and what Swin-like restorers take, scaled
// to small networks and batches. The search tries the same factors on each.
var networks = []network{
	{"uglr", "uglr", "default", 2e-3},
	{"ugtv", "ugtv", "default", 2e-3},
	{"ugpl", "ugpl", "default", 2e-3},
	{"swin", "swin", "default", 1e-3},
	{"swin-base", "swin", "base", 1e-3},
	{"uglr-paper", "uglr", "paper", 1e-3},
	{"ugtv-paper", "ugtv", "paper", 5e-4}, // 1e-3 diverges
}

func modelNames() []string {
	var names []string
	for _, n := range networks {
		names = append(names, n.name)
	}
	return names
}

// comparison is one of the tasks that networks are compared at.
type comparison struct {
	name, title string
	sets        []string // how samples are taken, as settings of an experiment
	seen        string   // the same in words
}

var comparisons = []comparison{
	{"demosaic", "Demosaicking", []string{"model.channels=3", "data.degradation.task=demosaic", "data.degradation.pattern=rggb"}, "RGGB mosaics"},
	{"x2", "Scaling x2", []string{"model.channels=1", "data.degradation.task=scale", "data.degradation.scale=2"}, "luma, every second row and column"},
	{"fill", "Filling", []string{"model.channels=3", "data.degradation.task=fill", "data.degradation.missing_range=[0.5, 0.9]", "data.degradation.shape=random"}, "50 to 90 % of the pixels missing at random"},
}

func taskNames() []string {
	var names []string
	for _, c := range comparisons {
		names = append(names, c.name)
	}
	return names
}

// taskOf returns what the program calls the task.
func taskOf(name string) string {
	if name == "x2" {
		return "scale"
	}
	return name
}

// alike is what all experiments share. The numbers of steps are overruled by the
// stages that train; batch, patches and loss are those of the embedded networks.
var alike = []string{
	"seed=1", "data.train=data/cid22", "data.holdout.every=16", "data.holdout.offset=0", "data.patch=64", "data.augment=true", "data.cache_mb=640",
	"train.steps=3000", "train.batch=8", "train.micro_batch=2", "train.workers=1", "train.loss=l1", "train.ema=0.995", "train.clip=1",
	"optim.type=adamw", "optim.weight_decay=0.0001",
	"schedule.type=cosine", "schedule.min_lr=1e-6", "schedule.warmup=150", "eval.every=300", "eval.images=0",
	"log.every=50", "log.samples_every=0", "checkpoint.every=0", "checkpoint.keep=1", "checkpoint.minutes=2",
}

// configName names the experiment of a task and a network, and its file.
func configName(task, model string) string { return task + "-" + model }

func (s *settings) configPath(task, model string) string {
	return filepath.Join(s.configs, configName(task, model)+".yaml")
}

// experiment returns the commented text of an experiment.
func experiment(c comparison, n network, preset string) ([]byte, error) {
	if preset == "" {
		preset = n.preset
	}
	name := configName(c.name, n.name)
	sets := slices.Concat([]string{"name=" + name, "model.type=" + n.typ, "model.preset=" + preset, fmt.Sprintf("schedule.lr=%g", n.lr)}, c.sets, alike)
	e, err := config.Parse(name, nil, sets)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s by %s (preset %s), one of the experiments of docs/results.md: all alike but for the\n", c.title, n.typ, preset)
	fmt.Fprintf(&b, "# network and its learning rate. \"go run ./scripts/compare configs\" writes this file;\n")
	fmt.Fprintf(&b, "# its stages search and train set the rate, and as many steps as the budget allows.\n")
	fmt.Fprintf(&b, "# Training pictures: scripts/data.sh cid22 (CC BY-SA 4.0, Cloudinary CID22).\n")
	fmt.Fprintf(&b, "# unrollnet train configs/compare/%s.yaml\n\n", name)
	if err := config.Print(&b, e); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// writeConfigs writes the experiments asked for whose architecture there is.
func (s *settings) writeConfigs(context.Context) error {
	if err := os.MkdirAll(s.configs, 0o755); err != nil {
		return err
	}
	for _, c := range comparisons {
		for _, n := range networks {
			if !slices.Contains(s.tasks, c.name) || !slices.Contains(s.models, n.name) {
				continue
			}
			if !slices.Contains(model.Types, n.typ) {
				s.Say("no %s: no architecture %s here, only %s", configName(c.name, n.name), n.typ, strings.Join(model.Types, ", "))
				continue
			}
			text, err := experiment(c, n, s.preset)
			if err != nil {
				return err
			}
			path := s.configPath(c.name, n.name)
			if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
				continue
			}
			if err := lab.WriteFile(path, text); err != nil {
				return err
			}
			s.Say("wrote %s", path)
		}
	}
	return nil
}

// job is a training to be calibrated, searched or done.
type job struct {
	comparison
	network
	config string // path of the experiment
}

// jobs lists tasks times networks asked for, in that order.
func (s *settings) all() ([]job, error) {
	var jobs []job
	for _, c := range comparisons {
		for _, n := range networks {
			if !slices.Contains(s.tasks, c.name) || !slices.Contains(s.models, n.name) {
				continue
			}
			path := s.configPath(c.name, n.name)
			if _, err := os.Stat(path); err != nil {
				return nil, fmt.Errorf("%w; the stage configs writes it", err)
			}
			jobs = append(jobs, job{c, n, path})
		}
	}
	return jobs, nil
}

func (j job) id() string { return configName(j.comparison.name, j.network.name) }
