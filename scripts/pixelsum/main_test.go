package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/image/tiff"
)

func write(t *testing.T, path string, img image.Image) {
	t.Helper()
	var buf bytes.Buffer
	var err error
	if strings.HasSuffix(path, ".png") {
		err = png.Encode(&buf, img)
	} else {
		err = tiff.Encode(&buf, img, nil)
	}
	if err == nil {
		err = os.WriteFile(path, buf.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSumIgnoresThePacking(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	img := image.NewNRGBA(image.Rect(0, 0, 5, 3))
	for i := range img.Pix {
		img.Pix[i] = byte(i * 7)
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	write(t, filepath.Join(a, "one.png"), img)
	write(t, filepath.Join(b, "one.tiff"), img)
	var sums, out bytes.Buffer
	if err := run(&sums, "", a); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "sums")
	if err := os.WriteFile(list, sums.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(&out, list, b); err != nil {
		t.Errorf("the same pixels as TIFF: %v\n%s", err, &out)
	}

	img.Set(4, 2, color.NRGBA{1, 2, 3, 255})
	write(t, filepath.Join(b, "one.tiff"), img)
	if err := run(&out, list, b); err == nil || !strings.Contains(out.String(), "found pixels") {
		t.Errorf("one changed pixel: found error %v, output %q", err, &out)
	}
	if err := os.Remove(filepath.Join(b, "one.tiff")); err != nil {
		t.Fatal(err)
	}
	if err := run(&out, list, b); err == nil || !strings.Contains(out.String(), "missing") {
		t.Errorf("missing image: found error %v, output %q", err, &out)
	}
}

func TestParseRejects(t *testing.T) {
	for _, in := range []string{"abc name\n", strings.Repeat("0", 64) + "\n"} {
		if _, err := parse([]byte(in)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: found %v, expected an error with its line", in, err)
		}
	}
}
