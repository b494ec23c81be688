package data

import (
	"bufio"
	"fmt"
	"image"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/disintegration/imaging"

	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// folderSet is a set of image files in one folder per class.
type folderSet struct {
	c, h, w int
	resize  bool // bring images to (h,w); else they must have that size
	convert bool // bring images to c channels; else they must not have more
	classes []string
	files   []classFileName
	limits  imageio.Limits
	cache   cache
}

type classFileName struct {
	path  string
	label int
}

// openFolders opens DIR/CLASS/*, or DIR/train/CLASS/* and DIR/test/CLASS/*
// where DIR holds no folders but these two or one of them: PNG, JPEG and
// TIFF files, the classes and the files of a class in the order of their names.
// Files beside the class folders are left alone. A class without images is an
// error, and so is a test part with other classes than the training part.
//
// With a height and width, images are scaled so that the smaller ratio fits and
// the centre is cut out (cubic resampling, 8 bits); else all must have the size
// of the first. With a number of channels, colour becomes luma
// (0.299 R + 0.587 G + 0.114 B) or gray is repeated; else the first image
// decides, and colour images in a gray set are an error.
func openFolders(dir string, entries []fs.DirEntry, o LabelledOptions) (LabelledImages, error) {
	if (o.Height == 0) != (o.Width == 0) {
		return nil, fmt.Errorf("%s: found a size of %dx%d asked for, expected both width and height or neither", dir, o.Width, o.Height)
	}
	top := folderNames(dir, entries)
	classes := top
	if len(top) > 0 && !slices.ContainsFunc(top, func(n string) bool { return n != "train" && n != "test" }) {
		part := o.file("train", "test")
		var err error
		if classes, err = subFolders(filepath.Join(dir, part)); err != nil {
			return nil, err
		}
		if len(top) == 2 {
			other := filepath.Join(dir, o.file("test", "train"))
			others, err := subFolders(other)
			if err != nil {
				return nil, err
			}
			if !slices.Equal(classes, others) {
				return nil, refuse(other, fmt.Sprintf("the classes %s", shorten(others)), fmt.Sprintf("those of %s: %s", part, shorten(classes)))
			}
		}
		dir = filepath.Join(dir, part)
	} else if o.Part == PartTest {
		return nil, refuse(dir, "no folder test beside a folder train", "DIR/train/CLASS and DIR/test/CLASS to read a test part")
	}
	if len(classes) < 2 {
		return nil, refuse(dir, fmt.Sprintf("%d class folders", len(classes)), "at least 2")
	}
	s := &folderSet{
		c: o.Channels, h: o.Height, w: o.Width, resize: o.Height != 0, convert: o.Channels != 0,
		classes: classes, limits: imageio.DefaultLimits, cache: newCache(0),
	}
	for label, c := range classes {
		if err := s.addClass(filepath.Join(dir, c), label); err != nil {
			return nil, err
		}
	}
	index, err := o.choose(dir, len(s.files))
	if err != nil {
		return nil, err
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	if index != nil {
		files := make([]classFileName, len(index))
		for k, i := range index {
			files[k] = s.files[i]
		}
		s.files = files
	}
	return s, nil
}

// shorten lists names for an error message.
func shorten(names []string) string {
	if len(names) > 6 {
		return fmt.Sprintf("%s ... (%d)", strings.Join(names[:6], " "), len(names))
	}
	return strings.Join(names, " ")
}

func subFolders(dir string) ([]string, error) {
	entries, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	return folderNames(dir, entries), nil
}

func folderNames(dir string, entries []fs.DirEntry) []string {
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && isFolder(dir, e) {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names
}

// addClass lists the images of one class.
func (s *folderSet) addClass(dir string, label int) error {
	entries, err := readDir(dir)
	if err != nil {
		return err
	}
	n := len(s.files)
	for _, e := range entries { // ordered by name
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".png", ".jpg", ".jpeg", ".tif", ".tiff":
			s.files = append(s.files, classFileName{filepath.Join(dir, e.Name()), label})
		}
	}
	if len(s.files) == n {
		return refuse(dir, fmt.Sprintf("no images of this class among %d entries", len(entries)), "PNG, JPEG or TIFF files")
	}
	return nil
}

// settle decodes the first image, which decides what the options left open, and
// reads the headers of the others.
func (s *folderSet) settle() error {
	m, err := imageio.DecodeFile(s.files[0].path, s.limits)
	if err != nil {
		return err
	}
	if !s.convert {
		s.c = m.C
	}
	if !s.resize {
		s.h, s.w = m.H, m.W
	}
	if int64(s.c)*int64(s.h)*int64(s.w) > maxSet {
		return refuse(s.files[0].path, fmt.Sprintf("%dx%d pixels", m.W, m.H), fmt.Sprintf("at most %d values", maxSet))
	}
	for _, f := range s.files {
		if err := s.checkHeader(f.path); err != nil {
			return err
		}
	}
	return nil
}

func (s *folderSet) checkHeader(path string) error {
	f, err := openFile(path, "a PNG, JPEG or TIFF file", s.limits.MaxBytes)
	if err != nil {
		return err
	}
	defer f.Close()
	c, _, err := image.DecodeConfig(bufio.NewReader(f))
	if err != nil {
		return refuse(path, fmt.Sprintf("no readable image header (%v)", err), "a PNG, JPEG or TIFF file")
	}
	// The orientation that a camera writes down may exchange the sides; the
	// decoder knows it, see decode.
	if !s.resize && (c.Width != s.w || c.Height != s.h) && (c.Width != s.h || c.Height != s.w) {
		return s.otherSize(path, c.Width, c.Height)
	}
	return nil
}

func (s *folderSet) otherSize(path string, w, h int) error {
	return refuse(path, fmt.Sprintf("%dx%d pixels", w, h), fmt.Sprintf("%dx%d as in %s (or a size to bring all images to)", s.w, s.h, s.files[0].path))
}

func (s *folderSet) Len() int { return len(s.files) }

func (s *folderSet) Shape() (c, h, w int) { return s.c, s.h, s.w }

func (s *folderSet) Classes() []string { return slices.Clone(s.classes) }

func (s *folderSet) Example(i int, x []float32) (int, error) {
	if err := checkExample(i, s.Len(), len(x), s.c, s.h, s.w); err != nil {
		return 0, err
	}
	p, err := s.cache.get(i, func() (*planes, error) { return s.decode(s.files[i].path) })
	if err != nil {
		return 0, err
	}
	for k := range x {
		x[k] = p.value(k)
	}
	return s.files[i].label, nil
}

// decode reads one file and brings it to the set's shape. Transparency is
// dropped.
func (s *folderSet) decode(path string) (*planes, error) {
	m, err := imageio.DecodeFile(path, s.limits)
	if err != nil {
		return nil, err
	}
	m.Alpha = nil
	if m.C > s.c && !s.convert {
		return nil, refuse(path, "a colour image", "a gray one as "+s.files[0].path+" (or a number of channels to bring all images to)")
	}
	if m.W != s.w || m.H != s.h {
		if !s.resize {
			return nil, s.otherSize(path, m.W, m.H)
		}
		m = Resample(m, s.w, s.h)
	}
	return toPlanes(WithChannels(m, s.c)), nil
}

// Resample brings an image to w x h pixels: it is scaled by the larger of the
// two ratios and the centre is cut out (imaging.Fill with the cubic of Catmull
// and Rom, which averages where it shrinks), at 8 bits. Without a change of size
// it returns m.
func Resample(m *imageio.Image, w, h int) *imageio.Image {
	if m.W == w && m.H == h {
		return m
	}
	gray := m.C == 1
	out := imageio.FromImage(imaging.Fill(m.ToImage(), w, h, imaging.Center, imaging.CatmullRom))
	if gray && out.C == 3 { // imaging knows only colour
		out.Pix, out.C, out.Gray = out.Pix[:w*h], 1, true
	}
	return out
}

// WithChannels brings an image to c channels, 1 or 3: gray is repeated, colour
// becomes 0.299 R + 0.587 G + 0.114 B (the luma of ITU-R BT.601, full range).
func WithChannels(m *imageio.Image, c int) *imageio.Image {
	switch {
	case m.C == c:
		return m
	case c == 3:
		return m.RGB()
	}
	n := m.H * m.W
	pix := make([]float32, n)
	r, g, b := m.Pix[:n], m.Pix[n:2*n], m.Pix[2*n:3*n]
	for i := range pix {
		pix[i] = float32(0.299*float64(r[i]) + 0.587*float64(g[i]) + 0.114*float64(b[i]))
	}
	return m.WithPix(pix, 1)
}
