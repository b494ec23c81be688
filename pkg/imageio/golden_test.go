package imageio

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenSamples begins the SHA-256 of an image's samples at 16 bits.
func goldenSamples(m *Image) string {
	h := sha256.New()
	for _, p := range [][]float32{m.Pix, m.Alpha} {
		for _, v := range p {
			q := quant16(v)
			h.Write([]byte{byte(q >> 8), byte(q)})
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// Files of other programs give the samples that were put into them, in the form
// the table says; written in every format that can hold them they come back the
// same, with bit depth, gray, alpha, colour profile and EXIF data.
func TestGolden(t *testing.T) {
	table, err := os.ReadFile("testdata/golden/table.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var (
			name, sum                       string
			w, h, c, bits, alpha, icc, exif int
		)
		if _, err := fmt.Sscan(line, &name, &w, &h, &c, &bits, &alpha, &icc, &exif, &sum); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		t.Run(name, func(t *testing.T) {
			m, err := DecodeFile(filepath.Join("testdata/golden", name), DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			if m.W != w || m.H != h || m.C != c || m.Gray != (c == 1) || m.Bits != bits || (m.Alpha != nil) != (alpha == 1) || (m.ICC != nil) != (icc == 1) || (m.Exif != nil) != (exif == 1) {
				t.Fatalf("%dx%d, %d channels, gray %v, %d bits, alpha %v, profile of %d bytes, EXIF of %d", m.W, m.H, m.C, m.Gray, m.Bits, m.Alpha != nil, len(m.ICC), len(m.Exif))
			}
			if sum != "lossy" {
				if got := goldenSamples(m); got != sum {
					t.Fatalf("samples %s, want %s", got, sum)
				}
			} else {
				for i, v := range m.Pix {
					k, x, y := i/(w*h), i%w, i/w%h
					if name == "turned.jpg" { // turned clockwise: stored row h-1.. is column
						x, y = y, w-1-x
					}
					want := float64(x*(k+1)*3+y*(5-k)+k*7) / (13*9 + 9*5 + 14)
					// Subsampled colours are those of four pixels.
					if d := math.Abs(float64(v) - want); d > 9.0/255 {
						t.Fatalf("channel %d, pixel %d,%d: %.1f/255, want %.1f", k, x, y, v*255, want*255)
					}
				}
			}
			for _, format := range []string{"png", "tiff", "pnm", "jpeg"} {
				if m.Alpha != nil && (format == "pnm" || format == "jpeg") {
					continue
				}
				got := decode(t, encode(t, m, format))
				if name == "gray12.pgm" && format != "jpeg" { // 4096 levels, written as 65536
					if a, b := goldenSamples(got), goldenSamples(m); a != b || got.Bits != 16 || got.C != 1 {
						t.Fatalf("%s: samples %s, want %s", format, a, b)
					}
				} else if format != "jpeg" {
					equal(t, got, m)
				} else if got.W != w || got.H != h || got.C != c {
					t.Fatalf("%s: %d x %d x %d", format, got.C, got.H, got.W)
				}
				if format == "pnm" {
					continue
				}
				if !bytes.Equal(got.ICC, m.ICC) {
					t.Fatalf("%s: profile of %d bytes came back as %d", format, len(m.ICC), len(got.ICC))
				}
				if a, b := exifText(t, got.Exif), exifText(t, m.Exif); a != b {
					t.Fatalf("%s: EXIF\n%s\ncame back as\n%s", format, b, a)
				}
			}
		})
	}
}

// exifText lists what EXIF data says of a photograph, resolution (which TIFF must
// have) left out.
func exifText(t *testing.T, block []byte) string {
	t.Helper()
	var out strings.Builder
	tree, _ := exifTree(block)
	if tree == nil {
		return ""
	}
	var walk func(prefix string, b *branch)
	walk = func(prefix string, b *branch) {
		for _, f := range b.fields {
			if f.tag != 282 && f.tag != 283 && f.tag != 296 {
				fmt.Fprintf(&out, "%s%d %d %x\n", prefix, f.tag, f.typ, f.data)
			}
		}
		for _, tag := range []uint16{tagExifIFD, tagGPSIFD, tagInteropIFD} {
			if s := b.subs[tag]; s != nil {
				walk(fmt.Sprintf("%s%d/", prefix, tag), s)
			}
		}
	}
	walk("", tree)
	return out.String()
}

// EXIF data of a turned picture of another size says so: orientation 1, the size
// of what is written, no way to the old thumbnail; all else is as it was.
func TestExifFollowsThePicture(t *testing.T) {
	m, err := DecodeFile("testdata/golden/rgb8.png", DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	big := New(3, 18, 26)
	big.Exif = m.Exif
	for _, format := range []string{"png", "jpeg", "tiff"} {
		got := decode(t, encode(t, big, format))
		d := firstDirectory(got.Exif)
		e := d.sub(got.Exif, tagExifIFD)
		if e == nil || e.uint(tagPixelX, 0) != 26 || e.uint(tagPixelY, 0) != 18 {
			t.Fatalf("%s: size of EXIF is %d x %d", format, e.uint(tagPixelX, 0), e.uint(tagPixelY, 0))
		}
		if make := d.get(271); string(make.data) != "Unrollnet\x00" {
			t.Fatalf("%s: maker %q", format, make.data)
		}
		if date := e.get(0x9003); string(date.data) != "2026:01:02 03:04:05\x00" {
			t.Fatalf("%s: date %q", format, date.data)
		}
	}
	if upright(exifBlock(binary.LittleEndian, 6)) != nil {
		t.Fatal("an orientation alone was kept")
	}
	// An orientation, a maker, and a further directory (of a thumbnail).
	b := &branch{fields: []field{{tag: 271, typ: 2, data: []byte("Maker\x00")}}}
	b.set(binary.LittleEndian, tagOrientation, 3, 6)
	block, at := b.append([]byte("II*\x00\x00\x00\x00\x00"), binary.LittleEndian)
	binary.LittleEndian.PutUint32(block[4:], at)
	binary.LittleEndian.PutUint32(block[len(block)-4:], at)
	d := firstDirectory(upright(block))
	if o, next := d.orientation(), d.next; o != 1 || next != 0 || string(d.get(271).data) != "Maker\x00" {
		t.Fatalf("orientation %d, further directory at %d", o, next)
	}
}

// sRGB by its formula; each level of 8 and 16 bits comes back; profiles give
// their curves.
func TestCurves(t *testing.T) {
	c := SRGB()
	for i := range 65536 {
		v := float32(i) / 65535
		want := float64(v) / 12.92
		if v > 0.04045 {
			want = math.Pow((float64(v)+0.055)/1.055, 2.4)
		}
		if got := c.Decode(v); math.Abs(float64(got)-want) > 1e-7 {
			t.Fatalf("decode %v: got %v, want %v", v, got, want)
		}
		if got := quant16(c.Encode(c.Decode(v))); int(got) != i {
			t.Fatalf("level %d came back as %d", i, got)
		}
	}
	if c.Encode(-1) != 0 || c.Encode(2) != 1 || c.Encode(float32(math.NaN())) != 0 {
		t.Fatal("light outside [0,1]")
	}
	m, err := DecodeFile("testdata/golden/icc8.tif", DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	cs, err := m.Curves() // of a profile of sRGB, which states a parametric curve
	if err != nil {
		t.Fatal(err)
	}
	for _, curve := range cs {
		for _, v := range []float32{0, 0.01, 0.2, 0.5, 0.9, 1} {
			if got, want := curve.Decode(v), c.Decode(v); math.Abs(float64(got-want)) > 2e-4 {
				t.Errorf("profile at %v: got %v, want %v", v, got, want)
			}
		}
	}
	g := New(1, 1, 1)
	g.chunks = []chunk{{"gAMA", []byte{0, 0, 0x86, 0x9f + 1}}} // 34464: power 1/0.34464
	cs, err = g.Curves()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := float64(cs[0].Decode(0.5)), math.Pow(0.5, 100000.0/34464); math.Abs(got-want) > 1e-6 {
		t.Errorf("gamma of a PNG: got %v, want %v", got, want)
	}
	g.chunks = []chunk{{"cICP", []byte{9, 16, 0, 1}}}
	if _, err := g.Curves(); err == nil || !strings.Contains(err.Error(), "transfer characteristics 16") {
		t.Errorf("PQ: %v", err)
	}
	g = New(3, 1, 1)
	g.ICC = profile("RGB ", 200)
	if _, err := g.Curves(); err == nil || !strings.Contains(err.Error(), "rTRC") {
		t.Errorf("profile without curves: %v", err)
	}
}

func FuzzProfile(f *testing.F) {
	m, err := DecodeFile("testdata/golden/icc8.tif", DefaultLimits)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.ICC)
	f.Fuzz(func(t *testing.T, icc []byte) {
		cs, err := profileCurves(icc, 3)
		if err != nil {
			return
		}
		for _, c := range cs {
			for _, v := range []float32{0, 0.3, 1} {
				if l := c.Encode(c.Decode(v)); !(l >= 0 && l <= 1) {
					t.Fatalf("%v became %v", v, l)
				}
			}
		}
	})
}

func TestPNMRefusals(t *testing.T) {
	for data, want := range map[string]string{
		"P5 2 2 255 abc":         "at least",
		"P5 2 2 0 abcd":          "largest value of 0",
		"P5 2 2 65536 abcdabcd":  "largest value",
		"P5 0 2 255 ":            "0 x 2",
		"P5 99999 99999 255 ab":  "99999 x 99999",
		"P5 4294967296 1 255 ab": "2^32",
		"P5 2 x 255 abcd":        "0x78",
		"P5 2 2 99 aaaa\xff":     "largest value 99",
		"P2 2 2 9 1 2 3":         "at least",
		"P2 2 2 9 1 2 3 10":      "above the largest",
		"P6 # only a comment":    "truncated",
		"P2 100 100 9 1 2 3\n#":  "at least",
	} {
		if want == "largest value 99" {
			data = "P5 2 1 99 a\xff"
			want = "above the largest"
		}
		refusal(t, []byte(data), DefaultLimits, want)
	}
}
