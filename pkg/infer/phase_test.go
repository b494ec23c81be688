package infer

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// TestEveryBayerPhase restores the four patterns of one picture by a network
// trained on RGGB: each must equal, bit for bit, that network on the picture
// mirrored at its first row and column so that it begins as RGGB.
func TestEveryBayerPhase(t *testing.T) {
	net, err := model.New(model.Config{Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	n := New("tiny", net, data.Degradation{Task: "demosaic", Pattern: "rggb"})
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range [][2]int{{9, 12}, {2, 2}, {1, 7}, {6, 1}} {
		h, w := size[0], size[1]
		clean := make([]float32, 3*h*w)
		for i := range clean {
			clean[i] = rng.Float32()
		}
		for pattern, move := range map[string][2]int{"rggb": {0, 0}, "grbg": {0, 1}, "gbrg": {1, 0}, "bggr": {1, 1}} {
			mask, err := data.BayerMask(pattern, 3, h, w)
			if err != nil {
				t.Fatal(err)
			}
			y := make([]float32, len(clean))
			for i, m := range mask {
				y[i] = m * clean[i]
			}
			got, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1})
			if min(h, w) == 1 { // lacks a colour: refused, not guessed
				if err == nil {
					t.Errorf("%v %s: no error although a colour has no sample", size, pattern)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%v %s: %v", size, pattern, err)
			}
			H, W := h+move[0], w+move[1]
			big, bigMask := make([]float32, 3*H*W), make([]float32, 3*H*W)
			full, err := data.BayerMask("rggb", 3, H, W)
			if err != nil {
				t.Fatal(err)
			}
			for i := range big {
				c, r, q := i/(H*W), i/W%H-move[0], i%W-move[1]
				r, q = max(r, -r), max(q, -q) // mirrored without repeating the edge
				big[i], bigMask[i] = full[i]*clean[(c*h+r)*w+q], full[i]
			}
			want, err := n.RestorePlanar(context.Background(), big, bigMask, 3, H, W, Options{Workers: 1})
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				c, r, q := i/(h*w), i/w%h, i%w
				if u := want[(c*H+r+move[0])*W+q+move[1]]; v != u {
					t.Fatalf("%v %s: channel %d, row %d, column %d is %v, the mirrored picture gives %v", size, pattern, c, r, q, v, u)
				}
			}
		}
	}
}

// TestOddMosaic restores a mosaic of odd height and width by a transformer: the result
// must be that of the picture with its last row and column mirrored, as it has never
// seen another than an even size.
func TestOddMosaic(t *testing.T) {
	net, err := model.New(model.Config{Type: "swin", Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	n := New("tiny", net, data.Degradation{Task: "demosaic", Pattern: "rggb"})
	const h, w = 13, 17
	d := data.Degradation{Task: data.Demosaic, Pattern: "rggb"}
	y, mask := degraded(t, d, 3, h, w)
	got, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	big, bigMask := make([]float32, 3*(h+1)*(w+1)), make([]float32, 3*(h+1)*(w+1))
	for i := range big {
		c, r, q := i/((h+1)*(w+1)), i/(w+1)%(h+1), i%(w+1)
		r, q = min(r, 2*(h-1)-r), min(q, 2*(w-1)-q)
		big[i], bigMask[i] = y[(c*h+r)*w+q], mask[(c*h+r)*w+q]
	}
	want := forward(t, net, big, bigMask, h+1, w+1)
	for i, v := range got {
		c, r, q := i/(h*w), i/w%h, i%w
		if u := want[(c*(h+1)+r)*(w+1)+q]; v != u {
			t.Fatalf("channel %d, row %d, column %d is %v, the mirrored picture gives %v", c, r, q, v, u)
		}
	}
}

// TestRawPhase holds RawPhase to giving the network the mosaic as it is, which is
// what its blocks compute on the whole image.
func TestRawPhase(t *testing.T) {
	net, err := model.New(model.Config{Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	n := New("tiny", net, data.Degradation{Task: "demosaic", Pattern: "rggb"})
	const h, w = 20, 26
	for _, pattern := range data.Patterns() {
		y, mask := degraded(t, data.Degradation{Task: data.Demosaic, Pattern: pattern}, 3, h, w)
		want := forward(t, net, y, mask, h, w)
		raw, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1, RawPhase: true})
		if err != nil {
			t.Fatal(err)
		}
		if i := different(raw, want); i >= 0 {
			t.Errorf("%s raw: element %d is %v, the network gives %v", pattern, i, raw[i], want[i])
		}
		served, err := n.RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		if same := different(served, want) < 0; same != (pattern == "rggb") {
			t.Errorf("%s served: equal to the raw result is %v", pattern, same)
		}
	}
}
