// Command plat trains transformers with p-Laplacian attention for several p on
// images and on text, measures them alike and writes docs/plat.md.
//
//	go run ./scripts/plat [flags] STAGE...
//
// The stages, in their order:
//
//	configs  write configs/plat: one experiment per task and form of attention
//	train    one training per experiment and seed
//	measure  test parts and held-out text, noise, occlusion, and what attention does
//	report   docs/plat.json, docs/plat.md and its charts from what is there
//	all      train, measure, report
//
// Everything finished is a file in the work folder and is not done again, so the
// command may be stopped and repeated at any time: trainings continue to the same
// bits, measurements are kept for as long as the weights stay the same. To do
// something again remove its file: WORK/train/ID.json with WORK/runs/ID*, or
// WORK/measure/CONDITION. Every training and every measurement is a process of its own
// with one thread, of the program in WORK/bin, built once.
//
// Within a task everything but attention is the same: configs.go.
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

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

// settings is what the flags say.
type settings struct {
	lab.Lab
	configs      string
	data         map[string]string // where the data of each task is, by flag
	tasks, forms []string
	seeds        []uint64
	tables       []string
	sets         []string // of a trial: over those of the experiments
	limit        int
	out          string
}

var stages = []string{"configs", "train", "measure", "report", "all"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &settings{Lab: lab.Lab{Stdout: os.Stdout, Stderr: os.Stderr}}
	args, err := s.parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "plat:", err)
		os.Exit(2)
	}
	if err := s.run(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "plat:", err)
		os.Exit(1)
	}
}

// parse reads flags and stages.
func (s *settings) parse(args []string) ([]string, error) {
	f := flag.NewFlagSet("plat", flag.ContinueOnError)
	f.SetOutput(s.Stderr)
	f.Usage = func() {
		fmt.Fprintf(s.Stderr, "usage: go run ./scripts/plat [flags] STAGE...\nstages: %s\n", strings.Join(stages, " "))
		f.PrintDefaults()
	}
	f.StringVar(&s.Work, "work", filepath.Join("runs", "plat"), "`DIR` of everything that is kept")
	f.StringVar(&s.Program, "program", "", "`PATH` of the unrollnet to run (default: built once into WORK/bin)")
	f.StringVar(&s.configs, "configs", filepath.Join("configs", "plat"), "`DIR` of the experiments")
	mnist := f.String("mnist", "data/mnist", "`DIR` of MNIST")
	cifar := f.String("cifar10", "data/cifar10", "`DIR` of CIFAR-10, or of a part of it as sheets")
	text := f.String("text", "data/gotext/gotext.txt", "`FILE` of the text: Go's standard library")
	tasks := f.String("tasks", strings.Join(taskNames(), ","), "tasks")
	names := f.String("forms", strings.Join(formNames(), ","), "forms of attention")
	seeds := f.String("seeds", "1,2,3", "seeds of training")
	f.IntVar(&s.Jobs, "j", 1, "processes at a time")
	tables := f.String("tables", strings.Join(tableNames, ","), "what to measure")
	sets := f.String("set", "", "settings over those of the experiments, with commas between (a trial; use another -work)")
	f.IntVar(&s.limit, "limit", 0, "measure the first `N` examples only (a trial)")
	f.StringVar(&s.out, "out", filepath.Join("docs", "plat.md"), "`FILE` of the report; charts and data go beside it")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	s.data = map[string]string{"mnist": *mnist, "cifar10": *cifar, "text": *text}
	s.tasks, s.forms, s.tables, s.sets = split(*tasks), split(*names), split(*tables), split(*sets)
	for _, c := range []struct {
		name        string
		found, want []string
	}{
		{"-tasks", s.tasks, taskNames()}, {"-forms", s.forms, formNames()}, {"-tables", s.tables, tableNames}, {"stage", f.Args(), stages},
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
	switch {
	case f.NArg() == 0:
		return nil, fmt.Errorf("found no stage, expected of %s", strings.Join(stages, " | "))
	case len(s.seeds) == 0:
		return nil, fmt.Errorf("-seeds: found none, expected at least one")
	case s.Jobs < 1:
		return nil, fmt.Errorf("-j: found %d, expected 1 or more", s.Jobs)
	case s.limit < 0:
		return nil, fmt.Errorf("-limit: found %d, expected 0 (all) or more", s.limit)
	}
	return f.Args(), nil
}

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
		asked = append(asked, "train", "measure", "report")
	}
	for _, stage := range stages {
		if !slices.Contains(asked, stage) || stage == "all" {
			continue
		}
		do := map[string]func(context.Context) error{
			"configs": s.writeConfigs, "train": s.train, "measure": s.measure, "report": s.report,
		}[stage]
		if err := do(ctx); err != nil {
			return fmt.Errorf("%s: %w", stage, err)
		}
	}
	return nil
}
