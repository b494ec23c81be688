package infer_test

import (
	"context"
	"fmt"
	"image"
	"image/color"

	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// ramp is a gray picture that gets brighter to the right and downwards.
func ramp(w, h int) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetGray(x, y, color.Gray{Y: uint8(40 + 5*x + 3*y)})
		}
	}
	return m
}

// A network from the binary, or from a file, in a few lines.
func ExampleOpen() {
	net, err := infer.Open("uglr-demosaic")
	if err != nil {
		fmt.Println(err)
		return
	}
	picture, err := net.Restore(context.Background(), ramp(32, 24), infer.WithPattern("rggb"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(picture.Bounds())
	// Output: (0,0)-(32,24)
}

// Any network can be used, here one that has not been trained: whatever it makes
// of the missing pixels, samples are kept.
func ExampleNetwork_Restore() {
	untrained, err := model.New(model.Config{Preset: "tiny"}, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	net := infer.New("untrained", untrained, data.Degradation{Task: data.Scale, Scale: 2})
	small := ramp(20, 10)
	large, err := net.Restore(context.Background(), small, infer.WithScale(2), infer.WithWorkers(2))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(large.Bounds(), large.At(14, 6) == small.At(7, 3))
	// Output: (0,0)-(40,20) true
}

// The classical methods restore as networks do: this one draws a membrane over
// the hole.
func ExampleResolve() {
	r, err := infer.Resolve("fill", "harmonic")
	if err != nil {
		fmt.Println(err)
		return
	}
	picture := imageio.FromImage(ramp(9, 9))
	mask := imageio.New(1, 9, 9)
	mask.Pix[4*9+4] = 1 // white: the pixel in the middle is missing
	out, err := r.RestoreImage(context.Background(), picture, infer.ImageOptions{Mask: mask})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Name, "with", r.Params, "parameters gives", out.ToImage().At(4, 4))
	// Output: harmonic with 0 parameters gives {72}
}

// A method is tried on a complete picture: degraded, restored and compared. A ramp
// is linear, so all that is lost is at the far border, where samples end.
func ExampleRestorer_Simulate() {
	r, err := infer.Resolve("scale", "bicubic")
	if err != nil {
		fmt.Println(err)
		return
	}
	half := data.Degradation{Task: data.Scale, Scale: 2}
	s, err := r.Simulate(context.Background(), imageio.FromImage(ramp(24, 24)), half, 1, infer.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("PSNR %.2f dB\n", s.PSNR["rgb"])
	// Output: PSNR 47.46 dB
}

// Names says what there is for a task.
func ExampleNames() {
	for _, name := range infer.Names("fill") {
		if r, err := infer.Resolve("fill", name); err == nil && r.Params == 0 {
			fmt.Println(name)
		}
	}
	// Output: harmonic
}
