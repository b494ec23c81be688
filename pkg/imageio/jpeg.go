package imageio

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"strings"
)

const iccID = "ICC_PROFILE\x00"

// jpegHeader takes the size from the decoder's own parser, so that nothing the
// decoder reads differently escapes the limits, and the metadata from a walk
// over the segments before the first scan.
func jpegHeader(data []byte) (header, error) {
	hd := header{orientation: 1}
	cfg, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return hd, err
	}
	hd.w, hd.h = int64(cfg.Width), int64(cfg.Height)
	adobe := false
	// An 8x8 block takes at least one bit.
	hd.minBytes = (hd.w + 7) / 8 * ((hd.h + 7) / 8) / 8
	parts := map[byte][]byte{}
	count := 0
	for pos := 2; pos+4 <= len(data); {
		if data[pos] != 0xff {
			pos++ // the decoder skips stray bytes too
			continue
		}
		mark := data[pos+1]
		switch {
		case mark == 0xff:
			pos++
			continue
		case mark == 0x00, mark == 0x01, mark >= 0xd0 && mark <= 0xd7:
			pos += 2
			continue
		}
		if mark == 0xda || mark == 0xd9 {
			break
		}
		n := int(data[pos+2])<<8 | int(data[pos+3])
		if n < 2 || pos+2+n > len(data) {
			break
		}
		body := data[pos+4 : pos+2+n]
		switch {
		case mark == 0xe1 && bytes.HasPrefix(body, []byte(exifID)):
			if hd.exif == nil {
				hd.setExif(body[len(exifID):])
			}
		case mark == 0xe2 && bytes.HasPrefix(body, []byte(iccID)) && len(body) >= len(iccID)+2:
			seq := body[len(iccID)]
			count = int(body[len(iccID)+1])
			parts[seq] = body[len(iccID)+2:]
		case mark == 0xee && bytes.HasPrefix(body, []byte("Adobe")) && len(body) >= 12:
			adobe = true
		}
		pos += 2 + n
	}
	hd.plainCMYK = cfg.ColorModel == color.CMYKModel && !adobe
	if count > 0 && len(parts) == count {
		var icc []byte
		for s := 1; s <= count; s++ {
			p, ok := parts[byte(s)]
			if !ok {
				return hd, nil // numbered wrongly: no profile rather than a scrambled one
			}
			icc = append(icc, p...)
		}
		hd.icc = icc
	}
	return hd, nil
}

// decodeJPEG decodes JPEG data. Four components without Adobe's marker are CMYK
// as it is, where Adobe writes 255 minus the ink; the decoder knows the latter
// alone, so it is given the marker and its result turned round.
func decodeJPEG(data []byte, hd header) (image.Image, error) {
	if !hd.plainCMYK {
		return jpeg.Decode(bytes.NewReader(data))
	}
	const marker = "\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
	pic, err := jpeg.Decode(io.MultiReader(bytes.NewReader(data[:2]), strings.NewReader(marker), bytes.NewReader(data[2:])))
	if err != nil {
		return nil, err
	}
	if c, ok := pic.(*image.CMYK); ok {
		for i, v := range c.Pix {
			c.Pix[i] = 255 - v
		}
	}
	return pic, nil
}

// jpegExif is the APP1 segment that carries an EXIF block, nil where it does not
// fit into one.
func jpegExif(block []byte) []byte {
	n := 2 + len(exifID) + len(block)
	if n > 65535 {
		return nil
	}
	out := append([]byte{0xff, 0xe1, byte(n >> 8), byte(n)}, exifID...)
	return append(out, block...)
}

// jpegICC is the run of APP2 segments that carries a profile, or nil if it
// takes more than the 255 there can be.
func jpegICC(icc []byte) []byte {
	const room = 65533 - len(iccID) - 2
	count := (len(icc) + room - 1) / room
	if count > 255 {
		return nil
	}
	var out []byte
	for s := 1; s <= count; s++ {
		p := icc[:min(room, len(icc))]
		icc = icc[len(p):]
		n := 2 + len(iccID) + 2 + len(p)
		out = append(out, 0xff, 0xe2, byte(n>>8), byte(n))
		out = append(out, iccID...)
		out = append(out, byte(s), byte(count))
		out = append(out, p...)
	}
	return out
}

// iccSpace is the colour space signature of a profile ("RGB ", "GRAY", ...),
// "" if it is too short or not a profile.
func iccSpace(icc []byte) string {
	if len(icc) < 128 || string(icc[36:40]) != "acsp" {
		return ""
	}
	return string(icc[16:20])
}
