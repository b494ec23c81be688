package data

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// Units of text.
const (
	Characters = "characters" // Unicode code points
	Bytes      = "bytes"
)

// maxSymbols bounds a vocabulary of characters.
const maxSymbols = 1 << 17

// Text says how a text is read: the `data.text` section of an experiment. The
// text is cut into blocks; those with number mod data.holdout.every ==
// data.holdout.offset are for validation, the others for training.
type Text struct {
	Unit  string `yaml:"unit" json:"unit"`   // characters | bytes; default characters
	Block int    `yaml:"block" json:"block"` // length of the blocks in units; default 4096
}

// Resolved fills the defaults in and checks the values. Errors name the key,
// what was found and what was expected.
func (t Text) Resolved() (Text, error) {
	if t.Unit == "" {
		t.Unit = Characters
	}
	if t.Block == 0 {
		t.Block = 4096
	}
	switch {
	case t.Unit != Characters && t.Unit != Bytes:
		return t, fmt.Errorf("data.text.unit: found %q, expected characters or bytes", t.Unit)
	case t.Block < 2:
		return t, fmt.Errorf("data.text.block: found %d, expected >= 2", t.Block)
	}
	return t, nil
}

// Vocabulary maps text to symbols, the numbers a language model works on, and
// back.
type Vocabulary struct {
	Unit    string `json:"unit"`              // characters | bytes
	Symbols string `json:"symbols,omitempty"` // the characters in the order of their numbers; empty for bytes, whose number is their value
}

// Validate checks a vocabulary that came from outside, such as a weight file.
func (v Vocabulary) Validate() error {
	switch v.Unit {
	case Bytes:
		if v.Symbols != "" {
			return fmt.Errorf("vocabulary: found unit bytes with a list of symbols, expected none")
		}
		return nil
	case Characters:
	default:
		return fmt.Errorf("vocabulary: found unit %q, expected characters or bytes", v.Unit)
	}
	if !utf8.ValidString(v.Symbols) {
		return fmt.Errorf("vocabulary: found symbols that are no UTF-8, expected characters")
	}
	n := v.Len()
	if n < 2 || n > maxSymbols {
		return fmt.Errorf("vocabulary: found %d symbols, expected 2 to %d", n, maxSymbols)
	}
	seen := make(map[rune]bool, n)
	for _, r := range v.Symbols {
		if seen[r] {
			return fmt.Errorf("vocabulary: found the character %q twice, expected once", r)
		}
		seen[r] = true
	}
	return nil
}

// Len returns the number of symbols.
func (v Vocabulary) Len() int {
	if v.Unit == Bytes {
		return 256
	}
	return utf8.RuneCountInString(v.Symbols)
}

// numbers returns the symbol of each character.
func (v Vocabulary) numbers() map[rune]int32 {
	m := make(map[rune]int32)
	for _, r := range v.Symbols {
		m[r] = int32(len(m))
	}
	return m
}

// Encode returns the symbols of a text. A character that is not in the
// vocabulary, or bytes that are no UTF-8, are an error that says where.
func (v Vocabulary) Encode(text string) ([]int, error) {
	out := make([]int, 0, len(text))
	err := v.each(text, func(s int32) { out = append(out, int(s)) })
	if err != nil {
		return nil, fmt.Errorf("text: %w", err)
	}
	return out, nil
}

// each calls f with every symbol of the text; errors begin with "found".
func (v Vocabulary) each(text string, f func(int32)) error {
	if v.Unit == Bytes {
		for i := range len(text) {
			f(int32(text[i]))
		}
		return nil
	}
	if i := invalid(text); i >= 0 {
		return fmt.Errorf("found the byte %#02x at %d, expected UTF-8 (or data.text.unit: bytes)", text[i], i)
	}
	numbers := v.numbers()
	for i, r := range text {
		s, ok := numbers[r]
		if !ok {
			return fmt.Errorf("found the character %q (U+%04X) at byte %d, expected one of the %d of the vocabulary", r, r, i, v.Len())
		}
		f(s)
	}
	return nil
}

// invalid returns where the text stops being UTF-8, or -1.
func invalid(text string) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}

// Decode returns the text of symbols. A number that is no symbol becomes
// U+FFFD.
func (v Vocabulary) Decode(symbols []int) string {
	var b strings.Builder
	chars := []rune(v.Symbols)
	for _, s := range symbols {
		switch {
		case s < 0 || s >= v.Len():
			b.WriteRune(utf8.RuneError)
		case v.Unit == Bytes:
			b.WriteByte(byte(s))
		default:
			b.WriteRune(chars[s])
		}
	}
	return b.String()
}

// Corpus is a text as symbols, cut into training and validation parts. Its
// methods may be called from several goroutines.
type Corpus struct {
	path       string
	text       Text
	split      Options
	vocabulary Vocabulary
	bytes      int // length of the file

	small []uint8 // the symbols, where all fit a byte
	large []int32 // else
}

// OpenText reads a text file of at most 1 GiB. With unit characters the file
// must be UTF-8, and the vocabulary consists of all its characters in the order
// of their code points; with unit bytes it is the 256 bytes. every and offset
// hold blocks out for validation; every = 0 holds none out.
func OpenText(path string, t Text, every, offset int) (*Corpus, error) {
	return openText(path, t, every, offset, nil)
}

// OpenTextAs is OpenText with a given vocabulary, such as that of a trained
// model, whose unit replaces t's. A character unknown to it is an error.
func OpenTextAs(path string, t Text, every, offset int, v Vocabulary) (*Corpus, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	t.Unit = v.Unit
	return openText(path, t, every, offset, &v)
}

func openText(path string, t Text, every, offset int, v *Vocabulary) (*Corpus, error) {
	t, err := t.Resolved()
	if err != nil {
		return nil, err
	}
	split := Options{Every: every, Offset: offset}
	if _, err := split.choose(0); err != nil {
		return nil, err
	}
	data, err := readFile(path, "a text file", maxSet)
	if err != nil {
		return nil, err
	}
	return newCorpus(path, data, t, split, v)
}

// newCorpus makes a corpus of a file's content; t is resolved, v may be nil.
func newCorpus(path string, data []byte, t Text, split Options, v *Vocabulary) (*Corpus, error) {
	c := &Corpus{path: path, text: t, split: split}
	if err := c.encode(data, v); err != nil {
		return nil, err
	}
	return c, nil
}

// encode turns the file's content into symbols.
func (c *Corpus) encode(data []byte, v *Vocabulary) error {
	if len(data) == 0 {
		return refuse(c.path, "an empty file", "a text")
	}
	c.bytes = len(data)
	if c.text.Unit == Bytes {
		c.vocabulary, c.small = Vocabulary{Unit: Bytes}, data
		return nil
	}
	text := string(data)
	if v == nil {
		if i := invalid(text); i >= 0 {
			return refuse(c.path, fmt.Sprintf("the byte %#02x at %d", text[i], i), "UTF-8 (or data.text.unit: bytes)")
		}
		seen := make(map[rune]bool)
		for _, r := range text {
			seen[r] = true
		}
		chars := make([]rune, 0, len(seen))
		for r := range seen {
			chars = append(chars, r)
		}
		slices.Sort(chars)
		if n := len(chars); n < 2 || n > maxSymbols {
			return refuse(c.path, fmt.Sprintf("%d distinct characters", n), fmt.Sprintf("2 to %d (or data.text.unit: bytes)", maxSymbols))
		}
		v = &Vocabulary{Unit: Characters, Symbols: string(chars)}
	}
	c.vocabulary = *v
	add := func(s int32) { c.large = append(c.large, s) }
	if v.Len() <= 256 {
		c.small = make([]uint8, 0, len(data))
		add = func(s int32) { c.small = append(c.small, uint8(s)) }
	}
	if err := v.each(text, add); err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	return nil
}

// Path returns the file's path.
func (c *Corpus) Path() string { return c.path }

// Vocabulary returns the symbols of the text.
func (c *Corpus) Vocabulary() Vocabulary { return c.vocabulary }

// Len returns the number of symbols of the whole text.
func (c *Corpus) Len() int { return len(c.small) + len(c.large) }

// Bytes returns the number of bytes of the whole text: bits per byte are bits
// per symbol times Len / Bytes.
func (c *Corpus) Bytes() int { return c.bytes }

// copy writes the symbols from position at on to dst.
func (c *Corpus) copy(dst []float32, at int) {
	if c.small != nil {
		for i, s := range c.small[at : at+len(dst)] {
			dst[i] = float32(s)
		}
		return
	}
	for i, s := range c.large[at : at+len(dst)] {
		dst[i] = float32(s)
	}
}

// Part returns PartTrain, PartVal or PartAll (everything). An empty part is an
// error.
func (c *Corpus) Part(part string) (*Sequences, error) {
	o := c.split
	o.Part = part
	blocks := (c.Len()-1)/c.text.Block + 1
	index, err := o.choose(blocks)
	if err != nil {
		return nil, err
	}
	if len(index) == 0 {
		return nil, refuse(c.path, fmt.Sprintf("no block for part %q among %d blocks of %d %s (holdout every %d, offset %d)",
			part, blocks, c.text.Block, c.text.Unit, o.Every, o.Offset), "at least one (a smaller data.text.block?)")
	}
	s := &Sequences{corpus: c}
	for _, b := range index {
		lo, hi := b*c.text.Block, min((b+1)*c.text.Block, c.Len())
		if k := len(s.runs) - 1; k >= 0 && s.runs[k].hi == lo {
			s.runs[k].hi = hi
		} else {
			s.runs = append(s.runs, run{lo, hi})
		}
	}
	return s, nil
}

// run is the stretch lo <= i < hi of a text.
type run struct{ lo, hi int }

// Sequences is a part of a corpus: stretches of adjoining blocks. A sequence
// never crosses the edge of a stretch.
type Sequences struct {
	corpus *Corpus
	runs   []run
}

// Len returns the number of symbols of the part.
func (s *Sequences) Len() int {
	n := 0
	for _, r := range s.runs {
		n += r.hi - r.lo
	}
	return n
}

// Windows returns how many windows of a context of n symbols the part has. They
// do not overlap: window k of a stretch begins at its symbol k n and is followed
// by at least one symbol, so that every symbol but the first of a stretch and
// fewer than n at its end is predicted once.
func (s *Sequences) Windows(n int) int {
	if n < 1 {
		return 0
	}
	count := 0
	for _, r := range s.runs {
		count += (r.hi - r.lo - 1) / n
	}
	return count
}

// Window writes window i of Windows(n) to symbols (n), and the symbol that
// follows each of them to next (n).
func (s *Sequences) Window(i int, symbols, next []float32) error {
	n := len(symbols)
	if n == 0 || len(next) != n {
		return fmt.Errorf("text: found slices of %d and %d symbols, expected two of the context", n, len(next))
	}
	k := i
	for _, r := range s.runs {
		m := (r.hi - r.lo - 1) / n
		if k >= 0 && k < m {
			at := r.lo + k*n
			s.corpus.copy(symbols, at)
			s.corpus.copy(next, at+1)
			return nil
		}
		k -= m
	}
	return fmt.Errorf("text: found window %d, expected 0 to %d", i, s.Windows(n)-1)
}

// TextSampler draws training sequences. Sequence j of the endless sequence of
// examples is a function of (seed, j) and the corpus alone: a place drawn
// uniformly from all those of the training part that are followed by enough
// symbols within their stretch. The methods may be called from several
// goroutines.
type TextSampler struct {
	seed           uint64
	batch, context int
	part           *Sequences
	ends           []int // number of places in the stretches up to each
}

// NewTextSampler draws from the training part of c batches of sequences of
// context symbols. A part in which not one fits is an error.
func NewTextSampler(c *Corpus, seed uint64, batch, context int) (*TextSampler, error) {
	switch {
	case batch < 1:
		return nil, fmt.Errorf("train.batch: found %d, expected >= 1", batch)
	case context < 1:
		return nil, fmt.Errorf("text: found a context of %d symbols, expected >= 1", context)
	}
	part, err := c.Part(PartTrain)
	if err != nil {
		return nil, err
	}
	s := &TextSampler{seed: seed, batch: batch, context: context, part: part}
	total, longest := 0, 0
	for _, r := range part.runs {
		total += max(0, r.hi-r.lo-context)
		longest = max(longest, r.hi-r.lo)
		s.ends = append(s.ends, total)
	}
	if total == 0 {
		return nil, refuse(c.path, fmt.Sprintf("at most %d %s in one stretch of the training part", longest, c.text.Unit),
			fmt.Sprintf("at least %d, one more than the context (a longer text or data.text.block, or a shorter context)", context+1))
	}
	return s, nil
}

// Part returns what is drawn from.
func (s *TextSampler) Part() *Sequences { return s.part }

// Batch fills symbols and next, each (B,n): the sequences of a step, numbers
// step*B to step*B+B-1, and the symbol that follows each symbol.
func (s *TextSampler) Batch(step int, symbols, next []float32) error {
	n := s.context
	if want := s.batch * n; step < 0 || len(symbols) != want || len(next) != want {
		return fmt.Errorf("text sampler: found step %d and slices of %d and %d symbols, expected step >= 0 and %d", step, len(symbols), len(next), want)
	}
	for b := range s.batch {
		j := uint64(step)*uint64(s.batch) + uint64(b)
		at := s.place(j)
		s.part.corpus.copy(symbols[b*n:(b+1)*n], at)
		s.part.corpus.copy(next[b*n:(b+1)*n], at+1)
	}
	return nil
}

// place draws where sequence j begins.
func (s *TextSampler) place(j uint64) int {
	k := int(Rand(s.seed, j, 0).Uint64N(uint64(s.ends[len(s.ends)-1])))
	i := sort.SearchInts(s.ends, k+1) // the first stretch that ends after k
	if i > 0 {
		k -= s.ends[i-1]
	}
	return s.part.runs[i].lo + k
}
