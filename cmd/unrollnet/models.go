package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/baseline"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/model/weights"
)

func newModels(a *app) *cobra.Command {
	return group("models", "List trained networks and classical methods, or show one", newModelsList(a), newModelsShow(a))
}

// modelInfo is a line of `models list --json`.
type modelInfo struct {
	Name           string `json:"name"`
	Type           string `json:"type,omitempty"` // of network; none for a classical method
	Task           string `json:"task"`
	Params         int    `json:"params"`
	ReceptiveField *int   `json:"receptive_field"` // side in pixels through the blocks; null where not stated
	Embedded       bool   `json:"embedded"`
	SHA256         string `json:"sha256,omitempty"` // of the weight file

	DefaultFor string           `json:"default_for,omitempty"` // demosaic, fill or x2: taken where no model is named
	Figures    []weights.Figure `json:"figures,omitempty"`
}

// figures lists measured values on one line.
func (m modelInfo) figures() string {
	var parts []string
	for _, f := range m.Figures {
		parts = append(parts, fmt.Sprintf("%s %s %.2f", f.Set, f.Protocol, f.PSNR))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, "; ")
}

// anyNetwork is a trained network of any kind.
type anyNetwork struct {
	net     model.Model
	task    string // demosaic | scale | fill | classify | language
	trained any    // what it was trained for
}

// openAny opens an embedded network or a weight file of any kind.
func openAny(name string) (anyNetwork, error) {
	n, err := infer.Open(name)
	var other *infer.KindError
	switch {
	case err == nil:
		return anyNetwork{n.Model(), n.Task(), n.Trained()}, nil
	case !errors.As(err, &other):
		return anyNetwork{}, openError(name, err)
	case other.Kind == model.Classify:
		c, err := infer.OpenClassifier(name)
		if err != nil {
			return anyNetwork{}, openError(name, err)
		}
		return anyNetwork{c.Model(), data.Classify, data.Trained{Task: data.Classify, Classes: c.Classes()}}, nil
	}
	l, err := infer.OpenLanguageModel(name)
	if err != nil {
		return anyNetwork{}, openError(name, err)
	}
	v := l.Vocabulary()
	return anyNetwork{l.Model(), data.Language, data.Trained{Task: data.Language, Vocabulary: &v}}, nil
}

// field is the side of the square of pixels that one depends on; nil for networks
// that do not restore images.
func (k anyNetwork) field() *int {
	if net, ok := k.net.(model.Network); ok {
		side := reach(net)
		return &side
	}
	return nil
}

// outputs says what the outputs of a network stand for; "" for one that restores
// images.
func (k anyNetwork) outputs() string {
	t, _ := k.trained.(data.Trained)
	switch {
	case t.Vocabulary != nil:
		return fmt.Sprintf("vocabulary: %d %s", t.Vocabulary.Len(), t.Vocabulary.Unit)
	case t.Classes != nil:
		return "classes: " + strings.Join(t.Classes, ", ")
	}
	return ""
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// listModels returns what --model accepts by name: embedded networks, then the
// classical methods of each task.
func listModels() ([]modelInfo, error) {
	var out []modelInfo
	for _, name := range weights.Names() {
		k, err := openAny(name)
		if err != nil {
			return nil, err
		}
		b, err := weights.Open(name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		about := weights.About(name)
		out = append(out, modelInfo{
			Name: name, Type: k.net.Config().Type, Task: k.task, Params: k.net.Params().Count(), ReceptiveField: k.field(), Embedded: true,
			SHA256: hex.EncodeToString(sum[:]), DefaultFor: about.DefaultFor, Figures: about.Figures,
		})
	}
	for _, task := range infer.Tasks {
		for _, name := range baseline.Names(task) {
			out = append(out, modelInfo{Name: name, Task: task})
		}
	}
	return out, nil
}

func newModelsList(a *app) *cobra.Command {
	var asJSON bool
	var task string
	c := &cobra.Command{
		Use:   "list",
		Short: "List what --model accepts: trained networks and classical methods",
		Args:  argCount(0, 0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if task != "" {
				if err := word("task", task, slices.Concat(infer.Tasks, kindTasks)); err != nil {
					return err
				}
			}
			list, err := listModels()
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(m modelInfo) bool { return task != "" && m.Task != task })
			if asJSON {
				enc := json.NewEncoder(a.out)
				for _, m := range list {
					if err := enc.Encode(m); err != nil {
						return err
					}
				}
				return nil
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tTYPE\tTASK\tPARAMETERS\tRECEPTIVE FIELD\tPSNR (DB)\tWEIGHTS")
			for _, m := range list {
				field, from := "-", "none: classical"
				if m.ReceptiveField != nil {
					field = fmt.Sprintf("%d px", *m.ReceptiveField)
				}
				if m.Embedded {
					from = "embedded, sha256 " + m.SHA256[:12]
				}
				name := m.Name
				if m.DefaultFor != "" {
					name += " *"
				}
				typ := m.Type
				if typ == "" {
					typ = "-"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, typ, m.Task, thousands(m.Params), field, m.figures(), from)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprint(w, "\n* taken where no --model is named\n\nArchitectures to train (model.type), what for, and their presets (model.preset):\n")
			fmt.Fprintln(w, "TYPE/PRESET\tTASK\tPARAMETERS")
			for _, name := range presets() {
				typ, preset, _ := strings.Cut(name, "/")
				net, err := model.Build(model.Config{Type: typ, Preset: preset}, 0)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", name, net.Config().Kind(), thousands(net.Params().Count()))
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	c.Flags().StringVar(&task, "task", "", "only those for `TASK`: demosaic | scale | fill | classify | language")
	complete(c, "task", func() []string { return slices.Concat(infer.Tasks, kindTasks) })
	return c
}

func newModelsShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME|FILE",
		Short: "Show a network: configuration, parameters by tensor, training, model card",
		Long: `Show an embedded network, a weight file, a classical method or an architecture to
train, as TYPE/PRESET (such as ugtv/paper): what it does, its configuration, its
parameters by tensor and, for an embedded network, its model card.`,
		Args: argCount(1, 1, "one name or weight file"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return append(infer.Names(""), presets()...), cobra.ShellCompDirectiveDefault
		},
		RunE: func(_ *cobra.Command, args []string) error { return showModel(a.out, args[0]) },
	}
}

// presets lists what can be trained, as TYPE/PRESET.
func presets() []string {
	var out []string
	for _, t := range model.Types {
		for _, p := range model.PresetsOf(t) {
			out = append(out, t+"/"+p)
		}
	}
	return out
}

func isPreset(name string) bool { return slices.Contains(presets(), name) }

func showModel(w io.Writer, name string) error {
	var methods []string
	for _, task := range infer.Tasks {
		if slices.Contains(baseline.Names(task), name) {
			methods = append(methods, task)
		}
	}
	embedded := slices.Contains(weights.Names(), name)
	switch {
	case len(methods) > 0:
		_, err := fmt.Fprintf(w, "name: %s\ntask: %s\nparameters: 0 (a classical method)\n", name, strings.Join(methods, ", "))
		return err
	case isPreset(name):
		typ, preset, _ := strings.Cut(name, "/")
		net, err := model.Build(model.Config{Type: typ, Preset: preset}, 0)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "name: %s (to train: model.type, model.preset)\ntask: %s\n", name, net.Config().Kind())
		return describeNetwork(w, net)
	}
	n, err := openAny(name)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "name: %s\ntask: %s\n", name, n.task)
	if s := n.outputs(); s != "" {
		fmt.Fprintln(w, s)
	} else {
		trained, err := json.Marshal(n.trained)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "trained on: %s\n", trained)
	}
	if embedded {
		b, err := weights.Open(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "weights: embedded, %d bytes, sha256 %x\n", len(b), sha256.Sum256(b))
	}
	if err := describeNetwork(w, n.net); err != nil {
		return err
	}
	if embedded {
		if card, err := weights.Card(name); err == nil {
			_, err = fmt.Fprintf(w, "\n%s", card)
			return err
		}
	}
	return nil
}

// reach is the side of the square a pixel depends on through all blocks.
func reach(net model.Network) int {
	r := 0
	for t := range net.Blocks() {
		r += net.Reach(t)
	}
	return 2*r + 1
}

// describeNetwork prints the configuration and the tensors of a network.
func describeNetwork(w io.Writer, net model.Model) error {
	fmt.Fprintf(w, "parameters: %s\n", thousands(net.Params().Count()))
	switch n := net.(type) {
	case model.Network:
		fmt.Fprintf(w, "receptive field: %d px (of one block: %d px)\n", reach(n), 2*n.Reach(0)+1)
	case model.Classifier:
		c, height, width := n.Input()
		fmt.Fprintf(w, "input: images of %dx%d with %d channels\noutput: %d classes\n", width, height, c, n.Classes())
	case model.LanguageModel:
		fmt.Fprintf(w, "input: at most %d symbols\noutput: the next of %d symbols\n", n.Context(), n.Symbols())
	}
	if p := model.Exponents(net); p != nil {
		fmt.Fprintf(w, "p by layer and head: %.4g\n", p)
	}
	fmt.Fprint(w, "\nmodel:\n")
	if err := config.PrintModel(w, net.Config()); err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nTENSOR\tSHAPE\tPARAMETERS")
	for _, p := range net.Params().All() {
		fmt.Fprintf(tw, "%s\t%v\t%d\n", p.Name, p.Shape, len(p.Data))
	}
	return tw.Flush()
}
