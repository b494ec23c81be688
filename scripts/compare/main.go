// Command compare trains the networks of this project under one budget of
// processor time, measures them alike and writes docs/results.md.
//
//	go run ./scripts/compare [flags] STAGE...
//
// The stages, in their order:
//
//	configs    write configs/compare: one experiment per task and network
//	calibrate  processor time of a training step of each, and the memory it holds
//	search     short trainings to choose the learning rate, as many for each network
//	train      one training per task, network and seed, of budget / cost steps
//	measure    all tables: test sets, noise, patterns, densities and scales unseen
//	report     docs/results.json, docs/results.md and its charts from what is there
//	all        calibrate, search, train, measure, report
//
// Everything finished is a file in the work folder and is not done again, so the
// command may be stopped and repeated at any time: trainings continue to the same
// bits, measurements are kept for as long as the weights stay the same. To do
// something again remove its file: WORK/calibrate/ID.json, WORK/train/ID.json with
// WORK/runs/train/ID*, WORK/measure/CONDITION. Every training and every measurement is
// a process of its own with one thread, of the program in WORK/bin, built once.
//
// What is fixed for all networks (pictures, patches, batch, loss, augmentation,
// averaging, form of the schedule) is in configs.go; what differs is the `model`
// section and the learning rate that the search centres on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// settings is what the flags say.
type settings struct {
	lab.Lab
	configs, preset    string
	trainDir, setsDir  string
	tasks, models      []string
	seeds              []uint64
	budget             map[string]float64 // CPU minutes by task
	searchShare        float64            // of the budget, for each candidate
	searchTasks        []string
	factors            []float64 // on the learning rate of the experiment
	calibrate          float64   // CPU seconds for each calibration
	sets               []string
	given              []given
	ensemble           int     // orientations that networks given are measured in as well
	long               []given // curves of trainings outside the budget: name and run directory
	tables             []string
	limit, robustLimit int
	out                string
}

// given is a network trained elsewhere that is measured too.
type given struct{ label, ref string }

var stages = []string{"configs", "calibrate", "search", "train", "measure", "report", "all"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "step" { // a process of calibrate
		if err := stepMain(ctx, os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "compare:", err)
			os.Exit(1)
		}
		return
	}
	s := &settings{Lab: lab.Lab{Stdout: os.Stdout, Stderr: os.Stderr}}
	args, err := s.parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
	if err := s.run(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// parse reads flags and stages.
func (s *settings) parse(args []string) ([]string, error) {
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(s.Stderr)
	f.Usage = func() {
		fmt.Fprintf(s.Stderr, "usage: go run ./scripts/compare [flags] STAGE...\nstages: %s\n", strings.Join(stages, " "))
		f.PrintDefaults()
	}
	var given, long list
	f.StringVar(&s.Work, "work", filepath.Join("runs", "compare"), "`DIR` of everything that is kept")
	f.StringVar(&s.Program, "program", "", "`PATH` of the unrollnet to run (default: built once into WORK/bin)")
	f.StringVar(&s.configs, "configs", filepath.Join("configs", "compare"), "`DIR` of the experiments")
	f.StringVar(&s.preset, "preset", "", "stage configs: write this preset of every network instead, such as tiny for a trial")
	f.StringVar(&s.trainDir, "train-data", filepath.Join("data", "cid22"), "`DIR` of training photographs, or synthetic")
	f.StringVar(&s.setsDir, "sets", "data", "`DIR` that holds the test sets kodak, mcm, set5, set14")
	tasks := f.String("tasks", strings.Join(taskNames(), ","), "tasks")
	models := f.String("models", strings.Join(modelNames(), ","), "networks")
	seeds := f.String("seeds", "1", "seeds of training, such as 1,2")
	budget := f.String("budget", "", "CPU minutes of one training, of each task (default demosaic=30,x2=15,fill=15)")
	f.Float64Var(&s.searchShare, "search-share", 0.1, "budget of each training of the search, as a share of the budget")
	searchTasks := f.String("search-tasks", "demosaic", "tasks to search learning rates on; the others take the factor of the first")
	factors := f.String("rates", "0.5,1,2", "candidates of the search: factors on the learning rate of the experiment")
	f.IntVar(&s.Jobs, "j", 1, "processes at a time in the stages search, train and measure")
	f.Float64Var(&s.calibrate, "calibrate-seconds", 30, "CPU seconds for each calibration")
	sets := f.String("measure-sets", "kodak,mcm,set14,set5", "test sets measured, where the task uses them")
	tables := f.String("tables", strings.Join(tableNames, ","), "what to measure")
	f.IntVar(&s.limit, "limit", 0, "measure the first `N` images of each test set only (a trial)")
	f.IntVar(&s.robustLimit, "robust-limit", 8, "measure robustness on the first `N` images of Kodak; 0 for all")
	f.Var(&given, "weights", "`NAME=PATH` of a weight file, or of an embedded network, to measure too; repeatable")
	f.IntVar(&s.ensemble, "ensemble", 0, "measure networks given by -weights in this many orientations too, on mosaics: 2 | 4 | 8")
	f.Var(&long, "long", "`NAME=DIR` of a run of another length whose validation curve the page shows; repeatable")
	f.StringVar(&s.out, "out", filepath.Join("docs", "results.md"), "`FILE` of the report; charts and data go beside it")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	s.tasks, s.models, s.searchTasks = split(*tasks), split(*models), split(*searchTasks)
	s.sets, s.tables = split(*sets), split(*tables)
	for _, c := range []struct {
		name        string
		found, want []string
	}{
		{"-tasks", s.tasks, taskNames()}, {"-models", s.models, modelNames()}, {"-search-tasks", s.searchTasks, taskNames()},
		{"-measure-sets", s.sets, []string{"kodak", "mcm", "set14", "set5"}}, {"-tables", s.tables, tableNames}, {"stage", f.Args(), stages},
	} {
		for _, v := range c.found {
			if !slices.Contains(c.want, v) {
				return nil, fmt.Errorf("%s: found %q, expected of %s", c.name, v, strings.Join(c.want, " | "))
			}
		}
	}
	for _, v := range split(*seeds) {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("-seeds: found %q, expected whole numbers such as 1,2", v)
		}
		s.seeds = append(s.seeds, n)
	}
	for _, v := range split(*factors) {
		x, err := strconv.ParseFloat(v, 64)
		if err != nil || !(x > 0) {
			return nil, fmt.Errorf("-rates: found %q, expected factors such as 0.5,1,2", v)
		}
		s.factors = append(s.factors, x)
	}
	s.budget = map[string]float64{"demosaic": 30, "x2": 15, "fill": 15}
	for _, v := range split(*budget) {
		name, minutes, _ := strings.Cut(v, "=")
		x, err := strconv.ParseFloat(minutes, 64)
		if err != nil || !(x > 0) || !slices.Contains(taskNames(), name) {
			return nil, fmt.Errorf("-budget: found %q, expected TASK=MINUTES with a task of %s", v, strings.Join(taskNames(), " | "))
		}
		s.budget[name] = x
	}
	for _, v := range given {
		g, err := parseGiven(v)
		if err != nil {
			return nil, err
		}
		s.given = append(s.given, g)
	}
	for _, v := range long {
		g, err := parseGiven(v)
		if err != nil {
			return nil, fmt.Errorf("-long: found %q, expected NAME=DIR", v)
		}
		s.long = append(s.long, g)
	}
	switch {
	case f.NArg() == 0:
		return nil, fmt.Errorf("found no stage, expected of %s", strings.Join(stages, " | "))
	case len(s.seeds) == 0 || len(s.factors) == 0:
		return nil, fmt.Errorf("found no seeds or no rates, expected at least one of each")
	case s.ensemble != 0 && (s.ensemble == 1 || !slices.Contains(infer.Ensembles, s.ensemble)):
		return nil, fmt.Errorf("-ensemble: found %d, expected 2, 4 or 8", s.ensemble)
	case s.Jobs < 1:
		return nil, fmt.Errorf("-j: found %d, expected 1 or more", s.Jobs)
	case s.limit < 0 || s.robustLimit < 0:
		return nil, fmt.Errorf("-limit, -robust-limit: found %d and %d, expected 0 (all) or more", s.limit, s.robustLimit)
	case !(s.searchShare > 0 && s.searchShare <= 1):
		return nil, fmt.Errorf("-search-share: found %v, expected more than 0, at most 1", s.searchShare)
	}
	return f.Args(), nil
}

// parseGiven reads NAME=PATH; of an embedded network NAME may be all.
func parseGiven(v string) (given, error) {
	label, ref, ok := strings.Cut(v, "=")
	if !ok {
		ref = label
	}
	if label == "" || ref == "" || strings.ContainsAny(label, "/|\n") {
		return given{}, fmt.Errorf("-weights: found %q, expected NAME=PATH", v)
	}
	return given{label, ref}, nil
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

// split cuts at commas; of nothing there are no parts.
func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// run does the stages asked for.
func (s *settings) run(ctx context.Context, asked []string) error {
	if slices.Contains(asked, "all") {
		asked = append(asked, "calibrate", "search", "train", "measure", "report")
	}
	for _, stage := range stages {
		if !slices.Contains(asked, stage) || stage == "all" {
			continue
		}
		do := map[string]func(context.Context) error{
			"configs": s.writeConfigs, "calibrate": s.calibrateAll, "search": s.search,
			"train": s.train, "measure": s.measure, "report": s.report,
		}[stage]
		if err := do(ctx); err != nil {
			return fmt.Errorf("%s: %w", stage, err)
		}
	}
	return nil
}
