package imageio

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// exifID begins an APP1 segment of EXIF data.
const exifID = "Exif\x00\x00"

// kept are the tags of the first directory that describe a photograph rather
// than the way its pixels are stored: they go from file to file.
var kept = []uint16{
	270, 271, 272, // description, maker, model
	282, 283, 296, // resolution
	305, 306, 315, 316, // software, date, artist, computer
	33432, 33434, 33437, 34850, 34855, // copyright; exposure as TIFF/EP stores it
	36867, 37377, 37378, 37380, 37383, 37385, 37386,
	40091, 40092, 40093, 40094, 40095, // titles and comments of Windows
}

// exifOrientation reads the orientation tag of an EXIF block (a TIFF structure
// without pixels): 1..8, or 1 where it is absent or damaged.
func exifOrientation(data []byte) int {
	if d := firstDirectory(data); d != nil {
		return d.orientation()
	}
	return 1
}

// orientation is 1..8, or 1 where it is absent or makes no sense.
func (d *directory) orientation() int {
	if o := d.uint(tagOrientation, 1); o >= 1 && o <= 8 {
		return int(o)
	}
	return 1
}

// upright returns a copy of an EXIF block for pixels that have been turned
// upright: the orientation becomes 1, and the thumbnail, which is not turned and
// shows the picture as it was, is no longer reached. Everything else stays in
// its place, since notes of camera makers hold offsets. A block that is none,
// says nothing else, or is larger than maxMetadata, gives nil.
func upright(block []byte) []byte {
	block = bytes.TrimPrefix(block, []byte(exifID))
	if len(block) > maxMetadata {
		return nil
	}
	d := firstDirectory(block)
	if d == nil || !slices.ContainsFunc(d.fields, func(f field) bool { return f.tag != tagOrientation }) {
		return nil
	}
	order := byteOrder(block)
	out := bytes.Clone(block)
	if f := d.get(tagOrientation); f.len() > 0 {
		clear(out[f.at : f.at+int64(len(f.data))])
		switch f.typ {
		case 1:
			out[f.at] = 1
		case 3:
			order.PutUint16(out[f.at:], 1)
		case 4:
			order.PutUint32(out[f.at:], 1)
		}
	}
	if d.next != 0 {
		order.PutUint32(out[d.nextAt:], 0)
	}
	return out
}

// resized returns a copy of an EXIF block that states another width and height
// of the picture, where it states them at all.
func resized(block []byte, w, h int) []byte {
	d := firstDirectory(block)
	if d == nil {
		return nil
	}
	order := byteOrder(block)
	out := bytes.Clone(block)
	if e := d.sub(block, tagExifIFD); e != nil {
		for tag, v := range map[uint16]int{tagPixelX: w, tagPixelY: h} {
			f := e.get(tag)
			switch {
			case f.len() != 1:
			case f.typ == 3 && v <= 0xffff:
				order.PutUint16(out[f.at:], uint16(v))
			case f.typ == 3: // no room for the number: 0 rather than a wrong one
				order.PutUint16(out[f.at:], 0)
			case f.typ == 4:
				order.PutUint32(out[f.at:], uint32(v))
			}
		}
	}
	return out
}

// exifTree collects what of a TIFF structure (an EXIF block, or a TIFF or DNG
// file) describes the photograph, in the byte order of the structure.
func exifTree(data []byte) (*branch, binary.ByteOrder) {
	d := firstDirectory(data)
	if d == nil {
		return nil, nil
	}
	t := &branch{subs: map[uint16]*branch{}}
	total := 0
	take := func(b *branch, d *directory, only []uint16) {
		var last = -1
		for _, f := range d.fields {
			pointer := f.tag == tagExifIFD || f.tag == tagGPSIFD || f.tag == tagInteropIFD || f.tag == tagSubIFDs
			if pointer || only != nil && !slices.Contains(only, f.tag) || int(f.tag) <= last {
				continue // doubled and unsorted entries are damage
			}
			if total += len(f.data) + 12; total > maxMetadata {
				return
			}
			last = int(f.tag)
			b.fields = append(b.fields, f)
		}
	}
	take(t, d, kept)
	for _, tag := range []uint16{tagExifIFD, tagGPSIFD} {
		s := d.sub(data, tag)
		if s == nil || len(s.fields) == 0 {
			continue
		}
		b := &branch{}
		take(b, s, nil)
		if i := s.sub(data, tagInteropIFD); tag == tagExifIFD && i != nil && len(i.fields) > 0 {
			inner := &branch{}
			take(inner, i, nil)
			b.subs = map[uint16]*branch{tagInteropIFD: inner}
		}
		t.subs[tag] = b
	}
	if len(t.fields) == 0 && len(t.subs) == 0 {
		return nil, nil
	}
	return t, byteOrder(data)
}

// exifOfTIFF builds an EXIF block from the directories of a TIFF or DNG file, nil
// where they say nothing of the photograph.
func exifOfTIFF(data []byte) []byte {
	t, order := exifTree(data)
	if t == nil {
		return nil
	}
	if len(t.subs) == 0 && !slices.ContainsFunc(t.fields, func(f field) bool { return f.tag != 282 && f.tag != 283 && f.tag != 296 }) {
		return nil // a resolution, which every TIFF file states
	}
	a := appender(order)
	out := append(tiffMagic(order), 0, 0, 0, 0)
	out, at := t.append(out, a)
	order.PutUint32(out[4:], at)
	if len(out) > maxMetadata {
		return nil
	}
	return out
}

func tiffMagic(order binary.ByteOrder) []byte {
	if order == binary.ByteOrder(binary.BigEndian) {
		return []byte("MM\x00*")
	}
	return []byte("II*\x00")
}

func appender(order binary.ByteOrder) binary.AppendByteOrder {
	if order == binary.ByteOrder(binary.BigEndian) {
		return binary.BigEndian
	}
	return binary.LittleEndian
}
