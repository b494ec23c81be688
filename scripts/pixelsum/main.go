// Command pixelsum prints or checks SHA-256 sums of the pixels of images, so
// that a lossless set can be verified however its files were packed.
//
//	pixelsum DIR                  print one "sum  name" line per image
//	pixelsum -check SUMS DIR      compare; exit 1 if an image is missing or differs
//
// The sum covers width and height (8 bytes each, big endian) and the rows of
// 8-bit R, G, B. Names are file names without their extension, so a TIFF and
// the PNG made from it compare equal.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	_ "golang.org/x/image/tiff"
)

func main() {
	sums := flag.String("check", "", "`FILE` with the expected sums")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "pixelsum: found", flag.NArg(), "arguments, expected one folder")
		os.Exit(2)
	}
	if err := run(os.Stdout, *sums, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "pixelsum:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, sums, dir string) error {
	files, err := images(dir)
	if err != nil {
		return err
	}
	if sums == "" {
		names := make([]string, 0, len(files))
		for n := range files {
			names = append(names, n)
		}
		sort.Strings(names)
		for _, n := range names {
			s, err := sum(files[n])
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s  %s\n", s, n)
		}
		return nil
	}

	data, err := os.ReadFile(sums)
	if err != nil {
		return err
	}
	want, err := parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", sums, err)
	}
	bad := 0
	for _, e := range want {
		path, ok := files[e.name]
		if !ok {
			fmt.Fprintf(w, "%s: missing\n", e.name)
			bad++
			continue
		}
		got, err := sum(path)
		if err != nil {
			fmt.Fprintf(w, "%s: %v\n", e.name, err)
			bad++
		} else if got != e.sum {
			fmt.Fprintf(w, "%s: found pixels %s, expected %s\n", path, got, e.sum)
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%s: %d of %d images are missing or differ", dir, bad, len(want))
	}
	fmt.Fprintf(w, "%s: all %d images have the expected pixels\n", dir, len(want))
	return nil
}

type entry struct{ sum, name string }

// parse reads "sum  name" lines.
func parse(data []byte) ([]entry, error) {
	var out []entry
	sc := bufio.NewScanner(bytes.NewReader(data))
	for line := 1; sc.Scan(); line++ {
		f := strings.Fields(sc.Text())
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 || len(f[0]) != 2*sha256.Size {
			return nil, fmt.Errorf("line %d: found %q, expected a SHA-256 and a name", line, sc.Text())
		}
		out = append(out, entry{f[0], f[1]})
	}
	return out, sc.Err()
}

// images maps stem to path for the image files of dir.
func images(dir string) (map[string]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, e := range list {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		switch ext {
		case ".png", ".tif", ".tiff", ".jpg", ".jpeg":
			out[strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))] = filepath.Join(dir, e.Name())
		}
	}
	return out, nil
}

// sum decodes one image and returns the sum of its pixels.
func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	img, _, err := image.Decode(bufio.NewReader(f))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	h := sha256.New()
	r := img.Bounds()
	var head [16]byte
	binary.BigEndian.PutUint64(head[:8], uint64(r.Dx()))
	binary.BigEndian.PutUint64(head[8:], uint64(r.Dy()))
	h.Write(head[:])
	row := make([]byte, 3*r.Dx())
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := 0; x < r.Dx(); x++ {
			cr, cg, cb, _ := img.At(r.Min.X+x, y).RGBA()
			row[3*x], row[3*x+1], row[3*x+2] = byte(cr>>8), byte(cg>>8), byte(cb>>8)
		}
		h.Write(row)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
