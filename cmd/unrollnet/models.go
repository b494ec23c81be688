package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/baseline"
	"github.com/unrollnet/unrollnet/pkg/config"
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

// listModels returns what --model accepts by name: embedded networks, then the
// classical methods of each task.
func listModels() ([]modelInfo, error) {
	var out []modelInfo
	for _, name := range weights.Names() {
		n, err := infer.Open(name)
		if err != nil {
			return nil, err
		}
		b, err := weights.Open(name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		field := n.ReceptiveField()
		about := weights.About(name)
		out = append(out, modelInfo{name, n.Task(), n.Params(), &field, true, hex.EncodeToString(sum[:]), about.DefaultFor, about.Figures})
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
				if err := word("task", task, infer.Tasks); err != nil {
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
			fmt.Fprintln(w, "NAME\tTASK\tPARAMETERS\tRECEPTIVE FIELD\tPSNR (DB)\tWEIGHTS")
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
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", name, m.Task, m.Params, field, m.figures(), from)
			}
			fmt.Fprint(w, "\n* taken where no --model is named\n\nArchitectures to train (model.type), and their presets (model.preset):\n")
			for _, t := range model.Types {
				fmt.Fprintf(w, "%s\t%s\n", t, strings.Join(model.PresetsOf(t), ", "))
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	c.Flags().StringVar(&task, "task", "", "only those for `TASK`: demosaic | scale | fill")
	complete(c, "task", func() []string { return infer.Tasks })
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
		net, err := model.New(model.Config{Type: typ, Preset: preset}, 0)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "name: %s (to train: model.type, model.preset)\n", name)
		return describeNetwork(w, net, reach(net))
	}
	n, err := openNetwork(name)
	if err != nil {
		return err
	}
	trained, err := json.Marshal(n.Trained())
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "name: %s\ntask: %s\ntrained on: %s\n", n.Name(), n.Task(), trained)
	if embedded {
		b, err := weights.Open(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "weights: embedded, %d bytes, sha256 %x\n", len(b), sha256.Sum256(b))
	}
	if err := describeNetwork(w, n.Model(), n.ReceptiveField()); err != nil {
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
func describeNetwork(w io.Writer, net model.Network, field int) error {
	fmt.Fprintf(w, "parameters: %d\nreceptive field: %d px (of one block: %d px)\n\nmodel:\n", net.Params().Count(), field, 2*net.Reach(0)+1)
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
