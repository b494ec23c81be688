package imageio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// dngFile is what a test writes: a mosaic (h,w), and how.
type dngFile struct {
	w, h, bits  int
	pix         []uint16
	order       binary.ByteOrder
	compression int
	predictor   int // of lossless JPEG
	comps       int // components of lossless JPEG
	restart     bool
	tile        int // side of tiles, 0 for strips
	preview     bool
	pattern     string
	raw, first  func(b *branch, a binary.AppendByteOrder) // further entries
}

func srational(a binary.AppendByteOrder, values ...float64) []byte {
	var out []byte
	for _, v := range values {
		out = a.AppendUint32(out, uint32(int32(math.Round(v*10000))))
		out = a.AppendUint32(out, 10000)
	}
	return out
}

// write makes a DNG file.
func (f *dngFile) write() []byte {
	order := f.order
	if order == nil {
		order = binary.LittleEndian
	}
	a := appender(order)
	out := append(tiffMagic(order), 0, 0, 0, 0)
	bw, bh := f.w, (f.h+1)/2
	if f.tile > 0 {
		bw, bh = f.tile, f.tile
	}
	var offsets, counts []uint32
	for y0 := 0; y0 < f.h; y0 += bh {
		for x0 := 0; x0 < f.w; x0 += bw {
			rows := bh
			if f.tile == 0 {
				rows = min(bh, f.h-y0)
			}
			block := make([]uint16, bw*rows)
			for y := range rows {
				for x := range bw {
					block[y*bw+x] = f.pix[min(y0+y, f.h-1)*f.w+min(x0+x, f.w-1)]
				}
			}
			if len(out)%2 == 1 {
				out = append(out, 0)
			}
			offsets = append(offsets, uint32(len(out)))
			start := len(out)
			out = append(out, f.pack(block, bw, order)...)
			counts = append(counts, uint32(len(out)-start))
		}
	}
	b := &branch{}
	b.set(a, tagSubfile, 4, 0)
	b.set(a, tagWidth, 4, uint32(f.w))
	b.set(a, tagHeight, 4, uint32(f.h))
	b.set(a, tagBits, 3, uint32(f.bits))
	b.set(a, tagCompression, 3, uint32(f.compression))
	b.set(a, tagPhotometric, 3, photoCFA)
	b.set(a, tagSamples, 3, 1)
	b.set(a, tagPlanar, 3, 1)
	if f.tile > 0 {
		b.set(a, tagTileWidth, 4, uint32(bw))
		b.set(a, tagTileHeight, 4, uint32(bh))
		b.set(a, tagTileOffsets, 4, offsets...)
		b.set(a, tagTileCounts, 4, counts...)
	} else {
		b.set(a, tagRows, 4, uint32(bh))
		b.set(a, tagStripOffsets, 4, offsets...)
		b.set(a, tagStripCounts, 4, counts...)
	}
	b.set(a, tagPatternDim, 3, 2, 2)
	var pat []byte
	for _, l := range f.pattern {
		pat = append(pat, byte(strings.IndexRune(letters, l)))
	}
	b.fields = append(b.fields, field{tag: tagPattern, typ: 1, data: pat})
	if f.raw != nil {
		f.raw(b, a)
	}
	top := b
	if f.preview {
		at := uint32(len(out))
		out = append(out, 1, 2, 3, 0)
		top = &branch{subs: map[uint16]*branch{tagSubIFDs: b}}
		top.set(a, tagSubfile, 4, 1)
		top.set(a, tagWidth, 4, 1)
		top.set(a, tagHeight, 4, 1)
		top.set(a, tagBits, 3, 8, 8, 8)
		top.set(a, tagCompression, 3, 1)
		top.set(a, tagPhotometric, 3, photoRGB)
		top.set(a, tagSamples, 3, 3)
		top.set(a, tagStripOffsets, 4, at)
		top.set(a, tagStripCounts, 4, 3)
	}
	top.fields = append(top.fields, field{tag: tagDNGVersion, typ: 1, data: []byte{1, 4, 0, 0}}, field{tag: tagDNGVersion + 1, typ: 1, data: []byte{1, 1, 0, 0}},
		field{tag: 50708, typ: 2, data: []byte("Unrollnet test\x00")}, field{tag: 271, typ: 2, data: []byte("Unrollnet\x00")}, field{tag: 272, typ: 2, data: []byte("Test\x00")})
	if f.first != nil {
		f.first(top, a)
	}
	out, at := top.append(out, a)
	order.PutUint32(out[4:], at)
	return out
}

// pack compresses one strip or tile of rows of n samples.
func (f *dngFile) pack(block []uint16, n int, order binary.ByteOrder) []byte {
	if f.compression == compressJPEG {
		return losslessJPEG(block, n/f.comps, len(block)/n, f.comps, f.bits, f.predictor, f.restart)
	}
	var out []byte
	for y := 0; y < len(block); y += n {
		acc, have := uint32(0), 0
		for _, v := range block[y : y+n] {
			if f.bits == 16 {
				out = appender(order).AppendUint16(out, v)
				continue
			}
			acc, have = acc<<f.bits|uint32(v), have+f.bits
			for have >= 8 {
				have -= 8
				out = append(out, byte(acc>>have))
			}
		}
		if have > 0 {
			out = append(out, byte(acc<<(8-have)))
		}
	}
	if f.compression == compressDeflate {
		return deflate(out)
	}
	return out
}

// losslessJPEG codes w x h x comps samples, with one Huffman table in which every
// size of difference has a code of 3 to 9 bits.
func losslessJPEG(pix []uint16, w, h, comps, bits, predictor int, restart bool) []byte {
	counts := []byte{0, 0, 6, 2, 2, 2, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0}
	values := []byte{4, 5, 3, 2, 6, 1, 0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	type code struct{ bits, n int }
	codes := map[int]code{}
	next, k := 0, 0
	for l, c := range counts {
		for range c {
			codes[int(values[k])] = code{next, l + 1}
			next++
			k++
		}
		next <<= 1
	}
	out := []byte{0xff, 0xd8, 0xff, 0xc3, 0, byte(8 + 3*comps), byte(bits), byte(h >> 8), byte(h), byte(w >> 8), byte(w), byte(comps)}
	for c := range comps {
		out = append(out, byte(c), 0x11, 0)
	}
	out = append(out, 0xff, 0xc4, 0, byte(2+17+len(values)), 0)
	out = append(append(out, counts...), values...)
	if restart {
		out = append(out, 0xff, 0xdd, 0, 4, byte(2*w>>8), byte(2*w))
	}
	out = append(out, 0xff, 0xda, 0, byte(6+2*comps), byte(comps))
	for c := range comps {
		out = append(out, byte(c), 0)
	}
	out = append(out, byte(predictor), 0, 0)
	acc, have := uint64(0), 0
	put := func(v, n int) {
		acc, have = acc<<n|uint64(v)&(1<<n-1), have+n
		for have >= 8 {
			have -= 8
			b := byte(acc >> have)
			if out = append(out, b); b == 0xff {
				out = append(out, 0)
			}
		}
	}
	flush := func() {
		if have > 0 {
			put(0xff, 8-have)
		}
	}
	n := w * comps
	for y := range h {
		fresh := y == 0
		if restart && y > 0 && y%2 == 0 {
			flush()
			out = append(out, 0xff, 0xd0+byte(y/2-1)%8)
			fresh = true
		}
		for i := range n {
			at := func(dy, di int) int { return int(pix[(y-dy)*n+i-di]) }
			p := 0
			switch {
			case i < comps && fresh:
				p = 1 << (bits - 1)
			case i < comps:
				p = at(1, 0)
			case fresh:
				p = at(0, comps)
			default:
				a, b, c := at(0, comps), at(1, 0), at(1, comps)
				p = []int{0, a, b, c, a + b - c, a + (b-c)>>1, b + (a-c)>>1, (a + b) >> 1}[predictor]
			}
			d := int(int16(at(0, 0) - p))
			size, m := 0, d
			if m < 0 {
				m = -m
			}
			for m>>size > 0 {
				size++
			}
			if d == -32768 {
				size = 16
			}
			put(codes[size].bits, codes[size].n)
			if size < 16 {
				if d < 0 {
					d += 1<<size - 1
				}
				put(d, size)
			}
		}
	}
	flush()
	return append(out, 0xff, 0xd9)
}

func noise(w, h, bits int, seed uint64) []uint16 {
	rng := rand.New(rand.NewPCG(seed, 1))
	pix := make([]uint16, w*h)
	for i := range pix {
		if i%3 == 0 { // flat parts and steps
			pix[i] = uint16(rng.IntN(1 << bits))
		} else {
			pix[i] = pix[i-1]
		}
	}
	return pix
}

// Every way to store a mosaic gives its samples, to the bit.
func TestDNGStorage(t *testing.T) {
	for _, bits := range []int{8, 10, 12, 14, 16} {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			for _, tile := range []int{0, 16} {
				for _, kind := range []string{"none", "deflate", "jpeg"} {
					f := dngFile{w: 38, h: 21, bits: bits, order: order, tile: tile, pattern: "grbg", preview: tile > 0}
					f.pix = noise(f.w, f.h, bits, uint64(bits))
					f.compression = map[string]int{"none": compressNone, "deflate": compressDeflate, "jpeg": compressJPEG}[kind]
					predictors := []int{1}
					if kind == "jpeg" {
						predictors = []int{1, 2, 3, 4, 5, 6, 7}
					}
					for _, p := range predictors {
						f.predictor, f.comps, f.restart = p, 1+p%2, p%3 == 0
						name := fmt.Sprintf("%d bits, %v, tile %d, %s, predictor %d", bits, order, tile, kind, p)
						m, err := Decode(bytes.NewReader(f.write()), name, DefaultLimits)
						if err != nil {
							t.Fatal(err)
						}
						if m.W != f.w || m.H != f.h || m.C != 1 || m.Bits != 16 || m.Format != "dng" || m.Raw == nil || m.Raw.Pattern != "grbg" {
							t.Fatalf("%s: %dx%dx%d, %d bits, %q, %+v", name, m.C, m.W, m.H, m.Bits, m.Format, m.Raw)
						}
						top := float64(uint32(1)<<bits - 1)
						for i, v := range m.Pix {
							if want := float32(float64(f.pix[i]) * (1 / top)); v != want {
								t.Fatalf("%s: sample %d is %v, want %v", name, i, v, want)
							}
						}
					}
				}
			}
		}
	}
}

// Levels, active area and crop, by the formula of the specification.
func TestDNGLevels(t *testing.T) {
	f := dngFile{w: 12, h: 10, bits: 12, compression: 1, pattern: "rggb", pix: noise(12, 10, 12, 3)}
	table := make([]uint32, 4096)
	for i := range table {
		table[i] = uint32(i * i / 300)
	}
	black := []float64{10, 20, 30, 40}
	rows := []float64{0, 1, 2, 3, 4, 5, 6, 7}
	f.raw = func(b *branch, a binary.AppendByteOrder) {
		b.set(a, tagLinearize, 3, table...)
		b.set(a, tagBlackDim, 3, 2, 2)
		b.set(a, tagBlack, 3, 10, 20, 30, 40)
		b.fields = append(b.fields, field{tag: tagBlackRows, typ: 10, data: srational(a, rows...)})
		b.set(a, tagWhite, 4, 50000)
		b.set(a, tagActiveArea, 4, 1, 1, 9, 11)
		b.set(a, tagCropOrigin, 4, 1, 2)
		b.set(a, tagCropSize, 4, 7, 5)
	}
	m := decode(t, f.write())
	if m.W != 7 || m.H != 5 || m.Raw.Pattern != "grbg" {
		t.Fatalf("%d x %d, %s", m.W, m.H, m.Raw.Pattern)
	}
	for y := range 5 {
		for x := range 7 {
			r, c := y+2, x+1 // in the active area
			v := float64(table[f.pix[(r+1)*12+c+1]]) - black[r%2*2+c%2] - rows[r]
			want := min(1, max(0, v/(50000-47)))
			if got := float64(m.Pix[y*7+x]); math.Abs(got-want) > 1e-6 {
				t.Fatalf("sample %d,%d: got %v, want %v", x, y, got, want)
			}
		}
	}
}

// An orientation turns mosaic and pattern alike: each sample keeps its colour.
func TestDNGOrientation(t *testing.T) {
	for _, size := range [][2]int{{6, 4}, {7, 4}, {6, 5}, {7, 5}} {
		for _, pattern := range []string{"rggb", "bggr", "grbg", "gbrg"} {
			for o := 1; o <= 8; o++ {
				f := dngFile{w: size[0], h: size[1], bits: 8, compression: 1, pattern: pattern}
				for y := range f.h {
					for x := range f.w {
						f.pix = append(f.pix, uint16(strings.IndexByte(letters, pattern[y%2*2+x%2])))
					}
				}
				f.first = func(b *branch, a binary.AppendByteOrder) { b.set(a, tagOrientation, 3, uint32(o)) }
				m := decode(t, f.write())
				if (o >= 5) != (m.W == size[1]) {
					t.Fatalf("orientation %d: %d x %d", o, m.W, m.H)
				}
				for i, v := range m.Pix {
					if c := m.Raw.colour(i%m.W, i/m.W); float32(c)/255 != v {
						t.Fatalf("%s of %v, orientation %d: sample %d has colour %v, the pattern %s says %d", pattern, size, o, i, v*255, m.Raw.Pattern, c)
					}
				}
			}
		}
	}
}

// testCamera is the colour matrix (XYZ to camera) of a camera that does not
// exist, not far from real ones.
var testCamera = matrix{0.70, -0.20, -0.05, -0.45, 1.25, 0.22, -0.08, 0.18, 0.62}

// A scene of known colours, as the camera would record it, comes out as the scene:
// through the matrix by the camera's balance, the white its chromaticity names,
// and a matrix for balanced colours (forward) that says the same.
func TestDNGColours(t *testing.T) {
	d65 := [2]float64{0.3127, 0.3290}
	// Under D65 a linear sRGB colour v is XYZ = N v.
	n, _ := srgbD50.inverse()
	n = adapt(whiteD50, whiteOf(d65)).mul(n)
	toCamera := testCamera.mul(n)
	neutral := toCamera.apply([3]float64{1, 1, 1})
	inv, _ := toCamera.inverse()
	b, _ := srgbD50.inverse()
	forward := b.mul(inv).mul(diagonal(neutral)) // balanced camera to XYZ under D50
	scene := [3]float64{0.5, 0.25, 0.1}
	shot := toCamera.apply(scene)
	entry := func(tag, typ uint16, data []byte) field { return field{tag: tag, typ: typ, data: data} }
	for name, first := range map[string]func(*branch, binary.AppendByteOrder){
		"neutral": func(b *branch, a binary.AppendByteOrder) {
			b.set(a, tagIlluminant, 3, 21)
			b.fields = append(b.fields, entry(tagColorMatrix, 10, srational(a, testCamera[:]...)), entry(tagNeutral, 10, srational(a, neutral[:]...)))
		},
		"white": func(b *branch, a binary.AppendByteOrder) {
			b.fields = append(b.fields, entry(tagColorMatrix, 10, srational(a, testCamera[:]...)), entry(tagWhiteXY, 10, srational(a, d65[:]...)))
		},
		"forward": func(b *branch, a binary.AppendByteOrder) {
			b.fields = append(b.fields, entry(tagColorMatrix, 10, srational(a, testCamera[:]...)), entry(tagForwardMatrix, 10, srational(a, forward[:]...)),
				entry(tagNeutral, 10, srational(a, neutral[:]...)))
		},
		"two matrices": func(b *branch, a binary.AppendByteOrder) {
			b.set(a, tagIlluminant, 3, 17)
			b.set(a, tagIlluminant+1, 3, 21)
			warm := testCamera
			warm[0], warm[8] = 0.8, 0.5
			b.fields = append(b.fields, entry(tagColorMatrix, 10, srational(a, warm[:]...)), entry(tagColorMatrix+1, 10, srational(a, testCamera[:]...)),
				entry(tagNeutral, 10, srational(a, neutral[:]...)))
		},
	} {
		f := dngFile{w: 4, h: 4, bits: 16, compression: 1, pattern: "rggb"}
		for i := range 16 {
			c := strings.IndexByte(letters, f.pattern[i/4%2*2+i%2])
			f.pix = append(f.pix, uint16(math.Round(shot[c]*65535)))
		}
		f.first = first
		m := decode(t, f.write())
		bal := m.Raw.Balanced(m.Pix, 4, 4)
		pix := []float32{bal[0], bal[1], bal[5]}
		m.Raw.Develop(pix)
		// The brightness is that of the brightest colour before the balance.
		gain := max(neutral[0], neutral[1], neutral[2])
		for c, v := range pix {
			want := float64(SRGB().Encode(float32(scene[c] * gain)))
			if math.Abs(float64(v)-want) > 1.0/255 {
				t.Errorf("%s: channel %d is %.1f/255, want %.1f/255", name, c, v*255, want*255)
			}
		}
		white := []float32{1, 1, 1}
		m.Raw.Develop(white)
		for _, v := range white {
			if v < 0.9999 {
				t.Errorf("%s: white became %v", name, white)
			}
		}
		if r := min(m.Raw.Balance[0], m.Raw.Balance[1], m.Raw.Balance[2]); r != 1 {
			t.Errorf("%s: the smallest factor is %v", name, r)
		}
	}
}

func TestDNGRefusals(t *testing.T) {
	good := func() dngFile {
		return dngFile{w: 8, h: 8, bits: 12, compression: 1, pattern: "rggb", pix: noise(8, 8, 12, 1)}
	}
	set := func(tag, typ uint16, values ...uint32) func(*dngFile) {
		return func(f *dngFile) {
			f.raw = func(b *branch, a binary.AppendByteOrder) { b.set(a, tag, typ, values...) }
		}
	}
	first := func(tag, typ uint16, values ...float64) func(*dngFile) {
		return func(f *dngFile) {
			f.first = func(b *branch, a binary.AppendByteOrder) {
				b.fields = append(b.fields, field{tag: tag, typ: typ, data: srational(a, values...)})
			}
		}
	}
	for want, spoil := range map[string]func(*dngFile){
		"not Bayer's": func(f *dngFile) { f.pattern = "rgbb" },
		"8 colours":   func(f *dngFile) { f.pattern = "rggbrggb" },
		"active area": set(tagActiveArea, 4, 0, 0, 9, 8),
		"a crop of": func(f *dngFile) {
			f.raw = func(b *branch, a binary.AppendByteOrder) {
				b.set(a, tagCropOrigin, 4, 4, 4)
				b.set(a, tagCropSize, 4, 5, 4)
			}
		},
		"white level":         set(tagWhite, 4, 0),
		"black levels":        set(tagBlack, 3, 1, 2, 3),
		"linearization":       set(tagLinearize, 4, 1),
		"not rectangular":     set(tagLayout, 3, 2),
		"red, green and blue": set(tagPlaneColor, 3, 0, 1, 2),
		"without inverse":     first(tagColorMatrix, 10, 1, 1, 1, 1, 1, 1, 1, 1, 1),
		"chromaticity":        first(tagWhiteXY, 10, 0, 0),
		"pixels that are not": set(tagDefaultScale, 4, 2, 1),
		"compression 34892":   func(f *dngFile) { f.compression = 34892 },
		"no JPEG data": func(f *dngFile) {
			f.compression = 8
			f.raw = func(b *branch, a binary.AppendByteOrder) { b.get(tagCompression).data = a.AppendUint16(nil, 7) }
		},
		"32 bits per sample": func(f *dngFile) {
			f.raw = func(b *branch, a binary.AppendByteOrder) { b.get(tagBits).data = a.AppendUint16(nil, 32) }
		},
		"truncated dng": func(f *dngFile) {
			f.raw = func(b *branch, a binary.AppendByteOrder) {
				b.get(tagStripOffsets).data = append(a.AppendUint32(nil, 1<<30), 9, 9, 9, 9)
			}
		},
		"at least": func(f *dngFile) {
			f.raw = func(b *branch, a binary.AppendByteOrder) {
				b.get(tagHeight).data = a.AppendUint32(nil, 9000)
				b.get(tagWidth).data = a.AppendUint32(nil, 9000)
				b.get(tagRows).data = a.AppendUint32(nil, 9000)
			}
		},
		"sizes of 2 of 4 strips": func(f *dngFile) {
			f.raw = func(b *branch, a binary.AppendByteOrder) { b.get(tagRows).data = a.AppendUint32(nil, 2) }
		},
		"tiles of": func(f *dngFile) {
			f.tile = 8
			f.raw = func(b *branch, a binary.AppendByteOrder) { b.get(tagTileWidth).data = a.AppendUint32(nil, 1<<20) }
		},
	} {
		f := good()
		spoil(&f)
		refusal(t, f.write(), DefaultLimits, want)
	}
	// A preview alone, with the picture in a camera maker's directory.
	f := good()
	f.preview = true
	data := f.write()
	i := bytes.Index(data, []byte("\x12\xc6\x01\x00\x04\x00\x00\x00"))
	data[i], data[i+1] = 0x11, 0xc6 // no DNGVersion
	refusal(t, data, DefaultLimits, "convert it to DNG")
}

func (b *branch) get(tag uint16) *field {
	for i := range b.fields {
		if b.fields[i].tag == tag {
			return &b.fields[i]
		}
	}
	return nil
}

// Lossless JPEG, damaged anywhere, is refused or gives other samples; it neither
// panics nor takes memory that its size does not account for.
func TestLosslessDamaged(t *testing.T) {
	pix := noise(16, 9, 12, 5)
	good := losslessJPEG(pix, 8, 9, 2, 12, 6, true)
	got, err := decodeLossless(good, 144, 12, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pix {
		if got[i] != pix[i] {
			t.Fatalf("sample %d: got %d, want %d", i, got[i], pix[i])
		}
	}
	for n := range len(good) - 2 { // without the end marker it is complete
		if n < len(good)-3 {
			if _, err := decodeLossless(good[:n], 144, 12, false); err == nil {
				t.Fatalf("%d of %d bytes were accepted", n, len(good))
			}
		}
		for _, v := range []byte{0, 0xff, good[n] + 1, good[n] ^ 0x80} {
			bad := bytes.Clone(good)
			bad[n] = v
			if out, err := decodeLossless(bad, 144, 12, false); err == nil && len(out) != 144 {
				t.Fatalf("byte %d: %d samples", n, len(out))
			}
		}
	}
	if _, err := decodeLossless(good, 145, 12, false); err == nil {
		t.Fatal("another number of samples was accepted")
	}
	if _, err := decodeLossless(good, 144, 8, false); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("12 bits where there are 8: %v", err)
	}
}

func FuzzDNG(f *testing.F) {
	for _, kind := range []int{compressNone, compressDeflate, compressJPEG} {
		for _, tile := range []int{0, 8} {
			d := dngFile{w: 10, h: 6, bits: 12, compression: kind, tile: tile, pattern: "gbrg", preview: tile > 0, predictor: 4, comps: 2, pix: noise(10, 6, 12, 2)}
			d.first = func(b *branch, a binary.AppendByteOrder) {
				b.fields = append(b.fields, field{tag: tagColorMatrix, typ: 10, data: srational(a, testCamera[:]...)}, field{tag: tagNeutral, typ: 10, data: srational(a, 0.5, 1, 0.7)})
			}
			f.Add(d.write())
		}
	}
	lim := Limits{MaxPixels: 1 << 16, MaxSide: 1 << 12, MaxBytes: 1 << 16}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(bytes.NewReader(data), "fuzz", lim)
		if err != nil || m.Raw == nil {
			return
		}
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		bal := m.Raw.Balanced(m.Pix, m.H, m.W)
		pix := append(append(append([]float32{}, bal...), bal...), bal...)
		m.Raw.Develop(pix)
		for i, v := range pix {
			if !(v >= 0 && v <= 1) {
				t.Fatalf("value %d is %v", i, v)
			}
		}
	})
}

// goldenDNG is the file in testdata: slopes and an edge under a gray light, in
// tiles of lossless JPEG behind a preview, to be turned clockwise.
func goldenDNG() []byte {
	f := dngFile{w: 24, h: 16, bits: 12, compression: compressJPEG, predictor: 6, comps: 2, tile: 16, preview: true, pattern: "gbrg"}
	neutral := [3]float64{0.5, 1, 0.625}
	for y := range f.h {
		for x := range f.w {
			v := 0.1 + 0.02*float64(x) + 0.01*float64(y)
			if x > y+8 {
				v *= 0.5
			}
			c := strings.IndexByte(letters, f.pattern[y%2*2+x%2])
			f.pix = append(f.pix, uint16(128+v*neutral[c]*(4000-128)))
		}
	}
	f.raw = func(b *branch, a binary.AppendByteOrder) {
		b.set(a, tagBlack, 3, 128)
		b.set(a, tagWhite, 3, 4000)
	}
	f.first = func(b *branch, a binary.AppendByteOrder) {
		b.set(a, tagOrientation, 3, 6)
		b.set(a, tagIlluminant, 3, 21)
		b.fields = append(b.fields, field{tag: tagColorMatrix, typ: 10, data: srational(a, testCamera[:]...)}, field{tag: tagNeutral, typ: 5, data: srational(a, neutral[:]...)})
	}
	return f.write()
}

// The committed file is what the writer writes; its grays are gray.
func TestDNGGolden(t *testing.T) {
	const path = "testdata/mosaic.dng"
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(goldenDNG(), want) {
		t.Fatalf("%s is not what goldenDNG writes", path)
	}
	m, err := DecodeFile(path, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if m.W != 16 || m.H != 24 || m.Raw == nil || m.Exif == nil {
		t.Fatalf("%dx%d, raw %v, EXIF of %d bytes", m.W, m.H, m.Raw, len(m.Exif))
	}
	bal := m.Raw.Balanced(m.Pix, m.H, m.W)
	for i, v := range bal {
		x, y := i/m.W, 15-i%m.W // where it is stored
		l := 0.1 + 0.02*float64(x) + 0.01*float64(y)
		if x > y+8 {
			l *= 0.5
		}
		if math.Abs(float64(v)-l) > 2.0/3872*2 {
			t.Fatalf("sample %d: %v, want %v", i, v, l)
		}
	}
}
