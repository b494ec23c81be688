package weights_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/model/weights"
)

// TestEmbedded checks what every embedded network promises: it loads, is small,
// has a card that says where its data came from, and its file is what writing it
// again gives.
func TestEmbedded(t *testing.T) {
	names := weights.Names()
	if len(names) == 0 {
		t.Fatal("no network is embedded")
	}
	for _, name := range names {
		b, err := weights.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 1_500_000 {
			t.Errorf("%s: %d bytes, expected at most 1.5 MB", name, len(b))
		}
		f, err := checkpoint.ReadBytes(b, name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := model.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		if c := n.Params().Count(); c > 330000 {
			t.Errorf("%s: %d parameters, expected at most 330,000", name, c)
		}
		again, err := model.Save(n, f.Metadata[model.MetaTask], nil).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, again) {
			t.Errorf("%s: the file differs from the one written from its network", name)
		}
		info := weights.About(name)
		if len(info.Figures) == 0 {
			t.Errorf("%s: no figures in index.json", name)
		}
		if d := info.DefaultFor; d != "" && weights.Default(d) != name {
			t.Errorf("%s and %s are both the default for %s", name, weights.Default(d), d)
		}
		card, err := weights.Card(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range info.Figures {
			if want := fmt.Sprintf("%.2f", f.PSNR); !bytes.Contains(card, []byte(want)) {
				t.Errorf("card of %s does not have the figure %s of %s", name, want, f.Set)
			}
		}
		for _, want := range []string{"# " + name, "CC BY-SA 4.0", "unrollnet train configs/" + name + ".yaml"} {
			if !bytes.Contains(card, []byte(want)) {
				t.Errorf("card of %s does not say %q", name, want)
			}
		}
	}
	if _, err := weights.Open("no-such"); err == nil {
		t.Error("an unknown name gives no error")
	}
}
