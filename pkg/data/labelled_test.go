package data

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/internal/testdata"
)

// noise returns n bytes that depend on seed alone.
func noise(n int, seed uint64) []byte {
	rng, out := Rand(seed, 0, 0), make([]byte, n)
	for i := range out {
		out[i] = byte(rng.Uint64())
	}
	return out
}

// cycle returns n labels 0, 1, ... classes-1, 0, ...
func cycle(n, classes int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i % classes)
	}
	return out
}

func put(t testing.TB, data []byte, path ...string) string {
	t.Helper()
	p := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

func idxFile(values []byte, sizes ...int) []byte {
	out := []byte{0, 0, 8, byte(len(sizes))}
	for _, n := range sizes {
		out = binary.BigEndian.AppendUint32(out, uint32(n))
	}
	return append(out, values...)
}

// mnistFolder writes n training and m test images of h x w.
func mnistFolder(t testing.TB, n, m, h, w int) string {
	dir := t.TempDir()
	put(t, zip(idxFile(noise(n*h*w, 1), n, h, w)), dir, mnistTrainImages+".gz")
	put(t, zip(idxFile(cycle(n, 10), n)), dir, mnistTrainLabels+".gz")
	put(t, idxFile(noise(m*h*w, 2), m, h, w), dir, mnistTestImages)
	put(t, idxFile(cycle(m, 10), m), dir, "t10k-labels.idx1-ubyte")
	return dir
}

// cifarRecords lays records out; classes are cycled through.
func cifarRecords(pix []byte, labels []byte, fine bool) []byte {
	var out []byte
	for i, l := range labels {
		if fine {
			out = append(out, byte(i%20))
		}
		out = append(out, l)
		out = append(out, pix[i*cifarImage:(i+1)*cifarImage]...)
	}
	return out
}

// sheet writes images (N,C,side,side) stacked in one PNG.
func sheet(t testing.TB, pix []byte, c, side int, path ...string) {
	t.Helper()
	n := len(pix) / (c * side * side)
	m := imageio.New(c, n*side, side)
	for i, v := range pix {
		at, cell := i/(side*side), i%(side*side)
		m.Pix[at%c*n*side*side+at/c*side*side+cell] = float32(v) / 255
	}
	if err := imageio.EncodeFile(filepath.Join(path...), m, true); err != nil {
		t.Fatal(err)
	}
}

// picture writes one image (C,H,W).
func putPicture(t testing.TB, pix []byte, c, h, w int, path ...string) {
	t.Helper()
	m := imageio.New(c, h, w)
	for i, v := range pix {
		m.Pix[i] = float32(v) / 255
	}
	p := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := imageio.EncodeFile(p, m, true); err != nil {
		t.Fatal(err)
	}
}

func openSet(t testing.TB, dir string, o LabelledOptions) LabelledImages {
	t.Helper()
	s, err := OpenLabelled(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// same compares a set with the images pix (N,C,H,W) and labels it should hold.
func same(t testing.TB, s LabelledImages, pix []byte, labels []byte, shape ...int) {
	t.Helper()
	c, h, w := s.Shape()
	if got := []int{s.Len(), c, h, w}; !slices.Equal(got, append([]int{len(labels)}, shape...)) {
		t.Fatalf("%v images, expected %d %v", got, len(labels), shape)
	}
	x := make([]float32, c*h*w)
	for i, want := range labels {
		label, err := s.Example(i, x)
		if err != nil {
			t.Fatal(err)
		}
		if label != int(want) {
			t.Fatalf("example %d: label %d, expected %d", i, label, want)
		}
		for k, v := range x {
			if want := float32(pix[i*len(x)+k]) / 255; v != want {
				t.Fatalf("example %d: value %d is %v, expected %v", i, k, v, want)
			}
		}
	}
}

func TestMNISTFiles(t *testing.T) {
	dir := mnistFolder(t, 23, 7, 5, 4)
	pix := noise(23*20, 1)
	for _, format := range []string{"", FormatAuto, FormatMNIST} {
		s := openSet(t, dir, LabelledOptions{Format: format})
		same(t, s, pix, cycle(23, 10), 1, 5, 4)
		if got := strings.Join(s.Classes(), ""); got != "0123456789" {
			t.Errorf("classes %q", got)
		}
	}
	same(t, openSet(t, dir, LabelledOptions{Part: PartTest}), noise(7*20, 2), cycle(7, 10), 1, 5, 4)
	same(t, openSet(t, dir, LabelledOptions{Part: PartTrain}), pix, cycle(23, 10), 1, 5, 4)
	same(t, openSet(t, dir, LabelledOptions{Channels: 1, Height: 5, Width: 4}), pix, cycle(23, 10), 1, 5, 4)

	// The split: every 4th from 1 on is for validation.
	var trainPix, valPix, trainLabels, valLabels []byte
	for i, l := range cycle(23, 10) {
		if i%4 == 1 {
			valPix, valLabels = append(valPix, pix[i*20:(i+1)*20]...), append(valLabels, l)
		} else {
			trainPix, trainLabels = append(trainPix, pix[i*20:(i+1)*20]...), append(trainLabels, l)
		}
	}
	same(t, openSet(t, dir, LabelledOptions{Part: PartVal, Every: 4, Offset: 1}), valPix, valLabels, 1, 5, 4)
	same(t, openSet(t, dir, LabelledOptions{Part: PartTrain, Every: 4, Offset: 1}), trainPix, trainLabels, 1, 5, 4)
	same(t, openSet(t, dir, LabelledOptions{Every: 4, Offset: 1}), pix, cycle(23, 10), 1, 5, 4)

	names := "T-shirt/top\r\nTrouser\nPullover\nDress\nCoat\nSandal\nShirt\nSneaker\nBag\nAnkle boot\n\n"
	put(t, []byte(names), dir, classFile)
	if c := openSet(t, dir, LabelledOptions{}).Classes(); len(c) != 10 || c[0] != "T-shirt/top" || c[9] != "Ankle boot" {
		t.Errorf("classes %q", c)
	}
}

func TestCIFARFiles(t *testing.T) {
	pix := noise(9*cifarImage, 3)
	t.Run("10", func(t *testing.T) {
		dir := t.TempDir()
		labels := []byte{3, 9, 0, 1, 2, 4, 5, 8, 7}
		// Ten batches, so that the order of numbers is not that of names.
		put(t, cifarRecords(pix[:cifarImage], labels[:1], false), dir, "data_batch_1.bin")
		put(t, cifarRecords(pix[cifarImage:], labels[1:3], false), dir, "data_batch_2.bin")
		for i := 3; i < 9; i++ {
			put(t, cifarRecords(pix[i*cifarImage:], labels[i:i+1], false), dir, fmt.Sprintf("data_batch_%d.bin", i))
		}
		put(t, cifarRecords(pix[:2*cifarImage], []byte{5, 6}, false), dir, "data_batch_9.bin")
		put(t, cifarRecords(pix[:cifarImage], []byte{7}, false), dir, "data_batch_10.bin")
		put(t, cifarRecords(pix[cifarImage:], []byte{6, 5}, false), dir, "test_batch.bin")
		all := slices.Concat(pix, pix[:2*cifarImage], pix[:cifarImage])
		for _, format := range []string{"", FormatCIFAR10} {
			s := openSet(t, dir, LabelledOptions{Format: format})
			same(t, s, all, append(slices.Clone(labels), 5, 6, 7), 3, 32, 32)
			if got := strings.Join(s.Classes(), " "); got != "airplane automobile bird cat deer dog frog horse ship truck" {
				t.Errorf("classes %q", got)
			}
		}
		same(t, openSet(t, dir, LabelledOptions{Part: PartTest}), pix[cifarImage:], []byte{6, 5}, 3, 32, 32)
		put(t, []byte("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n"), dir, "batches.meta.txt")
		if c := openSet(t, dir, LabelledOptions{}).Classes(); strings.Join(c, "") != "abcdefghij" {
			t.Errorf("classes %q", c)
		}
	})
	t.Run("100", func(t *testing.T) {
		dir := t.TempDir()
		put(t, cifarRecords(pix, []byte{0, 99, 50, 1, 2, 3, 4, 5, 6}, true), dir, "train.bin")
		put(t, cifarRecords(pix, []byte{98, 1}, true), dir, "test.bin")
		for _, format := range []string{"", FormatCIFAR100} {
			s := openSet(t, dir, LabelledOptions{Format: format})
			same(t, s, pix, []byte{0, 99, 50, 1, 2, 3, 4, 5, 6}, 3, 32, 32)
			c := s.Classes()
			if len(c) != 100 || !slices.IsSorted(c) || c[0] != "apple" || c[99] != "worm" {
				t.Errorf("%d classes %q", len(c), c)
			}
		}
		same(t, openSet(t, dir, LabelledOptions{Part: PartTest}), pix, []byte{98, 1}, 3, 32, 32)
	})
}

func TestSheetFiles(t *testing.T) {
	dir := t.TempDir()
	pix, test := noise(7*cifarImage, 4), noise(2*cifarImage, 5)
	sheet(t, pix[:4*cifarImage], 3, 32, dir, "train_00.png")
	sheet(t, pix[4*cifarImage:], 3, 32, dir, "train_01.png")
	sheet(t, test, 3, 32, dir, "test_00.png")
	put(t, cycle(7, 10), dir, "train_labels.bin")
	put(t, []byte{9, 8}, dir, "test_labels.bin")
	for _, format := range []string{"", FormatSheets} {
		s := openSet(t, dir, LabelledOptions{Format: format})
		same(t, s, pix, cycle(7, 10), 3, 32, 32)
		if c := s.Classes(); len(c) != 10 || c[3] != "cat" {
			t.Errorf("classes %q", c)
		}
	}
	same(t, openSet(t, dir, LabelledOptions{Part: PartTest}), test, []byte{9, 8}, 3, 32, 32)

	gray := t.TempDir()
	sheet(t, pix[:5*49], 1, 7, gray, "train_00.png")
	put(t, []byte{0, 1, 1, 0, 1}, gray, "train_labels.bin")
	put(t, []byte("yes\nno\n"), gray, classFile)
	same(t, openSet(t, gray, LabelledOptions{}), pix[:5*49], []byte{0, 1, 1, 0, 1}, 1, 7, 7)
}

func TestClassFolders(t *testing.T) {
	dir := t.TempDir()
	pix := noise(6*3*5*4, 6)
	at := func(i int) []byte { return pix[i*60:][:60] }
	for i, name := range []string{"ape/1.png", "ape/2.tiff", "bee/x.PNG", "cow/a.png", "cow/b.png", "cow/c.png"} {
		p := filepath.Join(dir, "part", name)
		putPicture(t, at(i), 3, 5, 4, strings.Replace(p, "PNG", "png", 1))
		if strings.HasSuffix(p, "PNG") {
			if err := os.Rename(strings.Replace(p, "PNG", "png", 1), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(t, []byte("beside"), dir, "part", "README.txt")
	put(t, []byte("beside"), dir, "part", "ape", "notes.txt")
	labels := []byte{0, 0, 1, 2, 2, 2}
	s := openSet(t, filepath.Join(dir, "part"), LabelledOptions{})
	same(t, s, pix, labels, 3, 5, 4)
	same(t, s, pix, labels, 3, 5, 4) // out of the cache
	if got := strings.Join(s.Classes(), " "); got != "ape bee cow" {
		t.Errorf("classes %q", got)
	}
	same(t, openSet(t, filepath.Join(dir, "part"), LabelledOptions{Part: PartVal, Every: 3, Offset: 1}), slices.Concat(at(1), at(4)), []byte{0, 2}, 3, 5, 4)

	// Train and test folders.
	whole := t.TempDir()
	for i, name := range []string{"train/b/1.png", "train/b/2.png", "train/a/1.png", "test/a/1.png", "test/b/1.png"} {
		putPicture(t, at(i), 3, 5, 4, whole, name)
	}
	same(t, openSet(t, whole, LabelledOptions{Format: FormatFolders}), slices.Concat(at(2), at(0), at(1)), []byte{0, 1, 1}, 3, 5, 4)
	same(t, openSet(t, whole, LabelledOptions{Part: PartTest}), slices.Concat(at(3), at(4)), []byte{0, 1}, 3, 5, 4)

	if err := os.RemoveAll(filepath.Join(whole, "test")); err != nil {
		t.Fatal(err)
	}
	same(t, openSet(t, whole, LabelledOptions{}), slices.Concat(at(2), at(0), at(1)), []byte{0, 1, 1}, 3, 5, 4)
	if _, err := OpenLabelled(whole, LabelledOptions{Part: PartTest}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a test part that is not there: %v", err)
	}

	// Brought to a size and to one channel: constant images stay constant, and
	// the centre is what remains of a wide one.
	mixed := t.TempDir()
	putPicture(t, bytes.Repeat([]byte{200}, 3*30*20), 3, 30, 20, mixed, "a", "tall.png")
	wide := make([]byte, 16*64) // 16 rows, the middle 16 columns bright
	for i := range wide {
		if x := i % 64; x >= 24 && x < 40 {
			wide[i] = 255
		}
	}
	putPicture(t, wide, 1, 16, 64, mixed, "b", "wide.png")
	s = openSet(t, mixed, LabelledOptions{Channels: 1, Height: 16, Width: 16})
	same(t, s, slices.Concat(bytes.Repeat([]byte{200}, 256), bytes.Repeat([]byte{255}, 256)), []byte{0, 1}, 1, 16, 16)
	s = openSet(t, mixed, LabelledOptions{Channels: 3, Height: 8, Width: 8})
	x := make([]float32, 3*64)
	if _, err := s.Example(1, x); err != nil {
		t.Fatal(err)
	}
	for k := range 64 {
		if x[k] != x[64+k] || x[k] != x[128+k] {
			t.Fatalf("gray pixel %d became %v %v %v", k, x[k], x[64+k], x[128+k])
		}
	}
	if x[27] != 1 {
		t.Errorf("the middle is %v, expected 1", x[27])
	}
}

func TestLuma601(t *testing.T) {
	m := imageio.New(3, 1, 1)
	copy(m.Pix, []float32{0.25, 0.5, 1})
	if got, want := WithChannels(m, 1).Pix[0], float32(0.299*0.25+0.587*0.5+0.114); math.Abs(float64(got-want)) > 1e-7 {
		t.Errorf("luma %v, expected %v", got, want)
	}
}

// TestLabelledRefusals holds every reader to a one-line error with the file,
// what was found and what was expected.
func TestLabelledRefusals(t *testing.T) {
	images, labels := mnistTrainImages+".gz", mnistTrainLabels+".gz"
	good := idxFile(noise(60, 1), 3, 5, 4)
	for _, c := range []struct {
		name   string
		dir    func(t *testing.T) string
		o      LabelledOptions
		pieces []string
	}{
		{"no folder", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") }, LabelledOptions{}, []string{"none: found", "no such file", "labelled images"}},
		{"a file", func(t *testing.T) string { return put(t, nil, t.TempDir(), "x") }, LabelledOptions{}, []string{"x: found"}},
		{"empty folder", func(t *testing.T) string { return t.TempDir() }, LabelledOptions{}, []string{"no labelled images among 0 entries"}},
		{"unknown format", func(t *testing.T) string { return t.TempDir() }, LabelledOptions{Format: "stl"}, []string{`data.labelled.format: found "stl"`, "mnist"}},
		{"unknown part", func(t *testing.T) string { return t.TempDir() }, LabelledOptions{Part: "some"}, []string{`"some"`}},
		{"two formats", func(t *testing.T) string {
			d := mnistFolder(t, 1, 1, 2, 2)
			put(t, nil, d, "train.bin")
			return d
		}, LabelledOptions{}, []string{"mnist and cifar100", "expected one format"}},
		{"another shape", func(t *testing.T) string { return mnistFolder(t, 2, 1, 5, 4) }, LabelledOptions{Height: 28, Width: 28}, []string{"1x5x4", "anyx28x28"}},
		{"no holdout", func(t *testing.T) string { return mnistFolder(t, 2, 1, 5, 4) }, LabelledOptions{Part: PartVal}, []string{"data.holdout.every"}},
		{"empty part", func(t *testing.T) string { return mnistFolder(t, 2, 1, 5, 4) }, LabelledOptions{Part: PartVal, Every: 9, Offset: 5}, []string{`part "val"`, "among 2"}},
		{"bad offset", func(t *testing.T) string { return mnistFolder(t, 2, 1, 5, 4) }, LabelledOptions{Part: PartTrain, Every: 9, Offset: 9}, []string{"data.holdout.offset"}},

		{"no label file", func(t *testing.T) string {
			d := mnistFolder(t, 2, 1, 5, 4)
			os.Remove(filepath.Join(d, labels))
			return d
		}, LabelledOptions{}, []string{"no file " + mnistTrainLabels, "idx files"}},
		{"magic", mnistWith(images, []byte("\x00\x00\x0d\x03 and so on, for long enough")), LabelledOptions{}, []string{images, "00 00 0d 03", "00 00 08 03"}},
		{"labels for images", mnistWith(images, idxFile(cycle(30, 10), 30)), LabelledOptions{}, []string{"00 00 08 01", "00 00 08 03"}},
		{"short header", mnistWith(images, good[:9]), LabelledOptions{}, []string{images, "9 bytes", "16"}},
		{"empty file", mnistWith(images, nil), LabelledOptions{}, []string{images, "0 bytes"}},
		{"truncated", mnistWith(images, good[:len(good)-1]), LabelledOptions{}, []string{images, "59 bytes", "60", "[3 5 4]"}},
		{"trailing byte", mnistWith(images, append(slices.Clone(good), 0)), LabelledOptions{}, []string{images, "bytes after the last value", "60"}},
		{"size 0", mnistWith(images, idxFile(nil, 3, 0, 4)), LabelledOptions{}, []string{images, "size 0 in dimension 2"}},
		{"huge sizes", mnistWith(images, idxFile(nil, 1<<31, 1<<31, 1<<31)), LabelledOptions{}, []string{images, "at most 1073741824"}},
		{"claims more than it has", mnistWith(images, idxFile(nil, 1000, 1000, 1000)), LabelledOptions{}, []string{images, "0 bytes", "1000000000"}},
		{"truncated gzip", mnistWith(images, zip(good)[:40]), LabelledOptions{}, []string{images, "cannot be unpacked"}},
		{"truncated gzip header", mnistWith(images, zip(good)[:6]), LabelledOptions{}, []string{images, "gzip"}},
		{"gzip checksum", mnistWith(images, func() []byte { z := zip(good); z[len(z)-6] ^= 1; return z }()), LabelledOptions{}, []string{images, "cannot be unpacked", "checksum"}},
		{"gzip and more", mnistWith(images, append(zip(good), "more"...)), LabelledOptions{}, []string{images, "cannot be unpacked"}},
		{"other count", mnistWith(labels, idxFile(cycle(4, 10), 4)), LabelledOptions{}, []string{labels, "4 labels", "3, one for each"}},
		{"label outside", mnistWith(labels, idxFile([]byte{0, 9, 10}, 3)), LabelledOptions{}, []string{labels, "label 10 of example 2", "0 to 9 (10 classes)"}},
		{"class twice", mnistWith(classFile, []byte("a\nb\na\n")), LabelledOptions{}, []string{classFile, `"a" in lines 1 and 3`}},
		{"class without name", mnistWith(classFile, []byte("a\n\nb\n")), LabelledOptions{}, []string{classFile, "line 2"}},
		{"one class", mnistWith(classFile, []byte("a\n")), LabelledOptions{}, []string{classFile, "at least 2"}},
		{"classes not UTF-8", mnistWith(classFile, []byte("a\n\xff\n")), LabelledOptions{}, []string{classFile, "UTF-8"}},
		{"fewer classes", mnistWith(classFile, []byte("a\nb\n")), LabelledOptions{}, []string{labels, "label 2 of example 2", "0 to 1"}},

		{"record length", cifarWith("data_batch_1.bin", make([]byte, 3074)), LabelledOptions{}, []string{"data_batch_1.bin", "3074 bytes", "multiple of 3073"}},
		{"CIFAR-100 as CIFAR-10", cifarWith("data_batch_1.bin", make([]byte, 2*3074)), LabelledOptions{}, []string{"6148 bytes", "3073"}},
		{"empty batch", cifarWith("data_batch_1.bin", nil), LabelledOptions{}, []string{"data_batch_1.bin", "0 bytes"}},
		{"CIFAR label", cifarWith("data_batch_1.bin", append([]byte{10}, make([]byte, 3072)...)), LabelledOptions{}, []string{"data_batch_1.bin", "label 10 of example 0"}},
		{"missing batch", cifarWith("data_batch_3.bin", make([]byte, 3073)), LabelledOptions{}, []string{"data_batch_3.bin but no number 1"}},
		{"batch twice", cifarWith("data_batch_1.bin", make([]byte, 3073), "data_batch_01.bin"), LabelledOptions{}, []string{"both data_batch_"}},
		{"no test batch", cifarWith("data_batch_1.bin", make([]byte, 3073)), LabelledOptions{Part: PartTest}, []string{"test_batch.bin", "no such file"}},
		{"too few names", cifarWith("data_batch_1.bin", append([]byte{3}, make([]byte, 3072)...), "batches.meta.txt"), LabelledOptions{}, []string{"batches.meta.txt"}},
		{"record length 100", cifarWith("train.bin", make([]byte, 3073)), LabelledOptions{}, []string{"train.bin", "3073 bytes", "multiple of 3074"}},
		{"coarse label", cifarWith("train.bin", append([]byte{20, 0}, make([]byte, 3072)...)), LabelledOptions{}, []string{"train.bin", "coarse label 20"}},
		{"fine label", cifarWith("train.bin", append([]byte{0, 100}, make([]byte, 3072)...)), LabelledOptions{}, []string{"train.bin", "label 100", "0 to 99"}},
		{"CIFAR channels", cifarWith("train.bin", make([]byte, 3074)), LabelledOptions{Channels: 1}, []string{"3x32x32", "1xanyxany"}},

		{"no sheets", sheetsWith(nil, 3, 0, 0), LabelledOptions{}, []string{"no file train_N.png"}},
		{"sheet counts", sheetsWith(make([]byte, 5), 3, 32, 4), LabelledOptions{}, []string{"train_labels.bin", "5 labels", "4, one for each"}},
		{"sheet label", sheetsWith([]byte{1, 10}, 3, 32, 2), LabelledOptions{}, []string{"train_labels.bin", "label 10 of example 1"}},
		{"sheet names", sheetsWith(make([]byte, 2), 3, 16, 2), LabelledOptions{}, []string{"no classes.txt", "3x16x16"}},
		{"sheet height", func(t *testing.T) string {
			d := sheetsWith(make([]byte, 2), 3, 32, 2)(t)
			putPicture(t, noise(33*32, 1), 1, 33, 32, d, "train_00.png")
			return d
		}, LabelledOptions{}, []string{"train_00.png", "32x33", "multiple of the width"}},
		{"other sheet", func(t *testing.T) string {
			d := sheetsWith(make([]byte, 3), 3, 32, 2)(t)
			putPicture(t, noise(32*32, 1), 1, 32, 32, d, "train_01.png")
			return d
		}, LabelledOptions{}, []string{"train_01.png", "1x32x32", "3x32x32"}},
		{"missing sheet", func(t *testing.T) string {
			d := sheetsWith(make([]byte, 3), 3, 32, 2)(t)
			putPicture(t, noise(32*32, 1), 1, 32, 32, d, "train_02.png")
			return d
		}, LabelledOptions{}, []string{"train_02.png but no number 1"}},
		{"deep sheet", func(t *testing.T) string {
			d := sheetsWith(make([]byte, 2), 3, 32, 2)(t)
			m := imageio.New(3, 64, 32)
			m.Bits = 16
			if err := imageio.EncodeFile(filepath.Join(d, "train_00.png"), m, true); err != nil {
				t.Fatal(err)
			}
			return d
		}, LabelledOptions{}, []string{"train_00.png", "16 bits"}},
		{"no PNG", func(t *testing.T) string {
			d := sheetsWith(make([]byte, 2), 3, 32, 2)(t)
			put(t, []byte("no image"), d, "train_00.png")
			return d
		}, LabelledOptions{}, []string{"train_00.png: found"}},

		{"empty class", foldersWith("a/1.png 5 4", "b/readme.txt"), LabelledOptions{}, []string{string(filepath.Separator) + "b: found no images", "1 entries"}},
		{"one class folder", foldersWith("a/1.png 5 4"), LabelledOptions{}, []string{"1 class folders", "at least 2"}},
		{"other size", foldersWith("a/1.png 5 4", "b/1.png 5 4", "b/2.png 6 4"), LabelledOptions{}, []string{"2.png", "4x6 pixels", "4x5", "1.png"}},
		{"no header", foldersWith("a/1.png 5 4", "b/readme.txt", "b/1.png"), LabelledOptions{}, []string{"1.png", "image header"}},
		{"no test part", foldersWith("a/1.png 5 4", "b/1.png 5 4"), LabelledOptions{Part: PartTest}, []string{"no folder test"}},
		{"classes of the parts", foldersWith("train/a/1.png 5 4", "train/b/1.png 5 4", "test/a/1.png 5 4", "test/c/1.png 5 4"), LabelledOptions{}, []string{"test: found the classes a c", "a b"}},
		{"a third part", foldersWith("train/a/1.png 5 4", "train/b/1.png 5 4", "val/a/1.png 5 4"), LabelledOptions{}, []string{"train: found no images", "2 entries"}},
		{"half a size", foldersWith("a/1.png 5 4", "b/1.png 5 4"), LabelledOptions{Width: 4}, []string{"both width and height"}},
		{"two channels", foldersWith("a/1.png 5 4", "b/1.png 5 4"), LabelledOptions{Channels: 2}, []string{"2 channels", "1 or 3"}},
		{"negative size", foldersWith("a/1.png 5 4", "b/1.png 5 4"), LabelledOptions{Width: -4, Height: -4}, []string{"-4x-4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := OpenLabelled(c.dir(t), c.o)
			if err == nil {
				t.Fatalf("accepted: %d examples", s.Len())
			}
			for _, p := range append(c.pieces, "found ", ", expected ") {
				if !strings.Contains(err.Error(), p) {
					t.Errorf("%q lacks %q", err, p)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q has several lines", err)
			}
			if s != nil {
				t.Errorf("a set beside the error: %v", s)
			}
		})
	}
	_, err := OpenLabelled(filepath.Join(t.TempDir(), "none"), LabelledOptions{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

// mnistWith is a good set of three images with one file replaced.
func mnistWith(name string, data []byte) func(*testing.T) string {
	return func(t *testing.T) string {
		d := mnistFolder(t, 3, 1, 5, 4)
		put(t, data, d, name)
		return d
	}
}

// cifarWith is a folder with the same data in some files.
func cifarWith(name string, data []byte, more ...string) func(*testing.T) string {
	return func(t *testing.T) string {
		d := t.TempDir()
		for _, n := range append(more, name) {
			put(t, data, d, n)
		}
		return d
	}
}

// sheetsWith is a folder with labels and one sheet of n images.
func sheetsWith(labels []byte, c, side, n int) func(*testing.T) string {
	return func(t *testing.T) string {
		d := t.TempDir()
		put(t, labels, d, "train_labels.bin")
		if n > 0 {
			sheet(t, noise(n*c*side*side, 7), c, side, d, "train_00.png")
		}
		return d
	}
}

// foldersWith writes gray images "path height width", and text files "path".
func foldersWith(files ...string) func(*testing.T) string {
	return func(t *testing.T) string {
		d := t.TempDir()
		for _, f := range files {
			var name string
			var h, w int
			if n, _ := fmt.Sscan(f, &name, &h, &w); n == 3 {
				putPicture(t, noise(h*w, 8), 1, h, w, d, name)
			} else {
				put(t, []byte("text"), d, name)
			}
		}
		return d
	}
}

// What a header does not tell is refused when the image is wanted.
func TestClassFoldersRefuseLate(t *testing.T) {
	d := foldersWith("a/1.png 5 5", "b/1.png 5 5")(t)
	putPicture(t, noise(75, 9), 3, 5, 5, d, "b", "2.png")
	s := openSet(t, d, LabelledOptions{})
	x := make([]float32, 25)
	if _, err := s.Example(1, x); err != nil {
		t.Error(err)
	}
	if _, err := s.Example(2, x); err == nil || !strings.Contains(err.Error(), "2.png: found a colour image") {
		t.Errorf("colour in a gray set: %v", err)
	}
	if _, err := s.Example(3, x); err == nil {
		t.Error("accepted example 3 of 3")
	}
	if _, err := s.Example(0, x[:24]); err == nil {
		t.Error("accepted a short slice")
	}
	// The sides exchanged, and no note of a camera that explains it.
	d = foldersWith("a/1.png 5 4", "b/1.png 4 5")(t)
	s = openSet(t, d, LabelledOptions{})
	if _, err := s.Example(1, make([]float32, 20)); err == nil || !strings.Contains(err.Error(), "5x4 pixels, expected 4x5") {
		t.Errorf("exchanged sides: %v", err)
	}
	// A file that lost its end after the header.
	d = foldersWith("a/1.png 50 50", "b/1.png 50 50")(t)
	p := filepath.Join(d, "b", "1.png")
	data, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	put(t, data[:len(data)/2], p)
	s = openSet(t, d, LabelledOptions{})
	if _, err := s.Example(1, make([]float32, 2500)); err == nil || !strings.Contains(err.Error(), "1.png: found") {
		t.Errorf("half a file: %v", err)
	}
}

func TestLabelledResolved(t *testing.T) {
	l, err := Labelled{}.Resolved()
	if err != nil || l.Format != FormatAuto {
		t.Errorf("%+v, %v", l, err)
	}
	for want, l := range map[string]Labelled{
		"data.labelled.format: found \"x\"": {Format: "x"},
		"data.labelled.shift: found -1":     {Shift: -1},
		"data.labelled.erase: found 1.5":    {Erase: 1.5},
		"data.labelled.erase: found NaN":    {Erase: math.NaN()},
	} {
		if _, err := l.Resolved(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// table is a set for the sampler: image i holds i in every value.
type table struct{ n, c, h, w int }

func (s table) Len() int             { return s.n }
func (s table) Shape() (c, h, w int) { return s.c, s.h, s.w }
func (s table) Classes() []string    { return []string{"even", "odd"} }
func (s table) Example(i int, x []float32) (int, error) {
	for k := range x {
		x[k] = float32(i)
	}
	return i % 2, nil
}

// ramp holds at (c,y,x) the value 1 + 100c + 10y + x.
type ramp struct{ table }

func (s ramp) Example(i int, x []float32) (int, error) {
	for k := range x {
		x[k] = float32(1 + 100*(k/(s.h*s.w)) + 10*(k/s.w%s.h) + k%s.w)
	}
	return 0, nil
}

func newSampler(t testing.TB, d LabelledImages, batch int, l Labelled) *LabelledSampler {
	t.Helper()
	s, err := NewLabelledSampler(d, LabelledSamplerConfig{Seed: 5, Batch: batch, Labelled: l})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLabelledEpochsArePermutations(t *testing.T) {
	const n, batch = 37, 5
	s := newSampler(t, table{n, 1, 2, 2}, batch, Labelled{})
	x, labels := make([]float32, batch*4), make([]float32, batch)
	var drawn []int
	for step := range 3 * n { // 15 epochs
		if err := s.Batch(step, x, labels); err != nil {
			t.Fatal(err)
		}
		if e, i := s.Epoch(step); e != step*batch/n || i != step*batch%n {
			t.Fatalf("step %d is epoch %d, index %d", step, e, i)
		}
		for b := range batch {
			i := int(x[4*b])
			if float32(i%2) != labels[b] {
				t.Fatalf("image %d with label %v", i, labels[b])
			}
			drawn = append(drawn, i)
		}
	}
	for e := range 15 {
		epoch := slices.Clone(drawn[e*n:][:n])
		if e > 0 && slices.Equal(epoch, drawn[:n]) {
			t.Errorf("epoch %d has the order of epoch 0", e)
		}
		slices.Sort(epoch)
		for i, v := range epoch {
			if v != i {
				t.Fatalf("epoch %d is no permutation", e)
			}
		}
	}
}

// Whatever the order of calls and the number of goroutines: the same bits.
func TestLabelledSamplerIsAFunctionOfTheSeed(t *testing.T) {
	dir := mnistFolder(t, 50, 1, 9, 7)
	const batch, steps = 8, 40
	l := Labelled{Shift: 2, Flip: true, Erase: 0.5}
	draw := func(seed uint64, order []int, workers int) [][]float32 {
		s, err := NewLabelledSampler(openSet(t, dir, LabelledOptions{}), LabelledSamplerConfig{Seed: seed, Batch: batch, Labelled: l})
		if err != nil {
			t.Fatal(err)
		}
		out := make([][]float32, steps)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for k := w; k < len(order); k += workers {
					x := make([]float32, batch*63+batch)
					if err := s.Batch(order[k], x[:batch*63], x[batch*63:]); err != nil {
						t.Error(err)
					}
					out[order[k]] = x
				}
			})
		}
		wg.Wait()
		return out
	}
	var order []int
	for i := range steps {
		order = append(order, i)
	}
	a := draw(1, order, 1)
	slices.Reverse(order)
	for step, x := range draw(1, order, 4) {
		if !slices.Equal(a[step], x) {
			t.Fatalf("step %d differs", step)
		}
	}
	if b := draw(2, order, 1); slices.Equal(a[0], b[0]) {
		t.Error("another seed, the same batch")
	}
	// Slot agrees with Batch, and one option does not touch what others draw.
	s := newSampler(t, openSet(t, dir, LabelledOptions{}), batch, l)
	x, y := make([]float32, batch*63), make([]float32, 63)
	labels := make([]float32, batch)
	if err := s.Batch(3, x, labels); err != nil {
		t.Fatal(err)
	}
	if label, err := s.Slot(3, 6, y); err != nil || float32(label) != labels[6] || !slices.Equal(y, x[6*63:7*63]) {
		t.Errorf("slot 6 differs from the batch: %v", err)
	}
}

// Every outcome of flip and shift is one that the plain loops give, each occurs
// about as often as it should, and the draws do not hang on the options.
func TestLabelledFlipAndShift(t *testing.T) {
	for _, c := range []int{1, 3} {
		const h, w, n = 6, 7, 4000 // five columns moved by two would be their own mirror image
		set := ramp{table{n, c, h, w}}
		both := newSampler(t, set, 1, Labelled{Flip: true, Shift: 2})
		flipOnly := newSampler(t, set, 1, Labelled{Flip: true})
		plain, x, y := make([]float32, c*h*w), make([]float32, c*h*w), make([]float32, c*h*w)
		if _, err := set.Example(0, plain); err != nil {
			t.Fatal(err)
		}
		reference := func(flip bool, dy, dx int) []float32 {
			out := make([]float32, c*h*w)
			for k := range out {
				p, sy, sx := k/(h*w), k/w%h-dy, k%w-dx
				if c == 1 && (sy < 0 || sy >= h || sx < 0 || sx >= w) {
					continue
				}
				sy, sx = max(sy, -sy), max(sx, -sx)
				sy, sx = min(sy, 2*(h-1)-sy), min(sx, 2*(w-1)-sx)
				if flip {
					sx = w - 1 - sx
				}
				out[k] = plain[p*h*w+sy*w+sx]
			}
			return out
		}
		want := make(map[string][3]int)
		for dy := -2; dy <= 2; dy++ {
			for dx := -2; dx <= 2; dx++ {
				want[fmt.Sprint(reference(false, dy, dx))] = [3]int{0, dy, dx}
				want[fmt.Sprint(reference(true, dy, dx))] = [3]int{1, dy, dx}
			}
		}
		if len(want) != 50 {
			t.Fatalf("%d distinct outcomes, expected 50", len(want))
		}
		counts := make(map[[3]int]int)
		for i := range n {
			if _, err := both.Example(0, i, x); err != nil {
				t.Fatal(err)
			}
			o, ok := want[fmt.Sprint(x)]
			if !ok {
				t.Fatalf("example %d: %v is no flipped and shifted picture", i, x)
			}
			counts[o]++
			if _, err := flipOnly.Example(0, i, y); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(y, reference(o[0] == 1, 0, 0)) {
				t.Fatalf("example %d: the flip hangs on the shift", i)
			}
		}
		for o, k := range counts { // mean 80, deviation 8.9
			if k < 40 || k > 120 {
				t.Errorf("%v occurs %d times of %d, expected about %d", o, k, n, n/50)
			}
		}
		if len(counts) != 50 {
			t.Errorf("%d outcomes, expected 50", len(counts))
		}
	}
}

func TestLabelledErase(t *testing.T) {
	const h, w, n = 20, 30, 2000
	set := ramp{table{n, 3, h, w}} // every value >= 1, noise < 1
	s := newSampler(t, set, 1, Labelled{Erase: 0.25})
	x := make([]float32, 3*h*w)
	erased, least, most := 0, 1.0, 0.0
	for i := range n {
		if _, err := s.Example(1, i, x); err != nil {
			t.Fatal(err)
		}
		y0, y1, x0, x1, count := h, -1, w, -1, 0
		for k, v := range x[:h*w] {
			if (v < 1) != (x[h*w+k] < 1) || (v < 1) != (x[2*h*w+k] < 1) {
				t.Fatalf("example %d: channels differ in what is erased", i)
			}
			if v < 1 {
				y0, y1, x0, x1 = min(y0, k/w), max(y1, k/w), min(x0, k%w), max(x1, k%w)
				count++
			}
		}
		if count == 0 {
			continue
		}
		erased++
		if count != (y1-y0+1)*(x1-x0+1) {
			t.Fatalf("example %d: %d pixels erased in a box of %dx%d", i, count, x1-x0+1, y1-y0+1)
		}
		share := float64(count) / (h * w)
		least, most = min(least, share), max(most, share)
	}
	if erased < 400 || erased > 600 { // deviation 19
		t.Errorf("%d of %d erased, expected about %d", erased, n, n/4)
	}
	if least > 0.04 || most < 0.3 || least < 0.01 || most > 0.36 {
		t.Errorf("shares from %v to %v, expected 0.02 to 0.33", least, most)
	}
}

func TestLabelledSamplerRefusals(t *testing.T) {
	set := table{4, 1, 5, 6}
	for want, c := range map[string]LabelledSamplerConfig{
		"train.batch: found 0":                             {},
		"data.labelled.shift: found 5, expected at most 4": {Batch: 1, Labelled: Labelled{Shift: 5}},
		"data.labelled.format":                             {Batch: 1, Labelled: Labelled{Format: "x"}},
	} {
		if _, err := NewLabelledSampler(set, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := NewLabelledSampler(table{0, 1, 5, 5}, LabelledSamplerConfig{Batch: 1}); err == nil {
		t.Error("accepted an empty set")
	}
	s := newSampler(t, set, 2, Labelled{})
	if err := s.Batch(0, make([]float32, 59), make([]float32, 2)); err == nil {
		t.Error("accepted a short slice")
	}
	if _, err := s.Slot(-1, 0, make([]float32, 30)); err == nil {
		t.Error("accepted step -1")
	}
	if _, err := s.Slot(0, 2, make([]float32, 30)); err == nil {
		t.Error("accepted slot 2 of 2")
	}
}

// The real sets: counts, balance, first labels and mean pixel. MNIST's are its
// well-known ones; the mean of its training pixels is 0.1307.
func TestLabelledGolden(t *testing.T) {
	for _, c := range []struct {
		dir, part string
		n         int
		shape     [3]int
		counts    []int
		first     []int
		mean      float64
	}{
		{"mnist", PartAll, 60000, [3]int{1, 28, 28}, []int{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949}, []int{5, 0, 4, 1, 9, 2, 1, 3, 1, 4}, 1567298545. / 255 / 784 / 60000},
		{"mnist", PartTest, 10000, [3]int{1, 28, 28}, []int{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}, []int{7, 2, 1, 0, 4, 1, 4, 9, 5, 9}, 264923200. / 255 / 784 / 10000},
		{"cifar10_small", PartAll, 10000, [3]int{3, 32, 32}, []int{1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000}, []int{7, 4, 8, 0, 5, 3, 6, 9, 2, 3}, 0.47359135},
		{"cifar10_small", PartTest, 2000, [3]int{3, 32, 32}, []int{200, 200, 200, 200, 200, 200, 200, 200, 200, 200}, []int{8, 1, 7, 1, 0, 9, 6, 6, 3, 9}, 0.48008921},
	} {
		t.Run(c.dir+c.part, func(t *testing.T) {
			s := openSet(t, testdata.Dir(t, c.dir), LabelledOptions{Part: c.part})
			ch, h, w := s.Shape()
			if s.Len() != c.n || [3]int{ch, h, w} != c.shape {
				t.Fatalf("%d images of %dx%dx%d", s.Len(), ch, h, w)
			}
			x, counts, sum := make([]float32, ch*h*w), make([]int, 10), 0.0
			for i := range c.n {
				label, err := s.Example(i, x)
				if err != nil {
					t.Fatal(err)
				}
				counts[label]++
				if i < len(c.first) && label != c.first[i] {
					t.Errorf("label %d is %d, expected %d", i, label, c.first[i])
				}
				for _, v := range x {
					sum += float64(v)
				}
			}
			if !slices.Equal(counts, c.counts) {
				t.Errorf("classes hold %v, expected %v", counts, c.counts)
			}
			if mean := sum / float64(c.n*len(x)); math.Abs(mean-c.mean) > 1e-8 {
				t.Errorf("mean pixel %.9f, expected %.9f", mean, c.mean)
			}
		})
	}
}

func FuzzIDX(f *testing.F) {
	good := idxFile(noise(60, 1), 3, 5, 4)
	for _, seed := range [][]byte{nil, good, zip(good), good[:20], append(slices.Clone(good), 1), zip(good)[:30], idxFile(nil, 1<<31, 1<<31, 1<<31), idxFile(cycle(5, 10), 5), {0x1f, 0x8b}} {
		f.Add(seed, byte(3))
		f.Add(seed, byte(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, dims byte) {
		d := 1 + int(dims)%4
		shape, values, err := decodeIDX(bytes.NewReader(data), "f.idx", d)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.idx: found ") || !strings.Contains(err.Error(), ", expected ") {
				t.Fatalf("%q", err)
			}
			return
		}
		n := 1
		for _, s := range shape {
			n *= s
		}
		if len(shape) != d || n != len(values) || n == 0 {
			t.Fatalf("shape %v, %d values", shape, len(values))
		}
		// What was accepted is the one file that holds these values.
		if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) && !bytes.Equal(data, idxFile(values, shape...)) {
			t.Fatal("accepted more than the values")
		}
	})
}

// FuzzCIFAR builds a file of records with the given label bytes, longer or
// shorter by some bytes: inputs of the file's size would keep the fuzzer busy
// with making them smaller.
func FuzzCIFAR(f *testing.F) {
	f.Add([]byte{1, 9}, int16(0), false)
	f.Add([]byte{1, 99, 19, 0}, int16(0), true)
	f.Add([]byte{1, 10}, int16(0), false)
	f.Add([]byte{}, int16(0), true)
	f.Add([]byte{0}, int16(1), true)
	f.Add([]byte{0}, int16(-3073), false)
	f.Fuzz(func(t *testing.T, labels []byte, more int16, fine bool) {
		s, head := &byteSet{c: 3, h: 32, w: 32, classes: cifar10Classes}, 1
		if fine {
			s.classes, head = cifar100Classes, 2
		}
		labels = labels[:min(len(labels), 8)/head*head]
		var file, pix, want []byte
		for i := 0; i < len(labels); i += head {
			image := noise(cifarImage, uint64(i))
			file, pix, want = append(append(file, labels[i:i+head]...), image...), append(pix, image...), append(want, labels[i+head-1])
		}
		valid := more == 0 && len(want) > 0
		for i, l := range labels {
			valid = valid && (fine && i%2 == 0 && l < 20 || int(l) < len(s.classes) && (!fine || i%2 == 1))
		}
		if n := len(file) + int(more); n < len(file) {
			file = file[:max(0, n)]
		} else {
			file = append(file, make([]byte, more)...)
		}
		err := s.addCIFAR("f.bin", file, fine)
		if len(file)%(head+cifarImage) == 0 && more != 0 {
			return // a whole number of other records
		}
		if (err == nil) != valid || err != nil && !strings.HasPrefix(err.Error(), "f.bin: found ") {
			t.Fatalf("%v, labels %v, %d bytes more", err, labels, more)
		}
		if valid {
			same(t, s, pix, want, 3, 32, 32)
		}
	})
}

func FuzzClassNames(f *testing.F) {
	for _, seed := range []string{"a\nb\n", "a\r\nb\r\n\r\n", "", "\n\n", "a\n\nb", "a\na", "\xff\n\xfe"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		names, err := parseClasses("c.txt", text)
		if err != nil {
			return
		}
		again, err := parseClasses("c.txt", []byte(strings.Join(names, "\n")))
		if err != nil || !slices.Equal(names, again) || len(names) < 2 {
			t.Fatalf("%q, then %q, %v", names, again, err)
		}
	})
}
