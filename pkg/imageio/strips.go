package imageio

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"golang.org/x/image/tiff/lzw"
)

// Compressions of TIFF that strips reads.
const (
	compressNone       = 1
	compressLZW        = 5
	compressJPEG       = 7 // lossless JPEG, in raw data
	compressDeflate    = 8
	compressPackBits   = 32773
	compressOldDeflate = 32946
)

// strips says how the samples of one directory are stored: in strips or tiles,
// the samples of a pixel together or each in a plane of its own.
type strips struct {
	w, h, samples, bits int
	planar              bool // one plane after the other
	compression         int
	predictor           int
	reversed            bool // bytes hold their bits in reverse order
	order               binary.ByteOrder
	bw, bh              int // of a tile, or w and the rows of a strip
	tiled               bool
	offsets, counts     *field
	wideDiff            bool // lossless JPEG as DNG before 1.1 wrote it
}

// newStrips reads how a directory stores its samples, and checks that the sizes
// it names fit together and into the file.
func newStrips(d *directory, order binary.ByteOrder) (*strips, error) {
	s := &strips{
		samples: int(min(d.uint(tagSamples, 1), 1<<16)), bits: 1, compression: int(d.uint(tagCompression, 1)),
		predictor: int(d.uint(tagPredictor, 1)), order: order,
	}
	w, h := d.uint(tagWidth, 0), d.uint(tagHeight, 0)
	if w < 1 || h < 1 || w > 1<<30 || h > 1<<30 {
		return nil, fmt.Errorf("%d x %d pixels", w, h)
	}
	s.w, s.h = int(w), int(h)
	if s.samples < 1 || s.samples > 8 {
		return nil, fmt.Errorf("%d samples per pixel", s.samples)
	}
	b := d.get(tagBits)
	for i := range b.len() {
		v, ok := b.uint(i)
		if i > 0 && int(v) != s.bits || !ok {
			return nil, errors.New("samples of different depths")
		}
		s.bits = int(min(v, 1<<16))
	}
	if s.bits < 1 || s.bits > 16 {
		return nil, fmt.Errorf("%d bits per sample", s.bits)
	}
	f := d.get(tagSampleFormat)
	for i := range f.len() {
		if v, _ := f.uint(i); v != 1 {
			return nil, fmt.Errorf("sample format %d", v)
		}
	}
	switch p := d.uint(tagPlanar, 1); p {
	case 1:
	case 2:
		s.planar = s.samples > 1
	default:
		return nil, fmt.Errorf("planar configuration %d", p)
	}
	switch o := d.uint(tagFillOrder, 1); o {
	case 1:
	case 2:
		s.reversed = true
	default:
		return nil, fmt.Errorf("fill order %d", o)
	}
	switch s.compression {
	case compressNone, compressLZW, compressDeflate, compressOldDeflate, compressPackBits, compressJPEG:
	default:
		return nil, fmt.Errorf("compression %d", s.compression)
	}
	switch {
	case s.predictor == 1 || s.compression != compressLZW && s.compression != compressDeflate && s.compression != compressOldDeflate:
		s.predictor = 1
	case s.predictor != 2 || s.bits != 8 && s.bits != 16:
		return nil, fmt.Errorf("predictor %d with %d bits per sample", s.predictor, s.bits)
	}
	if d.get(tagTileWidth) != nil {
		s.tiled = true
		tw, th := d.uint(tagTileWidth, 0), d.uint(tagTileHeight, 0)
		// Tiles may stick out, but not so far that they are mostly nothing.
		if tw < 1 || th < 1 || int64(tw) > 2*int64(w)+4096 || int64(th) > 2*int64(h)+4096 || int64(tw)*int64(th) > 4*int64(w)*int64(h)+1<<20 {
			return nil, fmt.Errorf("tiles of %d x %d in %d x %d pixels", tw, th, w, h)
		}
		s.bw, s.bh = int(tw), int(th)
		s.offsets, s.counts = d.get(tagTileOffsets), d.get(tagTileCounts)
	} else {
		s.bw, s.bh = s.w, s.h
		if rows := d.uint(tagRows, h); rows >= 1 && rows < h {
			s.bh = int(rows)
		}
		s.offsets, s.counts = d.get(tagStripOffsets), d.get(tagStripCounts)
	}
	if n := s.blocks(); s.offsets.len() < n || s.counts.len() < n {
		return nil, fmt.Errorf("places of %d and sizes of %d of %d strips or tiles", s.offsets.len(), s.counts.len(), n)
	}
	return s, nil
}

// across, down are the blocks of a plane; perBlock the samples of a pixel that a
// block holds.
func (s *strips) across() int { return (s.w + s.bw - 1) / s.bw }
func (s *strips) down() int   { return (s.h + s.bh - 1) / s.bh }

func (s *strips) perBlock() int {
	if s.planar {
		return 1
	}
	return s.samples
}

func (s *strips) blocks() int {
	n := s.across() * s.down()
	if s.planar {
		n *= s.samples
	}
	return n
}

// minBytes is the fewest bytes that the samples take.
func (s *strips) minBytes() int64 {
	n := int64(s.w) * int64(s.h) // each below 2^30
	if n > 1<<40 {
		return 1 << 40
	}
	n *= int64(s.samples)
	switch s.compression {
	case compressNone:
		return n * int64(s.bits) / 8
	case compressJPEG:
		return n / 8 // a sample takes a bit at least
	case compressPackBits:
		return n * int64(s.bits) / 8 / 64
	}
	return n * int64(s.bits) / 8 / 4096
}

// read returns the samples (h,w,samples), which the caller has checked to be of
// a size to be allocated.
func (s *strips) read(data []byte) ([]uint16, error) {
	out := make([]uint16, s.w*s.h*s.samples)
	per := s.perBlock()
	var row []uint16
	for b := range s.blocks() {
		plane, bx, by := 0, b%s.across(), b/s.across()
		if s.planar {
			plane, by = by/s.down(), by%s.down()
		}
		bh := s.bh
		if !s.tiled {
			bh = min(bh, s.h-by*s.bh)
		}
		block, err := s.block(data, b, bh)
		if err != nil {
			return nil, err
		}
		x0, y0 := bx*s.bw, by*s.bh
		n := min(s.bw, s.w-x0)
		for y := range min(bh, s.h-y0) {
			if row, err = block(y, row); err != nil {
				return nil, err
			}
			dst := out[((y0+y)*s.w+x0)*s.samples:]
			if !s.planar {
				copy(dst[:n*s.samples], row)
				continue
			}
			for x, v := range row[:n*per] {
				dst[x*s.samples+plane] = v
			}
		}
	}
	return out, nil
}

// block unpacks strip or tile b of bh rows. What it returns gives the samples of
// a row, in turn from the first; the slice is the one it is given, or longer.
func (s *strips) block(data []byte, b, bh int) (func(y int, row []uint16) ([]uint16, error), error) {
	off, ok1 := s.offsets.uint(b)
	count, ok2 := s.counts.uint(b)
	if !ok1 || !ok2 || int64(off)+int64(count) > int64(len(data)) {
		return nil, io.ErrUnexpectedEOF
	}
	src := data[off : int64(off)+int64(count)]
	n := s.bw * s.perBlock() // samples of a row
	if s.compression == compressJPEG {
		pix, err := decodeLossless(src, n*bh, s.bits, s.wideDiff)
		if err != nil {
			return nil, err
		}
		return func(y int, _ []uint16) ([]uint16, error) { return pix[y*n : (y+1)*n], nil }, nil
	}
	if s.reversed {
		src = bytes.Clone(src)
		for i, v := range src {
			src[i] = bits.Reverse8(v)
		}
	}
	rowBytes := (n*s.bits + 7) / 8
	raw, err := s.unpack(src, int64(rowBytes)*int64(bh))
	if err != nil {
		return nil, err
	}
	return func(y int, row []uint16) ([]uint16, error) {
		if cap(row) < n {
			row = make([]uint16, n)
		}
		row = row[:n]
		// Rows below the picture's last may be missing of a tile; those of the
		// picture must be there.
		if len(raw) < (y+1)*rowBytes {
			return nil, io.ErrUnexpectedEOF
		}
		s.samplesOf(row, raw[y*rowBytes:(y+1)*rowBytes])
		return row, nil
	}, nil
}

// unpack undoes the compression of a block of at most want bytes.
func (s *strips) unpack(src []byte, want int64) ([]byte, error) {
	var r io.Reader
	switch s.compression {
	case compressNone:
		return src, nil
	case compressPackBits:
		return unpackBits(src, want)
	case compressLZW:
		l := lzw.NewReader(bytes.NewReader(src), lzw.MSB, 8)
		defer l.Close()
		r = l
	default:
		z, err := zlib.NewReader(bytes.NewReader(src))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	}
	// Reading grows with what there is, not with what is claimed.
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(r, want)); err != nil && int64(b.Len()) < want {
		return nil, err
	}
	return b.Bytes(), nil
}

// unpackBits undoes PackBits: a byte n from 0 to 127 is followed by n+1 bytes as
// they are, one from 129 to 255 by a byte that stands for 257-n.
func unpackBits(src []byte, want int64) ([]byte, error) {
	var out []byte
	for len(src) > 0 && int64(len(out)) < want {
		n := int(src[0])
		src = src[1:]
		switch {
		case n < 128:
			if len(src) < n+1 {
				return nil, io.ErrUnexpectedEOF
			}
			out = append(out, src[:n+1]...)
			src = src[n+1:]
		case n > 128:
			if len(src) < 1 {
				return nil, io.ErrUnexpectedEOF
			}
			for range 257 - n {
				out = append(out, src[0])
			}
			src = src[1:]
		}
	}
	return out, nil
}

// samplesOf takes the samples of a row out of its bytes: 16 bits in the order of
// the file, fewer from the highest bit down; and undoes the predictor, which
// stores each sample as the difference from the one of the pixel before it.
func (s *strips) samplesOf(row []uint16, raw []byte) {
	switch s.bits {
	case 8:
		for i := range row {
			row[i] = uint16(raw[i])
		}
	case 16:
		for i := range row {
			row[i] = s.order.Uint16(raw[2*i:])
		}
	default:
		var acc uint32
		have := 0
		for i := range row {
			for have < s.bits {
				acc = acc<<8 | uint32(raw[0])
				raw = raw[1:]
				have += 8
			}
			have -= s.bits
			row[i] = uint16(acc >> have & (1<<s.bits - 1))
		}
	}
	if s.predictor == 2 {
		per := s.perBlock()
		mask := uint16(1<<s.bits - 1)
		for i := per; i < len(row); i++ {
			row[i] = (row[i] + row[i-per]) & mask
		}
	}
}
