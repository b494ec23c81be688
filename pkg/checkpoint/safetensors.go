package checkpoint

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sort"
	"strconv"
	"unicode/utf8"
)

// Tensor is one named array. Data holds the values in row-major order as
// float32 whatever the type in the file was; len(Data) is the product of Shape
// (1 for an empty Shape, a scalar).
type Tensor struct {
	Name  string
	DType string // type in the file it was read from: F32, F16, BF16 or F64; writing always gives F32
	Shape []int
	Data  []float32
}

// File is the content of a safetensors file.
type File struct {
	Name     string // where it was read from, for messages; not written
	Tensors  []Tensor
	Metadata map[string]string
}

// Limits bounds what a reader accepts. Zero fields mean the default.
type Limits struct {
	MaxHeader int64 // bytes of JSON header, default 16 MiB
	MaxBytes  int64 // bytes of the whole file, default 1 GiB
}

// DefaultLimits is what zero fields of Limits stand for.
var DefaultLimits = Limits{MaxHeader: 16 << 20, MaxBytes: 1 << 30}

// maxRank bounds the number of dimensions of a tensor.
const maxRank = 16

func (l Limits) resolved() Limits {
	if l.MaxHeader <= 0 {
		l.MaxHeader = DefaultLimits.MaxHeader
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultLimits.MaxBytes
	}
	return l
}

// Add appends a tensor that shares data with the caller.
func (f *File) Add(name string, shape []int, data []float32) {
	f.Tensors = append(f.Tensors, Tensor{Name: name, DType: "F32", Shape: shape, Data: data})
}

// Get returns the tensor of that name, nil where there is none.
func (f *File) Get(name string) *Tensor {
	for i := range f.Tensors {
		if f.Tensors[i].Name == name {
			return &f.Tensors[i]
		}
	}
	return nil
}

// CheckFinite returns a *FormatError naming the first tensor, in the order of
// f.Tensors, that holds a NaN or an infinity, and the index and value.
func (f *File) CheckFinite() error {
	for i := range f.Tensors {
		t := &f.Tensors[i]
		for j, v := range t.Data {
			if v-v != 0 { // true for NaN and both infinities alone
				return &FormatError{File: f.Name, Tensor: t.Name,
					Found: fmt.Sprintf("%v at index %d", v, j), Expected: "finite values"}
			}
		}
	}
	return nil
}

// sorted returns the tensors by name; equal names, empty names and data that
// does not fill its shape are errors.
func (f *File) sorted() ([]*Tensor, error) {
	ts := make([]*Tensor, len(f.Tensors))
	for i := range f.Tensors {
		ts[i] = &f.Tensors[i]
	}
	sort.SliceStable(ts, func(a, b int) bool { return ts[a].Name < ts[b].Name })
	for i, t := range ts {
		bad := func(found, expected string) error {
			return fmt.Errorf("tensor %s: found %s, expected %s", quoteShort(t.Name), found, expected)
		}
		switch {
		case t.Name == "" || t.Name == metadataKey || !utf8.ValidString(t.Name):
			return nil, bad("this name", "a non-empty UTF-8 name other than "+metadataKey)
		case i > 0 && ts[i-1].Name == t.Name:
			return nil, bad("it twice", "each name once")
		case len(t.Shape) > maxRank:
			return nil, bad(fmt.Sprintf("%d dimensions", len(t.Shape)), fmt.Sprintf("at most %d", maxRank))
		}
		n, ok := elements(t.Shape)
		if !ok || n != int64(len(t.Data)) {
			return nil, bad(fmt.Sprintf("%d values", len(t.Data)), fmt.Sprintf("shape %v filled exactly", t.Shape))
		}
	}
	return ts, nil
}

// elements returns the product of a shape; false for a negative dimension or a
// product beyond 2^62.
func elements(shape []int) (int64, bool) {
	n := int64(1)
	zero := false
	for _, d := range shape {
		switch {
		case d < 0:
			return 0, false
		case d == 0:
			zero = true
		case n > (1<<62)/int64(d):
			return 0, false
		default:
			n *= int64(d)
		}
	}
	if zero {
		return 0, true
	}
	return n, true
}

const metadataKey = "__metadata__"

// Write writes f as a safetensors file: tensors as F32 in the order of their
// names, metadata in the order of its keys, the header filled up with spaces so
// that the data begins at a multiple of eight. The bytes depend on names,
// shapes, values and metadata alone.
func (f *File) Write(w io.Writer) error {
	ts, err := f.sorted()
	if err != nil {
		return err
	}
	var h bytes.Buffer
	h.WriteByte('{')
	sep := ""
	if len(f.Metadata) > 0 {
		// encoding/json sorts the keys of maps.
		m, err := marshalPlain(f.Metadata)
		if err != nil {
			return err
		}
		fmt.Fprintf(&h, "%q:%s", metadataKey, m)
		sep = ","
	}
	var off int64
	for _, t := range ts {
		name, err := marshalPlain(t.Name)
		if err != nil {
			return err
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		dims, err := json.Marshal(shape)
		if err != nil {
			return err
		}
		end := off + 4*int64(len(t.Data))
		fmt.Fprintf(&h, `%s%s:{"dtype":"F32","shape":%s,"data_offsets":[%d,%d]}`, sep, name, dims, off, end)
		off, sep = end, ","
	}
	h.WriteByte('}')
	for h.Len()%8 != 0 {
		h.WriteByte(' ')
	}
	if int64(h.Len()) > DefaultLimits.MaxHeader {
		return fmt.Errorf("safetensors header: found %d bytes, expected at most %d", h.Len(), DefaultLimits.MaxHeader)
	}

	bw := bufio.NewWriterSize(w, 1<<16)
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(h.Len()))
	// Errors of a bufio.Writer stick: Flush returns the first.
	bw.Write(n[:])
	bw.Write(h.Bytes())
	for _, t := range ts {
		if err := writeFloats(bw, t.Data); err != nil {
			return err
		}
	}
	return bw.Flush()
}

// marshalPlain is json.Marshal without the escaping of <, > and &. Strings that
// are not UTF-8 are refused, since JSON would change them silently.
func marshalPlain(v any) ([]byte, error) {
	if m, ok := v.(map[string]string); ok {
		for k, s := range m {
			if !utf8.ValidString(k) || !utf8.ValidString(s) {
				return nil, fmt.Errorf("metadata %s: found bytes that are not UTF-8, expected UTF-8 text", quoteShort(k))
			}
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// writeFloats writes data as little-endian float32.
func writeFloats(w io.Writer, data []float32) error {
	var buf [8192]byte
	for len(data) > 0 {
		n := min(len(data), len(buf)/4)
		for i, v := range data[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
		}
		if _, err := w.Write(buf[:4*n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Bytes returns what Write writes.
func (f *File) Bytes() ([]byte, error) {
	var b bytes.Buffer
	if err := f.Write(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Hash returns the SHA-256, in hexadecimal, over the names, shapes and bits of
// all tensors in the order of their names. Metadata does not enter.
func (f *File) Hash() (string, error) {
	ts, err := f.sorted()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	var n [8]byte
	put := func(v int) {
		binary.LittleEndian.PutUint64(n[:], uint64(v))
		h.Write(n[:])
	}
	for _, t := range ts {
		put(len(t.Name)) // lengths first, so that no two contents run together
		io.WriteString(h, t.Name)
		put(len(t.Shape))
		for _, d := range t.Shape {
			put(d)
		}
		if err := writeFloats(h, t.Data); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ReadFile reads the safetensors file at path under DefaultLimits. A file that
// is not there gives ErrNotFound, one that breaks the format a *FormatError.
func ReadFile(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", path, ErrNotFound)
		}
		return nil, err
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &FormatError{File: path, Found: describeMode(st.Mode()), Expected: "a regular file"}
	}
	return Read(r, st.Size(), path, Limits{})
}

func describeMode(m fs.FileMode) string {
	if m.IsDir() {
		return "a folder"
	}
	return "a special file"
}

// ReadBytes reads a safetensors file held in memory under DefaultLimits; name
// is for messages.
func ReadBytes(b []byte, name string) (*File, error) {
	return Read(bytes.NewReader(b), int64(len(b)), name, Limits{})
}

// Read reads the safetensors file of size bytes at r; name is for messages. The
// format is held to strictly: the header fits the file and the limits and is a
// JSON object without repeated keys; each tensor has a known type (F32, F16,
// BF16, F64) and a shape that fits its byte range; together the ranges cover
// the data without gaps or overlaps. Anything else gives a *FormatError that
// names file, tensor, found and expected. No memory is taken for data before
// all that has been checked. Tensors come back in the order of their data.
// Values are not looked at: see CheckFinite.
func Read(r io.ReaderAt, size int64, name string, lim Limits) (*File, error) {
	lim = lim.resolved()
	bad := func(found, expected string) error {
		return &FormatError{File: name, Found: found, Expected: expected}
	}
	if size < 8 {
		return nil, bad(fmt.Sprintf("%d bytes", size), "a safetensors file of at least 8 bytes")
	}
	if size > lim.MaxBytes {
		return nil, bad(fmt.Sprintf("%d bytes", size), fmt.Sprintf("at most %d bytes", lim.MaxBytes))
	}
	var n [8]byte
	if err := readFull(r, n[:], 0, name); err != nil {
		return nil, err
	}
	hlen := binary.LittleEndian.Uint64(n[:])
	if hlen > uint64(lim.MaxHeader) {
		return nil, bad(fmt.Sprintf("a header of %d bytes", hlen), fmt.Sprintf("a safetensors header of at most %d bytes", lim.MaxHeader))
	}
	if hlen > uint64(size-8) {
		return nil, bad(fmt.Sprintf("a header of %d bytes in a file of %d bytes", hlen, size), "the header inside the file")
	}
	header := make([]byte, hlen)
	if err := readFull(r, header, 8, name); err != nil {
		return nil, err
	}
	f, spans, err := parseHeader(header, name)
	if err != nil {
		return nil, err
	}

	// The ranges must tile the data: in order of their begin (and, for empty
	// ranges, of their end) each starts where the one before ended.
	data := size - 8 - int64(hlen)
	order := make([]int, len(spans))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool {
		x, y := spans[order[a]], spans[order[b]]
		if x.begin != y.begin {
			return x.begin < y.begin
		}
		return x.end < y.end
	})
	var at int64
	for _, i := range order {
		s := spans[i]
		if s.begin != at {
			return nil, &FormatError{File: name, Tensor: f.Tensors[i].Name,
				Found: fmt.Sprintf("data from byte %d", s.begin), Expected: fmt.Sprintf("from byte %d (no holes, no overlaps)", at)}
		}
		if s.end > data {
			return nil, &FormatError{File: name, Tensor: f.Tensors[i].Name,
				Found: fmt.Sprintf("data up to byte %d of %d (truncated?)", s.end, data), Expected: "all data inside the file"}
		}
		at = s.end
	}
	if at != data {
		return nil, bad(fmt.Sprintf("%d bytes of data", data), fmt.Sprintf("the %d bytes the tensors cover", at))
	}

	tensors := make([]Tensor, 0, len(order))
	for _, i := range order {
		t := f.Tensors[i]
		if t.Data, err = readFloats(r, 8+int64(hlen)+spans[i].begin, spans[i].end-spans[i].begin, t.DType, name); err != nil {
			return nil, err
		}
		tensors = append(tensors, t)
	}
	f.Tensors = tensors
	return f, nil
}

// readFull fills b from offset off; a file that ends early is damaged.
func readFull(r io.ReaderAt, b []byte, off int64, name string) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &FormatError{File: name, Found: fmt.Sprintf("the end at byte %d", off+int64(n)),
			Expected: fmt.Sprintf("%d bytes", off+int64(len(b)))}
	}
	return fmt.Errorf("%s: %w", name, err)
}

// span is a tensor's byte range in the data.
type span struct{ begin, end int64 }

// width gives the bytes per value of the types the reader knows, 0 otherwise.
func width(dtype string) int64 {
	switch dtype {
	case "F64":
		return 8
	case "F32":
		return 4
	case "F16", "BF16":
		return 2
	}
	return 0
}

// readFloats reads size bytes at off as values of dtype.
func readFloats(r io.ReaderAt, off, size int64, dtype, name string) ([]float32, error) {
	w := width(dtype)
	out := make([]float32, size/w)
	buf := make([]byte, min(size, 1<<16))
	for done := int64(0); done < size; {
		b := buf[:min(int64(len(buf)), size-done)]
		if err := readFull(r, b, off+done, name); err != nil {
			return nil, err
		}
		dst := out[done/w:]
		switch dtype {
		case "F32":
			for i := 0; i < len(b); i += 4 {
				dst[i/4] = math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))
			}
		case "F64":
			for i := 0; i < len(b); i += 8 {
				dst[i/8] = float32(math.Float64frombits(binary.LittleEndian.Uint64(b[i:])))
			}
		case "F16":
			for i := 0; i < len(b); i += 2 {
				dst[i/2] = fromF16(binary.LittleEndian.Uint16(b[i:]))
			}
		case "BF16":
			for i := 0; i < len(b); i += 2 {
				dst[i/2] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[i:])) << 16)
			}
		}
		done += int64(len(b))
	}
	return out, nil
}

// fromF16 converts an IEEE 754 binary16 value; every one is exact in float32.
func fromF16(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp := uint32(h>>10) & 31
	frac := uint32(h) & 0x3ff
	switch exp {
	case 0: // zero and subnormal: frac * 2^-24
		return math.Float32frombits(math.Float32bits(float32(frac)*0x1p-24) | sign)
	case 31: // infinity and NaN
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// parseHeader reads the JSON header token by token: encoding/json alone would
// accept repeated keys and keep the last.
func parseHeader(header []byte, name string) (*File, []span, error) {
	bad := func(tensor, found, expected string) error {
		return &FormatError{File: name, Tensor: tensor, Found: found, Expected: expected}
	}
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, bad("", "a header that does not begin with {", "the JSON object of a safetensors file")
	}
	if !utf8.Valid(header) {
		return nil, nil, bad("", "a header that is not UTF-8", "UTF-8 text")
	}
	p := headerParser{dec: json.NewDecoder(bytes.NewReader(header)), bad: bad}
	p.dec.UseNumber()
	f := &File{Name: name}
	var spans []span
	seen := make(map[string]bool)
	err := p.object("", func(key string) error {
		if seen[key] {
			return bad(key, "it twice", "each name once")
		}
		seen[key] = true
		if key == metadataKey {
			f.Metadata = make(map[string]string)
			return p.object(key, func(k string) error {
				v, err := p.token(key)
				if err != nil {
					return err
				}
				s, ok := v.(string)
				if !ok {
					return bad(key, "a value that is not a string for "+quoteShort(k), "strings alone")
				}
				if _, twice := f.Metadata[k]; twice {
					return bad(key, quoteShort(k)+" twice", "each key once")
				}
				f.Metadata[k] = s
				return nil
			})
		}
		if key == "" {
			return bad("", "a tensor without a name", "names of at least one character")
		}
		t, s, err := p.tensor(key)
		if err != nil {
			return err
		}
		f.Tensors = append(f.Tensors, t)
		spans = append(spans, s)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, c := range header[p.dec.InputOffset():] {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return nil, nil, bad("", "text after the JSON object of the header", "spaces alone")
		}
	}
	return f, spans, nil
}

type headerParser struct {
	dec *json.Decoder
	bad func(tensor, found, expected string) error
}

func (p *headerParser) token(tensor string) (json.Token, error) {
	t, err := p.dec.Token()
	if err != nil {
		return nil, p.bad(tensor, fmt.Sprintf("broken JSON at byte %d of the header", p.dec.InputOffset()), "a whole JSON object")
	}
	return t, nil
}

// object reads { key: value ... }; field reads one value.
func (p *headerParser) object(tensor string, field func(key string) error) error {
	t, err := p.token(tensor)
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return p.bad(tensor, "something else", "a JSON object")
	}
	for {
		t, err := p.token(tensor)
		if err != nil {
			return err
		}
		if t == json.Delim('}') {
			return nil
		}
		key, ok := t.(string)
		if !ok {
			return p.bad(tensor, fmt.Sprintf("%v", t), "a JSON key")
		}
		if err := field(key); err != nil {
			return err
		}
	}
}

// list reads an array of at most limit integers in 0..2^53.
func (p *headerParser) list(tensor, what string, limit int) ([]int64, error) {
	t, err := p.token(tensor)
	if err != nil {
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, p.bad(tensor, what+" that is no list", "a list of integers")
	}
	var out []int64
	for {
		t, err := p.token(tensor)
		if err != nil {
			return nil, err
		}
		if t == json.Delim(']') {
			return out, nil
		}
		num, ok := t.(json.Number)
		if !ok {
			return nil, p.bad(tensor, what+" with a value that is no number", "integers alone")
		}
		v, err := strconv.ParseInt(num.String(), 10, 64)
		if err != nil || v < 0 || v > 1<<53 {
			return nil, p.bad(tensor, what+" with "+quoteShort(num.String()), "integers from 0 to 2^53")
		}
		if len(out) == limit {
			return nil, p.bad(tensor, fmt.Sprintf("%s with more than %d values", what, limit), fmt.Sprintf("at most %d", limit))
		}
		out = append(out, v)
	}
}

// tensor reads {"dtype":..., "shape":[...], "data_offsets":[begin,end]} and
// holds the three against each other.
func (p *headerParser) tensor(name string) (Tensor, span, error) {
	t := Tensor{Name: name}
	var shape, offsets []int64
	seen := make(map[string]bool, 3)
	err := p.object(name, func(key string) (err error) {
		if seen[key] {
			return p.bad(name, quoteShort(key)+" twice", "each key once")
		}
		seen[key] = true
		switch key {
		case "dtype":
			v, err := p.token(name)
			if err != nil {
				return err
			}
			s, ok := v.(string)
			if !ok || width(s) == 0 {
				return p.bad(name, "dtype "+quoteShort(fmt.Sprint(v)), "F32, F16, BF16 or F64")
			}
			t.DType = s
		case "shape":
			shape, err = p.list(name, "a shape", maxRank)
		case "data_offsets":
			offsets, err = p.list(name, "data_offsets", 2)
		default:
			return p.bad(name, "the key "+quoteShort(key), "dtype, shape and data_offsets alone")
		}
		return err
	})
	if err != nil {
		return t, span{}, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[key] {
			return t, span{}, p.bad(name, "no "+key, "dtype, shape and data_offsets")
		}
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return t, span{}, p.bad(name, fmt.Sprintf("data_offsets %v", offsets), "[begin, end] with begin <= end")
	}
	t.Shape = make([]int, len(shape))
	for i, d := range shape {
		if d > math.MaxInt {
			return t, span{}, p.bad(name, fmt.Sprintf("a dimension of %d", d), "one that this machine can count")
		}
		t.Shape[i] = int(d)
	}
	n, ok := elements(t.Shape)
	bytes := offsets[1] - offsets[0]
	if !ok || n > bytes || n*width(t.DType) != bytes {
		return t, span{}, p.bad(name, fmt.Sprintf("%d bytes of data", bytes), fmt.Sprintf("what shape %v of %s takes", t.Shape, t.DType))
	}
	return t, span{offsets[0], offsets[1]}, nil
}
