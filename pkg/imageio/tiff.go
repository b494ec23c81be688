package imageio

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"image/color"
	"io"

	"golang.org/x/image/tiff"
)

// Photometric interpretations.
const (
	photoWhiteZero = 0
	photoBlackZero = 1
	photoRGB       = 2
	photoPalette   = 3
	photoCMYK      = 5
	photoCFA       = 32803
	photoLinearRaw = 34892
)

const tagColorMap = 320

// tiffHeader reads the first directory of a TIFF file, of which further pages
// are not read. The library decodes what it knows; planes one after the other,
// gray with alpha, CMYK, depths between 1 and 16 and bits in reverse order, all
// of which it refuses or would read wrongly, are read here, and so is DNG.
func tiffHeader(data []byte) (header, error) {
	hd := header{orientation: 1}
	d := firstDirectory(data)
	if d == nil {
		return hd, io.ErrUnexpectedEOF
	}
	if raw, err := dngHeader(data, d, &hd); raw || err != nil {
		return hd, err
	}
	hd.orientation = d.orientation()
	hd.exif = exifOfTIFF(data)
	if f := d.get(tagICC); f.len() > 0 && len(f.data) <= maxMetadata {
		hd.icc = bytes.Clone(f.data)
	}
	if !libraryReads(d) {
		return hd, ownHeader(data, d, &hd)
	}
	cfg, err := tiff.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return hd, err
	}
	hd.w, hd.h = int64(cfg.Width), int64(cfg.Height)
	if hd.w < 0 || hd.h < 0 || hd.w >= 1<<32 || hd.h >= 1<<32 {
		hd.w, hd.h = 0, 0 // a side that is no 32-bit number: checkSize refuses it
		return hd, nil
	}
	// LZW, the strongest compression the decoder knows, makes at most about
	// 3800 bytes out of a 12-bit code; 4096 is above all of them. The bound is
	// on bytes, with the count saturated against absurd bit depths.
	bytesPerPixel := min(int64(max(1, d.uint(tagBits, 1)))*int64(max(1, d.uint(tagSamples, 1))), 1<<10) / 8
	if hd.h > 0 && hd.w <= (1<<50)/hd.h {
		hd.minBytes = hd.w * hd.h * bytesPerPixel / 4096
	} else if hd.h > 0 {
		hd.minBytes = 1 << 62
	}
	return hd, nil
}

// libraryReads reports whether the library reads a directory, and reads it right.
func libraryReads(d *directory) bool {
	samples, bits := d.uint(tagSamples, 1), d.uint(tagBits, 1)
	fax := d.uint(tagCompression, 1) >= 2 && d.uint(tagCompression, 1) <= 4
	switch {
	case d.uint(tagPlanar, 1) != 1 && samples > 1,
		d.uint(tagFillOrder, 1) != 1 && !fax,
		bits != 1 && bits != 8 && bits != 16,
		d.get(tagBits).len() != int(samples) && samples > 1,
		d.uint(tagPredictor, 1) > 2:
		return false
	}
	switch d.uint(tagPhotometric, photoBlackZero) {
	case photoWhiteZero, photoBlackZero, photoPalette:
		return samples == 1
	case photoRGB:
		extra := d.uint(tagExtra, 0)
		return samples == 3 || samples == 4 && (extra == 1 || extra == 2)
	case photoCMYK:
		return false
	}
	return true // which it refuses
}

// ownHeader prepares the reading of a TIFF file that the library does not read.
func ownHeader(data []byte, d *directory, hd *header) error {
	s, err := newStrips(d, byteOrder(data))
	if err != nil {
		return err
	}
	if s.compression == compressJPEG {
		return errors.New("compression 7, JPEG inside TIFF")
	}
	hd.w, hd.h, hd.minBytes = int64(s.w), int64(s.h), s.minBytes()
	l := layout{white: d.uint(tagPhotometric, photoBlackZero) == photoWhiteZero}
	switch p := d.uint(tagPhotometric, photoBlackZero); p {
	case photoWhiteZero, photoBlackZero:
		l.colours = 1
	case photoRGB:
		l.colours = 3
	case photoCMYK:
		if set := d.uint(332, 1); set != 1 {
			return fmt.Errorf("ink set %d", set)
		}
		l.colours = 4
	case photoPalette:
		f := d.get(tagColorMap)
		if s.bits > 8 || f.len() < 3<<s.bits || f.typ != 3 {
			return fmt.Errorf("a palette of %d numbers for %d bits", f.len(), s.bits)
		}
		l.colours, l.palette = 1, f
	default:
		return fmt.Errorf("photometric interpretation %d", p)
	}
	if s.samples < l.colours {
		return fmt.Errorf("%d samples per pixel where there are %d colours", s.samples, l.colours)
	}
	// Of the extra samples the first that is alpha counts; others say nothing
	// about how the picture looks.
	extra := d.get(tagExtra)
	for i := range min(extra.len(), s.samples-l.colours) {
		if v, _ := extra.uint(i); v == 1 || v == 2 {
			l.alpha, l.premultiplied = l.colours+i, v == 1
			break
		}
	}
	hd.read = func() (*Image, error) {
		pix, err := s.read(data)
		if err != nil {
			return nil, err
		}
		return l.image(pix, s), nil
	}
	return nil
}

// layout says what the samples of a pixel mean.
type layout struct {
	colours       int // 1 gray, 3 RGB, 4 CMYK
	white         bool
	alpha         int // index of its sample, 0 for none
	premultiplied bool
	palette       *field
}

// image turns samples (h,w,samples) of s.bits into an image.
func (l layout) image(pix []uint16, s *strips) *Image {
	c := l.colours
	if c == 4 || l.palette != nil {
		c = 3
	}
	m, n := New(c, s.h, s.w), s.w*s.h
	if s.bits > 8 {
		m.Bits = 16
	}
	top := uint16(1<<s.bits - 1)
	var lut [65536]float32
	for v := range int(top) + 1 {
		lut[v] = float32(v) / float32(top)
	}
	for i := range n {
		p := pix[i*s.samples : (i+1)*s.samples]
		switch {
		case l.palette != nil:
			for k := range 3 {
				v, _ := l.palette.uint(k<<s.bits + int(p[0]))
				m.Pix[k*n+i] = float32(v) / 65535
				if v%257 != 0 {
					m.Bits = 16
				}
			}
		case l.colours == 4 && s.bits == 8:
			r, g, b := color.CMYKToRGB(uint8(p[0]), uint8(p[1]), uint8(p[2]), uint8(p[3]))
			m.Pix[i], m.Pix[n+i], m.Pix[2*n+i] = from8[r], from8[g], from8[b]
		case l.colours == 4:
			for k := range 3 {
				m.Pix[k*n+i] = (1 - lut[p[k]]) * (1 - lut[p[3]])
			}
		case l.white:
			m.Pix[i] = lut[top-p[0]]
		default:
			for k := range l.colours {
				m.Pix[k*n+i] = lut[p[k]]
			}
		}
		if l.alpha == 0 || p[l.alpha] == top {
			continue
		}
		a := lut[p[l.alpha]]
		m.setAlpha(i, a)
		for k := range c {
			if v := &m.Pix[k*n+i]; l.premultiplied && a == 0 {
				*v = 0
			} else if l.premultiplied {
				*v = min(1, *v/a)
			}
		}
	}
	return m
}

// stripBytes is about how much a strip of a written file holds.
const stripBytes = 256 << 10

// encodeTIFF writes gray or RGB, with or without alpha, of 8 or 16 bits, in
// strips that are compressed with deflate over differences, with the colour
// profile and what EXIF data there is.
func encodeTIFF(w io.Writer, m *Image, icc []byte) error {
	var order binary.ByteOrder = binary.LittleEndian
	top, exifOrder := exifTree(resized(m.Exif, m.W, m.H))
	if top != nil {
		order = exifOrder
	} else {
		top = &branch{}
	}
	a := appender(order)
	samples := m.C
	if m.Alpha != nil {
		samples++
	}
	rowBytes := m.W * samples * m.Bits / 8
	rows := min(max(1, stripBytes/max(1, rowBytes)), m.H)
	out := bytes.NewBuffer(append(tiffMagic(order), 0, 0, 0, 0))
	var offsets, counts []uint32
	raw := make([]byte, rowBytes)
	row := make([]uint16, m.W*samples)
	for y0 := 0; y0 < m.H; y0 += rows {
		at := out.Len()
		z := zlib.NewWriter(out)
		for y := y0; y < min(y0+rows, m.H); y++ {
			m.samplesOf(row, y, samples)
			for i, v := range row {
				if i >= samples {
					v -= row[i-samples]
				}
				if m.Bits == 16 {
					order.PutUint16(raw[2*i:], v)
				} else {
					raw[i] = byte(v)
				}
			}
			if _, err := z.Write(raw); err != nil {
				return err
			}
		}
		if err := z.Close(); err != nil {
			return err
		}
		offsets, counts = append(offsets, uint32(at)), append(counts, uint32(out.Len()-at))
		if out.Len() > 1<<32-1<<26 {
			return fmt.Errorf("found more than 4 GiB of compressed samples, expected less, which is all that TIFF holds")
		}
	}
	photometric := uint32(photoBlackZero)
	if m.C == 3 {
		photometric = photoRGB
	}
	depths := make([]uint32, samples)
	for i := range depths {
		depths[i] = uint32(m.Bits)
	}
	top.set(a, tagWidth, 4, uint32(m.W))
	top.set(a, tagHeight, 4, uint32(m.H))
	top.set(a, tagBits, 3, depths...)
	top.set(a, tagCompression, 3, compressDeflate)
	top.set(a, tagPhotometric, 3, photometric)
	top.set(a, tagOrientation, 3, 1)
	top.set(a, tagSamples, 3, uint32(samples))
	top.set(a, tagRows, 4, uint32(rows))
	top.set(a, tagStripOffsets, 4, offsets...)
	top.set(a, tagStripCounts, 4, counts...)
	top.set(a, tagPlanar, 3, 1)
	top.set(a, tagPredictor, 3, 2)
	if m.Alpha != nil {
		top.set(a, tagExtra, 3, 2)
	}
	if !top.has(282) {
		var d []byte
		top.fields = append(top.fields,
			field{tag: 282, typ: 5, data: a.AppendUint32(a.AppendUint32(d, 72), 1)},
			field{tag: 283, typ: 5, data: a.AppendUint32(a.AppendUint32(d, 72), 1)},
			field{tag: 296, typ: 3, data: a.AppendUint16(d, 2)})
	}
	if icc != nil {
		top.fields = append(top.fields, field{tag: tagICC, typ: 7, data: icc})
	}
	file, at := top.append(out.Bytes(), a)
	order.PutUint32(file[4:], at)
	_, err := w.Write(file)
	return err
}

// has reports whether a tag is among the entries.
func (b *branch) has(tag uint16) bool {
	for i := range b.fields {
		if b.fields[i].tag == tag {
			return true
		}
	}
	return false
}

// samplesOf quantises row y to m.Bits: the colours of a pixel, then its alpha.
func (m *Image) samplesOf(row []uint16, y, samples int) {
	quant := quant16
	if m.Bits == 8 {
		quant = func(v float32) uint16 { return uint16(quant8(v)) }
	}
	n := m.W * m.H
	for k := range samples {
		src := m.Alpha
		if k < m.C {
			src = m.Pix[k*n : (k+1)*n]
		}
		for x, v := range src[y*m.W : (y+1)*m.W] {
			row[x*samples+k] = quant(v)
		}
	}
}
