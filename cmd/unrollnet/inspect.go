package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sort"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

func newInspect(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect FILE|CHECKPOINT|RUN",
		Short: "Show a weight file or checkpoint: tensors, shapes, norms, provenance",
		Long: `Show what a safetensors file holds: its metadata (the model and the task it was
trained for), each tensor with shape and statistics, and a SHA-256 over all tensors.
For a checkpoint folder (step-00001000) every file is verified against SHA256SUMS
and all parts are shown; for a run folder, its newest valid checkpoint.`,
		Args: argCount(1, 1, "one weight file, checkpoint or run folder"),
		RunE: func(_ *cobra.Command, args []string) error {
			parts, err := inspect(a, args[0])
			if err != nil {
				return err
			}
			for i, p := range parts {
				if asJSON {
					if err := json.NewEncoder(a.out).Encode(p); err != nil {
						return err
					}
					continue
				}
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				if err := p.print(a.out); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per file")
	return c
}

// inspected is what one safetensors file holds.
type inspected struct {
	File     string            `json:"file"`
	Step     *int              `json:"step,omitempty"`
	Digest   string            `json:"sha256"` // over names, shapes and values of all tensors
	Params   int               `json:"params"`
	Metadata map[string]string `json:"metadata"`
	Tensors  []tensorInfo      `json:"tensors"`
}

// tensorInfo is a tensor with its statistics over the finite values.
type tensorInfo struct {
	Name      string  `json:"name"`
	DType     string  `json:"dtype"`
	Shape     []int   `json:"shape"`
	Norm      float64 `json:"norm"`
	Mean      float64 `json:"mean"`
	Min       float64 `json:"min"`
	Max       float64 `json:"max"`
	NonFinite int     `json:"non_finite"`
}

// inspect reads a file, a checkpoint or the newest checkpoint of a run.
func inspect(a *app, path string) ([]inspected, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: expected a weight file, checkpoint or run folder", path, checkpoint.ErrNotFound)
	} else if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		f, err := checkpoint.ReadFile(path)
		if err != nil {
			return nil, err
		}
		p, err := inspectFile(path, f, nil)
		return []inspected{p}, err
	}
	var s *checkpoint.Snapshot
	if _, err := os.Stat(filepath.Join(path, "SHA256SUMS")); err == nil {
		s, err = checkpoint.Load(checkpoint.OS, path)
		if err != nil {
			return nil, err
		}
	} else {
		run := checkpoint.NewRun(checkpoint.OS, path, 0, func(err error) { fmt.Fprintf(a.err, "unrollnet: passed over: %s\n", oneLine(err)) })
		if s, err = run.Latest(); err != nil {
			return nil, err
		}
	}
	var out []inspected
	for _, part := range []struct {
		name string
		file *checkpoint.File
	}{{"model", s.Model}, {"ema", s.EMA}, {"optimizer", s.Optimizer}} {
		if part.file == nil {
			continue
		}
		p, err := inspectFile(filepath.Join(s.Path, part.name+".safetensors"), part.file, &s.Step)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func inspectFile(name string, f *checkpoint.File, step *int) (inspected, error) {
	digest, err := f.Hash()
	if err != nil {
		return inspected{}, err
	}
	p := inspected{File: name, Step: step, Digest: digest, Metadata: f.Metadata, Tensors: []tensorInfo{}}
	for _, t := range f.Tensors {
		p.Params += len(t.Data)
		p.Tensors = append(p.Tensors, statistics(t))
	}
	sort.Slice(p.Tensors, func(i, j int) bool { return p.Tensors[i].Name < p.Tensors[j].Name })
	return p, nil
}

func statistics(t checkpoint.Tensor) tensorInfo {
	i := tensorInfo{Name: t.Name, DType: t.DType, Shape: t.Shape}
	if i.DType == "" {
		i.DType = "F32"
	}
	if i.Shape == nil {
		i.Shape = []int{}
	}
	var sum, squares float64
	n := 0
	for _, v := range t.Data {
		x := float64(v)
		if math.IsNaN(x) || math.IsInf(x, 0) {
			i.NonFinite++
			continue
		}
		if n == 0 {
			i.Min, i.Max = x, x
		}
		i.Min, i.Max = min(i.Min, x), max(i.Max, x)
		sum += x
		squares += x * x
		n++
	}
	if n > 0 {
		i.Mean, i.Norm = sum/float64(n), math.Sqrt(squares)
	}
	return i
}

func (p inspected) print(w io.Writer) error {
	fmt.Fprintf(w, "file: %s\n", p.File)
	if p.Step != nil {
		fmt.Fprintf(w, "step: %d\n", *p.Step)
	}
	fmt.Fprintf(w, "sha256 of tensors: %s\nvalues: %d in %d tensors\n", p.Digest, p.Params, len(p.Tensors))
	if s := describeMetadata(p.Metadata); s != "" {
		fmt.Fprintf(w, "network: %s\n", s)
	}
	keys := make([]string, 0, len(p.Metadata))
	for k := range p.Metadata {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		fmt.Fprintf(w, "%q: %q\n", k, p.Metadata[k])
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nTENSOR\tTYPE\tSHAPE\tNORM\tMEAN\tMIN\tMAX\tNON-FINITE")
	for _, t := range p.Tensors {
		fmt.Fprintf(tw, "%q\t%s\t%v\t%.4g\t%.4g\t%.4g\t%.4g\t%d\n", t.Name, t.DType, t.Shape, t.Norm, t.Mean, t.Min, t.Max, t.NonFinite)
	}
	return tw.Flush()
}

// describeMetadata says what network a weight file holds, as far as its metadata
// can be read; "" for other files.
func describeMetadata(meta map[string]string) string {
	var cfg model.Config
	if json.Unmarshal([]byte(meta[model.MetaModel]), &cfg) != nil || cfg.Kind() == "" || cfg.Type == "" {
		return ""
	}
	var t data.Trained
	if cfg.Kind() != model.Restore && json.Unmarshal([]byte(meta[model.MetaTask]), &t) != nil {
		t = data.Trained{}
	}
	switch cfg.Kind() {
	case model.Classify:
		return fmt.Sprintf("%s, a classifier (%d classes: %q)", cfg.Type, len(t.Classes), t.Classes)
	case model.Language:
		if t.Vocabulary != nil {
			return fmt.Sprintf("%s, a language model (%d %s)", cfg.Type, t.Vocabulary.Len(), t.Vocabulary.Unit)
		}
		return cfg.Type + ", a language model"
	}
	return cfg.Type + ", restores images"
}
