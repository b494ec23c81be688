package imageio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"go/build"
	"hash/crc32"
	"image"
	"image/color"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/tiff"
)

// suite is the pictures the Go toolchain brings for the tests of its own
// decoders; the test skips where the toolchain comes without them.
func suite(t *testing.T, patterns ...string) []string {
	t.Helper()
	var out []string
	for _, p := range patterns {
		m, err := filepath.Glob(filepath.Join(build.Default.GOROOT, "src", "image", filepath.FromSlash(p)))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m...)
	}
	if len(out) == 0 {
		t.Skip("the Go toolchain here has no test pictures")
	}
	return out
}

// Every pixel of every kind of PNG and JPEG equals what the standard decoder's
// colour model says, to 8 or 16 bits.
func TestSuite(t *testing.T) {
	for _, path := range suite(t, "testdata/*.png", "testdata/*.jpeg", "png/testdata/*.png", "png/testdata/pngsuite/*.png") {
		base := filepath.Base(path)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(bytes.NewReader(data), base, DefaultLimits)
		if strings.HasPrefix(base, "invalid") {
			var fe *FormatError
			if !errors.As(err, &fe) {
				t.Errorf("%s: got %v, want a refusal", base, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", base, err)
			continue
		}
		ref, _, err := image.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		tol := 257 // half a level of 8 bits for models that compute beyond them
		if m.Bits == 16 {
			tol = 1
		}
		got := m.ToImage()
		bounds := ref.Bounds()
	pixels:
		for y := range m.H {
			for x := range m.W {
				a := color.NRGBA64Model.Convert(got.At(x, y)).(color.NRGBA64)
				b := color.NRGBA64Model.Convert(ref.At(bounds.Min.X+x, bounds.Min.Y+y)).(color.NRGBA64)
				if abs(int(a.A)-int(b.A)) > tol || b.A == 65535 && (abs(int(a.R)-int(b.R)) > tol || abs(int(a.G)-int(b.G)) > tol || abs(int(a.B)-int(b.B)) > tol) {
					t.Errorf("%s at %d,%d: got %v, want %v", base, x, y, a, b)
					break pixels
				}
			}
		}
		// Colour type 0 and 4 are gray and stay so; 16 bits stay 16.
		if m.Format == "png" {
			if gray := data[25]&2 == 0; gray && !m.Gray || data[25] == 2 && m.Gray {
				t.Errorf("%s: colour type %d, gray %v", base, data[25], m.Gray)
			}
			if (data[24] == 16) != (m.Bits == 16) {
				t.Errorf("%s: depth %d, %d bits", base, data[24], m.Bits)
			}
		}
	}
}

// tiffWith adds a SHORT entry to the first directory of a file of the TIFF
// encoder, in place of the resolution unit, with the entries in order.
func tiffWith(t *testing.T, m image.Image, tag, value uint16) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tiff.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	pos := int(binary.LittleEndian.Uint32(data[4:]))
	n := int(binary.LittleEndian.Uint16(data[pos:]))
	var entries [][]byte
	for k := range n {
		e := bytes.Clone(data[pos+2+12*k:][:12])
		if binary.LittleEndian.Uint16(e) == 296 {
			binary.LittleEndian.PutUint16(e, tag)
			binary.LittleEndian.PutUint16(e[8:], value)
			tag = 0
		}
		entries = append(entries, e)
	}
	if tag != 0 {
		t.Fatal("the encoder writes no tag 296 to replace")
	}
	slices.SortFunc(entries, func(a, b []byte) int {
		return int(binary.LittleEndian.Uint16(a)) - int(binary.LittleEndian.Uint16(b))
	})
	for k, e := range entries {
		copy(data[pos+2+12*k:], e)
	}
	return data
}

func TestTIFFOrientation(t *testing.T) {
	g := image.NewGray(image.Rect(0, 0, 4, 2))
	g.Pix[0] = 255
	for o, want := range map[uint16]int{1: 0, 2: 3, 3: 7, 4: 4, 5: 0, 6: 1, 7: 7, 8: 6} {
		m := decode(t, tiffWith(t, g, tagOrientation, o))
		if (o >= 5) != (m.W == 2) {
			t.Errorf("orientation %d: %d x %d", o, m.W, m.H)
		}
		for i, v := range m.Pix {
			if (v == 1) != (i == want) {
				t.Errorf("orientation %d: pixel %d is %v, the white one should be %d", o, i, v, want)
			}
		}
	}
}

// Whatever byte is damaged, the answer is an image within the limits or a
// one-line refusal, without a panic and without much memory. Checksums of PNG
// chunks are made good again, so that the damage gets past them.
func TestMutated(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	lim := Limits{MaxPixels: 1 << 20, MaxSide: 1 << 14, MaxBytes: 1 << 20}
	palette := rawPNG(4, 2, 2, 3, pngChunk("PLTE", []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}), []byte{0, 0x1b, 0, 0xe4})
	files := map[string][]byte{"palette": palette}
	for _, format := range []string{"png", "jpeg", "tiff"} {
		for _, c := range []int{1, 3} {
			for _, bits := range []int{8, 16} {
				m := sample(c, 6, 7, bits, bits == 16 && format != "jpeg")
				m.ICC = profile(map[int]string{1: "GRAY", 3: "RGB "}[c], 130)
				files[fmt.Sprint(format, c, bits)] = encode(t, m, format)
			}
		}
	}
	var before, after runtime.MemStats
	for name, data := range files {
		for i := range data {
			runtime.ReadMemStats(&before)
			for k := range 6 {
				bad := bytes.Clone(data)
				switch k {
				case 0:
					bad[i] ^= 0xff
				case 1:
					bad[i]++
				case 2:
					bad[i] = 0
				case 3:
					bad[i] ^= 1 << rng.IntN(8)
				default:
					for j := i; j < min(i+4, len(bad)); j++ {
						bad[j] = byte(rng.Uint32())
					}
				}
				repairCRC(bad)
				m, err := Decode(bytes.NewReader(bad), name, lim)
				if err != nil {
					var fe *FormatError
					if !errors.As(err, &fe) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "decoder stopped") {
						t.Fatalf("%s, byte %d, damage %d: %v", name, i, k, err)
					}
				} else if err := m.check(); err != nil {
					t.Fatalf("%s, byte %d, damage %d: %v", name, i, k, err)
				}
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 128<<20 {
				t.Fatalf("%s, byte %d: took %d MB", name, i, got>>20)
			}
		}
	}
}

func repairCRC(data []byte) {
	if !bytes.HasPrefix(data, []byte(pngMagic)) {
		return
	}
	for pos := 8; pos+12 <= len(data); {
		n := int64(binary.BigEndian.Uint32(data[pos:]))
		if n > int64(len(data)-pos-12) {
			return
		}
		end := pos + 8 + int(n)
		binary.BigEndian.PutUint32(data[end:], crc32.ChecksumIEEE(data[pos+4:end]))
		pos = end + 4
	}
}

// The guard around decoders: a panic inside one becomes the file's error.
func TestPanicBecomesError(t *testing.T) {
	_, err := guarded("file.png", "png", func() (*Image, error) {
		var none []int
		_ = none[len(none)]
		return nil, nil
	})
	var fe *FormatError
	if !errors.As(err, &fe) || !strings.Contains(err.Error(), "file.png: found damaged png data (decoder stopped: runtime error: index out of range") {
		t.Fatalf("got %v", err)
	}
}
