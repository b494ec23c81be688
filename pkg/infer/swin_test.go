package infer

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// TestSwinTilesDoNotChangeABit checks that attention in windows is the same in
// tiles and in the whole image, with weights large enough for every token a
// network can see to matter.
func TestSwinTilesDoNotChangeABit(t *testing.T) {
	for name, cfg := range map[string]model.Config{
		"tiny":      {Type: "swin", Preset: "tiny"},
		"one group": {Type: "swin", Preset: "tiny", Blocks: 1, Swin: model.Swin{Layers: 3}},
		"groups":    {Type: "swin", Preset: "tiny", Blocks: 3, Swin: model.Swin{Layers: 1, Window: 6}},
		"window 2":  {Type: "swin", Preset: "tiny", Consistency: "none", MaskInput: off(), Swin: model.Swin{Window: 2, Layers: 4}},
		"gray":      {Type: "swin", Preset: "tiny", Channels: 1},
	} {
		t.Run(name, func(t *testing.T) {
			net, err := model.New(cfg, 5)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(5, 6))
			for _, p := range net.Params().All() {
				for i := range p.Data {
					p.Data[i] += .2 * float32(rng.NormFloat64())
				}
			}
			c := net.Channels()
			d := data.Degradation{Task: data.Demosaic}
			if c == 1 {
				d = data.Degradation{Task: data.Scale}
			}
			n := New(name, net, d)
			for _, size := range [][2]int{{101, 143}, {128, 66}, {3, 90}, {150, 3}, {2, 2}} {
				h, w := size[0], size[1]
				y, mask := degraded(t, d, c, h, w)
				want := forward(t, net, y, mask, h, w)
				for _, opt := range []Options{{Workers: 1}, {Workers: 2}, {Tile: 16, Workers: 2}, {Tile: 20, Workers: 1}, {Tile: 64, Workers: 3}} {
					got, err := n.RestorePlanar(context.Background(), y, mask, c, h, w, opt)
					if err != nil {
						t.Fatal(err)
					}
					if i := different(got, want); i >= 0 {
						k, r, x := place(i, h, w)
						t.Fatalf("%dx%d, %+v: first difference at channel %d, pixel (%d,%d): %v, expected %v", w, h, opt, k, x, r, got[i], want[i])
					}
				}
			}
		})
	}
}

// TestSwinTilesNeedTheirHalo halves the reach of each block: the test above must
// be able to fail.
func TestSwinTilesNeedTheirHalo(t *testing.T) {
	net, err := model.New(model.Config{Type: "swin", Preset: "tiny"}, 5)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for _, p := range net.Params().All() {
		for i := range p.Data {
			p.Data[i] += .2 * float32(rng.NormFloat64())
		}
	}
	const h, w = 101, 143
	d := data.Degradation{Task: data.Demosaic}
	y, mask := degraded(t, d, 3, h, w)
	want := forward(t, net, y, mask, h, w)
	got, err := New("short", shortReach{net}, d).RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Tile: 16, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if different(got, want) < 0 {
		t.Error("tiles with half the halo give the same image")
	}
}

// shortReach is a network that says it looks half as far as it does.
type shortReach struct{ model.Network }

func (s shortReach) Reach(t int) int { return s.Network.Reach(t) / 2 }
