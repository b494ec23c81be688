package imageio

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// Tags of TIFF, EXIF and DNG directories.
const (
	tagSubfile      = 254
	tagWidth        = 256
	tagHeight       = 257
	tagBits         = 258
	tagCompression  = 259
	tagPhotometric  = 262
	tagFillOrder    = 266
	tagStripOffsets = 273
	tagOrientation  = 274
	tagSamples      = 277
	tagRows         = 278
	tagStripCounts  = 279
	tagPlanar       = 284
	tagPredictor    = 317
	tagTileWidth    = 322
	tagTileHeight   = 323
	tagTileOffsets  = 324
	tagTileCounts   = 325
	tagSubIFDs      = 330
	tagExtra        = 338
	tagSampleFormat = 339
	tagExifIFD      = 34665
	tagICC          = 34675
	tagGPSIFD       = 34853
	tagInteropIFD   = 40965
	tagPixelX       = 40962
	tagPixelY       = 40963
)

// typeWidth is the bytes of one value of a TIFF field type, 0 for unknown types.
var typeWidth = [...]int64{0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4}

// maxEntries bounds the entries that are read of one directory; real ones hold
// some dozens, and DNG files of some makers about two hundred.
const maxEntries = 4096

// field is one entry of a directory: a tag and its values, as stored.
type field struct {
	tag, typ uint16
	order    binary.ByteOrder
	data     []byte
	at       int64 // where data lies in the file
}

func (f *field) width() int64 { return typeWidth[f.typ] }

// len is the number of values; a nil field has none.
func (f *field) len() int {
	if f == nil {
		return 0
	}
	return len(f.data) / int(f.width())
}

// uint is value i of a BYTE, SHORT, LONG or IFD field.
func (f *field) uint(i int) (uint32, bool) {
	if i >= f.len() {
		return 0, false
	}
	switch f.typ {
	case 1, 7:
		return uint32(f.data[i]), true
	case 3:
		return uint32(f.order.Uint16(f.data[2*i:])), true
	case 4, 13:
		return f.order.Uint32(f.data[4*i:]), true
	}
	return 0, false
}

// float is value i of a field of any numeric type. A fraction of denominator 0
// is no number.
func (f *field) float(i int) (float64, bool) {
	if i >= f.len() {
		return 0, false
	}
	ratio := func(n, d float64) (float64, bool) { return n / d, d != 0 }
	var v float64
	switch f.typ {
	case 5:
		return ratio(float64(f.order.Uint32(f.data[8*i:])), float64(f.order.Uint32(f.data[8*i+4:])))
	case 6:
		v = float64(int8(f.data[i]))
	case 8:
		v = float64(int16(f.order.Uint16(f.data[2*i:])))
	case 9:
		v = float64(int32(f.order.Uint32(f.data[4*i:])))
	case 10:
		return ratio(float64(int32(f.order.Uint32(f.data[8*i:]))), float64(int32(f.order.Uint32(f.data[8*i+4:]))))
	case 11:
		v = float64(math.Float32frombits(f.order.Uint32(f.data[4*i:])))
	case 12:
		v = math.Float64frombits(f.order.Uint64(f.data[8*i:]))
	default:
		u, ok := f.uint(i)
		return float64(u), ok
	}
	return v, !math.IsNaN(v) && !math.IsInf(v, 0)
}

// floats are all values of a field, or false where one is no number.
func (f *field) floats() ([]float64, bool) {
	v := make([]float64, f.len())
	for i := range v {
		var ok bool
		if v[i], ok = f.float(i); !ok {
			return nil, false
		}
	}
	return v, true
}

// directory is one image file directory: its well-formed entries.
type directory struct {
	fields []field
	next   uint32 // offset of the directory that follows, 0 for none
	nextAt int64  // where that offset is stored
}

// get returns the first entry of a tag, or nil.
func (d *directory) get(tag uint16) *field {
	for i := range d.fields {
		if d.fields[i].tag == tag {
			return &d.fields[i]
		}
	}
	return nil
}

// uint is the first value of a tag, or def where it is absent or no number.
func (d *directory) uint(tag uint16, def uint32) uint32 {
	if v, ok := d.get(tag).uint(0); ok {
		return v
	}
	return def
}

// byteOrder reads the first four bytes of a TIFF structure, nil for none.
func byteOrder(data []byte) binary.ByteOrder {
	if len(data) >= 8 {
		switch string(data[:4]) {
		case "II*\x00":
			return binary.LittleEndian
		case "MM\x00*":
			return binary.BigEndian
		}
	}
	return nil
}

// firstDirectory reads the first directory of a TIFF structure, nil where there
// is none.
func firstDirectory(data []byte) *directory {
	order := byteOrder(data)
	if order == nil {
		return nil
	}
	return readDirectory(data, order, order.Uint32(data[4:]))
}

// readDirectory reads the directory at an offset, nil where none fits. Entries of
// unknown types, and those whose values lie outside the data, are left out.
func readDirectory(data []byte, order binary.ByteOrder, offset uint32) *directory {
	size, pos := int64(len(data)), int64(offset)
	if pos < 8 || pos+2 > size {
		return nil
	}
	n := int64(order.Uint16(data[pos:]))
	pos += 2
	d := &directory{}
	for ; n > 0 && pos+12 <= size && len(d.fields) < maxEntries; n, pos = n-1, pos+12 {
		e := data[pos : pos+12]
		f := field{tag: order.Uint16(e), typ: order.Uint16(e[2:]), order: order}
		if int(f.typ) >= len(typeWidth) || f.typ == 0 {
			continue
		}
		length := int64(order.Uint32(e[4:])) * f.width()
		f.at = pos + 8
		if length > 4 {
			f.at = int64(order.Uint32(e[8:]))
		}
		if f.at+length > size {
			continue
		}
		f.data = data[f.at : f.at+length : f.at+length]
		d.fields = append(d.fields, f)
	}
	if n == 0 && pos+4 <= size {
		d.next, d.nextAt = order.Uint32(data[pos:]), pos
	}
	return d
}

// sub reads the directory that a tag of d points to, nil for none.
func (d *directory) sub(data []byte, tag uint16) *directory {
	f := d.get(tag)
	off, ok := f.uint(0)
	if !ok {
		return nil
	}
	return readDirectory(data, f.order, off)
}

// branch is a directory to be written: entries, and directories under tags.
type branch struct {
	fields []field
	subs   map[uint16]*branch
}

// set adds an entry of SHORT or LONG values (typ 3 or 4).
func (b *branch) set(order binary.AppendByteOrder, tag, typ uint16, values ...uint32) {
	var data []byte
	for _, v := range values {
		if typ == 3 {
			data = order.AppendUint16(data, uint16(v))
		} else {
			data = order.AppendUint32(data, v)
		}
	}
	b.fields = append(b.fields, field{tag: tag, typ: typ, data: data})
}

// append writes the directory, its values and what is below it to out, which
// starts at offset 0 of the file; it returns out and where the directory begins.
func (b *branch) append(out []byte, order binary.AppendByteOrder) ([]byte, uint32) {
	fields := slices.Clone(b.fields)
	for _, tag := range slices.Sorted(maps.Keys(b.subs)) {
		var at uint32
		out, at = b.subs[tag].append(out, order)
		fields = append(fields, field{tag: tag, typ: 4, data: order.AppendUint32(nil, at)})
	}
	slices.SortStableFunc(fields, func(x, y field) int { return int(x.tag) - int(y.tag) })
	place := make([]uint32, len(fields))
	for i := range fields {
		if d := fields[i].data; len(d) > 4 {
			if len(out)%2 == 1 {
				out = append(out, 0)
			}
			place[i] = uint32(len(out))
			out = append(out, d...)
		}
	}
	if len(out)%2 == 1 {
		out = append(out, 0)
	}
	at := uint32(len(out))
	out = order.AppendUint16(out, uint16(len(fields)))
	for i := range fields {
		f := &fields[i]
		out = order.AppendUint16(out, f.tag)
		out = order.AppendUint16(out, f.typ)
		out = order.AppendUint32(out, uint32(f.len()))
		if len(f.data) > 4 {
			out = order.AppendUint32(out, place[i])
			continue
		}
		var four [4]byte
		copy(four[:], f.data)
		out = append(out, four[:]...)
	}
	return order.AppendUint32(out, 0), at
}
