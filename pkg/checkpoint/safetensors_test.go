package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// raw builds a file from a header text and data, without any check.
func raw(header string, data ...byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func sample() *File {
	f := &File{Metadata: map[string]string{"format": "1", "a<b>&": "line\n\"quote\" é"}}
	f.Add("z", []int{2, 3}, []float32{1, -2, 3.5, 0, float32(math.Copysign(0, -1)), 1e-45})
	f.Add("a/scalar", nil, []float32{7})
	f.Add("m.empty", []int{0, 4}, []float32{})
	return f
}

func TestGoldenBytes(t *testing.T) {
	f := &File{Metadata: map[string]string{"k": "v", "b": "w"}}
	f.Add("b", []int{1, 2}, []float32{1, -2})
	f.Add("a", []int{1}, []float32{0.5})
	got, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	header := `{"__metadata__":{"b":"w","k":"v"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}}`
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	// 0.5 = 0x3f000000, 1 = 0x3f800000, -2 = 0xc0000000, little-endian
	want := raw(header, 0, 0, 0, 0x3f, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0)
	if !bytes.Equal(got, want) {
		t.Fatalf("found\n%q\nexpected\n%q", got, want)
	}
}

func TestRoundTripAndDeterminism(t *testing.T) {
	f := sample()
	b, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(b); n%8 != 0 {
		t.Fatalf("header of %d bytes, expected a multiple of 8", n)
	}
	g, err := ReadBytes(b, "mem")
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Tensors) != 3 || len(g.Metadata) != 2 {
		t.Fatalf("found %d tensors and %d metadata, expected 3 and 2", len(g.Tensors), len(g.Metadata))
	}
	for k, v := range f.Metadata {
		if g.Metadata[k] != v {
			t.Errorf("metadata %q: found %q, expected %q", k, g.Metadata[k], v)
		}
	}
	for _, want := range f.Tensors {
		got := g.Get(want.Name)
		if got == nil || len(got.Shape) != len(want.Shape) || len(got.Data) != len(want.Data) {
			t.Fatalf("tensor %s: found %+v, expected %+v", want.Name, got, want)
		}
		for i := range want.Data {
			if math.Float32bits(got.Data[i]) != math.Float32bits(want.Data[i]) {
				t.Errorf("tensor %s[%d]: found %v, expected %v", want.Name, i, got.Data[i], want.Data[i])
			}
		}
	}
	// Another order of adding, another file object: the same bytes and hash.
	h := &File{Metadata: map[string]string{}}
	for i := len(f.Tensors) - 1; i >= 0; i-- {
		h.Tensors = append(h.Tensors, f.Tensors[i])
	}
	for k, v := range f.Metadata {
		h.Metadata[k] = v
	}
	hb, err := h.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, hb) {
		t.Error("the order of adding changed the bytes")
	}
	if b2, _ := g.Bytes(); !bytes.Equal(b, b2) {
		t.Error("reading and writing changed the bytes")
	}
}

func TestHash(t *testing.T) {
	hash := func(f *File) string {
		t.Helper()
		s, err := f.Hash()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	base := hash(sample())
	f := sample()
	f.Metadata["more"] = "x"
	f.Tensors[0], f.Tensors[1] = f.Tensors[1], f.Tensors[0]
	if hash(f) != base {
		t.Error("metadata or order changed the hash")
	}
	changes := map[string]func(*File){
		"value": func(f *File) { f.Tensors[0].Data[2] = math.Nextafter32(3.5, 4) },
		"sign":  func(f *File) { f.Tensors[0].Data[4] = 0 },
		"name":  func(f *File) { f.Tensors[0].Name = "y" },
		"shape": func(f *File) { f.Tensors[0].Shape = []int{3, 2} },
		"empty": func(f *File) { f.Tensors[2].Shape = []int{0, 5} },
	}
	for what, change := range changes {
		f := sample()
		change(f)
		if hash(f) == base {
			t.Errorf("a changed %s left the hash", what)
		}
	}
}

func TestReadOtherTypes(t *testing.T) {
	for _, c := range []struct {
		dtype string
		data  []byte
		want  []float32
	}{
		// binary16: 1, -2, 65504 (largest), 2^-24 (smallest), 2^-14 - 2^-24 (largest subnormal), +Inf
		{"F16", []byte{0x00, 0x3c, 0x00, 0xc0, 0xff, 0x7b, 0x01, 0x00, 0xff, 0x03, 0x00, 0x7c},
			[]float32{1, -2, 65504, 0x1p-24, 0x1p-14 - 0x1p-24, float32(math.Inf(1))}},
		{"BF16", []byte{0x80, 0x3f, 0x20, 0xc0}, []float32{1, -2.5}},
		{"F64", binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.1)), []float32{0.1}},
	} {
		n := len(c.want)
		head := `{"x":{"dtype":"` + c.dtype + `","shape":[` + string(rune('0'+n)) + `],"data_offsets":[0,` + itoa(len(c.data)) + `]}}`
		f, err := ReadBytes(raw(head, c.data...), "mem")
		if err != nil {
			t.Fatalf("%s: %v", c.dtype, err)
		}
		if f.Tensors[0].DType != c.dtype {
			t.Errorf("found type %s, expected %s", f.Tensors[0].DType, c.dtype)
		}
		for i, v := range f.Tensors[0].Data {
			if v != c.want[i] {
				t.Errorf("%s[%d]: found %v, expected %v", c.dtype, i, v, c.want[i])
			}
		}
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// TestF16Exhaustive compares all 65536 values with the definition.
func TestF16Exhaustive(t *testing.T) {
	for h := range 1 << 16 {
		sign, exp, frac := 1.0, h>>10&31, h&0x3ff
		if h>>15 == 1 {
			sign = -1
		}
		var want float64
		switch {
		case exp == 0:
			want = sign * math.Ldexp(float64(frac), -24)
		case exp < 31:
			want = sign * math.Ldexp(float64(1024+frac), exp-25)
		case frac == 0:
			want = math.Inf(int(sign))
		default:
			want = math.NaN()
		}
		got := float64(fromF16(uint16(h)))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != (sign < 0) {
			t.Fatalf("%#04x: found %v, expected %v", h, got, want)
		}
	}
}

func TestHostileFiles(t *testing.T) {
	good, err := sample().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	one := func(entry string, data ...byte) []byte { return raw(`{"x":`+entry+`}`, data...) }
	four := []byte{0, 0, 0, 0}
	huge := make([]byte, 16)
	binary.LittleEndian.PutUint64(huge, 4<<30)
	max := bytes.Repeat([]byte{0xff}, 16)
	cases := []struct {
		name string
		data []byte
		want []string
	}{
		{"zero bytes", nil, []string{"0 bytes", "at least 8"}},
		{"seven bytes", good[:7], []string{"7 bytes"}},
		{"length alone", raw("")[:8], []string{"does not begin with {"}},
		{"4 GB header", huge, []string{"4294967296 bytes", "at most 16777216"}},
		{"2^64-1 header", max, []string{"18446744073709551615"}},
		{"header beyond the file", raw(`{}`)[:9], []string{"header of 2 bytes in a file of 9"}},
		{"not JSON", raw(`hello`), []string{"begin with {"}},
		{"a picture", []byte("\x89PNG\r\n\x1a\n0123456789"), []string{"header of"}},
		{"cut JSON", raw(`{"x":{"dtype"`), []string{"broken JSON"}},
		{"not UTF-8", raw("{\"\xff\":1}"), []string{"UTF-8"}},
		{"text after", raw(`{}{}`), []string{"text after"}},
		{"list", raw(`{"x":[]}`), []string{`"x"`, "JSON object"}},
		{"deep", raw(`{"x":` + strings.Repeat("[", 100000)), []string{`"x"`}},
		{"truncated data", good[:len(good)-1], []string{`"z"`, "truncated"}},
		{"data left over", append(append([]byte{}, good...), 0), []string{"29 bytes of data", "28 bytes"}},
		{"hole", one(`{"dtype":"F32","shape":[1],"data_offsets":[4,8]}`, append(four, four...)...), []string{`"x"`, "byte 4", "byte 0"}},
		{"overlap", raw(`{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, four...), []string{`"y"`, "no overlaps"}},
		{"twice", raw(`{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, append(four, four...)...), []string{`"x"`, "twice"}},
		{"key twice", one(`{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}`, four...), []string{`"dtype" twice`}},
		{"metadata twice", raw(`{"__metadata__":{"a":"1","a":"2"}}`), []string{`"a" twice`}},
		{"metadata number", raw(`{"__metadata__":{"a":1}}`), []string{"strings alone"}},
		{"type", one(`{"dtype":"I64","shape":[1],"data_offsets":[0,8]}`, append(four, four...)...), []string{`"I64"`, "F32"}},
		{"type number", one(`{"dtype":32,"shape":[1],"data_offsets":[0,4]}`, four...), []string{`"32"`}},
		{"no shape", one(`{"dtype":"F32","data_offsets":[0,4]}`, four...), []string{"no shape"}},
		{"extra key", one(`{"dtype":"F32","shape":[1],"data_offsets":[0,4],"q":1}`, four...), []string{`"q"`}},
		{"shape", one(`{"dtype":"F32","shape":[2],"data_offsets":[0,4]}`, four...), []string{"4 bytes", "[2]"}},
		{"negative", one(`{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}`, four...), []string{"-1"}},
		{"fraction", one(`{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}`, four...), []string{"1.0"}},
		{"overflow", one(`{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}`), []string{"4294967296"}},
		{"wrap to zero", one(`{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}`), []string{"4611686018427387904"}},
		{"rank", one(`{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}`, four...), []string{"at most 16"}},
		{"backwards", one(`{"dtype":"F32","shape":[1],"data_offsets":[4,0]}`, four...), []string{"begin <= end"}},
		{"three offsets", one(`{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}`, four...), []string{"at most 2"}},
		{"far offset", one(`{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}`, four...), []string{"4000000000"}},
		{"no name", raw(`{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, four...), []string{"without a name"}},
		{"long name", raw(`{"` + strings.Repeat("n", 100000) + `":1}`), []string{"nnn"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadBytes(c.data, "bad.safetensors")
			var fe *FormatError
			if !errors.As(err, &fe) || !errors.Is(err, ErrDamaged) {
				t.Fatalf("found error %v, expected a *FormatError", err)
			}
			msg := err.Error()
			for _, w := range append(c.want, "bad.safetensors", "found", "expected") {
				if !strings.Contains(msg, w) {
					t.Errorf("message %q lacks %q", msg, w)
				}
			}
			if strings.Contains(msg, "\n") || len(msg) > 400 {
				t.Errorf("message of %d bytes, expected one line: %q", len(msg), msg)
			}
		})
	}
}

// TestSizesClaimedAreNotAllocated reads files whose header promises gigabytes.
func TestSizesClaimedAreNotAllocated(t *testing.T) {
	huge := make([]byte, 16)
	binary.LittleEndian.PutUint64(huge, 4<<30)
	far := raw(`{"x":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}`)
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	for range 10 {
		ReadBytes(huge, "x")
		ReadBytes(far, "x")
	}
	runtime.ReadMemStats(&b)
	if n := b.TotalAlloc - a.TotalAlloc; n > 1<<20 {
		t.Errorf("found %d bytes allocated, expected less than 1 MiB", n)
	}
}

func TestLimits(t *testing.T) {
	b, err := sample().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(bytes.NewReader(b), int64(len(b)), "x", Limits{MaxBytes: int64(len(b))}); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := Read(bytes.NewReader(b), int64(len(b)), "x", Limits{MaxBytes: int64(len(b)) - 1}); !errors.Is(err, ErrDamaged) {
		t.Errorf("beyond the limit: found %v, expected ErrDamaged", err)
	}
	if _, err := Read(bytes.NewReader(b), int64(len(b)), "x", Limits{MaxHeader: 16}); !errors.Is(err, ErrDamaged) {
		t.Errorf("long header: found %v, expected ErrDamaged", err)
	}
	// A reader that ends before the size it was said to have.
	if _, err := Read(bytes.NewReader(b[:len(b)-4]), int64(len(b)), "x", Limits{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("short reader: found %v, expected ErrDamaged", err)
	}
}

func TestCheckFinite(t *testing.T) {
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		f := sample()
		f.Name = "w.safetensors"
		if err := f.CheckFinite(); err != nil {
			t.Fatal(err)
		}
		f.Tensors[0].Data[3] = v
		err := f.CheckFinite()
		if err == nil || !strings.Contains(err.Error(), `"z"`) || !strings.Contains(err.Error(), "index 3") || !strings.Contains(err.Error(), "w.safetensors") {
			t.Errorf("%v: found error %v, expected file, tensor and index", v, err)
		}
	}
	f := &File{}
	f.Add("x", []int{2}, []float32{math.MaxFloat32, -math.MaxFloat32})
	if err := f.CheckFinite(); err != nil {
		t.Errorf("largest finite values: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	add := func(fs ...Tensor) *File { return &File{Tensors: fs} }
	for what, f := range map[string]*File{
		"twice":    add(Tensor{Name: "a", Shape: []int{1}, Data: []float32{1}}, Tensor{Name: "a", Shape: []int{1}, Data: []float32{1}}),
		"shape":    add(Tensor{Name: "a", Shape: []int{2}, Data: []float32{1}}),
		"negative": add(Tensor{Name: "a", Shape: []int{-1}, Data: []float32{1}}),
		"name":     add(Tensor{Name: "", Shape: []int{1}, Data: []float32{1}}),
		"reserved": add(Tensor{Name: "__metadata__", Shape: []int{1}, Data: []float32{1}}),
		"bytes":    add(Tensor{Name: "\xff", Shape: []int{1}, Data: []float32{1}}),
		"metadata": {Metadata: map[string]string{"a": "\xff"}},
	} {
		if _, err := f.Bytes(); err == nil {
			t.Errorf("%s: found no error, expected one", what)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadFile(filepath.Join(dir, "none")); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing file: found %v, expected ErrNotFound", err)
	}
	if _, err := ReadFile(dir); !errors.Is(err, ErrDamaged) {
		t.Errorf("folder: found %v, expected ErrDamaged", err)
	}
	path := filepath.Join(dir, "w.safetensors")
	if err := WriteFile(path, sample()); err != nil {
		t.Fatal(err)
	}
	f, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := f.Hash()
	if b, _ := sample().Hash(); a != b {
		t.Error("the file read differs from the one written")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("found %d entries (%v), expected the file alone", len(entries), err)
	}
}

func TestState(t *testing.T) {
	in := map[string][]float32{"m/a": {1, 2}, "m/b": {}}
	ints := map[string]int64{"steps": math.MaxInt64, "x": -3}
	b, err := FromState(in, ints).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := ReadBytes(b, "o")
	if err != nil {
		t.Fatal(err)
	}
	out, outInts, err := ToState(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != 2 || out["m/a"][1] != 2 || outInts["steps"] != math.MaxInt64 || outInts["x"] != -3 {
		t.Errorf("found %v %v, expected %v %v", out, outInts, in, ints)
	}
	f.Metadata["steps"] = "many"
	if _, _, err := ToState(f); !errors.Is(err, ErrDamaged) {
		t.Errorf("found %v, expected ErrDamaged", err)
	}
}

// FuzzRead: no input may make the reader panic or take memory beyond its size,
// and what it accepts is written and read again unchanged.
func FuzzRead(f *testing.F) {
	b, err := sample().Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add(b[:len(b)-3])
	f.Add(raw(`{}`))
	f.Add(raw(`{"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, 0, 0x7c, 1, 0x7c))
	f.Add(raw(`{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"y":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}}`, make([]byte, 10)...))
	f.Add(raw(`{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`))
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, '{', '}'})
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ReadBytes(data, "fuzz")
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("found %v, expected ErrDamaged", err)
			}
			return
		}
		var total int
		for _, x := range g.Tensors {
			n, ok := elements(x.Shape)
			if !ok || int(n) != len(x.Data) {
				t.Fatalf("tensor %q: %d values for shape %v", x.Name, len(x.Data), x.Shape)
			}
			total += len(x.Data)
		}
		if 2*total > len(data) {
			t.Fatalf("%d values out of %d bytes", total, len(data))
		}
		a, err := g.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		h, err := ReadBytes(a, "again")
		if err != nil {
			t.Fatal(err)
		}
		b, err := h.Bytes()
		if err != nil || !bytes.Equal(a, b) {
			t.Fatalf("writing twice differs (%v)", err)
		}
	})
}

func BenchmarkWriteRead(b *testing.B) {
	f := &File{}
	f.Add("w", []int{323410}, make([]float32, 323410))
	for b.Loop() {
		x, err := f.Bytes()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ReadBytes(x, "b"); err != nil {
			b.Fatal(err)
		}
	}
}
