package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/model"
)

func newConfig(a *app) *cobra.Command {
	return group("config", "Print or check an experiment", newConfigPrint(a), newConfigValidate(a))
}

// setFlag adds --set.
func setFlag(c *cobra.Command, sets *[]string) {
	c.Flags().StringArrayVar(sets, "set", nil, "`KEY=VALUE` over the file, such as schedule.lr=3e-4; repeatable")
	complete(c, "set", func() []string {
		keys := config.Keys()
		for i, k := range keys {
			keys[i] = k + "="
		}
		return keys
	})
}

func newConfigPrint(a *app) *cobra.Command {
	var sets []string
	c := &cobra.Command{
		Use:   "print [FILE]",
		Short: "Print the fully resolved experiment, with defaults, as commented YAML",
		Long: `Print the experiment a file describes once defaults, variables of the environment
(UNROLLNET_SCHEDULE_LR for schedule.lr) and --set are applied, in that order.
Without a file: the defaults.`,
		Args: argCount(0, 1, "at most one experiment file"),
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := loadConfig(args, sets)
			if err != nil {
				return err
			}
			return config.Print(a.out, e)
		},
	}
	setFlag(c, &sets)
	return c
}

// loadConfig loads the experiment named by the one argument, or the default.
func loadConfig(args, sets []string) (config.Experiment, error) {
	if len(args) == 0 {
		return config.Parse("defaults", nil, sets)
	}
	return config.Load(args[0], sets)
}

func newConfigValidate(a *app) *cobra.Command {
	var sets []string
	c := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check experiments: keys, types, ranges, and that the network can be built",
		Args:  argCount(1, -1, "at least one experiment file"),
		RunE: func(_ *cobra.Command, args []string) error {
			var first error
			for _, path := range args {
				net, err := validate(path, sets)
				if err == nil {
					fmt.Fprintf(a.out, "%s: ok (%s, %d parameters)\n", path, net.Config().Type, net.Params().Count())
					continue
				}
				fmt.Fprintf(a.err, "unrollnet: %s\n", oneLine(err))
				if first == nil {
					first = &toldError{err}
				}
			}
			return first
		},
	}
	setFlag(c, &sets)
	return c
}

func validate(path string, sets []string) (model.Model, error) {
	e, err := config.Load(path, sets)
	if err != nil {
		return nil, err
	}
	net, err := model.Build(e.Model, e.Seed)
	if err != nil {
		return nil, &config.Error{Where: path, Msg: err.Error()}
	}
	return net, nil
}
