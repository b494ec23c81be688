package imageio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// pnmSpace reports whether b separates the words of a PNM header.
func pnmSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }

// pnmHeader reads the header of PGM (P2, P5) and PPM (P3, P6) data: width, height
// and the largest value, up to 65535. Samples of more than 255 take two bytes,
// the high one first; they are divided by the largest value. Of several pictures
// in a file the first is read.
func pnmHeader(data []byte) (header, error) {
	hd := header{orientation: 1}
	kind := data[1]
	pos := 2
	number := func() (int64, error) {
		for pos < len(data) && (pnmSpace(data[pos]) || data[pos] == '#') {
			if data[pos] == '#' {
				for pos < len(data) && data[pos] != '\n' && data[pos] != '\r' {
					pos++
				}
				continue
			}
			pos++
		}
		v, digits := int64(0), 0
		for ; pos < len(data) && data[pos] >= '0' && data[pos] <= '9'; pos++ {
			if v = 10*v + int64(data[pos]-'0'); v >= 1<<32 {
				return 0, errors.New("a number above 2^32")
			}
			digits++
		}
		switch {
		case pos == len(data) && digits == 0:
			return 0, io.ErrUnexpectedEOF
		case digits == 0:
			return 0, fmt.Errorf("byte %#x where a number should be", data[pos])
		}
		return v, nil
	}
	var err error
	var top int64
	for _, v := range []*int64{&hd.w, &hd.h, &top} {
		if *v, err = number(); err != nil {
			return hd, err
		}
	}
	if top < 1 || top > 65535 {
		return hd, fmt.Errorf("a largest value of %d", top)
	}
	if pos == len(data) {
		return hd, io.ErrUnexpectedEOF
	}
	if !pnmSpace(data[pos]) {
		return hd, fmt.Errorf("byte %#x behind the largest value", data[pos])
	}
	pos++
	c, width := int64(1), int64(1)
	if kind == '3' || kind == '6' {
		c = 3
	}
	if top > 255 {
		width = 2
	}
	text := kind == '2' || kind == '3'
	each := width
	if text {
		each = 2 // a digit and a space, but for the last
	}
	if hd.w >= 1 && hd.h >= 1 {
		if hd.w > (1<<50)/hd.h {
			hd.minBytes = 1 << 62
		} else {
			hd.minBytes = int64(pos) + c*hd.w*hd.h*each
			if text {
				hd.minBytes--
			}
		}
	}
	hd.read = func() (*Image, error) {
		m := New(int(c), int(hd.h), int(hd.w))
		if top > 255 {
			m.Bits = 16
		}
		n := m.W * m.H
		body := data[pos:]
		for i := range n {
			for k := range m.C {
				var v int64
				switch {
				case text:
					var err error
					if v, err = number(); err != nil {
						return nil, err
					}
				case width == 2:
					v = int64(body[0])<<8 | int64(body[1])
					body = body[2:]
				default:
					v = int64(body[0])
					body = body[1:]
				}
				if v > top {
					return nil, fmt.Errorf("a sample of %d above the largest value %d", v, top)
				}
				m.Pix[k*n+i] = float32(v) / float32(top)
			}
		}
		return m, nil
	}
	return hd, nil
}

// encodePNM writes PGM or PPM of 8 or 16 bits.
func encodePNM(w io.Writer, m *Image) error {
	kind := byte('5')
	if m.C == 3 {
		kind = '6'
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "P%c\n%d %d\n%d\n", kind, m.W, m.H, 1<<m.Bits-1)
	row := make([]uint16, m.W*m.C)
	for y := range m.H {
		m.samplesOf(row, y, m.C)
		for _, v := range row {
			if m.Bits == 16 {
				b.WriteByte(byte(v >> 8))
			}
			b.WriteByte(byte(v))
		}
		if b.Len() >= 1<<16 || y == m.H-1 {
			if _, err := b.WriteTo(w); err != nil {
				return err
			}
		}
	}
	return nil
}
