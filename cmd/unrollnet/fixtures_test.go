package main

import (
	"image"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/model"
)

// noisy is a gray picture that no format makes small.
func noisy(w, h int) *image.Gray {
	rng := rand.New(rand.NewPCG(1, 2))
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = uint8(rng.Uint32())
	}
	return img
}

// writeWeights writes weights of the tiny preset for demosaicking.
func writeWeights(t *testing.T, path string) {
	t.Helper()
	net, err := model.New(model.Config{Preset: "tiny"}, 7)
	if err != nil {
		t.Fatal(err)
	}
	b, err := model.Save(net, `{"task":"demosaic","pattern":"any"}`, nil).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
