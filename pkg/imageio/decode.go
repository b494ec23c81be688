package imageio

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"io/fs"
	"os"

	"golang.org/x/image/tiff"
)

// Limits bounds what Decode accepts. A zero field means no bound of that kind.
type Limits struct {
	MaxPixels int64 // width x height
	MaxSide   int   // width, height
	MaxBytes  int64 // size of the file
}

// DefaultLimits admits 200 megapixels, sides up to 131072 pixels (panoramas and
// single rows of sensors) and files up to 1 GiB. A picture at the pixel limit
// takes 2.4 GB as three float32 planes.
var DefaultLimits = Limits{MaxPixels: 200e6, MaxSide: 1 << 17, MaxBytes: 1 << 30}

// FormatError says why a file was refused: what it holds and what it should.
type FormatError struct {
	Name     string // the file
	Found    string
	Expected string
	Err      error // the decoder's own error, or nil
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: found %s, expected %s", e.Name, e.Found, e.Expected)
}

func (e *FormatError) Unwrap() error { return e.Err }

// DecodeFile reads the image file at path; see Decode. A missing file gives an
// error that wraps fs.ErrNotExist, a folder or device a *FormatError.
func DecodeFile(path string, lim Limits) (*Image, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fileError(path, err, "a readable image file")
	}
	if fi.IsDir() {
		return nil, &FormatError{Name: path, Found: "a directory", Expected: "an image file"}
	}
	if lim.MaxBytes > 0 && fi.Mode().IsRegular() && fi.Size() > lim.MaxBytes {
		return nil, tooManyBytes(path, fmt.Sprintf("%d bytes", fi.Size()), lim)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err, "a readable image file")
	}
	defer f.Close()
	return Decode(f, path, lim)
}

// fileError strips the operation and path from err, since the message starts
// with the path, and keeps the cause for errors.Is.
func fileError(path string, err error, expected string) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &FormatError{Name: path, Found: err.Error(), Expected: expected, Err: err}
}

func tooManyBytes(name, found string, lim Limits) error {
	return &FormatError{Name: name, Found: found, Expected: fmt.Sprintf("at most %d bytes", lim.MaxBytes)}
}

// Decode reads one image: PNG of any kind, JPEG (gray, YCbCr, RGB, CMYK), TIFF
// with up to 16 bits per sample, PGM or PPM, or the mosaic of a camera in a DNG
// (see Raw). The content decides the format; name only appears in errors. The size that the header states is checked against lim
// and against the number of bytes there are (a header cannot make Decode
// allocate what the data could never fill) before anything is decoded. The
// orientation of EXIF data and TIFF tags is applied (to a mosaic and its pattern
// as well). Any fault of the input is
// a *FormatError.
func Decode(r io.Reader, name string, lim Limits) (*Image, error) {
	src := r
	if lim.MaxBytes > 0 {
		src = io.LimitReader(r, lim.MaxBytes+1)
	}
	data, err := io.ReadAll(src)
	if err != nil {
		return nil, fileError(name, err, "a readable image file")
	}
	if lim.MaxBytes > 0 && int64(len(data)) > lim.MaxBytes {
		return nil, tooManyBytes(name, "more bytes than that", lim)
	}
	return decodeBytes(data, name, lim)
}

// header is what a container says before and beside the pixels.
type header struct {
	w, h        int64
	format      string // where it is not what the first bytes say: "dng"
	icc         []byte
	exif        []byte  // a TIFF structure, upright
	chunks      []chunk // of a PNG
	orientation int     // EXIF 1..8; 1 = upright
	gray        bool    // the container declares gray samples
	paletted    bool
	plainCMYK   bool  // four components of a JPEG, not inverted
	entries     int   // palette entries the file really has
	minBytes    int64 // fewest bytes any encoding of w x h pixels could take

	// read decodes what the libraries do not; nil where they do.
	read func() (*Image, error)
}

// setExif takes the orientation of an EXIF block, and keeps the block.
func (hd *header) setExif(block []byte) {
	hd.orientation = exifOrientation(block)
	hd.exif = upright(block)
}

const wantImage = "a PNG, JPEG, TIFF, DNG or PNM image"

func decodeBytes(data []byte, name string, lim Limits) (*Image, error) {
	format := sniff(data)
	var (
		readHeader func([]byte) (header, error)
		decode     func([]byte, header) (image.Image, error)
	)
	switch format {
	case "png":
		readHeader = pngHeader
		decode = func(data []byte, _ header) (image.Image, error) { return png.Decode(bytes.NewReader(data)) }
	case "jpeg":
		readHeader, decode = jpegHeader, decodeJPEG
	case "tiff":
		readHeader = tiffHeader
		decode = func(data []byte, _ header) (image.Image, error) { return tiff.Decode(bytes.NewReader(data)) }
	case "pnm":
		readHeader = pnmHeader
	default:
		return nil, &FormatError{Name: name, Found: describe(data), Expected: wantImage}
	}

	return guarded(name, format, func() (*Image, error) {
		return decodeAs(format, readHeader, decode, data, name, lim)
	})
}

// guarded runs f and turns a panic into an error of the file: a decoder that
// fails on a file nobody has thought of must not take the other files of a run
// with it.
func guarded(name, format string, f func() (*Image, error)) (m *Image, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, &FormatError{Name: name, Found: fmt.Sprintf("damaged %s data (decoder stopped: %v)", format, p), Expected: "a complete " + format + " image"}
		}
	}()
	return f()
}

func decodeAs(format string, readHeader func([]byte) (header, error), decode func([]byte, header) (image.Image, error), data []byte, name string, lim Limits) (*Image, error) {
	hd, err := readHeader(data)
	if hd.format != "" {
		format = hd.format
	}
	if err != nil {
		return nil, refused(name, format, err)
	}
	if err := checkSize(hd, int64(len(data)), name, format, lim); err != nil {
		return nil, err
	}
	if hd.read != nil {
		m, err := hd.read()
		if err != nil {
			return nil, refused(name, format, err)
		}
		return m.described(hd, format), nil
	}
	pic, err := decode(data, hd)
	if err != nil {
		return nil, refused(name, format, err)
	}
	if b := pic.Bounds(); int64(b.Dx()) != hd.w || int64(b.Dy()) != hd.h {
		return nil, &FormatError{Name: name, Found: fmt.Sprintf("%d x %d decoded pixels", b.Dx(), b.Dy()),
			Expected: fmt.Sprintf("the %d x %d of its header", hd.w, hd.h)}
	}
	if p, ok := pic.(*image.Paletted); ok {
		n := len(p.Palette)
		if hd.paletted {
			n = hd.entries
		}
		if top := maxIndex(p); top >= n {
			return nil, &FormatError{Name: name, Found: fmt.Sprintf("palette index %d", top),
				Expected: fmt.Sprintf("indices below %d, the number of its palette entries", n)}
		}
	}
	return FromImage(pic).described(hd, format), nil
}

// described attaches what the header says beside the pixels, and turns the image
// upright.
func (m *Image) described(hd header, format string) *Image {
	m.Format, m.ICC, m.Exif, m.chunks = format, hd.icc, hd.exif, hd.chunks
	space := iccSpace(hd.icc)
	switch {
	case hd.gray && m.C == 3:
		m.toGray() // gray with alpha, which the decoder hands over as colour
	case m.C == 1 && space == "RGB ":
		m = m.RGB() // a palette of grays under a colour profile
		m.ICC = hd.icc
	}
	if (m.C == 1 && space != "GRAY") || (m.C == 3 && space != "RGB ") {
		m.ICC = nil // a profile of another colour space (CMYK) does not describe these samples
	}
	return m.orient(hd.orientation)
}

// refused turns an error of a header parser or decoder into a FormatError.
func refused(name, format string, err error) error {
	found := fmt.Sprintf("damaged or unsupported %s data (%v)", format, err)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		found = fmt.Sprintf("truncated %s data", format)
	}
	return &FormatError{Name: name, Found: found, Expected: "a complete " + format + " image", Err: err}
}

func checkSize(hd header, size int64, name, format string, lim Limits) error {
	found := fmt.Sprintf("a header of %d x %d pixels", hd.w, hd.h)
	if hd.w < 1 || hd.h < 1 {
		return &FormatError{Name: name, Found: found, Expected: "at least 1 x 1"}
	}
	if lim.MaxSide > 0 && (hd.w > int64(lim.MaxSide) || hd.h > int64(lim.MaxSide)) {
		return &FormatError{Name: name, Found: found, Expected: fmt.Sprintf("sides of at most %d", lim.MaxSide)}
	}
	// Division, because the product of two 32-bit sides may not fit.
	if lim.MaxPixels > 0 && hd.w > lim.MaxPixels/hd.h {
		return &FormatError{Name: name, Found: found, Expected: fmt.Sprintf("at most %d pixels", lim.MaxPixels)}
	}
	if size < hd.minBytes {
		return &FormatError{Name: name, Found: fmt.Sprintf("%s in a file of %d bytes", found, size),
			Expected: fmt.Sprintf("at least %d bytes of %s data for that size", hd.minBytes, format)}
	}
	return nil
}

// sniff names the format by the first bytes: "png", "jpeg", "tiff" (which DNG is
// too), "pnm" or "".
func sniff(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte(pngMagic)):
		return "png"
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		return "jpeg"
	case bytes.HasPrefix(data, []byte("II*\x00")), bytes.HasPrefix(data, []byte("MM\x00*")):
		return "tiff"
	case len(data) >= 3 && data[0] == 'P' && data[1] >= '2' && data[1] <= '6' && data[1] != '4' && pnmSpace(data[2]):
		return "pnm"
	}
	return ""
}

// describe says what a file that is none of these formats seems to be.
func describe(data []byte) string {
	if len(data) == 0 {
		return "an empty file (0 bytes)"
	}
	has := func(off int, s string) bool { return len(data) >= off+len(s) && string(data[off:off+len(s)]) == s }
	switch {
	case has(0, "GIF8"):
		return "a GIF image"
	case has(0, "RIFF") && has(8, "WEBP"):
		return "a WebP image"
	case has(0, "BM"):
		return "a BMP image"
	case has(4, "ftypavif"), has(4, "ftypheic"), has(4, "ftypmif1"):
		return "an AVIF or HEIF image"
	case has(0, "FUJIFILMCCD-RAW"), has(0, "IIRO"), has(0, "IIRS"), has(0, "IIU\x00"), has(4, "ftypcrx"), has(6, "HEAPCCDR"), has(0, "FOVb"), has(0, "\x00MRM"):
		return "a camera's own raw format (convert it to DNG)"
	case has(0, "P7\n"):
		return "a PAM image"
	case has(0, "P4"):
		return "a PBM image"
	case has(0, "II+\x00"), has(0, "MM\x00+"):
		return "a BigTIFF image"
	case has(0, "%PDF"):
		return "a PDF document"
	case has(0, "\x1f\x8b"):
		return "gzip-compressed data"
	case has(0, "PK\x03\x04"):
		return "a zip archive"
	}
	return fmt.Sprintf("%d bytes starting with % x", len(data), data[:min(8, len(data))])
}

func maxIndex(p *image.Paletted) int {
	top, w := uint8(0), p.Rect.Dx()
	for y := range p.Rect.Dy() {
		for _, v := range p.Pix[y*p.Stride : y*p.Stride+w] {
			top = max(top, v)
		}
	}
	return int(top)
}
