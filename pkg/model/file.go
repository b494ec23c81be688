package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
)

// Metadata keys of a weight file, which describes itself: with it, a path is all
// that is needed to use a network.
const (
	MetaFormat = "unrollnet.format" // "1"
	MetaModel  = "unrollnet.model"  // the resolved Config as JSON
	MetaTask   = "unrollnet.task"   // what the network was trained to undo, as JSON
)

// Save returns the weight file of n: its parameters and, as metadata, its
// configuration, the task (a JSON text) and extra. The same network gives the
// same bytes: no time, no path.
func Save(n Model, task string, extra map[string]string) *checkpoint.File {
	cfg, err := json.Marshal(n.Config())
	if err != nil {
		panic(err) // plain numbers and strings
	}
	f := &checkpoint.File{Metadata: map[string]string{MetaFormat: "1", MetaModel: string(cfg), MetaTask: task}}
	for k, v := range extra {
		f.Metadata[k] = v
	}
	for _, p := range n.Params().All() {
		f.Tensors = append(f.Tensors, checkpoint.Tensor{Name: p.Name, DType: "F32", Shape: p.Shape, Data: p.Data})
	}
	return f
}

// Load is LoadModel for restoration networks.
func Load(f *checkpoint.File) (Network, error) {
	m, err := LoadModel(f)
	if err != nil {
		return nil, err
	}
	n, ok := m.(Network)
	if !ok {
		return nil, fmt.Errorf("%s: found a network to %s (%s), expected one that restores images", f.Name, m.Config().Kind(), m.Config().Type)
	}
	return n, nil
}

// LoadModel builds the network a weight file describes, with its weights. Errors
// name the file, the tensor or key, what was found and what was expected; a
// tensor that is missing, superfluous, of another shape or not finite is one.
func LoadModel(f *checkpoint.File) (Model, error) {
	text, ok := f.Metadata[MetaModel]
	if !ok {
		return nil, fmt.Errorf("%s: no %q in the metadata, expected a weight file of this program", f.Name, MetaModel)
	}
	if v := f.Metadata[MetaFormat]; v != "1" {
		return nil, fmt.Errorf("%s: %s: found %q, expected \"1\"", f.Name, MetaFormat, v)
	}
	var cfg Config
	// Strict: a key this version does not know could change what the weights mean.
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&cfg); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", f.Name, MetaModel, err)
	}
	if err := checkSize(cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	n, err := Build(cfg, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if err := f.CheckFinite(); err != nil {
		return nil, err
	}
	for _, p := range n.Params().All() {
		t := f.Get(p.Name)
		if t == nil {
			return nil, fmt.Errorf("%s: tensor %q is missing", f.Name, p.Name)
		}
		if !slices.Equal(t.Shape, p.Shape) {
			return nil, fmt.Errorf("%s: tensor %q has shape %v, expected %v", f.Name, p.Name, t.Shape, p.Shape)
		}
		copy(p.Data, t.Data)
	}
	if len(f.Tensors) != len(n.Params().All()) {
		for _, t := range f.Tensors {
			if n.Params().Get(t.Name) == nil {
				return nil, fmt.Errorf("%s: tensor %q is not part of the network its metadata describes", f.Name, t.Name)
			}
		}
	}
	return n, nil
}

// checkSize refuses a configuration from a file that would need absurd memory
// before its tensors are even looked at.
func checkSize(c Config) error {
	r, err := c.Resolved()
	if err != nil {
		return err
	}
	if r.Kind() != Restore {
		w := float64(r.Plat.Width)
		if n := float64(r.Blocks)*w*w*(4+2*r.Plat.MLP) + w*r.Plat.tables(r.Channels); n > 1<<26 {
			return fmt.Errorf("%s: the network has over %d parameters, expected fewer", MetaModel, 1<<26)
		}
		return nil
	}
	if r.Type == "swin" {
		e := float64(r.Swin.Embed)
		if n := float64(r.Blocks) * e * e * (9 + float64(r.Swin.Layers)*(4+2*r.Swin.MLP)); n > 1<<26 {
			return fmt.Errorf("%s: the network has over %d parameters, expected fewer", MetaModel, 1<<26)
		}
		return nil
	}
	perBlock := r.Features.Channels*r.Features.Channels*9*r.Features.Layers + r.Heads*r.FeatureDim*(r.FeatureDim+4*r.Features.Channels+9**r.Features.Detail)
	if perBlock > 1<<26/r.Blocks {
		return fmt.Errorf("%s: the network has over %d parameters, expected fewer", MetaModel, 1<<26)
	}
	return nil
}
