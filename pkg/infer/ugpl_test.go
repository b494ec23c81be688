package infer

import (
	"context"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// TestUGPLTilesDoNotChangeABit checks that re-weighting, whose weights depend on
// the signal, looks no further than a block says: tiles give the bits of the whole.
func TestUGPLTilesDoNotChangeABit(t *testing.T) {
	for name, cfg := range map[string]model.Config{
		"tiny":   {Type: "ugpl", Preset: "tiny"},
		"layers": {Type: "ugpl", Preset: "tiny", CGLayers: 4, CGSteps: 1, P: 1.1, Blocks: 1},
		"gray":   {Type: "ugpl", Preset: "tiny", Channels: 1, Slope: off()},
	} {
		net, err := model.New(cfg, 5)
		if err != nil {
			t.Fatal(err)
		}
		c := net.Channels()
		d := data.Degradation{Task: data.Demosaic}
		if c == 1 {
			d = data.Degradation{Task: data.Scale}
		}
		n := New(name, net, d)
		for _, size := range [][2]int{{101, 143}, {64, 66}, {3, 50}, {2, 2}} {
			h, w := size[0], size[1]
			y, mask := degraded(t, d, c, h, w)
			want := forward(t, net, y, mask, h, w)
			for _, opt := range []Options{{Workers: 1}, {Tile: 32, Workers: 2}, {Tile: 20, Workers: 1}, {Tile: 64, Workers: 3}} {
				got, err := n.RestorePlanar(context.Background(), y, mask, c, h, w, opt)
				if err != nil {
					t.Fatal(err)
				}
				if i := different(got, want); i >= 0 {
					k, r, x := place(i, h, w)
					t.Fatalf("%s, %dx%d, %+v: first at channel %d, pixel (%d,%d): %v, expected %v", name, w, h, opt, k, x, r, got[i], want[i])
				}
			}
		}
	}
}
