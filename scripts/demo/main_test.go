package main

import (
	"image"
	"image/color"
	"testing"

	"github.com/disintegration/imaging"
)

func TestWorstFindsTheDifference(t *testing.T) {
	a := imaging.New(300, 200, color.NRGBA{10, 20, 30, 255})
	b := imaging.Clone(a)
	spot := image.Pt(250, 150)
	b.SetNRGBA(spot.X, spot.Y, color.NRGBA{200, 20, 30, 255})
	got := worst(a, b)
	if !spot.In(got) || got.Dx() != part || got.Dy() != part {
		t.Errorf("found %v, expected a square of %d with %v", got, part, spot)
	}
	small := imaging.New(20, 300, color.Black)
	if got := worst(small, small); got.Dx() != 20 || got.Dy() != 20 {
		t.Errorf("narrow picture: found %v, expected a square of 20", got)
	}
}

func TestModuleDirHasPhotographs(t *testing.T) {
	dir, err := moduleDir(imagingModule)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"flowers.png", "branches.png"} {
		if _, err := imaging.Open(dir + "/testdata/" + name); err != nil {
			t.Error(err)
		}
	}
}
