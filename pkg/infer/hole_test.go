package infer

import (
	"context"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// TestRegionWithoutSamples fills a hole of 64x64 pixels, whose middle lies beyond
// what the blocks of a small network reach, by every architecture: the result is
// finite, near the range of the samples, and does not depend on tiles.
func TestRegionWithoutSamples(t *testing.T) {
	const h, w, from, to = 90, 96, 14, 78
	for _, typ := range model.Types {
		if (model.Config{Type: typ}).Kind() != model.Restore {
			continue
		}
		t.Run(typ, func(t *testing.T) {
			net, err := model.New(model.Config{Type: typ, Preset: "tiny"}, 4)
			if err != nil {
				t.Fatal(err)
			}
			n := New(typ, net, data.Degradation{Task: data.Fill, Missing: .8})
			y, mask := make([]float32, 3*h*w), make([]float32, 3*h*w)
			for i := range y {
				r, q := i/w%h, i%w
				if r < from || r >= to || q < from || q >= to {
					mask[i] = 1
					y[i] = .2 + .6*float32(r+q)/(h+w)
				}
			}
			out, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1})
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range out {
				// Written so that NaN fails.
				if !(v > 0 && v < 1) {
					t.Fatalf("element %d is %v, samples lie between 0.2 and 0.8", i, v)
				}
				if mask[i] == 1 && v != y[i] {
					t.Fatalf("element %d is %v, its sample %v", i, v, y[i])
				}
			}
			tiled, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 2, Tile: 32})
			if err != nil {
				t.Fatal(err)
			}
			if i := different(tiled, out); i >= 0 {
				t.Errorf("in tiles element %d is %v, expected %v", i, tiled[i], out[i])
			}

			// A single sample is enough; none at all is refused.
			clear(mask)
			clear(y)
			for c := range 3 {
				mask[c*h*w], y[c*h*w] = 1, .5
			}
			if out, err = n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1}); err != nil {
				t.Fatal(err)
			}
			if i := notFinite(out); i >= 0 {
				t.Errorf("one sample: element %d is %v", i, out[i])
			}
			clear(mask)
			clear(y)
			_, err = n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1})
			if err == nil || !strings.Contains(err.Error(), "no sample of channel 0 is known") {
				t.Errorf("a mask without a sample: found %v, expected an error that says so", err)
			}
		})
	}
}
