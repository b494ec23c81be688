package infer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/baseline"
	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/model/weights"
)

// KindError says that a network is of another kind than the one asked for, such
// as a classifier where images are to be restored.
type KindError struct {
	Name string
	Type string     // the architecture, or "classical method"
	Kind model.Kind // what the network is for
	Want model.Kind
}

// kinds are the words for networks of a kind.
var kinds = map[model.Kind]string{
	model.Restore:  "a network that restores images",
	model.Classify: "a classifier",
	model.Language: "a language model",
}

// Error names both kinds.
func (e *KindError) Error() string {
	return fmt.Sprintf("model %q: found %s (%s), expected %s", e.Name, kinds[e.Kind], e.Type, kinds[e.Want])
}

// read returns the weight file called nameOrPath, the name of an embedded network
// or a path. A name that is neither gives a *NotFoundError.
func read(nameOrPath string) (*checkpoint.File, error) {
	if b, err := weights.Open(nameOrPath); err == nil {
		return checkpoint.ReadBytes(b, nameOrPath)
	}
	if !isFile(nameOrPath) {
		return nil, notFound("", nameOrPath, weights.Names())
	}
	return checkpoint.ReadFile(nameOrPath)
}

// open reads a network of a kind and what it was trained for. A classical method
// is of the kind that restores.
func open(nameOrPath string, want model.Kind) (model.Model, data.Trained, error) {
	var trained data.Trained
	if !isFile(nameOrPath) {
		for _, task := range Tasks {
			if slices.Contains(baseline.Names(task), nameOrPath) {
				return nil, trained, &KindError{nameOrPath, "classical method", model.Restore, want}
			}
		}
	}
	f, err := read(nameOrPath)
	if err != nil {
		return nil, trained, err
	}
	m, err := model.LoadModel(f)
	if err != nil {
		return nil, trained, err
	}
	if cfg := m.Config(); cfg.Kind() != want {
		return nil, trained, &KindError{nameOrPath, cfg.Type, cfg.Kind(), want}
	}
	text, ok := f.Metadata[model.MetaTask]
	if !ok {
		return nil, trained, fmt.Errorf("%s: no metadata %q, expected what the network was trained for", nameOrPath, model.MetaTask)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&trained); err != nil {
		return nil, trained, fmt.Errorf("%s: metadata %q: %w", nameOrPath, model.MetaTask, err)
	}
	return m, trained, nil
}
