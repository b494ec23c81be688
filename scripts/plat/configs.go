package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// form is a form of attention: what it is called and how it differs from softmax
// attention with literal diagonals and eps a tenth of the rms distance.
type form struct {
	name, title string
	sets        []string
	only        []string // tasks it is trained for; nil for all
}

// forms in the order of the report. The first is what the others are held against.
var forms = []form{
	{"softmax", "softmax (p = 2)", []string{"model.plat.p=[2]"}, nil},
	{"p1.5", "p = 1.5", []string{"model.plat.p=[1.5]"}, nil},
	{"p2.5", "p = 2.5", []string{"model.plat.p=[2.5]"}, nil},
	{"mixed", "p = 1.5 and 2.5, half of the heads each", []string{"model.plat.p=[1.5, 1.5, 2.5, 2.5]"}, nil},
	{"neutreno", "softmax, held to the first layer's values", []string{"model.plat.p=[2]", "model.plat.fidelity=neutreno", "model.plat.mu=0.4"}, []string{"lm", "mnist-rows"}},
	{"p1.5-neutral", "p = 1.5, neutral diagonal", []string{"model.plat.p=[1.5]", "model.plat.diagonal=neutral"}, []string{"lm"}},
	{"p3", "p = 3", []string{"model.plat.p=[3]"}, []string{"lm"}},
	{"learned", "p learned for each head, from 2", []string{"model.plat.p=[2]", "model.plat.p_learned=true"}, []string{"lm"}},
	{"p1.5-absolute", "p = 1.5, eps 0.1 absolute", []string{"model.plat.p=[1.5]", "model.plat.eps=0.1", "model.plat.eps_relative=false"}, []string{"lm"}},
	{"p2.5-absolute", "p = 2.5, eps 0.1 absolute", []string{"model.plat.p=[2.5]", "model.plat.eps=0.1", "model.plat.eps_relative=false"}, []string{"lm"}},
}

func formNames() []string {
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	return names
}

func formOf(name string) form {
	return forms[slices.IndexFunc(forms, func(f form) bool { return f.name == name })]
}

// task is what is learned, and from what.
type task struct {
	name, title string
	data        string // the flag that says where its data is
	path        string // what the committed experiment says instead
	figure      string // what it is measured by: top1 | nats
	part        string // of the data, measured at the end
	sets        []string
}

// classifier returns whether the task is one of classes.
func (t task) classifier() bool { return t.figure == "top1" }

// tasks in the order of the report.
var tasks = []task{
	{"lm", "Characters of Go's standard library", "text", "data/gotext/gotext.txt", "nats", "val", []string{
		"model.type=plat-lm", "model.preset=default", "data.holdout.every=10", "data.text.unit=characters", "data.text.block=4096",
		"train.steps=1500", "train.batch=8", "train.micro_batch=8", "train.ema=0", "schedule.type=constant", "schedule.lr=0.002", "schedule.warmup=0",
		"optim.weight_decay=0.01", "eval.every=300",
	}},
	{"mnist-rows", "MNIST, rows", "mnist", "data/mnist", "top1", "test", []string{
		"model.type=plat-vit", "model.plat.image=[28, 28]", "model.plat.patch=[1, 28]", "model.channels=1", "model.plat.classes=10",
		"model.blocks=4", "model.heads=4", "model.plat.width=64", "model.plat.mlp=2",
		"data.holdout.every=12", "data.labelled.shift=0", "data.labelled.flip=false",
		"train.steps=1100", "train.batch=64", "train.micro_batch=32", "train.ema=0.99", "schedule.lr=0.002", "schedule.warmup=100",
		"optim.weight_decay=0.05", "eval.every=220",
	}},
	{"mnist-patches", "MNIST, patches of 4 x 4", "mnist", "data/mnist", "top1", "test", []string{
		"model.type=plat-vit", "model.plat.image=[28, 28]", "model.plat.patch=[4, 4]", "model.channels=1", "model.plat.classes=10",
		"model.blocks=4", "model.heads=4", "model.plat.width=64", "model.plat.mlp=2",
		"data.holdout.every=12", "data.labelled.shift=0", "data.labelled.flip=false",
		"train.steps=1100", "train.batch=64", "train.micro_batch=32", "train.ema=0.99", "schedule.lr=0.002", "schedule.warmup=100",
		"optim.weight_decay=0.05", "eval.every=220",
	}},
	{"cifar10", "CIFAR-10, 10,000 training images", "cifar10", "data/cifar10", "top1", "test", []string{
		"model.type=plat-vit", "model.plat.image=[32, 32]", "model.plat.patch=[4, 4]", "model.channels=3", "model.plat.classes=10",
		"model.blocks=4", "model.heads=4", "model.plat.width=64", "model.plat.mlp=2",
		"data.holdout.every=10", "data.labelled.shift=4", "data.labelled.flip=true", "train.label_smoothing=0.1",
		"train.steps=3400", "train.batch=64", "train.micro_batch=32", "train.ema=0.995", "schedule.lr=0.002", "schedule.warmup=170",
		"optim.weight_decay=0.05", "eval.every=340",
	}},
}

func taskNames() []string {
	var names []string
	for _, t := range tasks {
		names = append(names, t.name)
	}
	return names
}

func taskOf(name string) task {
	return tasks[slices.IndexFunc(tasks, func(t task) bool { return t.name == name })]
}

// alike is what all experiments share.
var alike = []string{
	"seed=1", "data.holdout.offset=0", "train.workers=1", "train.loss=cross_entropy", "train.clip=1",
	"model.plat.variant=normalized", "model.plat.diagonal=literal", "model.plat.eps=0.1", "model.plat.eps_relative=true",
	"optim.type=adamw", "eval.images=0", "log.every=50", "log.samples_every=0", "checkpoint.every=0", "checkpoint.keep=1", "checkpoint.minutes=2",
}

// job is an experiment.
type job struct {
	task
	form
	path string
}

func (j job) id() string { return j.task.name + "-" + j.form.name }

// jobs lists the experiments asked for, form by form within a task.
func (s *settings) jobs() []job {
	var out []job
	for _, t := range tasks {
		for _, f := range forms {
			if slices.Contains(s.tasks, t.name) && slices.Contains(s.forms, f.name) && (f.only == nil || slices.Contains(f.only, t.name)) {
				j := job{task: t, form: f}
				j.path = filepath.Join(s.configs, j.id()+".yaml")
				out = append(out, j)
			}
		}
	}
	return out
}

// experiment returns the commented text of an experiment.
func (j job) experiment() ([]byte, error) {
	sets := slices.Concat(j.task.sets, alike, j.form.sets, []string{"name=" + j.id(), "data.train=" + j.task.path})
	e, err := config.Parse(j.id(), nil, sets)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: attention %s.\n", j.task.title, j.form.title)
	fmt.Fprintf(&b, "# One of the experiments of docs/plat.md, which differ in attention alone;\n")
	fmt.Fprintf(&b, "# \"go run ./scripts/plat configs\" writes this file. Data: scripts/data.sh %s.\n", filepath.Base(j.task.path))
	fmt.Fprintf(&b, "# unrollnet train configs/plat/%s.yaml\n\n", j.id())
	if err := config.Print(&b, e); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// writeConfigs writes the experiments asked for.
func (s *settings) writeConfigs(context.Context) error {
	for _, j := range s.jobs() {
		text, err := j.experiment()
		if err != nil {
			return err
		}
		if old, err := os.ReadFile(j.path); err == nil && bytes.Equal(old, text) {
			continue
		}
		if err := lab.WriteFile(j.path, text); err != nil {
			return err
		}
		s.Say("wrote %s", j.path)
	}
	return nil
}
