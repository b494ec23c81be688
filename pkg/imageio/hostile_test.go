package imageio

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func deflate(p []byte) []byte {
	var b bytes.Buffer
	zw := zlib.NewWriter(&b)
	zw.Write(p)
	zw.Close()
	return b.Bytes()
}

// refusal decodes and wants a one-line error that names the file and contains
// all the given pieces.
func refusal(t *testing.T, data []byte, lim Limits, pieces ...string) {
	t.Helper()
	m, err := Decode(bytes.NewReader(data), "dir/file.png", lim)
	if err == nil {
		t.Fatalf("accepted as %d x %d", m.W, m.H)
	}
	var fe *FormatError
	if !errors.As(err, &fe) {
		t.Fatalf("error of type %T: %v", err, err)
	}
	msg := err.Error()
	for _, p := range append(pieces, "dir/file.png: found ", ", expected ") {
		if !strings.Contains(msg, p) {
			t.Errorf("%q lacks %q", msg, p)
		}
	}
	if strings.Contains(msg, "\n") {
		t.Errorf("%q has several lines", msg)
	}
}

func TestRefusesWhatIsNoImage(t *testing.T) {
	for _, c := range []struct{ data, found string }{
		{"", "an empty file"},
		{"x", "1 bytes starting with 78"},
		{"hello, world", "12 bytes starting with 68 65"},
		{"GIF89a......", "GIF"},
		{"RIFF\x00\x00\x00\x00WEBPVP8 ", "WebP"},
		{"BM........", "BMP"},
		{"\x00\x00\x00\x20ftypavif", "AVIF"},
		{"II+\x00........", "BigTIFF"},
		{"%PDF-1.7", "PDF"},
		{"\x1f\x8b\x08", "gzip"},
		{"PK\x03\x04", "zip"},
		{"FUJIFILMCCD-RAW 0201", "own raw format"},
		{"P4\n8 1\n\xff", "PBM"},
		{"\x89PNG\r\n", "6 bytes starting with 89 50"},
	} {
		refusal(t, []byte(c.data), DefaultLimits, c.found, "PNG, JPEG, TIFF, DNG or PNM")
	}
}

func TestMislabelledFileDecodesByContent(t *testing.T) {
	m := sample(3, 6, 7, 8, false)
	dir := t.TempDir()
	for _, format := range []string{"png", "tiff", "jpeg"} {
		path := filepath.Join(dir, "wrong-"+format+".gif")
		if err := os.WriteFile(path, encode(t, m, format), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := DecodeFile(path, DefaultLimits)
		if err != nil || got.Format != format {
			t.Fatalf("%s: %v", format, err)
		}
	}
}

// Every prefix of a good file is refused, and none panics.
func TestTruncated(t *testing.T) {
	m := sample(3, 9, 11, 8, false)
	g := sample(1, 9, 11, 16, true)
	for name, data := range map[string][]byte{
		"png": encode(t, m, "png"), "jpeg": encode(t, m, "jpeg"), "tiff": encode(t, m, "tiff"), "png ga16": encode(t, g, "png"),
	} {
		for n := range len(data) {
			if name == "tiff" && n >= len(data)-4 {
				break // the offset of a further directory, which nobody reads
			}
			if got, err := Decode(bytes.NewReader(data[:n]), "f", DefaultLimits); err == nil {
				t.Errorf("%s: %d of %d bytes were accepted as %d x %d", name, n, len(data), got.W, got.H)
			}
		}
	}
}

func pngIHDR(w, h uint32, depth, colour byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, w)
	b = binary.BigEndian.AppendUint32(b, h)
	return append([]byte(pngMagic), pngChunk("IHDR", append(b, depth, colour, 0, 0, 0))...)
}

// Headers that lie are refused before memory is taken for them.
func TestLyingHeaders(t *testing.T) {
	lim := DefaultLimits
	cases := []struct {
		name   string
		data   []byte
		pieces []string
	}{
		{"2^31 wide", rawPNG(1<<31, 1, 8, 2, nil, []byte{0, 1, 2, 3}), []string{"2147483648 x 1", "131072"}},
		{"2^32-1 square", rawPNG(math.MaxUint32, math.MaxUint32, 16, 6, nil, []byte{0}), []string{"4294967295 x 4294967295"}},
		{"zero wide", rawPNG(0, 5, 8, 2, nil, []byte{0}), []string{"0 x 5", "1 x 1"}},
		{"zero high", rawPNG(5, 0, 8, 2, nil, []byte{0}), []string{"5 x 0"}},
		{"too many pixels", rawPNG(100_000, 100_000, 8, 2, nil, []byte{0}), []string{"100000 x 100000", "200000000 pixels"}},
		{"more than the data holds", rawPNG(14_000, 14_000, 16, 6, nil, make([]byte, 100)), []string{"14000 x 14000", "at least"}},
		{"a little more than the data holds", rawPNG(20, 20, 8, 0, nil, make([]byte, 21*19)), []string{"png"}},
		{"less than the data holds", rawPNG(20, 20, 8, 0, nil, make([]byte, 21*25)), []string{"png"}},
		{"depth 3", rawPNG(2, 2, 3, 0, nil, make([]byte, 4)), []string{"png"}},
		{"colour type 5", rawPNG(2, 2, 8, 5, nil, make([]byte, 4)), []string{"colour type 5"}},
		{"header only", pngIHDR(4, 4, 8, 0), []string{"truncated"}},
	}
	j := encode(t, sample(3, 16, 16, 8, false), "jpeg")
	k := bytes.Index(j, []byte{0xff, 0xc0})
	big := bytes.Clone(j)
	binary.BigEndian.PutUint16(big[k+5:], 14000)
	binary.BigEndian.PutUint16(big[k+7:], 14000)
	zero := bytes.Clone(j)
	binary.BigEndian.PutUint16(zero[k+7:], 0)
	wide := bytes.Clone(j)
	binary.BigEndian.PutUint16(wide[k+5:], 65535)
	binary.BigEndian.PutUint16(wide[k+7:], 65535)
	cases = append(cases, []struct {
		name   string
		data   []byte
		pieces []string
	}{
		{"jpeg 14000", big, []string{"14000 x 14000", "at least"}},
		{"jpeg zero", zero, []string{"0 x 16", "1 x 1"}},
		{"jpeg 65535", wide, []string{"65535 x 65535", "200000000 pixels"}},
	}...)
	ti := encode(t, sample(1, 16, 16, 8, false), "tiff")
	for _, side := range []uint32{0, 20_000, 1 << 31, math.MaxUint32} {
		d := bytes.Clone(ti)
		setTag(t, d, 256, side)
		setTag(t, d, 257, side)
		cases = append(cases, struct {
			name   string
			data   []byte
			pieces []string
		}{fmt.Sprintf("tiff %d", side), d, nil})
	}
	var before, after runtime.MemStats
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			runtime.ReadMemStats(&before)
			refusal(t, c.data, lim, c.pieces...)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
				t.Errorf("took %d MB to refuse %d bytes", got>>20, len(c.data))
			}
		})
	}
}

func setTag(t *testing.T, data []byte, tag uint16, v uint32) {
	t.Helper()
	pos := int(binary.LittleEndian.Uint32(data[4:]))
	for k := range int(binary.LittleEndian.Uint16(data[pos:])) {
		e := data[pos+2+12*k:]
		if binary.LittleEndian.Uint16(e) == tag {
			binary.LittleEndian.PutUint16(e[2:], 4)
			binary.LittleEndian.PutUint32(e[8:], v)
			return
		}
	}
	t.Fatalf("no tag %d", tag)
}

// The standard decoder paints palette indices without an entry black; here
// they are an error, interlaced or not.
func TestPaletteIndexOutOfRange(t *testing.T) {
	plte := pngChunk("PLTE", []byte{1, 2, 3, 4, 5, 6})
	refusal(t, rawPNG(3, 1, 8, 3, plte, []byte{0, 0, 1, 2}), DefaultLimits, "palette index 2", "below 2")
	refusal(t, rawPNG(4, 1, 2, 3, plte, []byte{0, 0b00011011}), DefaultLimits, "palette index 3", "below 2")
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = binary.BigEndian.AppendUint32(b, 1)
	adam := append([]byte(pngMagic), pngChunk("IHDR", append(b, 8, 3, 0, 0, 1))...)
	adam = append(append(adam, plte...), pngChunk("IDAT", deflate([]byte{0, 9}))...)
	adam = append(adam, pngChunk("IEND", nil)...)
	refusal(t, adam, DefaultLimits, "palette index 9", "below 2")
	if m, err := Decode(bytes.NewReader(rawPNG(3, 1, 8, 3, plte, []byte{0, 0, 1, 1})), "f", DefaultLimits); err != nil || m.Pix[1] != from8[4] {
		t.Fatalf("a good palette was refused: %v", err)
	}
}

func TestByteLimit(t *testing.T) {
	data := encode(t, sample(3, 9, 9, 8, false), "png")
	refusal(t, data, Limits{MaxBytes: int64(len(data)) - 1}, "at most")
	if _, err := Decode(bytes.NewReader(data), "f", Limits{MaxBytes: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.png")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeFile(path, Limits{MaxBytes: 10}); err == nil || !strings.Contains(err.Error(), "at most 10 bytes") {
		t.Fatalf("got %v", err)
	}
}

func TestDecodeFileErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := DecodeFile(filepath.Join(dir, "absent.png"), DefaultLimits)
	if !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), "absent.png") != 1 {
		t.Errorf("missing file: %v", err)
	}
	if _, err = DecodeFile(dir, DefaultLimits); err == nil || !strings.Contains(err.Error(), "a directory") {
		t.Errorf("directory: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestReaderError(t *testing.T) {
	boom := errors.New("cable pulled")
	if _, err := Decode(failing{boom}, "stdin", DefaultLimits); !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	nan := float32(math.NaN())
	good := func() *Image { return sample(3, 2, 2, 8, false) }
	for name, spoil := range map[string]func(*Image){
		"found NaN":             func(m *Image) { m.Pix[7] = nan },
		"found +Inf":            func(m *Image) { m.Pix[7] = float32(math.Inf(1)) },
		"found 11 samples":      func(m *Image) { m.Pix = m.Pix[:11] },
		"found 2 channels":      func(m *Image) { m.C = 2 },
		"found 12 bits":         func(m *Image) { m.Bits = 12 },
		"found 1 alpha samples": func(m *Image) { m.Alpha = []float32{1} },
		"found alpha NaN":       func(m *Image) { m.Alpha = []float32{1, 1, nan, 1} },
		"0 x 2 pixels":          func(m *Image) { m.W = 0 },
	} {
		for _, format := range []string{"png", "jpeg", "tiff"} {
			m := good()
			spoil(m)
			var b bytes.Buffer
			if err := Encode(&b, m, format); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s as %s: got %v", name, format, err)
			}
			if b.Len() > 0 {
				t.Errorf("%s as %s: wrote %d bytes", name, format, b.Len())
			}
		}
	}
	if err := Encode(io.Discard, good(), "bmp"); err == nil || !strings.Contains(err.Error(), `"bmp"`) {
		t.Errorf("format bmp: %v", err)
	}
	if err := Encode(io.Discard, sample(3, 2, 2, 8, true), "jpeg"); err == nil {
		t.Error("a JPEG took an alpha channel")
	}
}

type full struct{ left int }

var errFull = errors.New("no space left on device")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestEncodeReportsWriteErrors(t *testing.T) {
	for _, c := range []int{1, 3} {
		for _, alpha := range []bool{false, true} {
			m := sample(c, 30, 30, 8, alpha)
			m.ICC = profile(map[int]string{1: "GRAY", 3: "RGB "}[c], 200)
			for _, format := range []string{"png", "jpeg", "tiff"} {
				if alpha && format == "jpeg" {
					continue
				}
				size := len(encode(t, m, format))
				for _, left := range []int{0, 1, 7, 30, 40, size / 2, size - 1} {
					if err := Encode(&full{left}, m, format); !errors.Is(err, errFull) {
						t.Errorf("%s, %d channels, room for %d of %d bytes: got %v", format, c, left, size, err)
					}
				}
			}
		}
	}
}

func onlyFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

func TestEncodeFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.png")
	m := sample(3, 5, 6, 16, true)
	if err := EncodeFile(path, m, false); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeFile(path, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, m)
	onlyFiles(t, dir, "out.png")

	// Not again, unless asked; and what was there stays.
	before, _ := os.ReadFile(path)
	other := sample(1, 3, 3, 8, false)
	if err := EncodeFile(path, other, false); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("existing file: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("a refused write changed the file")
	}
	// A failure while encoding leaves the old file and no temporary one.
	bad := sample(3, 3, 3, 8, false)
	bad.Pix[0] = float32(math.NaN())
	if err := EncodeFile(path, bad, true); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("NaN: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("a failed write changed the file")
	}
	onlyFiles(t, dir, "out.png")

	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := EncodeFile(path, other, true); err != nil {
		t.Fatal(err)
	}
	if got, err = DecodeFile(path, DefaultLimits); err != nil {
		t.Fatal(err)
	}
	equal(t, got, other)
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o600 {
		t.Errorf("permissions became %v", fi.Mode())
	}
	onlyFiles(t, dir, "out.png")
}

func TestWriteFileRefusals(t *testing.T) {
	dir := t.TempDir()
	m := sample(1, 2, 2, 8, false)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "sub.png")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, piece := range map[string]string{
		filepath.Join(dir, "a.webp"):           `the ending ".webp"`,
		filepath.Join(dir, "noending"):         `the ending ""`,
		filepath.Join(dir, "absent", "a.png"):  "no such file",
		filepath.Join(file, "a.png"):           "not a directory",
		sub:                                    "a directory",
		filepath.Join(dir, "nul\x00", "a.png"): "invalid argument",
	} {
		err := EncodeFile(path, m, true)
		if err == nil || !strings.Contains(err.Error(), piece) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v, want it to say %q", path, err, piece)
		}
	}
	if _, err := os.Stat(os.DevNull); err == nil {
		err := WriteFile(os.DevNull, true, func(io.Writer) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "device") {
			t.Errorf("%s: %v", os.DevNull, err)
		}
	}
	onlyFiles(t, dir, "file", "sub.png")
}

func TestWriteFileFailsHalfWay(t *testing.T) {
	dir := t.TempDir()
	err := WriteFile(filepath.Join(dir, "a"), false, func(w io.Writer) error {
		w.Write(make([]byte, 1<<20))
		return errFull
	})
	if !errors.Is(err, errFull) {
		t.Fatalf("got %v", err)
	}
	onlyFiles(t, dir)
	// Somebody creates the file while ours is being written: theirs stays.
	path := filepath.Join(dir, "b")
	err = WriteFile(path, false, func(w io.Writer) error {
		fmt.Fprint(w, "ours")
		return os.WriteFile(path, []byte("theirs"), 0o644)
	})
	if !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "theirs" {
		t.Fatalf("the file holds %q", got)
	}
	onlyFiles(t, dir, "b")
}

func TestWriteFileThroughLink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := os.WriteFile(real, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", link); err != nil {
		t.Skip("no symbolic links here")
	}
	if err := WriteFile(link, true, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(real); string(got) != "new" {
		t.Fatalf("the target holds %q", got)
	}
	if fi, _ := os.Lstat(link); fi.Mode()&fs.ModeSymlink == 0 {
		t.Fatal("the link was replaced by a file")
	}
}

func TestSameFile(t *testing.T) {
	dir := t.TempDir()
	a := filepath.Join(dir, "a.png")
	if err := os.WriteFile(a, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	b := filepath.Join(dir, "b.png")
	for _, c := range []struct {
		x, y string
		want bool
	}{
		{a, a, true},
		{a, sub + "/../a.png", true},
		{a, b, false},
		{b, sub + "/../b.png", true}, // neither exists
		{b, filepath.Join(sub, "b.png"), false},
	} {
		if got := SameFile(c.x, c.y); got != c.want {
			t.Errorf("SameFile(%q, %q) = %v", c.x, c.y, got)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(a, link); err == nil && !SameFile(a, link) {
		t.Error("a link and its target count as different")
	}
	hard := filepath.Join(dir, "hard")
	if err := os.Link(a, hard); err == nil && !SameFile(a, hard) {
		t.Error("two hard links count as different")
	}
}

// Whatever is wrong with an EXIF block, the picture stays upright or turned.
func TestExifNeverPanics(t *testing.T) {
	good := exifBlock(binary.LittleEndian, 6)
	for i := range good {
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			b := bytes.Clone(good)
			b[i] = v
			if o := exifOrientation(b); o < 1 || o > 8 {
				t.Fatalf("orientation %d", o)
			}
			exifOrientation(b[:i])
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, format := range []string{"png", "jpeg", "tiff"} {
		for _, bits := range []int{8, 16} {
			for _, c := range []int{1, 3} {
				m := sample(c, 5, 9, bits, format != "jpeg" && bits == 16)
				m.ICC = profile(map[int]string{1: "GRAY", 3: "RGB "}[c], 140)
				f.Add(encode(f, m, format))
			}
		}
	}
	f.Add(rawPNG(4, 1, 2, 3, pngChunk("PLTE", []byte{1, 2, 3}), []byte{0, 0b00011011}))
	f.Add(rawPNG(1<<31, 1<<31, 16, 6, nil, []byte{0}))
	f.Add(append([]byte("\xff\xd8\xff\xe1\x00\x26"+exifID), exifBlock(binary.BigEndian, 8)...))
	lim := Limits{MaxPixels: 1 << 16, MaxSide: 1 << 12, MaxBytes: 1 << 16}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(bytes.NewReader(data), "fuzz", lim)
		if err != nil {
			var fe *FormatError
			if !errors.As(err, &fe) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %T: %q", err, err)
			}
			return
		}
		if err := m.check(); err != nil {
			t.Fatalf("decoded an image that cannot be written: %v", err)
		}
		for _, v := range [][]float32{m.Pix, m.Alpha} {
			for i, x := range v {
				if x < 0 || x > 1 {
					t.Fatalf("value %d is %v", i, x)
				}
			}
		}
		// What was read can be written and read again, exactly.
		var b bytes.Buffer
		if err := Encode(&b, m, "png"); err != nil {
			t.Fatal(err)
		}
		again, err := Decode(&b, "again", lim)
		if err != nil {
			t.Fatal(err)
		}
		if again.W != m.W || again.H != m.H || again.C != m.C || again.Bits != m.Bits {
			t.Fatalf("%dx%dx%d at %d bits came back as %dx%dx%d at %d", m.C, m.H, m.W, m.Bits, again.C, again.H, again.W, again.Bits)
		}
	})
}

func FuzzExif(f *testing.F) {
	f.Add(exifBlock(binary.LittleEndian, 6))
	f.Add(exifBlock(binary.BigEndian, 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o := exifOrientation(data); o < 1 || o > 8 {
			t.Fatalf("orientation %d", o)
		}
	})
}
