package infer

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// mirrored and transposed move the planes x (c,h,w) about, one pixel at a time.
func mirrored(x []float32, c, h, w int, rows, columns bool) []float32 {
	out := make([]float32, len(x))
	for i := range out {
		k, y, q := i/(h*w), i/w%h, i%w
		if rows {
			y = h - 1 - y
		}
		if columns {
			q = w - 1 - q
		}
		out[i] = x[(k*h+y)*w+q]
	}
	return out
}

func transposed(x []float32, c, h, w int) []float32 {
	out := make([]float32, len(x))
	for i := range x {
		k, y, q := i/(h*w), i/w%h, i%w
		out[(k*w+q)*h+y] = x[i]
	}
	return out
}

// TestEnsemble holds an ensemble to the mean of restorations of pictures turned
// by hand, for mosaics (whose pattern changes as they are mirrored) and missing
// pixels, and checks that samples keep their bits and tiles change none.
func TestEnsemble(t *testing.T) {
	net, err := model.New(model.Config{Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	const c, h, w = 3, 17, 22
	ctx := context.Background()
	for _, d := range []data.Degradation{{Task: data.Demosaic, Pattern: "rggb"}, {Task: data.Fill, Missing: .6, Shape: "random"}} {
		n := New("tiny", net, d)
		y, mask := degraded(t, d, c, h, w)
		restore := func(y, mask []float32, h, w int, o Options) []float32 {
			t.Helper()
			out, err := n.RestorePlanar(ctx, y, mask, c, h, w, o)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		sum, done := make([]float64, len(y)), 0
		for i, flips := range [][2]bool{{false, false}, {true, true}, {false, true}, {true, false}} {
			ty, tm := mirrored(y, c, h, w, flips[0], flips[1]), mirrored(mask, c, h, w, flips[0], flips[1])
			plain := mirrored(restore(ty, tm, h, w, Options{Workers: 1}), c, h, w, flips[0], flips[1])
			turned := restore(transposed(ty, c, h, w), transposed(tm, c, h, w), w, h, Options{Workers: 1})
			turned = mirrored(transposed(turned, c, w, h), c, h, w, flips[0], flips[1])
			for k := range sum {
				sum[k] += float64(plain[k]) + float64(turned[k])
			}
			done += 2
			if i == 2 {
				continue // six of eight are no group
			}
			got := restore(y, mask, h, w, Options{Workers: 1, Ensemble: done})
			for k, v := range got {
				if want := sum[k] / float64(done); math.Abs(float64(v)-want) > 2e-7 {
					t.Fatalf("%s, %d orientations: element %d is %v, expected %v", d.Task, done, k, v, want)
				}
				if mask[k] == 1 && v != y[k] {
					t.Fatalf("%s, %d orientations: sample %d is %v, expected %v", d.Task, done, k, v, y[k])
				}
			}
			if i := different(got, restore(y, mask, h, w, Options{Workers: 3, Tile: 8, Ensemble: done})); i >= 0 {
				t.Errorf("%s, %d orientations: tiles change element %d", d.Task, done, i)
			}
			back := restore(transposed(y, c, h, w), transposed(mask, c, h, w), w, h, Options{Workers: 1, Ensemble: 2})
			if done == 2 && different(got, transposed(back, c, w, h)) >= 0 {
				t.Errorf("%s: two orientations of the transposed picture give another result", d.Task)
			}
		}
	}
}

func TestEnsembleErrors(t *testing.T) {
	net, err := model.New(model.Config{Preset: "tiny"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	const h, w = 12, 16
	for _, k := range []struct {
		d    data.Degradation
		n    int
		fine bool
	}{
		{data.Degradation{Task: data.Demosaic, Pattern: "rggb"}, 3, false},
		{data.Degradation{Task: data.Demosaic, Pattern: "rggb"}, -1, false},
		{data.Degradation{Task: data.Scale, Scale: 2}, 4, false},
		{data.Degradation{Task: data.Scale, Scale: 2}, 2, true},
	} {
		y, mask := degraded(t, k.d, 3, h, w)
		_, err := New("tiny", net, k.d).RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1, Ensemble: k.n})
		if (err == nil) != k.fine {
			t.Errorf("%s, %d orientations: error %v", k.d.Task, k.n, err)
		}
	}
	d := data.Degradation{Task: data.Demosaic, Pattern: "rggb"}
	y, mask := degraded(t, d, 3, h, w)
	_, err = New("tiny", net, d).RestorePlanar(context.Background(), y, mask, 3, h, w, Options{Workers: 1, Ensemble: 2, MaxMemory: 5000})
	var small *MemoryError
	if !errors.As(err, &small) || small.MaxMemory != 5000 || small.Need <= 5000 {
		t.Errorf("5000 bytes: error %v", err)
	}
}
