package imageio

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/image/tiff"
)

const (
	tagBits        = 258
	tagOrientation = 274
	tagSamples     = 277
	tagICC         = 34675
)

// tiffHeader takes the size from the decoder's own parser and the rest from
// the first image file directory.
func tiffHeader(data []byte) (header, error) {
	hd := header{orientation: 1}
	cfg, err := tiff.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return hd, err
	}
	hd.w, hd.h = int64(cfg.Width), int64(cfg.Height)
	bits, samples := int64(1), int64(1)
	eachTag(data, func(tag uint16, v tagValue) {
		switch tag {
		case tagBits:
			if b, ok := v.uint(); ok {
				bits = max(1, int64(b))
			}
		case tagSamples:
			if s, ok := v.uint(); ok {
				samples = max(1, int64(s))
			}
		case tagOrientation:
			if o, ok := v.uint(); ok && o >= 1 && o <= 8 {
				hd.orientation = int(o)
			}
		case tagICC:
			if len(v.data) <= maxMetadata {
				hd.icc = bytes.Clone(v.data)
			}
		}
	})
	if hd.w < 0 || hd.h < 0 || hd.w >= 1<<32 || hd.h >= 1<<32 {
		hd.w, hd.h = 0, 0 // a side that is no 32-bit number: checkSize refuses it
		return hd, nil
	}
	// LZW, the strongest compression the decoder knows, makes at most about
	// 3800 bytes out of a 12-bit code; 4096 is above all of them. The bound is
	// on bytes, with the count saturated against absurd bit depths.
	bytesPerPixel := min(bits*samples, 1<<10) / 8
	if hd.h > 0 && hd.w <= (1<<50)/hd.h {
		hd.minBytes = hd.w * hd.h * bytesPerPixel / 4096
	} else if hd.h > 0 {
		hd.minBytes = 1 << 62
	}
	return hd, nil
}

// exifOrientation reads the orientation tag of an EXIF block (a TIFF structure
// without pixels): 1..8, or 1 where it is absent or damaged.
func exifOrientation(data []byte) int {
	o := 1
	eachTag(data, func(tag uint16, v tagValue) {
		if n, ok := v.uint(); tag == tagOrientation && ok && n >= 1 && n <= 8 {
			o = int(n)
		}
	})
	return o
}

// tagValue is the data of one directory entry.
type tagValue struct {
	order binary.ByteOrder
	typ   uint16
	data  []byte
}

// uint is the first element of a BYTE, SHORT or LONG entry.
func (v tagValue) uint() (uint32, bool) {
	switch {
	case v.typ == 1 && len(v.data) >= 1:
		return uint32(v.data[0]), true
	case v.typ == 3 && len(v.data) >= 2:
		return uint32(v.order.Uint16(v.data)), true
	case v.typ == 4 && len(v.data) >= 4:
		return v.order.Uint32(v.data), true
	}
	return 0, false
}

// eachTag calls visit for every well-formed entry of the first directory of a
// TIFF structure, and stops quietly where the structure ends or makes no sense.
func eachTag(data []byte, visit func(tag uint16, v tagValue)) {
	if len(data) < 8 {
		return
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch string(data[:4]) {
	case "II*\x00":
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return
	}
	size := int64(len(data))
	pos := int64(order.Uint32(data[4:]))
	if pos+2 > size {
		return
	}
	n := int64(order.Uint16(data[pos:]))
	pos += 2
	for ; n > 0 && pos+12 <= size; n, pos = n-1, pos+12 {
		e := data[pos : pos+12]
		typ, count := order.Uint16(e[2:]), int64(order.Uint32(e[4:]))
		var width int64
		switch typ {
		case 1, 2, 6, 7:
			width = 1
		case 3, 8:
			width = 2
		case 4, 9, 11:
			width = 4
		default:
			continue
		}
		length, body := count*width, e[8:12]
		if length > 4 {
			off := int64(order.Uint32(e[8:]))
			if off+length > size {
				continue
			}
			body = data[off : off+length]
		} else {
			body = body[:length]
		}
		visit(order.Uint16(e), tagValue{order, typ, body})
	}
}
