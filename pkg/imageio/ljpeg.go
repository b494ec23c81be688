package imageio

import (
	"errors"
	"fmt"
	"io"
)

// maxCodes is the largest number of Huffman codes of lossless JPEG: differences
// of 0 to 16 bits.
const maxCodes = 17

// huffman decodes one table of lossless JPEG. A code of up to 8 bits is looked
// up, a longer one found by the first code of each length.
type huffman struct {
	fast    [256]uint8 // index of the value + 1, 0 for a longer code
	lengths [maxCodes]uint8
	values  [maxCodes]uint8
	least   [17]int32 // of each length: its first code,
	most    [17]int32 // its last, -1 for none,
	first   [17]int   // and the index of its first value
	set     bool
}

// newHuffman builds a table of ITU-T T.81, annex C: counts[i] codes of i+1 bits.
func newHuffman(counts []byte, values []byte) (huffman, error) {
	h := huffman{set: true}
	code, k := int32(0), 0
	for length := 1; length <= 16; length++ {
		n := int(counts[length-1])
		h.least[length], h.most[length], h.first[length] = code, code+int32(n)-1, k
		if n == 0 {
			h.most[length] = -1
		}
		if int(code)+n > 1<<length {
			return h, errors.New("more Huffman codes than there are")
		}
		for range n {
			h.values[k], h.lengths[k] = values[k], uint8(length)
			if values[k] > 16 {
				return h, fmt.Errorf("a difference of %d bits", values[k])
			}
			if length <= 8 {
				low := int(code) << (8 - length)
				for j := range 1 << (8 - length) {
					h.fast[low+j] = uint8(k) + 1
				}
			}
			code++
			k++
		}
		code <<= 1
	}
	return h, nil
}

// bitReader reads the entropy-coded segments of a JPEG stream. Past the end, and
// past a marker, come zeros, and short is set.
type bitReader struct {
	data  []byte
	acc   uint64
	n     uint
	stuff int // zero bits that were made up
	short bool
}

func (r *bitReader) fill() {
	for r.n <= 48 {
		v := byte(0)
		switch {
		case len(r.data) == 0 || r.data[0] == 0xff && (len(r.data) < 2 || r.data[1] != 0):
			r.stuff += 8
		case r.data[0] == 0xff:
			v, r.data = 0xff, r.data[2:]
		default:
			v, r.data = r.data[0], r.data[1:]
		}
		r.acc = r.acc<<8 | uint64(v)
		r.n += 8
	}
}

// bits returns the next n bits, n from 0 to 16.
func (r *bitReader) bits(n uint) int32 {
	if r.n < n {
		r.fill()
	}
	r.n -= n
	if int(r.n) < r.stuff {
		r.short = true
	}
	return int32(r.acc >> r.n & (1<<n - 1))
}

func (r *bitReader) value(h *huffman) (uint8, bool) {
	if r.n < 16 {
		r.fill()
	}
	if k := h.fast[r.acc>>(r.n-8)&0xff]; k != 0 {
		r.bits(uint(h.lengths[k-1]))
		return h.values[k-1], true
	}
	code := int32(r.acc >> (r.n - 16) & 0xffff)
	for length := 9; length <= 16; length++ {
		if c := code >> (16 - length); h.most[length] >= 0 && c <= h.most[length] && c >= h.least[length] {
			r.bits(uint(length))
			return h.values[h.first[length]+int(c-h.least[length])], true
		}
	}
	return 0, false
}

// restart drops the rest of a segment and the marker RSTn behind it.
func (r *bitReader) restart() bool {
	r.acc, r.n, r.stuff = 0, 0, 0
	for i := 0; i+1 < len(r.data); i++ {
		if m := r.data[i+1]; r.data[i] == 0xff && m != 0 && m != 0xff {
			if m < 0xd0 || m > 0xd7 {
				return false
			}
			r.data = r.data[i+2:]
			return true
		}
	}
	return false
}

// decodeLossless decodes lossless JPEG (ITU-T T.81, process 14: Huffman codes,
// one of seven predictors, up to 16 bits) as raw data holds it: all components in
// one scan, none of them subsampled. The samples come in the order they are
// coded, which raw data cuts into rows of its own, wherefore only their number,
// want, is given. They must fit into the given number of bits. With wide, a
// difference of 32768 is followed by 16 bits that say nothing, as DNG files had
// it before version 1.1.
//
// Sample x of a row is, modulo 2^16, its prediction plus the coded difference.
// With a the sample to the left, b above, c above left, predictors 1 to 7 are a,
// b, c, a+b-c, a+(b-c)/2, b+(a-c)/2 and (a+b)/2; in the first row a, in the
// first column b, at the start 2^(precision-1).
func decodeLossless(data []byte, want, bits int, wide bool) ([]uint16, error) {
	if len(data) < 2 || data[0] != 0xff || data[1] != 0xd8 {
		return nil, errors.New("no JPEG data where lossless JPEG is announced")
	}
	var (
		tables              [4]huffman
		precision, w, h, nc int
		ids                 [4]byte
		interval            int
	)
	pos := 2
	for {
		for pos+1 < len(data) && data[pos] == 0xff && data[pos+1] == 0xff {
			pos++
		}
		if pos+4 > len(data) {
			return nil, io.ErrUnexpectedEOF
		}
		if data[pos] != 0xff {
			return nil, fmt.Errorf("byte %#x where a JPEG marker should be", data[pos])
		}
		mark, n := data[pos+1], int(data[pos+2])<<8|int(data[pos+3])
		if n < 2 || pos+2+n > len(data) {
			return nil, io.ErrUnexpectedEOF
		}
		body := data[pos+4 : pos+2+n]
		pos += 2 + n
		switch mark {
		case 0xc3:
			if len(body) < 6 || nc != 0 {
				return nil, errors.New("a damaged frame header")
			}
			precision, h, w, nc = int(body[0]), int(body[1])<<8|int(body[2]), int(body[3])<<8|int(body[4]), int(body[5])
			if nc < 1 || nc > 4 || len(body) < 6+3*nc || precision < 2 || precision > 16 {
				return nil, fmt.Errorf("lossless JPEG of %d components and %d bits", nc, precision)
			}
			if w*h*nc != want || want == 0 {
				return nil, fmt.Errorf("lossless JPEG of %d x %d x %d samples where %d are stored", w, h, nc, want)
			}
			for c := range nc {
				ids[c] = body[6+3*c]
				if body[7+3*c] != 0x11 && nc > 1 {
					return nil, errors.New("subsampled components")
				}
			}
		case 0xc4:
			for len(body) > 0 {
				if len(body) < 17 || body[0] > 3 {
					return nil, errors.New("a damaged Huffman table")
				}
				k := 0
				for _, c := range body[1:17] {
					k += int(c)
				}
				if k > maxCodes || len(body) < 17+k {
					return nil, errors.New("a damaged Huffman table")
				}
				var err error
				if tables[body[0]], err = newHuffman(body[1:17], body[17:17+k]); err != nil {
					return nil, err
				}
				body = body[17+k:]
			}
		case 0xdd:
			if len(body) < 2 {
				return nil, errors.New("a damaged restart interval")
			}
			interval = int(body[0])<<8 | int(body[1])
		case 0xda:
			if nc == 0 || len(body) < 4+2*nc || int(body[0]) != nc {
				return nil, errors.New("a scan of other components than the frame's")
			}
			var use [4]*huffman
			for c := range nc {
				t := body[2+2*c] >> 4
				if body[1+2*c] != ids[c] || t > 3 || !tables[t].set {
					return nil, errors.New("a scan without its Huffman table")
				}
				use[c] = &tables[t]
			}
			predictor, shift := int(body[1+2*nc]), uint(body[3+2*nc]&15)
			if predictor < 1 || predictor > 7 || int(shift) >= precision {
				return nil, fmt.Errorf("predictor %d", predictor)
			}
			if interval%w != 0 {
				return nil, fmt.Errorf("a restart interval of %d in rows of %d", interval, w)
			}
			if int64(len(data)-pos) < int64(want)/8 {
				return nil, io.ErrUnexpectedEOF
			}
			s := lossless{w: w, h: h, nc: nc, precision: precision, shift: shift, predictor: predictor, interval: interval / w, tables: use, wide: wide}
			pix, err := s.scan(&bitReader{data: data[pos:]})
			if err != nil {
				return nil, err
			}
			if bits < 16 {
				for _, v := range pix {
					if int(v)>>bits != 0 {
						return nil, fmt.Errorf("a sample of %d where there are %d bits", v, bits)
					}
				}
			}
			return pix, nil
		case 0xd9:
			return nil, io.ErrUnexpectedEOF
		case 0xc0, 0xc1, 0xc2, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf:
			return nil, fmt.Errorf("JPEG of process %#x, which is not lossless with Huffman codes", mark)
		}
	}
}

// lossless is one scan.
type lossless struct {
	w, h, nc, precision int
	shift               uint
	predictor           int
	interval            int // rows, 0 for no restarts
	tables              [4]*huffman
	wide                bool
}

func (s *lossless) scan(r *bitReader) ([]uint16, error) {
	n := s.w * s.nc // samples of a row
	out := make([]uint16, n*s.h)
	start := int32(1) << (s.precision - int(s.shift) - 1)
	fresh := true // the row is the first of the scan or of a restart interval
	for y := range s.h {
		if s.interval > 0 && y > 0 && y%s.interval == 0 {
			if !r.restart() {
				return nil, io.ErrUnexpectedEOF
			}
			fresh = true
		}
		row := out[y*n : (y+1)*n]
		var above []uint16
		if y > 0 {
			above = out[(y-1)*n : y*n]
		}
		for i := range row {
			size, ok := r.value(s.tables[i%s.nc])
			if !ok {
				return nil, errors.New("a Huffman code that stands for nothing")
			}
			var diff int32
			switch {
			case size == 16:
				diff = 32768
				if s.wide {
					r.bits(16)
				}
			case size > 0:
				diff = r.bits(uint(size))
				if diff < 1<<(size-1) {
					diff -= 1<<size - 1
				}
			}
			var p int32
			switch {
			case i < s.nc && fresh:
				p = start
			case i < s.nc:
				p = int32(above[i])
			case fresh || s.predictor == 1:
				p = int32(row[i-s.nc])
			default:
				p = predict(s.predictor, int32(row[i-s.nc]), int32(above[i]), int32(above[i-s.nc]))
			}
			row[i] = uint16(p + diff)
		}
		if r.short {
			return nil, io.ErrUnexpectedEOF
		}
		fresh = false
	}
	if s.shift > 0 {
		for i := range out {
			out[i] <<= s.shift
		}
	}
	return out, nil
}

func predict(predictor int, a, b, c int32) int32 {
	switch predictor {
	case 2:
		return b
	case 3:
		return c
	case 4:
		return a + b - c
	case 5:
		return a + (b-c)>>1
	case 6:
		return b + (a-c)>>1
	case 7:
		return (a + b) >> 1
	}
	return a
}
