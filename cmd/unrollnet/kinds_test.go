package main

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdClasses writes labelled images of WIDTH x HEIGHT pixels, a bright row or a
// bright column, as DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, as many in
// each of the classes of training as EACH says and half as many in those of
// testing: classes DIR WIDTH HEIGHT EACH CLASS...
func cmdClasses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: classes DIR WIDTH HEIGHT EACH CLASS...")
	}
	var n [3]int
	for i := range n {
		var err error
		n[i], err = strconv.Atoi(args[1+i])
		ts.Check(err)
	}
	w, h, each := n[0], n[1], n[2]
	for k, class := range args[4:] {
		for i := range each + each/2 {
			rng := rand.New(rand.NewPCG(uint64(k), uint64(i)))
			img := image.NewGray(image.Rect(0, 0, w, h))
			row, col := rng.IntN(h), rng.IntN(w)
			for y := range h {
				for x := range w {
					v := uint8(rng.IntN(60))
					if k%2 == 0 && y == row || k%2 == 1 && x == col {
						v += 180
					}
					img.SetGray(x, y, color.Gray{Y: v})
				}
			}
			dir := filepath.Join(ts.MkAbs(args[0]), "train", class)
			if i >= each {
				dir = filepath.Join(ts.MkAbs(args[0]), "test", class)
			}
			ts.Check(os.MkdirAll(dir, 0o755))
			f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%02d.png", i)))
			ts.Check(err)
			ts.Check(png.Encode(f, img))
			ts.Check(f.Close())
		}
	}
}
