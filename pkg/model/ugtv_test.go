package model

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

// TestTVPaperParameterCount holds the paper preset to the published counts, and
// the default to the size promised for it.
func TestTVPaperParameterCount(t *testing.T) {
	for channels, want := range map[int]int{3: 323435, 1: 319115} {
		n, err := New(Config{Type: "ugtv", Preset: "paper", Channels: channels}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Params().Count(); got != want {
			t.Errorf("%d channels: %d parameters, published %d", channels, got, want)
		}
	}
	n, err := New(Config{Type: "ugtv"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := n.Params().Count(); got > 330000 {
		t.Errorf("the default network has %d parameters, expected at most 330,000", got)
	}
}

// TestTVGoldenNetwork reproduces output, loss and gradients of the whole paper
// network on an 8 x 8 RGGB image, weights and image being formulas.
func TestTVGoldenNetwork(t *testing.T) {
	b, err := os.ReadFile("testdata/ugtv.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		E2E struct {
			Init, Out []any
			OutPixel  []float64 `json:"out pixel"`
			MSE       float64   `json:"mse"`
			DComb     []float64 `json:"dcomb b0"`
			DAlpha    []float64 `json:"dalpha b0[0][0]"`
			DBeta     []float64 `json:"dbeta b0[0][0]"`
			DA0       float64   `json:"dA b0[0][0][0]"`
			DA4       float64   `json:"dA b4[3][2][2]"`
			DConv1    float64   `json:"dconv1"`
			DConv4    float64   `json:"dconv4"`
			DSkip     []float64 `json:"dskip b0"`
			DGamma    []float64 `json:"dgamma b0"`
		} `json:"e2e uGTV"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	want := file.E2E
	if len(want.OutPixel) != 3 || len(want.DComb) != 4 || len(want.DSkip) != 6 || len(want.DGamma) != 5 {
		t.Fatal("testdata/ugtv.json lacks values")
	}
	init, o, mse, grad := formulaNetwork(t, Config{Type: "ugtv", Preset: "paper"})
	summary(t, "initial interpolation", init, want.Init)
	summary(t, "output", o, want.Out)
	for c, v := range want.OutPixel {
		near(t, fmt.Sprintf("output (%d,3,4)", c), o[(c*8+3)*8+4], v, 1e-11, 1)
	}
	near(t, "loss", mse, want.MSE, 1e-11, 0)
	for h := range 4 {
		near(t, "gradient of mix", grad("block0.mix")[h], want.DComb[h], 1e-7, 0)
		near(t, "gradient of alpha", grad("block0.alpha")[h*50], want.DAlpha[h], 1e-7, 0)
		near(t, "gradient of beta", grad("block0.beta")[h*50], want.DBeta[h], 1e-7, 0)
	}
	for l, v := range want.DGamma {
		near(t, fmt.Sprintf("gradient of gamma %d", l), grad("block0.gamma")[l], v, 1e-7, 0)
	}
	near(t, "gradient of metric, block 0", grad("block0.metric")[0], want.DA0, 1e-7, 0)
	near(t, "gradient of metric, block 4", grad("block4.metric")[3*144+2*12+2], want.DA4, 1e-7, 0)
	near(t, "gradient of conv0, block 0", grad("block0.conv0.weight")[0], want.DConv1, 1e-7, 0)
	near(t, "gradient of conv3, block 4", grad("block4.conv3.weight")[(7*48+11)*9+2*3+1], want.DConv4, 1e-7, 0)
	for i, v := range want.DSkip {
		near(t, "gradient of skip", grad("block0.skip")[i], v, 1e-7, 0)
	}
}

func init() {
	variants["ugtv"] = Config{Type: "ugtv", Preset: "tiny"}
	variants["ugtv, one channel"] = Config{Type: "ugtv", Preset: "tiny", Channels: 1, Constraint: "multiplier", Consistency: "none"}
	variants["ugtv, random walk"] = Config{Type: "ugtv", Preset: "tiny", Normalization: "random_walk", Color: "independent", SlackStart: "estimate"}
	variants["ugtv, paper"] = Config{Type: "ugtv", Preset: "paper", Blocks: 2, Heads: 2, FeatureDim: 3, CGLayers: 3, CGSteps: 3,
		Features: Features{Layers: 2, Channels: 6}}
}

// TestTVConfigErrors feeds what a uGTV cannot be.
func TestTVConfigErrors(t *testing.T) {
	for key, cfg := range map[string]Config{
		"model.normalization": {Type: "ugtv", Normalization: "symmetric"},
		"model.constraint":    {Type: "ugtv", Constraint: "soft"},
		"model.slack_start":   {Type: "ugtv", SlackStart: "one"},
		"model.gamma":         {Type: "ugtv", Gamma: math.Inf(1)},
	} {
		if _, err := New(cfg, 1); err == nil || !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("%s: error %v", key, err)
		}
	}
	if _, err := New(Config{Type: "ugtv", Gamma: .005}, 1); err == nil || !strings.Contains(err.Error(), "at least 0.01") {
		t.Errorf("gamma .005: error %v", err)
	}
}
