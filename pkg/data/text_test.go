package data

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// letters returns n letters a..z that depend on seed alone. A text that repeats
// would hide errors of place.
func letters(n int, seed uint64) string {
	b := noise(n, seed)
	for i := range b {
		b[i] = 'a' + b[i]%26
	}
	return string(b)
}

func openedText(t testing.TB, text string, o Text, every, offset int) *Corpus {
	t.Helper()
	c, err := OpenText(put(t, []byte(text), t.TempDir(), "text.txt"), o, every, offset)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func part(t testing.TB, c *Corpus, name string) *Sequences {
	t.Helper()
	s, err := c.Part(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func toInts(x []float32) []int {
	out := make([]int, len(x))
	for i, v := range x {
		out[i] = int(v)
	}
	return out
}

func TestVocabulary(t *testing.T) {
	c := openedText(t, "héllo, wörld\n", Text{}, 0, 0)
	v := c.Vocabulary()
	if v.Unit != Characters || v.Symbols != "\n ,dhlorwéö" || v.Len() != 11 || c.Len() != 13 || c.Bytes() != 15 {
		t.Fatalf("%+v of %d symbols, text of %d symbols, %d bytes", v, v.Len(), c.Len(), c.Bytes())
	}
	got, err := v.Encode("höo\n")
	if err != nil || !slices.Equal(got, []int{4, 10, 6, 0}) {
		t.Errorf("encoded %v, %v", got, err)
	}
	if s := v.Decode(append(got, 11, -1)); s != "höo\n\uFFFD\uFFFD" {
		t.Errorf("decoded %q", s)
	}
	for text, want := range map[string]string{
		"hölle":  `'e' (U+0065) at byte 5, expected one of the 11`,
		"h\xf6":  "byte 0xf6 at 1, expected UTF-8",
		"\uFFFD": "'\uFFFD' (U+FFFD) at byte 0",
	} {
		if _, err := v.Encode(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	b := Vocabulary{Unit: Bytes}
	all := noise(1000, 1)
	got, err = b.Encode(string(all))
	if err != nil || b.Len() != 256 || b.Decode(got) != string(all) {
		t.Errorf("bytes do not come back: %v", err)
	}
	for i, s := range got {
		if s != int(all[i]) {
			t.Fatalf("byte %d is symbol %d", all[i], s)
		}
	}
	for want, v := range map[string]Vocabulary{
		`unit "words"`:          {Unit: "words"},
		"list of symbols":       {Unit: Bytes, Symbols: "ab"},
		"'a' twice":             {Unit: Characters, Symbols: "aba"},
		"1 symbols":             {Unit: Characters, Symbols: "a"},
		"found 0 symbols":       {Unit: Characters},
		"symbols that are no U": {Unit: Characters, Symbols: "a\xff"},
	} {
		if err := v.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", v, err)
		}
	}
	for _, v := range []Vocabulary{v, b} {
		if err := v.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// The parts cover the text block by block, in both widths of storage and with
// bytes.
func TestTextParts(t *testing.T) {
	wide := make([]rune, 1000) // 500 distinct characters, more than a byte holds
	for i := range wide {
		wide[i] = rune(0x400 + (i*7)%500)
	}
	for _, c := range []struct {
		text string
		unit string
	}{{letters(1000, 2), Characters}, {string(wide), Characters}, {string(noise(1000, 3)), Bytes}} {
		corpus := openedText(t, c.text, Text{Unit: c.unit, Block: 64}, 4, 1)
		all, err := corpus.Vocabulary().Encode(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if corpus.Len() != 1000 {
			t.Fatalf("%d symbols", corpus.Len())
		}
		// Blocks 1, 5, 9, 13 of 16 (the last has 40) are for validation.
		val, train := part(t, corpus, PartVal), part(t, corpus, PartTrain)
		if val.Len() != 4*64 || train.Len() != 1000-4*64 || part(t, corpus, PartAll).Len() != 1000 {
			t.Errorf("parts of %d and %d", train.Len(), val.Len())
		}
		// Windows of 10: 6 of each single block (60 of 64 predicted with one ahead);
		// training stretches have 64, 192, 192, 192 and 104 symbols.
		if val.Windows(10) != 4*6 || train.Windows(10) != 6+3*19+10 || val.Windows(64) != 0 || val.Windows(63) != 4 || val.Windows(0) != 0 {
			t.Errorf("%d and %d windows of 10, %d of 64, %d of 63", val.Windows(10), train.Windows(10), val.Windows(64), val.Windows(63))
		}
		for p, s := range map[string]*Sequences{PartVal: val, PartTrain: train} {
			seen := make([]int, 1000)
			at := -10 // where the next window must begin: right after, or in a later stretch
			for i := range s.Windows(10) {
				x, y := make([]float32, 10), make([]float32, 10)
				if err := s.Window(i, x, y); err != nil {
					t.Fatal(err)
				}
				// Find it: the first place from at on that holds it in the right part.
				for at += 10; at+11 <= 1000; at++ {
					if slices.Equal(toInts(x), all[at:at+10]) {
						break
					}
				}
				if at+11 > 1000 || !slices.Equal(toInts(y), all[at+1:at+11]) {
					t.Fatalf("window %d of part %s is not in the text", i, p)
				}
				for k := at; k < at+11; k++ {
					if (k/64%4 == 1) != (p == PartVal) {
						t.Fatalf("window %d of part %s reaches symbol %d", i, p, k)
					}
				}
				for k := at + 1; k < at+11; k++ {
					if seen[k]++; seen[k] > 1 {
						t.Fatalf("symbol %d is predicted twice", k)
					}
				}
			}
			if err := s.Window(s.Windows(10), make([]float32, 10), make([]float32, 10)); err == nil {
				t.Error("accepted a window too many")
			}
			if err := s.Window(-1, make([]float32, 10), make([]float32, 10)); err == nil {
				t.Error("accepted window -1")
			}
			if err := s.Window(0, make([]float32, 10), make([]float32, 9)); err == nil {
				t.Error("accepted slices of two lengths")
			}
		}
	}
}

// Every sequence lies within a stretch of the training part, every place
// occurs, and the draws hang on seed and number alone.
func TestTextSampler(t *testing.T) {
	const n, batch = 8, 5
	text := letters(300, 4)
	c := openedText(t, text, Text{Block: 20}, 3, 2)
	s, err := NewTextSampler(c, 9, batch, n)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Vocabulary().Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	places := make(map[int]int) // of legal starts: stretches of 40 symbols, 60 apart
	for at := 0; at+n < 300; at++ {
		if at%60 < 40 && at%60+n < 40 {
			places[at] = 0
		}
	}
	if len(places) != 5*32 {
		t.Fatalf("%d places", len(places))
	}
	const steps = 3200
	var batches [][]float32
	for step := range steps {
		x := make([]float32, 2*batch*n)
		if err := s.Batch(step, x[:batch*n], x[batch*n:]); err != nil {
			t.Fatal(err)
		}
		batches = append(batches, x)
		for b := range batch {
			at := s.place(uint64(step*batch + b))
			if _, ok := places[at]; !ok {
				t.Fatalf("a sequence begins at %d", at)
			}
			places[at]++
			if !slices.Equal(toInts(x[b*n:][:n]), all[at:at+n]) || !slices.Equal(toInts(x[(batch+b)*n:][:n]), all[at+1:at+1+n]) {
				t.Fatalf("step %d, sequence %d is not the text at %d", step, b, at)
			}
		}
	}
	for at, k := range places { // mean 100, deviation 10
		if k < 50 || k > 150 {
			t.Errorf("place %d occurs %d times, expected about 100", at, k)
		}
	}
	again, err := NewTextSampler(c, 9, batch, n)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			x := make([]float32, 2*batch*n)
			for step := steps - 1 - w; step >= 0; step -= 4 {
				if err := again.Batch(step, x[:batch*n], x[batch*n:]); err != nil || !slices.Equal(x, batches[step]) {
					t.Errorf("step %d differs (%v)", step, err)
					return
				}
			}
		})
	}
	wg.Wait()
	// Another division into batches, the same sequences.
	other, err := NewTextSampler(c, 9, 1, n)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 2*n)
	if err := other.Batch(7*batch+3, x[:n], x[n:]); err != nil || !slices.Equal(x[:n], batches[7][3*n:4*n]) {
		t.Errorf("sequence %d hangs on the batch (%v)", 7*batch+3, err)
	}
	if err := s.Batch(0, x, x); err == nil {
		t.Error("accepted short slices")
	}
	if err := s.Batch(-1, make([]float32, batch*n), make([]float32, batch*n)); err == nil {
		t.Error("accepted step -1")
	}
}

func TestTextRefusals(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name          string
		text          []byte
		o             Text
		every, offset int
		pieces        []string
	}{
		{"empty", nil, Text{}, 0, 0, []string{"empty: found an empty file, expected a text"}},
		{"empty-bytes", nil, Text{Unit: Bytes}, 0, 0, []string{"empty file"}},
		{"latin1", []byte("caf\xe9"), Text{}, 0, 0, []string{"latin1: found the byte 0xe9 at 3, expected UTF-8", "data.text.unit: bytes"}},
		{"cut", []byte("caf\xc3"), Text{}, 0, 0, []string{"byte 0xc3 at 3"}},
		{"surrogate", []byte("a\xed\xa0\x80"), Text{}, 0, 0, []string{"byte 0xed at 1"}},
		{"one", []byte("aaaa"), Text{}, 0, 0, []string{"1 distinct characters, expected 2"}},
		{"unit", []byte("ab"), Text{Unit: "words"}, 0, 0, []string{`data.text.unit: found "words"`}},
		{"block", []byte("ab"), Text{Block: 1}, 0, 0, []string{"data.text.block: found 1"}},
		{"every", []byte("ab"), Text{}, 1, 0, []string{"data.holdout.every: found 1"}},
		{"offset", []byte("ab"), Text{}, 3, 3, []string{"data.holdout.offset: found 3"}},
	} {
		p := put(t, c.text, dir, c.name)
		corpus, err := OpenText(p, c.o, c.every, c.offset)
		if err == nil || corpus != nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		for _, want := range append(c.pieces, ", expected ") {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q lacks %q", err, want)
			}
		}
	}
	if _, err := OpenText(filepath.Join(dir, "none"), Text{}, 0, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := OpenText(dir, Text{}, 0, 0); err == nil || !strings.Contains(err.Error(), "a folder, expected a text file") {
		t.Errorf("a folder: %v", err)
	}

	c := openedText(t, letters(100, 5), Text{Block: 20}, 2, 0)
	if _, err := NewTextSampler(c, 1, 1, 20); err == nil || !strings.Contains(err.Error(), "at most 20 characters in one stretch") || !strings.Contains(err.Error(), "at least 21") {
		t.Errorf("context 20: %v", err)
	}
	if _, err := NewTextSampler(c, 1, 1, 19); err != nil {
		t.Error(err)
	}
	if _, err := NewTextSampler(c, 1, 0, 3); err == nil || !strings.Contains(err.Error(), "train.batch: found 0") {
		t.Errorf("batch 0: %v", err)
	}
	if _, err := NewTextSampler(c, 1, 1, 0); err == nil {
		t.Error("accepted a context of 0")
	}
	if _, err := c.Part("test"); err == nil || !strings.Contains(err.Error(), `"test"`) {
		t.Errorf("part test: %v", err)
	}
	c = openedText(t, letters(30, 5), Text{}, 10, 4) // one block, and it is for training
	if _, err := c.Part(PartVal); err == nil || !strings.Contains(err.Error(), `no block for part "val" among 1 blocks of 4096`) {
		t.Errorf("no validation: %v", err)
	}
	if _, err := openedText(t, letters(30, 5), Text{}, 0, 0).Part(PartVal); err == nil || !strings.Contains(err.Error(), "data.holdout.every") {
		t.Errorf("no split: %v", err)
	}
	if _, err := NewTextSampler(openedText(t, letters(30, 5), Text{}, 10, 0), 1, 1, 4); err == nil || !strings.Contains(err.Error(), `part "train"`) {
		t.Errorf("no training part: %v", err)
	}
}

func TestOpenTextAs(t *testing.T) {
	dir := t.TempDir()
	v := Vocabulary{Unit: Characters, Symbols: "zyxabc"}
	c, err := OpenTextAs(put(t, []byte("abcxyz"), dir, "a"), Text{Unit: Bytes}, 0, 0, v)
	if err != nil {
		t.Fatal(err)
	}
	x, y := make([]float32, 5), make([]float32, 5)
	if err := part(t, c, PartAll).Window(0, x, y); err != nil || !slices.Equal(toInts(x), []int{3, 4, 5, 2, 1}) || !slices.Equal(toInts(y), []int{4, 5, 2, 1, 0}) {
		t.Errorf("%v %v %v", x, y, err)
	}
	if c.Vocabulary() != v {
		t.Errorf("%+v", c.Vocabulary())
	}
	p := put(t, []byte("abcd"), dir, "b")
	if _, err := OpenTextAs(p, Text{}, 0, 0, v); err == nil || !strings.HasPrefix(err.Error(), p+": found the character 'd' (U+0064) at byte 3") {
		t.Errorf("an unknown symbol: %v", err)
	}
	if _, err := OpenTextAs(p, Text{}, 0, 0, Vocabulary{Unit: Characters, Symbols: "aa"}); err == nil {
		t.Error("accepted a bad vocabulary")
	}
	if c, err := OpenTextAs(p, Text{}, 0, 0, Vocabulary{Unit: Bytes}); err != nil || c.Vocabulary().Len() != 256 {
		t.Errorf("bytes: %v", err)
	}
}

func TestTrainedJSON(t *testing.T) {
	v := Vocabulary{Unit: Characters, Symbols: "\n\"ab…"}
	for want, c := range map[string]struct {
		trained Trained
		outputs int
	}{
		`{"task":"classify","classes":["cat","dog"]}`:                                {Trained{Task: Classify, Classes: []string{"cat", "dog"}}, 2},
		`{"task":"language","vocabulary":{"unit":"characters","symbols":"\n\"ab…"}}`: {Trained{Task: Language, Vocabulary: &v}, 5},
		`{"task":"language","vocabulary":{"unit":"bytes"}}`:                          {Trained{Task: Language, Vocabulary: &Vocabulary{Unit: Bytes}}, 256},
	} {
		text, err := json.Marshal(c.trained)
		if err != nil || string(text) != want {
			t.Errorf("%s, %v, expected %s", text, err, want)
		}
		var back Trained
		if err := json.Unmarshal(text, &back); err != nil {
			t.Error(err)
		}
		if err := back.Validate(c.outputs); err != nil {
			t.Error(err)
		}
		if err := back.Validate(c.outputs + 1); err == nil {
			t.Errorf("%s: accepted for %d outputs", text, c.outputs+1)
		}
	}
	for _, bad := range []Trained{{}, {Task: "restore"}, {Task: Language}, {Task: Language, Classes: []string{"a"}, Vocabulary: &v}, {Task: Classify}, {Task: Classify, Classes: make([]string, 5), Vocabulary: &v}, {Task: Language, Vocabulary: &Vocabulary{Unit: "x"}}} {
		if err := bad.Validate(5); err == nil || !strings.Contains(err.Error(), ", expected ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "ab", "héllo wörld", "\xff", "a\xc3", strings.Repeat("abc", 100), "\uFFFDa"} {
		f.Add([]byte(seed), false, uint8(7), uint8(3), uint8(4))
		f.Add([]byte(seed), true, uint8(2), uint8(0), uint8(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, raw bool, block, every, context uint8) {
		o := Text{Unit: Characters, Block: 2 + int(block)}
		if raw {
			o.Unit = Bytes
		}
		c, err := newCorpus("f.txt", text, o, Options{Every: int(every)}, nil)
		if err != nil {
			if !strings.Contains(err.Error(), "found ") || !strings.Contains(err.Error(), ", expected ") {
				t.Fatalf("%q", err)
			}
			return
		}
		if err := c.Vocabulary().Validate(); err != nil {
			t.Fatal(err)
		}
		if n := utf8.RuneCount(text); !raw && c.Len() != n || raw && c.Len() != len(text) {
			t.Fatalf("%d symbols", c.Len())
		}
		x, y := make([]float32, context), make([]float32, context)
		if s, err := NewTextSampler(c, 1, 1, int(context)); err == nil {
			if err := s.Batch(3, x, y); err != nil {
				t.Fatal(err)
			}
			got, err := c.Vocabulary().Encode(c.Vocabulary().Decode(toInts(x)))
			if err != nil || !slices.Equal(got, toInts(x)) || !slices.Equal(x[1:], y[:len(y)-1]) {
				t.Fatalf("%v %v %v", x, y, err)
			}
		}
		if s, err := c.Part(PartVal); err == nil {
			for i := range s.Windows(int(context)) {
				if err := s.Window(i, x, y); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func FuzzTrained(f *testing.F) {
	for _, seed := range []string{`{"task":"classify","classes":["a","b"]}`, `{"task":"language","vocabulary":{"unit":"characters","symbols":"ab"}}`, `{"task":"language","vocabulary":{"unit":"bytes"}}`, `{}`, `{"vocabulary":null}`} {
		f.Add([]byte(seed), uint16(2))
	}
	f.Fuzz(func(t *testing.T, text []byte, outputs uint16) {
		var d Trained
		if json.Unmarshal(text, &d) != nil || d.Validate(int(outputs)) != nil || d.Task != Language {
			return
		}
		symbols := make([]int, outputs)
		for i := range symbols {
			symbols[i] = i
		}
		got, err := d.Vocabulary.Encode(d.Vocabulary.Decode(symbols))
		if err != nil || !slices.Equal(got, symbols) {
			t.Fatalf("%q: %v", d.Vocabulary.Symbols, err)
		}
	})
}
