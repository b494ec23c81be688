package train

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/model"
)

// TestInitialWeights checks that tensors of the same name and shape are taken
// over, that the others are named, and that a network with nothing in common is
// refused.
func TestInitialWeights(t *testing.T) {
	from, err := model.New(model.Config{Preset: "tiny"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	to, err := model.New(model.Config{Preset: "tiny", CGSteps: 6}, 2)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := model.New(to.Config(), 2)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if err := initialise(to.Params(), from.Params(), slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	for _, p := range to.Params().All() {
		want := from.Params().Get(p.Name)
		if strings.HasSuffix(p.Name, ".alpha") || strings.HasSuffix(p.Name, ".beta") {
			want = fresh.Params().Get(p.Name)
			if !strings.Contains(log.String(), p.Name) {
				t.Errorf("the log does not name %s: %s", p.Name, &log)
			}
		}
		for i, v := range p.Data {
			if v != want.Data[i] {
				t.Fatalf("%s[%d]: found %v, expected %v", p.Name, i, v, want.Data[i])
			}
		}
	}
	err = initialise(newTwoLayers(t, 1).params, from.Params(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "no tensor of a name and shape") {
		t.Errorf("a network with nothing in common: error %v", err)
	}
	if err := initialise(to.Params(), nil, nil); err != nil {
		t.Error(err)
	}
}
