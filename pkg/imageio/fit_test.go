package imageio

import (
	"image"
	"math"
	"slices"
	"testing"
)

// plain is an image whose sample at channel c, row y, column x is f(c,y,x).
func plain(c, h, w int, f func(c, y, x int) float32) *Image {
	m := New(c, h, w)
	for i := range m.Pix {
		m.Pix[i] = f(i/(h*w), i/w%h, i%w)
	}
	return m
}

// A part of the right size is taken from the middle, to the bit.
func TestFitTakesTheMiddle(t *testing.T) {
	m := plain(3, 5, 9, func(c, y, x int) float32 { return float32(c*100+y*10+x) / 1000 })
	m.Bits = 16
	got, err := m.Fit(3, 5, 5)
	if err != nil {
		t.Fatal(err)
	}
	want := plain(3, 5, 5, func(c, y, x int) float32 { return float32(c*100+y*10+x+2) / 1000 })
	if !slices.Equal(got, want.Pix) {
		t.Errorf("found %v", got)
	}
	for _, c := range []struct {
		height, width, h, w int
		want                image.Rectangle
	}{
		{9, 5, 1, 1, image.Rect(0, 2, 5, 7)},
		{10, 10, 28, 28, image.Rect(0, 0, 10, 10)},
		{100, 300, 10, 20, image.Rect(50, 0, 250, 100)},
		{1, 1000, 1000, 1, image.Rect(499, 0, 500, 1)},
		{3, 7, 2, 3, image.Rect(1, 0, 6, 3)}, // 4.5 columns, halves up
	} {
		if got := middle(c.height, c.width, c.h, c.w); got != c.want {
			t.Errorf("middle of %dx%d for %dx%d: found %v, expected %v", c.width, c.height, c.w, c.h, got, c.want)
		}
	}
}

// Resampling keeps what is constant and the mean of what is not: every pixel
// counts, also where the image becomes much smaller.
func TestFitResamples(t *testing.T) {
	gray := plain(1, 40, 40, func(_, y, x int) float32 { return float32((x + y) % 2) })
	got, err := gray.Fit(1, 4, 4)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if math.Abs(float64(v)-.5) > .02 {
			t.Errorf("pixel %d of a fine check pattern is %v, expected its mean", i, v)
		}
	}
	even := plain(3, 7, 11, func(c, _, _ int) float32 { return float32(40*(c+1)) / 255 })
	for _, size := range [][2]int{{3, 3}, {20, 31}, {1, 50}} {
		got, err := even.Fit(3, size[0], size[1])
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 3*size[0]*size[1] {
			t.Fatalf("%v: %d samples", size, len(got))
		}
		for i, v := range got {
			if want := float32(40*(i/(size[0]*size[1])+1)) / 255; math.Abs(float64(v-want)) > 1e-6 {
				t.Fatalf("%v: sample %d is %v, expected %v", size, i, v, want)
			}
		}
	}
}

func TestFitChannelsAndAlpha(t *testing.T) {
	colour := plain(3, 2, 2, func(c, _, _ int) float32 { return []float32{1, .5, .25}[c] })
	got, err := colour.Fit(1, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if want := float32(.299 + .587*.5 + .114*.25); math.Abs(float64(got[3]-want)) > 1e-7 || len(got) != 4 {
		t.Errorf("gray is %v, expected %v", got, want)
	}
	gray := plain(1, 2, 2, func(_, y, x int) float32 { return float32(2*y+x) / 4 })
	gray.Alpha = []float32{1, 1, .5, 0}
	got, err = gray.Fit(3, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if want := []float32{0, .25, .75, 1}; !slices.Equal(got, slices.Concat(want, want, want)) {
		t.Errorf("on white: found %v", got)
	}
	for _, bad := range [][3]int{{2, 4, 4}, {1, 0, 4}, {3, 4, -1}} {
		if _, err := gray.Fit(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("fit to %v: expected an error", bad)
		}
	}
}
