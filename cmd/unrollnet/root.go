package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/unrollnet/unrollnet/pkg/config"
)

// newRoot builds the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "unrollnet",
		Short: "Fill in missing samples of images with small interpretable networks",
		Long: `unrollnet restores what is missing of an image: the two colours a sensor did not
see at each pixel (demosaicking), the rows and columns between samples (scaling)
and lost pixels (filling). Its networks are unrolled solvers of a graph problem,
small enough to be part of this program, and it trains and measures them too.

  unrollnet interpolate photo.png                       twice the size
  unrollnet interpolate --task demosaic mosaic.png      colour from a Bayer mosaic
  unrollnet interpolate --mask scratches.png photo.png  white pixels filled in
  unrollnet interpolate --simulate --task demosaic photo.png
                                                        try it on any photograph

Networks trained here that tell images apart or go on with a text:

  unrollnet predict --model digits.safetensors scan.png  classes with probabilities
  unrollnet generate --model go.safetensors --prompt 'func '

Exit codes: 0 done; 1 unexpected; 2 wrong flags or config; 3 some of several
inputs failed; 4 the only input was rejected; 5 no space or memory; 10 model or
checkpoint not found; 11 run directory locked; 12 weights damaged; 75 stopped on
request with state saved; 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newBench(a),
		newConfig(a),
		newEval(a),
		newGenerate(a),
		newInspect(a),
		newInterpolate(a),
		newModels(a),
		newPredict(a),
		newTrain(a),
		newVersion(a),
	)
	return root
}

// group makes a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s: found no subcommand, expected %s", cmd.CommandPath(), strings.Join(subNames(cmd), " | "))
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(subs...)
	return c
}

func subNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

func unknownCommand(cmd *cobra.Command, name string) error {
	hint := ""
	if n := config.Nearest(name, subNames(cmd)); n != "" {
		hint = fmt.Sprintf(" (did you mean %s?)", n)
	}
	return usagef("%s: unknown command %q%s, expected %s", cmd.CommandPath(), name, hint, strings.Join(subNames(cmd), " | "))
}

// flagError gives wrong flags the exit code of usage, and unknown ones a hint.
func flagError(cmd *cobra.Command, err error) error {
	msg := err.Error()
	if name, ok := strings.CutPrefix(msg, "unknown flag: --"); ok {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		hint := ""
		if n := config.Nearest(name, names); n != "" {
			hint = fmt.Sprintf(" (did you mean --%s?)", n)
		}
		return usagef("%s: unknown flag --%s%s; see %s --help", cmd.CommandPath(), name, hint, cmd.CommandPath())
	}
	return usagef("%s: %s; see %s --help", cmd.CommandPath(), msg, cmd.CommandPath())
}

// argCount accepts between lo and hi arguments (hi < 0: any number).
func argCount(lo, hi int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < lo || hi >= 0 && len(args) > hi {
			return usagef("%s: found %d arguments, expected %s", cmd.CommandPath(), len(args), what)
		}
		return nil
	}
}

// word checks a flag that takes one of a few words.
func word(flag, found string, legal []string) error {
	for _, l := range legal {
		if found == l {
			return nil
		}
	}
	hint := ""
	if n := config.Nearest(found, legal); n != "" {
		hint = fmt.Sprintf(" (did you mean %s?)", n)
	}
	return usagef("--%s: found %q%s, expected %s", flag, found, hint, strings.Join(legal, " | "))
}

// complete offers words for a flag's value.
func complete(cmd *cobra.Command, flag string, words func() []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words(), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag does not exist: a bug
	}
}
