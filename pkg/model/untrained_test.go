package model

import (
	"fmt"
	"image"
	_ "image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/graph"
	"github.com/unrollnet/unrollnet/pkg/internal/testdata"
	"github.com/unrollnet/unrollnet/pkg/nn"
	"github.com/unrollnet/unrollnet/pkg/op"
	G "gorgonia.org/gorgonia"
)

// photographs returns crops (3,side,side) from the middle of every step-th picture
// of the training set.
func photographs(t *testing.T, side, step int) [][]float32 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testdata.Dir(t, "train_cid22"), "*.png"))
	if err != nil || len(files) == 0 {
		t.Skipf("real data: %d pictures, %v", len(files), err)
	}
	var crops [][]float32
	for k := step / 2; k < len(files); k += step {
		f, err := os.Open(files[k])
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := image.Decode(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", files[k], err)
		}
		top := image.Pt((m.Bounds().Dx()-side)/2, (m.Bounds().Dy()-side)/2).Add(m.Bounds().Min)
		x := make([]float32, 3*side*side)
		for i := range side * side {
			r, g, b, _ := m.At(top.X+i%side, top.Y+i/side).RGBA()
			for c, v := range []uint32{r, g, b} {
				x[c*side*side+i] = float32(v) / 0xffff
			}
		}
		crops = append(crops, x)
	}
	return crops
}

// demosaicked returns the mean over the crops of the PSNR, in dB, of a network as
// it is before training and of the initial interpolation, from RGGB samples.
func demosaicked(t *testing.T, cfg Config, crops [][]float32, side int) (network, initial float64) {
	t.Helper()
	n, err := New(cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	b := nn.NewBuilder(G.NewGraph(), op.NewInferenceEnv(1), n.Params())
	size := 3 * side * side
	y, mask, init := make([]float32, size), make([]float32, size), make([]float32, size)
	out, err := n.Forward(b, b.Input("y", y, 1, 3, side, side), b.Input("mask", mask, 1, 3, side, side))
	if err != nil {
		t.Fatal(err)
	}
	op.Keep(out)
	var v G.Value
	G.Read(out, &v)
	vm := G.NewTapeMachine(b.Graph)
	defer vm.Close()
	psnr := func(got, want []float32) float64 {
		var sum float64
		for i := range got {
			d := float64(got[i]) - float64(want[i])
			sum += d * d
		}
		return -10 * math.Log10(sum/float64(len(got))) / float64(len(crops))
	}
	for _, x := range crops {
		for i := range x {
			y[i], mask[i] = 0, 0
			if ch, r, c := i/(side*side), i/side%side, i%side; ch == r%2+c%2 {
				y[i], mask[i] = x[i], 1
			}
		}
		if err := vm.RunAll(); err != nil {
			t.Fatal(err)
		}
		network += psnr(v.Data().([]float32), x)
		graph.Initial(init, y, mask, 3, side, side)
		initial += psnr(init, x)
		vm.Reset()
	}
	return network, initial
}

// TestUntrainedTotalVariation checks that the default uGTV improves on the initial
// interpolation of photographs before it has learned anything, as a prior should,
// and logs what the start of the penalties and of the slacks does to that.
func TestUntrainedTotalVariation(t *testing.T) {
	const side = 96
	crops := photographs(t, side, 31)
	net, initial := demosaicked(t, Config{Type: "ugtv"}, crops, side)
	t.Logf("%d crops: initial interpolation %.2f dB, uGTV %.2f dB", len(crops), initial, net)
	if net < initial+1 {
		t.Errorf("untrained uGTV %.2f dB, the interpolation it starts from %.2f dB, expected 1 dB more", net, initial)
	}
	if !testing.Verbose() {
		return
	}
	glr, _ := demosaicked(t, Config{}, crops, side)
	t.Logf("uGLR %.2f dB", glr)
	for _, start := range []string{"zero", "estimate"} {
		line := ""
		for _, gamma := range []float64{10, 50, 160, 640, 2560} {
			net, _ := demosaicked(t, Config{Type: "ugtv", Gamma: gamma, SlackStart: start}, crops, side)
			line += fmt.Sprintf("  %g: %.2f dB", gamma, net)
		}
		t.Logf("slacks from %s, gamma%s", start, line)
	}
}
