package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/model/weights"
	"github.com/unrollnet/unrollnet/pkg/task"
	"github.com/unrollnet/unrollnet/pkg/train"
)

// kindTasks are the values of eval's --task beyond those of restoration.
var kindTasks = []string{data.Classify, data.Language}

// kindFlags are the flags of eval that a kind of network knows, beside those of
// the program.
var kindFlags = map[model.Kind][]string{
	model.Classify: {"task", "model", "weights", "data", "part", "noise", "occlude", "seed", "limit", "jobs", "json", "set", "diagnose"},
	model.Language: {"task", "model", "weights", "data", "part", "limit", "jobs", "json", "set", "diagnose"},
}

// kindEvaluation is what eval measures of classifiers and language models.
type kindEvaluation struct {
	kind   model.Kind
	models []string
	path   string // of the experiment, or ""
	sets   []string
	data   string
	part   string
	opt    task.ClassifyOptions
	asJSON bool

	diagnosis diagnosis
}

// evalKind tells what kind of networks a command line is about: that of the
// experiment, of --task, or of the first model.
func evalKind(args, sets []string, taskName string, models []string) (model.Kind, error) {
	switch {
	case len(args) == 1:
		cfg, err := config.Load(args[0], sets)
		if err != nil {
			return "", err
		}
		if own := slices.Contains(kindTasks, taskName); taskName != "" && own != (cfg.Kind() != model.Restore) || own && taskName != string(cfg.Kind()) {
			return "", usagef("--task: found %s beside the experiment %s, whose network is of kind %s", taskName, args[0], cfg.Kind())
		}
		return cfg.Kind(), nil
	case slices.Contains(kindTasks, taskName):
		return model.Kind(taskName), nil
	case taskName == "" && len(models) > 0:
		// A file that cannot be read is the business of what opens it.
		if f, err := weightFile(models[0]); err == nil {
			var cfg model.Config
			if json.Unmarshal([]byte(f.Metadata[model.MetaModel]), &cfg) == nil && cfg.Kind() != "" {
				return cfg.Kind(), nil
			}
		}
	}
	return model.Restore, nil
}

// checkKindFlags refuses flags that networks of a kind do not know.
func checkKindFlags(cmd *cobra.Command, kind model.Kind) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err != nil || cmd.InheritedFlags().Lookup(f.Name) != nil {
			return
		}
		known := kindFlags[kind]
		switch {
		case kind == model.Restore && (f.Name == "part" || f.Name == "occlude" || f.Name == "diagnose"):
			err = usagef("--%s: found for networks that restore images, expected classifiers%s", f.Name, map[string]string{"part": " or language models", "diagnose": " or language models"}[f.Name])
		case kind != model.Restore && !slices.Contains(known, f.Name):
			err = usagef("--%s: found for --task %s, which has no such flag, expected of %s", f.Name, kind, strings.Join(known, ", "))
		}
	})
	return err
}

// weightFile reads the weights called name: those embedded, or a file.
func weightFile(name string) (*checkpoint.File, error) {
	if b, err := weights.Open(name); err == nil {
		return checkpoint.ReadBytes(b, name)
	}
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		if slices.Contains(infer.Names(""), name) {
			return nil, usagef("model %q: found a classical method, which restores images, expected a trained network", name)
		}
		return nil, &infer.NotFoundError{Name: name, Known: weights.Names()}
	}
	return checkpoint.ReadFile(name)
}

// openKind opens a network of a kind and what its outputs mean.
func openKind(name string, kind model.Kind) (model.Model, data.Trained, error) {
	var trained data.Trained
	f, err := weightFile(name)
	var usage *usageError
	if errors.As(err, &usage) {
		return nil, trained, err
	}
	if err != nil {
		return nil, trained, openError(name, err)
	}
	m, err := model.LoadModel(f)
	if err != nil {
		return nil, trained, openError(name, err)
	}
	if have := m.Config().Kind(); have != kind {
		return nil, trained, usagef("model %q: found %s, of kind %s, expected one of kind %s", name, m.Config().Type, have, kind)
	}
	if err := json.Unmarshal([]byte(f.Metadata[model.MetaTask]), &trained); err != nil {
		return nil, trained, &damaged{fmt.Errorf("%s: metadata %q: %w", name, model.MetaTask, err)}
	}
	outputs := 0
	switch n := m.(type) {
	case model.Classifier:
		outputs = n.Classes()
	case model.LanguageModel:
		outputs = n.Symbols()
	}
	if err := trained.Validate(outputs); err != nil {
		return nil, trained, &damaged{fmt.Errorf("%s: metadata %q: %w", name, model.MetaTask, err)}
	}
	return m, trained, nil
}

// opened is a network with its name.
type opened struct {
	name    string
	net     model.Model
	trained data.Trained
}

// run measures every model and prints.
func (e *kindEvaluation) run(ctx context.Context, a *app) error {
	switch {
	case e.path == "" && e.data == "":
		return usagef("eval: found no --data, expected --data PATH or an experiment file")
	case e.opt.Noise < 0 || e.opt.Noise > 255 || math.IsNaN(e.opt.Noise):
		return usagef("--noise: found %v, expected 0 to 255", e.opt.Noise)
	case !(e.opt.Occlude >= 0 && e.opt.Occlude < 1):
		return usagef("--occlude: found %v, expected a share of the area from 0 to less than 1", e.opt.Occlude)
	}
	if e.part != "" {
		if err := word("part", e.part, evalParts); err != nil {
			return err
		}
		if e.part == data.PartVal && e.path == "" {
			return usagef("--part: found val for --data %s, expected another part, or an experiment, which says what is held out", e.data)
		}
	}
	var cfg config.Experiment
	if e.path != "" {
		var err error
		if cfg, err = config.Load(e.path, e.sets); err != nil {
			return err
		}
	} else {
		cfg = config.Default()
		cfg.Data.Holdout = config.Holdout{}
	}
	// Open all first: a wrong name should not show after an hour.
	var nets []opened
	for _, name := range e.models {
		m, trained, err := openKind(name, e.kind)
		if err != nil {
			return err
		}
		nets = append(nets, opened{name, m, trained})
	}
	if e.kind == model.Language {
		return e.language(ctx, a, cfg, nets)
	}
	return e.classify(ctx, a, cfg, nets)
}

// evalParts are the values of --part.
var evalParts = []string{"train", "val", "test", "all"}

// place returns the path that is measured, the key or flag that names it, and the
// part of it. By default that is what validation in training is measured on, and
// with --data the test part.
func (e *kindEvaluation) place(cfg config.Experiment) (key, path, part string) {
	key, path, part = "--data", e.data, e.part
	if path == "" {
		key, path = "data.train", cfg.Data.Train
		if cfg.Data.Val != "" && (part == "" || part == "val") {
			return "data.val", cfg.Data.Val, data.PartAll
		}
		if part == "" {
			part = data.PartVal
		}
		if cfg.Data.Val != "" && part == data.PartTrain {
			part = data.PartAll
		}
	}
	if part == "all" {
		part = data.PartAll
	}
	return key, path, part
}

// kindError gives errors of keys and flags, and those of files, their exit codes.
func (e *kindEvaluation) kindError(err error) error {
	var usage *usageError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &usage):
		return err
	case strings.HasPrefix(err.Error(), "--"):
		return &usageError{err.Error()}
	}
	err = configError(e.path, err)
	var conf *config.Error
	if errors.As(err, &conf) || errors.Is(err, context.Canceled) {
		return err
	}
	return &rejected{err}
}

func (e *kindEvaluation) classify(ctx context.Context, a *app, cfg config.Experiment, nets []opened) error {
	key, path, part := e.place(cfg)
	if path == "" {
		return &config.Error{Where: e.path, Key: "data.train", Msg: "found nothing, expected a folder of labelled images, or --data DIR"}
	}
	if e.part == "" && e.data != "" {
		part = data.PartTest
	}
	var results []task.Classification
	var progress *progress
	for _, o := range nets {
		net, ok := o.net.(model.Classifier)
		if !ok {
			return fmt.Errorf("%s: found type %s, which classifies nothing", o.name, o.net.Config().Type)
		}
		// Sizes are the network's; what the data has must agree with them.
		use := cfg
		use.Model = net.Config()
		images, err := train.OpenLabelled(key, path, part, use, net)
		if err != nil {
			return e.kindError(networkError(o.name, err))
		}
		if err := train.SameClasses(key, path, images.Classes(), o.trained.Classes); err != nil {
			return e.kindError(err)
		}
		n := images.Len()
		if e.opt.Limit > 0 {
			n = min(n, e.opt.Limit)
		}
		if progress == nil {
			progress = newProgress(a, "measuring", n*len(nets), e.asJSON)
		}
		opt := e.opt
		opt.Done = func(n int) {
			for range n {
				progress.add()
			}
		}
		start := a.now()
		r, err := task.EvaluateClassifier(ctx, net, images, opt)
		if err != nil {
			progress.end()
			return e.kindError(fmt.Errorf("%s: %w", o.name, err))
		}
		r.Model, r.Data, r.Part, r.Seconds = o.name, path, partName(part), a.now().Sub(start).Seconds()
		results = append(results, r)
		if err := e.diagnosis.images(ctx, o.name, net, images, e.opt.Limit, e.opt.Workers); err != nil {
			progress.end()
			return e.kindError(err)
		}
		if e.asJSON {
			if err := e.diagnosis.encode(a.out, r); err != nil {
				return err
			}
		}
	}
	progress.end()
	if e.asJSON {
		return nil
	}
	if err := classifyTable(a.out, results); err != nil {
		return err
	}
	return e.diagnosis.print(a.out)
}

// networkError says of an error about a key of the model section, of an
// evaluation by flags alone, that the key is the network's.
func networkError(name string, err error) error {
	if key, msg, ok := strings.Cut(err.Error(), ": "); ok && strings.HasPrefix(key, "model.") {
		return usagef("model %q: %s: %s", name, key, msg)
	}
	return err
}

// partName is the word for a part of the data.
func partName(part string) string {
	if part == data.PartAll {
		return "all"
	}
	return part
}

// maxConfusion is the most classes whose confusion matrix is printed.
const maxConfusion = 40

// classifyTable prints one row per model and, below, who is taken for whom.
func classifyTable(w io.Writer, results []task.Classification) error {
	first := results[0]
	fmt.Fprintf(w, "classifying %s (%s): %d images of %d classes", first.Data, first.Part, first.Images, len(first.Classes))
	if first.Noise > 0 {
		fmt.Fprintf(w, ", with noise of sigma %g", first.Noise)
	}
	if first.Occlude > 0 {
		fmt.Fprintf(w, ", %g %% of each occluded", math.Round(1000*first.Occlude)/10)
	}
	fmt.Fprint(w, "\n\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "MODEL\tPARAMETERS\tTOP-1 %\tTOP-5 %\tLOSS")
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t%d\t%.2f\t%.2f\t%.4f\n", r.Model, r.Params, 100*float64(r.Top1), 100*float64(r.Top5), float64(r.Loss))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if len(r.Classes) > maxConfusion {
			fmt.Fprintf(w, "\n%s: the %d x %d confusion matrix is in --json\n", r.Model, len(r.Classes), len(r.Classes))
			continue
		}
		fmt.Fprintf(w, "\n%s: images of the class of the row taken for that of the column\n", r.Model)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprint(tw, "\t")
		for _, c := range r.Classes {
			fmt.Fprintf(tw, "%s\t", c)
		}
		fmt.Fprintln(tw)
		for i, row := range r.Confusion {
			fmt.Fprintf(tw, "%s\t", r.Classes[i])
			for _, n := range row {
				fmt.Fprintf(tw, "%d\t", n)
			}
			fmt.Fprintln(tw)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (e *kindEvaluation) language(ctx context.Context, a *app, cfg config.Experiment, nets []opened) error {
	key, path, part := e.place(cfg)
	if path == "" {
		return &config.Error{Where: e.path, Key: "data.train", Msg: "found nothing, expected a text file, or --data FILE"}
	}
	if part == data.PartTest {
		return usagef("--part: found test, expected train, val or all: a text has no test part")
	}
	if e.part == "" && e.data != "" {
		part = data.PartAll
	}
	holdout := cfg.Data.Holdout
	if key == "data.val" {
		holdout = config.Holdout{}
	}
	if part == data.PartTrain && e.path == "" {
		return usagef("--part: found train for --data %s, expected all, or an experiment, which says how text is split", path)
	}
	var results []task.Prediction
	for _, o := range nets {
		net, ok := o.net.(model.LanguageModel)
		if !ok {
			return fmt.Errorf("%s: found type %s, which predicts no text", o.name, o.net.Config().Type)
		}
		corpus, err := data.OpenTextAs(path, cfg.Data.Text, holdout.Every, holdout.Offset, *o.trained.Vocabulary)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w", key, err)
		}
		if err != nil {
			return e.kindError(err)
		}
		text, err := corpus.Part(part)
		if err != nil {
			return e.kindError(err)
		}
		if text.Windows(net.Context()) == 0 {
			return e.kindError(fmt.Errorf("%s: found no stretch of %d %s, expected at least one, the context of %s and one more", path, net.Context()+1, corpus.Vocabulary().Unit, o.name))
		}
		start := a.now()
		r, err := task.EvaluateLanguage(ctx, net, text, task.LanguageOptions{Limit: e.opt.Limit, Workers: e.opt.Workers})
		if err != nil {
			return e.kindError(fmt.Errorf("%s: %w", o.name, err))
		}
		r.Model, r.Data, r.Part, r.Unit, r.Seconds = o.name, path, partName(part), corpus.Vocabulary().Unit, a.now().Sub(start).Seconds()
		results = append(results, r)
		if err := e.diagnosis.text(ctx, o.name, net, text, e.opt.Limit, e.opt.Workers); err != nil {
			return e.kindError(err)
		}
		if e.asJSON {
			if err := e.diagnosis.encode(a.out, r); err != nil {
				return err
			}
		}
	}
	if e.asJSON {
		return nil
	}
	first := results[0]
	fmt.Fprintf(a.out, "predicting %s (%s): %d %s\n\n", first.Data, first.Part, first.Symbols, first.Unit)
	tw := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "MODEL\tPARAMETERS\tCONTEXT\tNATS\tBITS/%s\tPERPLEXITY\n", strings.ToUpper(strings.TrimSuffix(first.Unit, "s")))
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%.4f\t%.4f\t%.3f\n", r.Model, r.Params, r.Context, float64(r.Nats), float64(r.Bits), float64(r.Perplexity))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return e.diagnosis.print(a.out)
}
