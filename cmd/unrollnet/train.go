package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/train"
)

func newTrain(a *app) *cobra.Command {
	var (
		sets    []string
		opt     train.Options
		init    string
		quiet   bool
		example = "  unrollnet train configs/smoke.yaml\n" +
			"  unrollnet train configs/uglr-demosaic.yaml --set schedule.lr=3e-4 --max-time 2h"
	)
	c := &cobra.Command{
		Use:   "train CONFIG",
		Short: "Train a network from an experiment file",
		Long: `Train the network an experiment describes. The run folder gets the resolved
experiment, logs (CSV and JSON lines), checkpoints and, at the end, the averaged
weights in model.safetensors, which --model accepts anywhere.

The first SIGINT or SIGTERM finishes the step, saves and exits with 75; the second
leaves at once. Running the command again continues, to the same bits as if it had
never stopped.`,
		Example: example,
		Args:    argCount(1, 1, "one experiment file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(args, sets)
			if err != nil {
				return err
			}
			if opt.MaxTime < 0 {
				return usagef("--max-time: found %v, expected a duration such as 2h", opt.MaxTime)
			}
			if opt.RunDir == "" {
				opt.RunDir = filepath.Join("runs", cfg.Name)
			}
			opt.Command = append([]string{"unrollnet"}, os.Args[1:]...)
			opt.Versions = map[string]string{"unrollnet": versionOf(), "go": runtime.Version()}
			opt.Terminal = a.terminal
			level := slog.LevelInfo
			if quiet {
				level = slog.LevelWarn
			} else {
				opt.Out = a.err
			}
			opt.Log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))

			if init != "" {
				m, err := openModel(init, cfg.Kind())
				if err != nil {
					return err
				}
				opt.Init = m.Params()
			}

			// The first signal asks for a stop; nothing else ends the context,
			// so that the step in hand is finished and saved.
			stop := make(chan struct{})
			opt.Stop = stop
			signals := make(chan os.Signal, 2)
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
			done := make(chan struct{})
			defer func() {
				signal.Stop(signals)
				close(done)
			}()
			go func() {
				select {
				case <-signals:
				case <-cmd.Context().Done(): // before the handler was in place
				case <-done:
					return
				}
				fmt.Fprintln(a.err, "unrollnet: stopping after this step; once more to leave at once")
				close(stop)
				select {
				case <-signals:
					os.Exit(exitInterrupted)
				case <-done:
				}
			}()
			err = configError(args[0], train.Run(context.WithoutCancel(cmd.Context()), cfg, opt))
			var data *train.DataError
			if errors.As(err, &data) {
				return &rejected{err}
			}
			return err
		},
	}
	f := c.Flags()
	setFlag(c, &sets)
	f.StringVar(&opt.Resume, "resume", "auto", "auto (from the newest checkpoint if there is one) | none | `PATH` of a run or checkpoint")
	f.StringVar(&init, "init", "", "begin with the weights of `NAME|FILE`: tensors of the same name and shape are taken over, others start fresh")
	f.StringVar(&opt.RunDir, "run-dir", "", "run `DIR` (default runs/NAME)")
	f.DurationVar(&opt.MaxTime, "max-time", 0, "stop and save after this long, such as 2h")
	f.BoolVar(&opt.DryRun, "dry-run", false, "build everything and compute one step, change and write nothing")
	f.BoolVar(&opt.Overfit, "overfit", false, "train on the first batch again and again: a network that works learns it")
	f.BoolVarP(&quiet, "quiet", "q", false, "say only what went wrong")
	return c
}

// openModel opens an embedded network or a weight file of a kind.
func openModel(name string, kind model.Kind) (model.Model, error) {
	if kind != model.Restore {
		m, _, err := openKind(name, kind)
		return m, err
	}
	n, err := openNetwork(name)
	if err != nil {
		return nil, err
	}
	return n.Model(), nil
}

// configError makes an error that begins with a key of the experiment, found
// only when its parts were built, one of the file.
func configError(path string, err error) error {
	if err == nil {
		return nil
	}
	key, msg, ok := strings.Cut(err.Error(), ": ")
	if ok && slices.Contains(config.Keys(), key) {
		return &config.Error{Where: path, Key: key, Msg: msg}
	}
	return err
}
