package data

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// LabelledImages is a numbered set of images of one shape, each of one class.
// Its methods may be called from several goroutines.
type LabelledImages interface {
	// Len returns the number of examples.
	Len() int
	// Shape returns channels, height and width of every image.
	Shape() (c, h, w int)
	// Classes returns the names of the classes; a label is an index of it.
	Classes() []string
	// Example writes image i to x (C,H,W), values in [0,1], and returns its
	// label.
	Example(i int, x []float32) (label int, err error)
}

// PartTest names the test part of a labelled set: for measuring only.
const PartTest = "test"

// Formats of labelled images.
const (
	FormatAuto     = "auto"     // told by the names of the files
	FormatMNIST    = "mnist"    // the four idx files of MNIST and its likes
	FormatCIFAR10  = "cifar10"  // data_batch_N.bin and test_batch.bin
	FormatCIFAR100 = "cifar100" // train.bin and test.bin, fine labels
	FormatSheets   = "sheets"   // train_NN.png of stacked images, train_labels.bin
	FormatFolders  = "folders"  // one folder of images per class
)

var formats = []string{FormatAuto, FormatMNIST, FormatCIFAR10, FormatCIFAR100, FormatSheets, FormatFolders}

// Labelled says how labelled images are read and augmented: the
// `data.labelled` section of an experiment.
type Labelled struct {
	Format string  `yaml:"format" json:"format"`                   // auto | mnist | cifar10 | cifar100 | sheets | folders; default auto
	Shift  int     `yaml:"shift" json:"shift,omitempty"`           // training images move by up to this many pixels in each direction
	Flip   bool    `yaml:"flip" json:"flip,omitempty"`             // mirror left-right with probability 1/2
	Erase  float64 `yaml:"erase,omitempty" json:"erase,omitempty"` // probability that a rectangle is overwritten with noise (random erasing)
}

// Resolved fills the default format in and checks the values. Errors name the
// key, what was found and what was expected. How far an image can shift is
// checked where its size is known, by NewLabelledSampler.
func (l Labelled) Resolved() (Labelled, error) {
	if l.Format == "" {
		l.Format = FormatAuto
	}
	switch {
	case !slices.Contains(formats, l.Format):
		return l, fmt.Errorf("data.labelled.format: found %q, expected one of %s", l.Format, strings.Join(formats, ", "))
	case l.Shift < 0:
		return l, fmt.Errorf("data.labelled.shift: found %d, expected a number of pixels >= 0", l.Shift)
	case !(l.Erase >= 0 && l.Erase <= 1):
		return l, fmt.Errorf("data.labelled.erase: found %v, expected a probability from 0 to 1", l.Erase)
	}
	return l, nil
}

// LabelledOptions chooses a part of a labelled set.
type LabelledOptions struct {
	Format string // one of the formats; "" is FormatAuto
	// Part is PartAll (the whole training part), PartVal (those of the training
	// part with number mod Every == Offset), PartTrain (the others; all of them
	// where Every is 0), or PartTest, which Every and Offset do not concern.
	Part          string
	Every, Offset int
	// Channels, Height and Width are what the images of FormatFolders are brought
	// to, and checked for the other formats; 0 is whatever they have.
	Channels, Height, Width int
}

// choose returns the numbers in 0..n-1 that belong to the part, nil for all.
func (o LabelledOptions) choose(dir string, n int) ([]int, error) {
	if o.Part == PartTest || o.Part == PartAll {
		return nil, nil
	}
	index, err := Options{Every: o.Every, Offset: o.Offset, Part: o.Part}.choose(n)
	if err == nil && len(index) == 0 {
		err = fmt.Errorf("%s: found no image for part %q among %d (holdout every %d, offset %d), expected at least one", dir, o.Part, n, o.Every, o.Offset)
	}
	return index, err
}

// file says which of two names the part is read from.
func (o LabelledOptions) file(train, test string) string {
	if o.Part == PartTest {
		return test
	}
	return train
}

// check compares the shape of the set with the one asked for.
func (o LabelledOptions) check(dir string, c, h, w int) error {
	if o.Channels != 0 && o.Channels != c || o.Height != 0 && o.Height != h || o.Width != 0 && o.Width != w {
		want := func(n int) string {
			if n == 0 {
				return "any"
			}
			return fmt.Sprint(n)
		}
		return fmt.Errorf("%s: found images of %dx%dx%d, expected %sx%sx%s (channels x height x width)",
			dir, c, h, w, want(o.Channels), want(o.Height), want(o.Width))
	}
	return nil
}

// maxSet bounds the bytes of a set that is held in memory, and of any one file.
const maxSet = 1 << 30

// OpenLabelled opens a part of the labelled set in dir. The fixed formats are
// read whole and held as bytes; folders are decoded on demand behind a bounded
// cache. A set that is damaged or incomplete, or whose part is empty, is an
// error that names the file, what was found and what was expected.
func OpenLabelled(dir string, o LabelledOptions) (LabelledImages, error) {
	l, err := Labelled{Format: o.Format}.Resolved()
	if err != nil {
		return nil, err
	}
	o.Format = l.Format
	switch o.Part {
	case PartAll, PartTrain, PartVal, PartTest:
	default:
		return nil, fmt.Errorf("data part: found %q, expected train, val, test or empty", o.Part)
	}
	if o.Channels != 0 && o.Channels != 1 && o.Channels != 3 {
		return nil, fmt.Errorf("%s: found %d channels asked for, expected 1 or 3", dir, o.Channels)
	}
	if o.Height < 0 || o.Width < 0 || o.Height > math.MaxInt16 || o.Width > math.MaxInt16 {
		return nil, fmt.Errorf("%s: found a size of %dx%d asked for, expected sides from 0 to %d", dir, o.Width, o.Height, math.MaxInt16)
	}
	entries, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	if o.Format == FormatAuto {
		if o.Format, err = detect(dir, entries); err != nil {
			return nil, err
		}
	}
	switch o.Format {
	case FormatMNIST:
		return openMNIST(dir, o)
	case FormatCIFAR10, FormatCIFAR100:
		return openCIFAR(dir, entries, o)
	case FormatSheets:
		return openSheets(dir, entries, o)
	}
	return openFolders(dir, entries, o)
}

// detect tells the format of a folder by the names of its files.
func detect(dir string, entries []fs.DirEntry) (string, error) {
	var seen []string
	add := func(f string) {
		if !slices.Contains(seen, f) {
			seen = append(seen, f)
		}
	}
	folders := false
	for _, e := range entries {
		n := e.Name()
		switch {
		case strings.HasPrefix(n, "."):
		case e.IsDir():
			folders = true
		case isMNIST(n):
			add(FormatMNIST)
		case strings.HasPrefix(n, "data_batch_") && strings.HasSuffix(n, ".bin"), n == "test_batch.bin":
			add(FormatCIFAR10)
		case n == "train.bin", n == "test.bin":
			add(FormatCIFAR100)
		case n == "train_labels.bin", n == "test_labels.bin":
			add(FormatSheets)
		}
	}
	switch {
	case len(seen) == 1:
		return seen[0], nil
	case len(seen) > 1:
		return "", fmt.Errorf("%s: found files of %s, expected one format (name it: data.labelled.format)", dir, strings.Join(seen, " and "))
	case folders || resolvesToFolders(dir, entries):
		return FormatFolders, nil
	}
	return "", fmt.Errorf("%s: found no labelled images among %d entries, expected files of MNIST or CIFAR, sheets (train_labels.bin), or one folder per class", dir, len(entries))
}

// resolvesToFolders says whether an entry is a link to a folder.
func resolvesToFolders(dir string, entries []fs.DirEntry) bool {
	for _, e := range entries {
		if isFolder(dir, e) {
			return true
		}
	}
	return false
}

// isFolder follows links: sets are often links to where the disk is large.
func isFolder(dir string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	fi, err := os.Stat(filepath.Join(dir, e.Name()))
	return err == nil && fi.IsDir()
}

// byteSet is a set of images held as bytes, (N,C,H,W).
type byteSet struct {
	c, h, w int
	pix     []byte
	labels  []int32
	classes []string
}

func (s *byteSet) Len() int { return len(s.labels) }

func (s *byteSet) Shape() (c, h, w int) { return s.c, s.h, s.w }

func (s *byteSet) Classes() []string { return slices.Clone(s.classes) }

func (s *byteSet) Example(i int, x []float32) (int, error) {
	if err := checkExample(i, s.Len(), len(x), s.c, s.h, s.w); err != nil {
		return 0, err
	}
	for k, v := range s.pix[i*len(x):][:len(x)] {
		x[k] = byteValue[v]
	}
	return int(s.labels[i]), nil
}

func checkExample(i, n, size, c, h, w int) error {
	if i < 0 || i >= n {
		return fmt.Errorf("labelled images: found example %d, expected 0 to %d", i, n-1)
	}
	if size != c*h*w {
		return fmt.Errorf("labelled images: found a slice of %d values, expected %dx%dx%d", size, c, h, w)
	}
	return nil
}

// part checks a whole set against the options and reduces it to the part.
func (s *byteSet) part(dir string, o LabelledOptions) (LabelledImages, error) {
	if err := o.check(dir, s.c, s.h, s.w); err != nil {
		return nil, err
	}
	index, err := o.choose(dir, len(s.labels))
	if err != nil {
		return nil, err
	}
	if index == nil {
		return s, nil
	}
	size := s.c * s.h * s.w
	p := &byteSet{c: s.c, h: s.h, w: s.w, classes: s.classes, pix: make([]byte, 0, len(index)*size), labels: make([]int32, 0, len(index))}
	for _, i := range index {
		p.pix = append(p.pix, s.pix[i*size:(i+1)*size]...)
		p.labels = append(p.labels, s.labels[i])
	}
	return p, nil
}

// addLabels appends labels, one byte each, after a check against the classes.
func (s *byteSet) addLabels(path string, labels []byte) error {
	for i, l := range labels {
		if int(l) >= len(s.classes) {
			return refuse(path, fmt.Sprintf("label %d of example %d", l, i), fmt.Sprintf("0 to %d (%d classes)", len(s.classes)-1, len(s.classes)))
		}
		s.labels = append(s.labels, int32(l))
	}
	return nil
}

// refuse is the error of a file that holds something else than it should.
func refuse(path, found, expected string) error {
	return &imageio.FormatError{Name: path, Found: found, Expected: expected}
}

// pathError is an error of the file system without the operation and with the
// path in front, as all errors here have it.
func pathError(path string, err error, expected string) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &imageio.FormatError{Name: path, Found: err.Error(), Expected: expected, Err: err}
}

func readDir(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, pathError(dir, err, "a folder of labelled images")
	}
	return entries, nil
}

// openFile opens a regular file of at most max bytes. What may be a link or a
// pipe is opened too: readers bound what they take.
func openFile(path, expected string, max int64) (*os.File, error) {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, pathError(path, err, expected)
	case fi.IsDir():
		return nil, refuse(path, "a folder", expected)
	case fi.Size() > max:
		return nil, refuse(path, fmt.Sprintf("%d bytes", fi.Size()), fmt.Sprintf("at most %d", max))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, pathError(path, err, expected)
	}
	return f, nil
}

// readFile reads a file of at most max bytes whole.
func readFile(path, expected string, max int64) ([]byte, error) {
	f, err := openFile(path, expected, max)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readAll(f, max)
	if err != nil {
		return nil, pathError(path, err, expected)
	}
	if int64(len(data)) > max {
		return nil, refuse(path, fmt.Sprintf("more than %d bytes", max), fmt.Sprintf("at most %d", max))
	}
	return data, nil
}

// readAll reads to the end, or max+1 bytes of it. Memory follows what arrives,
// not what is announced.
func readAll(r io.Reader, max int64) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, max+1))
}

// classFile is the name of an optional file of class names beside the files of
// MNIST and of sheets.
const classFile = "classes.txt"

// classNames reads the first of the files that exists, else returns names.
func classNames(dir, file string, names []string) ([]string, error) {
	path := filepath.Join(dir, file)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return names, nil
	}
	text, err := readFile(path, "class names, one a line", 1<<20)
	if err != nil {
		return nil, err
	}
	return parseClasses(path, text)
}

// parseClasses reads class names, one a line; empty lines may end the file.
func parseClasses(path string, text []byte) ([]string, error) {
	if !utf8.Valid(text) {
		return nil, refuse(path, "bytes that are no UTF-8", "class names, one a line")
	}
	lines := strings.Split(strings.TrimRight(string(text), " \t\r\n"), "\n")
	seen := make(map[string]int)
	for i, l := range lines {
		l = strings.TrimSpace(l)
		if l == "" {
			return nil, refuse(path, fmt.Sprintf("no name in line %d", i+1), "class names, one a line")
		}
		if at, ok := seen[l]; ok {
			return nil, refuse(path, fmt.Sprintf("class %q in lines %d and %d", l, at, i+1), "every class once")
		}
		seen[l] = i + 1
		lines[i] = l
	}
	if len(lines) < 2 {
		return nil, refuse(path, "1 class", "at least 2")
	}
	return lines, nil
}
