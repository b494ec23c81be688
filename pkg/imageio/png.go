package imageio

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const pngMagic = "\x89PNG\r\n\x1a\n"

// maxMetadata bounds a decompressed colour profile or an EXIF block.
const maxMetadata = 8 << 20

// deflateRatio is the most that deflate expands: 1032 to 1, rounded up.
const deflateRatio = 1040

// pngHeader walks the chunks of a PNG up to the image data's end. It reads
// metadata only: a damaged chunk is left for the decoder to report.
func pngHeader(data []byte) (header, error) {
	hd := header{orientation: 1}
	if len(data) < 33 {
		return hd, io.ErrUnexpectedEOF
	}
	if binary.BigEndian.Uint32(data[8:]) != 13 || string(data[12:16]) != "IHDR" {
		return hd, errors.New("the first chunk is not a 13-byte IHDR")
	}
	hd.w, hd.h = int64(binary.BigEndian.Uint32(data[16:])), int64(binary.BigEndian.Uint32(data[20:]))
	depth, colour := int64(data[24]), data[25]
	samples := int64(1)
	switch colour {
	case 0:
		hd.gray = true
	case 2:
		samples = 3
	case 3:
		hd.paletted = true
	case 4:
		hd.gray, samples = true, 2
	case 6:
		samples = 4
	default:
		return hd, fmt.Errorf("colour type %d", colour)
	}
	// Interlacing needs no fewer bytes than the plain order. Saturates rather
	// than overflows: sides reach 2^32.
	bits := samples * depth
	if row := hd.w*bits/8 + 1; hd.h > 0 && row <= (1<<62)/hd.h {
		hd.minBytes = row * hd.h / deflateRatio
	} else {
		hd.minBytes = 1 << 62
	}
	for pos := 33; pos+12 <= len(data); {
		n := int64(binary.BigEndian.Uint32(data[pos:]))
		typ := string(data[pos+4 : pos+8])
		if n > int64(len(data)-pos-12) {
			break
		}
		body := data[pos+8 : pos+8+int(n)]
		switch typ {
		case "PLTE":
			hd.entries = len(body) / 3
		case "iCCP":
			hd.icc = pngProfile(body)
		case "eXIf":
			hd.setExif(bytes.TrimPrefix(body, []byte(exifID)))
		case "cHRM", "gAMA", "sRGB", "cICP":
			if len(body) <= 32 && len(hd.chunks) < 4 && crc32.ChecksumIEEE(data[pos+4:pos+8+int(n)]) == binary.BigEndian.Uint32(data[pos+8+int(n):]) {
				hd.chunks = append(hd.chunks, chunk{typ, bytes.Clone(body)})
			}
		case "IEND":
			return hd, nil
		}
		pos += int(n) + 12
	}
	return hd, nil
}

// pngProfile unpacks an iCCP chunk: name, 0, method 0, zlib stream. A profile
// that does not unpack is dropped, since it does not touch the pixels.
func pngProfile(body []byte) []byte {
	i := bytes.IndexByte(body, 0)
	if i < 0 || i+2 > len(body) || body[i+1] != 0 {
		return nil
	}
	zr, err := zlib.NewReader(bytes.NewReader(body[i+2:]))
	if err != nil {
		return nil
	}
	icc, err := io.ReadAll(io.LimitReader(zr, maxMetadata+1))
	if err != nil || len(icc) > maxMetadata {
		return nil
	}
	return icc
}

// chunk is a chunk of a PNG that says how its samples are meant: cHRM, gAMA, sRGB
// or cICP.
type chunk struct {
	typ  string
	body []byte
}

// pngChunk frames body as a chunk: length, type, body, CRC.
func pngChunk(typ string, body []byte) []byte {
	out := binary.BigEndian.AppendUint32(make([]byte, 0, len(body)+12), uint32(len(body)))
	out = append(append(out, typ...), body...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
}

// pngICC is the iCCP chunk that carries a profile.
func pngICC(icc []byte) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("ICC profile\x00\x00")
	zw := zlib.NewWriter(&b)
	if _, err := zw.Write(icc); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return pngChunk("iCCP", b.Bytes()), nil
}

// pngExtra is the chunks that go behind the header: colour and EXIF data.
func (m *Image) pngExtra(icc []byte) ([]byte, error) {
	var out []byte
	for _, c := range m.chunks {
		if icc == nil || c.typ != "sRGB" { // which excludes a profile
			out = append(out, pngChunk(c.typ, c.body)...)
		}
	}
	if icc != nil {
		c, err := pngICC(icc)
		if err != nil {
			return nil, err
		}
		out = append(out, c...)
	}
	if block := resized(m.Exif, m.W, m.H); block != nil {
		out = append(out, pngChunk("eXIf", block)...)
	}
	return out, nil
}

// encodeGrayAlpha writes colour type 4, which the standard encoder lacks: gray
// and alpha, 8 or 16 bit, every row with the filter (none, sub or up) of the
// smallest sum of absolute residuals.
func encodeGrayAlpha(w io.Writer, m *Image) error {
	if _, err := io.WriteString(w, pngMagic); err != nil {
		return err
	}
	ihdr := binary.BigEndian.AppendUint32(nil, uint32(m.W))
	ihdr = binary.BigEndian.AppendUint32(ihdr, uint32(m.H))
	bpp := 2 * m.Bits / 8
	ihdr = append(ihdr, byte(m.Bits), 4, 0, 0, 0)
	if _, err := w.Write(pngChunk("IHDR", ihdr)); err != nil {
		return err
	}
	idat := &idatWriter{w: w}
	zw := zlib.NewWriter(idat)
	cur, prev := make([]byte, m.W*bpp), make([]byte, m.W*bpp)
	var cand [3][]byte
	for f := range cand {
		cand[f] = make([]byte, 1+m.W*bpp)
		cand[f][0] = byte(f)
	}
	for y := range m.H {
		for x := range m.W {
			i := y*m.W + x
			if m.Bits == 16 {
				binary.BigEndian.PutUint16(cur[4*x:], quant16(m.Pix[i]))
				binary.BigEndian.PutUint16(cur[4*x+2:], quant16(m.Alpha[i]))
			} else {
				cur[2*x], cur[2*x+1] = quant8(m.Pix[i]), quant8(m.Alpha[i])
			}
		}
		var cost [3]int
		for k, v := range cur {
			left := byte(0)
			if k >= bpp {
				left = cur[k-bpp]
			}
			for f, d := range [3]byte{v, v - left, v - prev[k]} {
				cand[f][k+1] = d
				cost[f] += abs(int(int8(d)))
			}
		}
		best := 0
		for f := range cost {
			if cost[f] < cost[best] {
				best = f
			}
		}
		if _, err := zw.Write(cand[best]); err != nil {
			return err
		}
		cur, prev = prev, cur
	}
	if err := zw.Close(); err != nil {
		return err
	}
	if err := idat.flush(); err != nil {
		return err
	}
	_, err := w.Write(pngChunk("IEND", nil))
	return err
}

func abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}

// idatWriter cuts a zlib stream into IDAT chunks of 64 KiB.
type idatWriter struct {
	w   io.Writer
	buf []byte
}

func (d *idatWriter) Write(p []byte) (int, error) {
	d.buf = append(d.buf, p...)
	if len(d.buf) >= 1<<16 {
		if err := d.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (d *idatWriter) flush() error {
	if len(d.buf) == 0 {
		return nil
	}
	_, err := d.w.Write(pngChunk("IDAT", d.buf))
	d.buf = d.buf[:0]
	return err
}
