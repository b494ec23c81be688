package data

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// openSheets reads square images stacked on top of each other in 8-bit PNG
// sheets: PART_00.png, PART_01.png, ... (PART is train or test), each as wide
// as an image, and PART_labels.bin with one byte per image in the order of the
// sheets. The class names are those of classes.txt, else CIFAR-10's where the
// images are 32x32 in colour.
func openSheets(dir string, entries []fs.DirEntry, o LabelledOptions) (LabelledImages, error) {
	part := o.file("train", "test")
	names, err := numbered(dir, entries, part+"_", ".png", 0)
	if err != nil {
		return nil, err
	}
	labelPath := filepath.Join(dir, part+"_labels.bin")
	labels, err := readFile(labelPath, "one byte per image", maxSet)
	if err != nil {
		return nil, err
	}
	s := &byteSet{}
	for i, name := range names {
		path := filepath.Join(dir, name)
		if err := s.addSheet(path, i == 0); err != nil {
			return nil, err
		}
	}
	n := len(s.pix) / (s.c * s.h * s.w)
	if len(labels) != n {
		return nil, refuse(labelPath, fmt.Sprintf("%d labels", len(labels)), fmt.Sprintf("%d, one for each image of the %d sheets", n, len(names)))
	}
	var known []string
	if s.c == 3 && s.w == 32 {
		known = cifar10Classes
	}
	if s.classes, err = classNames(dir, classFile, known); err != nil {
		return nil, err
	}
	if s.classes == nil {
		return nil, refuse(dir, "no "+classFile, fmt.Sprintf("one with the names of the classes, one a line: sheets of %dx%dx%d are not CIFAR-10", s.c, s.h, s.w))
	}
	if err := s.addLabels(labelPath, labels); err != nil {
		return nil, err
	}
	return s.part(dir, o)
}

// addSheet appends the images of one sheet; the first fixes the shape.
func (s *byteSet) addSheet(path string, first bool) error {
	m, err := imageio.DecodeFile(path, imageio.DefaultLimits)
	if err != nil {
		return err
	}
	switch {
	case m.Bits != 8:
		return refuse(path, fmt.Sprintf("%d bits per sample", m.Bits), "8")
	case m.Alpha != nil:
		return refuse(path, "transparency", "opaque images")
	case m.H%m.W != 0:
		return refuse(path, fmt.Sprintf("a sheet of %dx%d pixels", m.W, m.H), "square images on top of each other: a height that is a multiple of the width")
	}
	if first {
		s.c, s.h, s.w = m.C, m.W, m.W
	} else if m.C != s.c || m.W != s.w {
		return refuse(path, fmt.Sprintf("images of %dx%dx%d", m.C, m.W, m.W), fmt.Sprintf("%dx%dx%d (channels x height x width) as in the first sheet", s.c, s.h, s.w))
	}
	if len(s.pix)+len(m.Pix) > maxSet {
		return refuse(path, fmt.Sprintf("%d values beside the %d of the sheets before", len(m.Pix), len(s.pix)), fmt.Sprintf("at most %d in all", maxSet))
	}
	plane, cell := m.H*m.W, m.W*m.W
	for i := range m.H / m.W {
		for c := range m.C {
			for _, v := range m.Pix[c*plane+i*cell:][:cell] {
				s.pix = append(s.pix, uint8(v*255+0.5))
			}
		}
	}
	return nil
}

// numbered returns the names prefix + number + suffix of a folder in the order
// of their numbers, which must run from first on without a gap.
func numbered(dir string, entries []fs.DirEntry, prefix, suffix string, first int) ([]string, error) {
	at := make(map[int]string)
	var numbers []int
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok {
			continue
		}
		if name, ok = strings.CutSuffix(name, suffix); !ok {
			continue
		}
		n, err := strconv.ParseUint(name, 10, 16)
		if err != nil {
			continue // some other file, such as PREFIXlabels.png
		}
		if at[int(n)] != "" {
			return nil, refuse(dir, fmt.Sprintf("both %s and %s", at[int(n)], e.Name()), "every number once")
		}
		at[int(n)] = e.Name()
		numbers = append(numbers, int(n))
	}
	if len(numbers) == 0 {
		return nil, refuse(dir, fmt.Sprintf("no file %sN%s", prefix, suffix), fmt.Sprintf("files numbered from %d on", first))
	}
	sort.Ints(numbers)
	var names []string
	for i, n := range numbers {
		if n != first+i {
			return nil, refuse(dir, fmt.Sprintf("%s but no number %d before it", at[n], first+i), fmt.Sprintf("%sN%s numbered from %d on without a gap", prefix, suffix, first))
		}
		names = append(names, at[n])
	}
	return names, nil
}
