package imageio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"testing"
)

// sample is a deterministic image with every sample at a level its depth can
// hold.
func sample(c, h, w, bits int, alpha bool) *Image {
	rng := rand.New(rand.NewPCG(1, uint64(c*1000+bits)))
	m := New(c, h, w)
	m.Bits = bits
	levels := 1 << bits
	for i := range m.Pix {
		m.Pix[i] = float32(rng.IntN(levels)) / float32(levels-1)
	}
	if alpha {
		m.Alpha = make([]float32, h*w)
		for i := range m.Alpha {
			m.Alpha[i] = float32(rng.IntN(levels)) / float32(levels-1)
		}
		m.Alpha[0] = 0
	}
	return m
}

func encode(t testing.TB, m *Image, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, m, format); err != nil {
		t.Fatalf("encode: %v", err)
	}
	return b.Bytes()
}

func decode(t testing.TB, data []byte) *Image {
	t.Helper()
	m, err := Decode(bytes.NewReader(data), "test", DefaultLimits)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return m
}

func equal(t *testing.T, got, want *Image) {
	t.Helper()
	if got.W != want.W || got.H != want.H || got.C != want.C || got.Bits != want.Bits || got.Gray != want.Gray {
		t.Fatalf("got %dx%d, %d channels, %d bits, gray %v; want %dx%d, %d, %d, %v",
			got.W, got.H, got.C, got.Bits, got.Gray, want.W, want.H, want.C, want.Bits, want.Gray)
	}
	same(t, "pixel", got.Pix, want.Pix)
	same(t, "alpha", got.Alpha, want.Alpha)
}

func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d values, want %d", what, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s %d: got %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestLosslessRoundTrip(t *testing.T) {
	for _, format := range []string{"png", "tiff"} {
		for _, c := range []int{1, 3} {
			for _, bits := range []int{8, 16} {
				for _, alpha := range []bool{false, true} {
					for _, size := range [][2]int{{1, 1}, {1, 7}, {5, 1}, {13, 9}} {
						t.Run(fmt.Sprintf("%s/c%d/b%d/a%v/%dx%d", format, c, bits, alpha, size[0], size[1]), func(t *testing.T) {
							m := sample(c, size[0], size[1], bits, alpha)
							got := decode(t, encode(t, m, format))
							if got.Format != format {
								t.Fatalf("format %q, want %q", got.Format, format)
							}
							equal(t, got, m)
						})
					}
				}
			}
		}
	}
}

func TestGrayAlphaOfStandardDecoder(t *testing.T) {
	m := sample(1, 40, 33, 16, true)
	pic, err := png.Decode(bytes.NewReader(encode(t, m, "png")))
	if err != nil {
		t.Fatal(err)
	}
	got := FromImage(pic)
	equal(t, got, m.RGB())
}

func TestJPEGQuality(t *testing.T) {
	m := New(3, 40, 56)
	for c := range 3 {
		for i := range 40 * 56 {
			m.Pix[c*40*56+i] = float32(i%56)/80 + float32(c)/10
		}
	}
	got := decode(t, encode(t, m, "jpeg"))
	var worst float64
	for i := range m.Pix {
		worst = max(worst, math.Abs(float64(got.Pix[i]-m.Pix[i])))
	}
	if worst > 6.0/255 {
		t.Fatalf("largest JPEG error %.1f/255 on a smooth ramp", worst*255)
	}
	g := sample(1, 8, 8, 8, false)
	if got := decode(t, encode(t, g, "jpeg")); !got.Gray || got.C != 1 {
		t.Fatal("a gray JPEG came back in colour")
	}
}

func TestPNGKinds(t *testing.T) {
	rect := image.Rect(0, 0, 5, 3)
	pal := color.Palette{color.NRGBA{10, 20, 30, 255}, color.NRGBA{200, 100, 50, 128}, color.NRGBA{0, 0, 0, 255}}
	grays := color.Palette{color.Gray{0}, color.Gray{85}, color.Gray{170}, color.Gray{255}}
	p, q := image.NewPaletted(rect, pal), image.NewPaletted(rect, grays)
	for i := range p.Pix {
		p.Pix[i], q.Pix[i] = uint8(i%3), uint8(i%4)
	}
	save := func(m image.Image) []byte {
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	m := decode(t, save(p)) // 2 bits per pixel, with tRNS
	if m.C != 3 || m.Pix[1] != from8[200] || m.Pix[15+1] != from8[100] || m.Alpha[1] != from8[128] || m.Alpha[0] != 1 {
		t.Fatalf("palette: %+v", m)
	}
	m = decode(t, save(q))
	if m.C != 1 || !m.Gray || m.Pix[1] != from8[85] || m.Alpha != nil {
		t.Fatalf("gray palette: %+v", m)
	}
	// Gray of 1, 2 and 4 bits, written by hand: one row, 9 pixels.
	for _, bits := range []int{1, 2, 4} {
		row := make([]byte, 1+(9*bits+7)/8)
		top := 1<<bits - 1
		for x := range 9 {
			v := x % (top + 1)
			bit := x * bits
			row[1+bit/8] |= byte(v << (8 - bits - bit%8))
		}
		m := decode(t, rawPNG(9, 1, byte(bits), 0, nil, row))
		if m.C != 1 || m.Bits != 8 {
			t.Fatalf("%d-bit gray: %d channels, %d bits", bits, m.C, m.Bits)
		}
		for x := range 9 {
			if want := from8[x%(top+1)*255/top]; m.Pix[x] != want {
				t.Fatalf("%d-bit gray, pixel %d: got %v, want %v", bits, x, m.Pix[x], want)
			}
		}
	}
	// Gray with one transparent level stays gray.
	m = decode(t, rawPNG(3, 1, 8, 0, pngChunk("tRNS", []byte{0, 7}), []byte{0, 6, 7, 8}))
	if m.C != 1 || m.Alpha == nil || m.Alpha[0] != 1 || m.Alpha[1] != 0 || m.Pix[1] != from8[7] {
		t.Fatalf("gray with tRNS: %+v", m)
	}
}

// rawPNG frames rows that already carry their filter bytes.
func rawPNG(w, h uint32, depth, colour byte, extra, rows []byte) []byte {
	ihdr := binary.BigEndian.AppendUint32(nil, w)
	ihdr = binary.BigEndian.AppendUint32(ihdr, h)
	ihdr = append(ihdr, depth, colour, 0, 0, 0)
	out := append([]byte(pngMagic), pngChunk("IHDR", ihdr)...)
	out = append(out, extra...)
	out = append(out, pngChunk("IDAT", deflate(rows))...)
	return append(out, pngChunk("IEND", nil)...)
}

func TestCMYKAndRGBAPremultiplied(t *testing.T) {
	c := image.NewCMYK(image.Rect(0, 0, 2, 1))
	copy(c.Pix, []byte{0, 0, 0, 0, 0, 255, 255, 0})
	m := FromImage(c)
	same(t, "cmyk", m.Pix, []float32{1, 1, 1, 0, 1, 0})

	r := image.NewRGBA(image.Rect(0, 0, 2, 1))
	copy(r.Pix, []byte{64, 32, 128, 128, 0, 0, 0, 0})
	m = FromImage(r)
	if math.Abs(float64(m.Pix[0])-0.5) > 1e-6 || m.Pix[4] != 1 || m.Alpha[0] != from8[128] || m.Alpha[1] != 0 || m.Pix[1] != 0 {
		t.Fatalf("premultiplied: %+v", m)
	}
}

// Sub-images and images whose bounds do not start at 0 read the same pixels.
func TestFromImageSubImage(t *testing.T) {
	rect := image.Rect(-3, 5, 9, 14)
	sub := image.Rect(0, 7, 6, 12)
	rng := rand.New(rand.NewPCG(3, 3))
	fill := func(p []byte) {
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
	}
	type subber interface {
		image.Image
		SubImage(image.Rectangle) image.Image
	}
	gray, gray16 := image.NewGray(rect), image.NewGray16(rect)
	nrgba, nrgba64 := image.NewNRGBA(rect), image.NewNRGBA64(rect)
	ycc, cmyk := image.NewYCbCr(rect, image.YCbCrSubsampleRatio420), image.NewCMYK(rect)
	for _, p := range [][]byte{gray.Pix, gray16.Pix, nrgba.Pix, nrgba64.Pix, ycc.Y, ycc.Cb, ycc.Cr, cmyk.Pix} {
		fill(p)
	}
	for _, src := range []subber{gray, gray16, nrgba, nrgba64, ycc, cmyk} {
		s := src.SubImage(sub)
		m := FromImage(s)
		if m.W != 6 || m.H != 5 {
			t.Fatalf("%T: %d x %d", src, m.W, m.H)
		}
		back := m.ToImage()
		for y := range m.H {
			for x := range m.W {
				want := color.NRGBA64Model.Convert(s.At(sub.Min.X+x, sub.Min.Y+y)).(color.NRGBA64)
				got := color.NRGBA64Model.Convert(back.At(x, y)).(color.NRGBA64)
				if q, ok := s.At(sub.Min.X+x, sub.Min.Y+y).(color.NRGBA); ok {
					if back.At(x, y) != color.Color(q) {
						t.Fatalf("%T at %d,%d: got %v, want %v", src, x, y, back.At(x, y), q)
					}
					continue
				}
				if _, ok := src.(*image.YCbCr); ok { // RGBA() of YCbCr keeps more than 8 bits
					if got.R>>8 != want.R>>8 && abs(int(got.R)-int(want.R)) > 257 {
						t.Fatalf("%T at %d,%d: got %v, want %v", src, x, y, got, want)
					}
					continue
				}
				if _, ok := src.(*image.CMYK); ok {
					if abs(int(got.R)-int(want.R)) > 257 || abs(int(got.B)-int(want.B)) > 257 {
						t.Fatalf("%T at %d,%d: got %v, want %v", src, x, y, got, want)
					}
					continue
				}
				if got != want {
					t.Fatalf("%T at %d,%d: got %v, want %v", src, x, y, got, want)
				}
			}
		}
	}
}

// A type the package does not know goes through its colour model.
func TestFromImageUnknownType(t *testing.T) {
	type wrapped struct{ image.Image }
	g := image.NewGray16(image.Rect(0, 0, 3, 2))
	n := image.NewNRGBA64(image.Rect(0, 0, 3, 2))
	for i := range g.Pix {
		g.Pix[i] = byte(37 * i)
	}
	for i := range n.Pix {
		n.Pix[i] = byte(11*i) | 1
	}
	equal(t, FromImage(wrapped{g}), FromImage(g))
	equal(t, FromImage(wrapped{n}), FromImage(n))
	u := FromImage(uniformRed(2, 2))
	same(t, "uniform", u.Pix, []float32{1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0})
}

func TestOrientation(t *testing.T) {
	// a b c     the eight ways EXIF names, as seen by the viewer
	// d e f
	src := &Image{W: 3, H: 2, C: 1, Bits: 8, Gray: true, Pix: []float32{1, 2, 3, 4, 5, 6}, Alpha: []float32{6, 5, 4, 3, 2, 1}}
	want := map[int][]float32{
		1: {1, 2, 3, 4, 5, 6},
		2: {3, 2, 1, 6, 5, 4},
		3: {6, 5, 4, 3, 2, 1},
		4: {4, 5, 6, 1, 2, 3},
		5: {1, 4, 2, 5, 3, 6},
		6: {4, 1, 5, 2, 6, 3},
		7: {6, 3, 5, 2, 4, 1},
		8: {3, 6, 2, 5, 1, 4},
	}
	for o := 1; o <= 8; o++ {
		m := src.orient(o)
		if turned := o >= 5; turned != (m.W == 2) {
			t.Fatalf("orientation %d: %d x %d", o, m.W, m.H)
		}
		same(t, fmt.Sprintf("orientation %d", o), m.Pix, want[o])
		for i := range m.Pix {
			if m.Alpha[i] != 7-m.Pix[i] {
				t.Fatalf("orientation %d: alpha moved differently", o)
			}
		}
	}
}

// exifBlock is a TIFF structure with the orientation tag alone.
func exifBlock(order binary.AppendByteOrder, o uint16) []byte {
	b := []byte("II*\x00")
	if order == binary.AppendByteOrder(binary.BigEndian) {
		b = []byte("MM\x00*")
	}
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 1)
	b = order.AppendUint16(b, tagOrientation)
	b = order.AppendUint16(b, 3)
	b = order.AppendUint32(b, 1)
	b = order.AppendUint16(b, o)
	b = order.AppendUint16(b, 0)
	return order.AppendUint32(b, 0)
}

func TestOrientationInFiles(t *testing.T) {
	m := New(1, 8, 16)
	for i := range m.Pix {
		if i%16 >= 8 {
			m.Pix[i] = 1 // right half white
		}
	}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		body := append([]byte(exifID), exifBlock(order, 6)...)
		seg := append([]byte{0xff, 0xe1, 0, byte(len(body) + 2)}, body...)
		j := encode(t, m, "jpeg")
		j = append(append(append([]byte{}, j[:2]...), seg...), j[2:]...)
		p := encode(t, m, "png")
		p = append(append(append([]byte{}, p[:33]...), pngChunk("eXIf", exifBlock(order, 6))...), p[33:]...)
		for _, data := range [][]byte{j, p} {
			got := decode(t, data)
			if got.W != 8 || got.H != 16 || got.Pix[0] > 0.02 || got.Pix[15*8] < 0.98 {
				t.Fatalf("%s turned by EXIF: %d x %d, top %v, bottom %v", got.Format, got.W, got.H, got.Pix[0], got.Pix[15*8])
			}
		}
	}
}

// profile is the least that passes for an ICC profile of a colour space.
func profile(space string, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * i)
	}
	copy(p[16:], space)
	copy(p[36:], "acsp")
	return p
}

func TestProfilePassesThrough(t *testing.T) {
	for _, format := range []string{"png", "jpeg", "tiff"} {
		for _, n := range []int{200, 70_000, 200_000} { // the last two take several JPEG segments
			for c, space := range map[int]string{1: "GRAY", 3: "RGB "} {
				m := sample(c, 4, 5, 8, false)
				m.ICC = profile(space, n)
				got := decode(t, encode(t, m, format))
				if !bytes.Equal(got.ICC, m.ICC) {
					t.Fatalf("%s, %d channels: profile of %d bytes came back as %d bytes", format, c, n, len(got.ICC))
				}
			}
		}
		m := sample(3, 4, 5, 8, false)
		m.ICC = profile("GRAY", 200)
		if got := decode(t, encode(t, m, format)); got.ICC != nil {
			t.Fatalf("%s: a gray profile was attached to a colour image", format)
		}
	}
}

func TestProfileKeepsGrayPaletteInColour(t *testing.T) {
	p := image.NewPaletted(image.Rect(0, 0, 2, 1), color.Palette{color.Gray{9}, color.Gray{200}})
	p.Pix[1] = 1
	var b bytes.Buffer
	if err := png.Encode(&b, p); err != nil {
		t.Fatal(err)
	}
	chunk, err := pngICC(profile("RGB ", 300))
	if err != nil {
		t.Fatal(err)
	}
	d := b.Bytes()
	d = append(append(append([]byte{}, d[:33]...), chunk...), d[33:]...)
	if m := decode(t, d); m.C != 3 || m.ICC == nil {
		t.Fatalf("got %d channels, profile of %d bytes", m.C, len(m.ICC))
	}
}

func TestLuma(t *testing.T) {
	m := New(3, 1, 3)
	copy(m.Pix, []float32{1, 0, 0.5 /* G */, 1, 0, 0.25 /* B */, 1, 0, 0.75})
	want := []float64{235. / 255, 16. / 255, (16 + 0.5*65.481 + 0.25*128.553 + 0.75*24.966) / 255}
	for i, v := range m.Luma() {
		if math.Abs(float64(v)-want[i]) > 1e-7 {
			t.Fatalf("pixel %d: got %v, want %v", i, v, want[i])
		}
	}
	g := New(1, 1, 2)
	g.Pix[1] = 1
	if y := g.Luma(); math.Abs(float64(y[0])-16./255) > 1e-7 || math.Abs(float64(y[1])-235./255) > 1e-7 {
		t.Fatalf("gray luma %v", y)
	}
}

func TestRound8(t *testing.T) {
	nan := float32(math.NaN())
	v := []float32{-1, 0, 0.49 / 255, 0.51 / 255, 127.4 / 255, 127.6 / 255, 1, 2, nan, float32(math.Inf(1)), float32(math.Inf(-1))}
	Round8(v)
	want := []float32{0, 0, 0, 1. / 255, 127. / 255, 128. / 255, 1, 1, 0, 1, 0}
	for i := range want {
		if v[i] != from8[int(math.Round(float64(want[i])*255))] {
			t.Errorf("value %d: got %v, want %v", i, v[i], want[i])
		}
	}
	for k := range 256 { // every level is a fixed point
		x := []float32{from8[k]}
		Round8(x)
		if x[0] != from8[k] {
			t.Errorf("level %d moved to %v", k, x[0]*255)
		}
	}
	for k := range 65536 {
		if q := quant16(float32(k) / 65535); int(q) != k {
			t.Fatalf("16-bit level %d became %d", k, q)
		}
	}
}

func TestLongRow(t *testing.T) {
	m := sample(3, 1, 70_000, 8, false)
	equal(t, decode(t, encode(t, m, "png")), m)
	var b bytes.Buffer
	if err := Encode(&b, m, "jpeg"); err == nil {
		t.Fatal("a JPEG cannot be 70000 pixels wide")
	}
}

func uniformRed(w, h int) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := 0; i < len(m.Pix); i += 4 {
		m.Pix[i], m.Pix[i+3] = 255, 255
	}
	return struct{ image.Image }{m}
}
