package infer

import (
	"context"
	"fmt"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// forward runs the network as training does: one graph over the whole image.
func forward(t testing.TB, net model.Network, y, mask []float32, h, w int) []float32 {
	t.Helper()
	b := nn.NewBuilder(G.NewGraph(), op.NewEnv(1), net.Params())
	yn := b.Input("y", y, 1, net.Channels(), h, w)
	mn := b.Input("mask", mask, 1, net.Channels(), h, w)
	out, err := net.Forward(b, yn, mn)
	if err != nil {
		t.Fatal(err)
	}
	var v G.Value
	G.Read(out, &v)
	vm := G.NewTapeMachine(b.Graph)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), v.Data().([]float32)...)
}

func on() *bool  { v := true; return &v }
func off() *bool { v := false; return &v }

// variants are networks that differ in everything a tile could notice.
func variants() map[string]model.Config {
	return map[string]model.Config{
		"tiny":        {Preset: "tiny"},
		"carry":       {Preset: "tiny", Features: model.Features{Carry: on()}},
		"full size":   {Preset: "tiny", Features: model.Features{Pack: 1}},
		"paper":       {Preset: "paper", Blocks: 2, CGLayers: 1, CGSteps: 3, Features: model.Features{Channels: 24, Layers: 2}, FeatureDim: 6},
		"random walk": {Preset: "tiny", Normalization: "random_walk", Slope: off(), MaskInput: off()},
		"skip, free":  {Preset: "tiny", BlockSkip: on(), Consistency: "none", Mixing: "pixel"},
		"gray":        {Preset: "tiny", Channels: 1},
		"ugtv":        {Type: "ugtv", Preset: "tiny", CGSteps: 2},
		"ugtv, paper": {Type: "ugtv", Preset: "paper", Blocks: 2, CGLayers: 3, CGSteps: 2, Features: model.Features{Channels: 24, Layers: 2}, FeatureDim: 6},
	}
}

func TestUGLRTilesDoNotChangeABit(t *testing.T) {
	for name, cfg := range variants() {
		t.Run(name, func(t *testing.T) {
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
			for _, size := range [][2]int{{101, 143}, {64, 66}, {3, 50}, {50, 3}, {2, 2}} {
				h, w := size[0], size[1]
				y, mask := degraded(t, d, c, h, w)
				want := forward(t, net, y, mask, h, w)
				for _, opt := range []Options{{Workers: 1}, {Workers: 2}, {Tile: 32, Workers: 2}, {Tile: 20, Workers: 1}, {Tile: 64, Workers: 3}, {Tile: 512, Workers: 3}} {
					got, err := n.RestorePlanar(context.Background(), y, mask, c, h, w, opt)
					if err != nil {
						t.Fatal(err)
					}
					if i := different(got, want); i >= 0 {
						bad := 0
						for k := range got {
							if got[k] != want[k] {
								bad++
							}
						}
						k, r, x := place(i, h, w)
						t.Fatalf("%dx%d, %+v: %s: first at channel %d, pixel (%d,%d): %v, expected %v", w, h, opt,
							fmt.Sprintf("%d of %d values differ", bad, len(got)), k, x, r, got[i], want[i])
					}
				}
			}
		})
	}
}
