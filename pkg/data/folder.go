package data

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // image.DecodeConfig knows the formats that are imported
	_ "image/png"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	_ "golang.org/x/image/tiff"

	"github.com/unrollnet/unrollnet/pkg/imageio"
)

// Folder is the Dataset of the image files of one folder.
type Folder struct {
	dir    string
	names  []string
	limits imageio.Limits
	cache  cache
}

// ImageFolder opens a folder of PNG, JPEG and TIFF files, recognised by their
// extensions and ordered by name; sub-folders are not entered. Nothing is
// decoded yet; see Check. A folder that is missing, or without images in the
// wanted part, is an error.
func ImageFolder(dir string, opt Options) (*Folder, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: found no such folder, expected one with PNG, JPEG or TIFF files: %w", dir, fs.ErrNotExist)
		}
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".png", ".jpg", ".jpeg", ".tif", ".tiff":
			all = append(all, e.Name())
		}
	}
	sort.Strings(all)
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: found no images among %d entries, expected PNG, JPEG or TIFF files", dir, len(entries))
	}
	chosen, err := opt.choose(len(all))
	if err != nil {
		return nil, err
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%s: found no image for part %q among %d (holdout every %d, offset %d), expected at least one",
			dir, opt.Part, len(all), opt.Every, opt.Offset)
	}
	f := &Folder{dir: dir, limits: opt.Limits, cache: newCache(opt.CacheBytes)}
	if f.limits == (imageio.Limits{}) {
		f.limits = imageio.DefaultLimits
	}
	for _, i := range chosen {
		f.names = append(f.names, all[i])
	}
	return f, nil
}

// Len returns the number of images.
func (f *Folder) Len() int { return len(f.names) }

// Name returns the file name of image i, without the folder.
func (f *Folder) Name(i int) string { return f.names[i] }

// Path returns the path of image i.
func (f *Folder) Path(i int) string { return filepath.Join(f.dir, f.names[i]) }

// Image returns image i at its own depth, without transparency and profile. It
// belongs to the caller.
func (f *Folder) Image(i int) (*imageio.Image, error) {
	p, err := f.planes(i)
	if err != nil {
		return nil, err
	}
	return p.image(), nil
}

func (f *Folder) planes(i int) (*planes, error) {
	return f.cache.get(i, func() (*planes, error) {
		m, err := imageio.DecodeFile(f.Path(i), f.limits)
		if err != nil {
			return nil, err
		}
		return toPlanes(m), nil
	})
}

// Check reads the header of every file and returns an error naming the first
// that cannot be read or is smaller than minSide pixels in a direction.
func (f *Folder) Check(minSide int) error {
	for i := range f.names {
		if err := checkHeader(f.Path(i), minSide); err != nil {
			return err
		}
	}
	return nil
}

func checkHeader(path string, minSide int) error {
	r, err := os.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	c, _, err := image.DecodeConfig(bufio.NewReader(r))
	if err != nil {
		return fmt.Errorf("%s: found no readable image header (%v), expected a PNG, JPEG or TIFF file", path, err)
	}
	if c.Width < minSide || c.Height < minSide {
		return tooSmall(path, c.Width, c.Height, minSide)
	}
	return nil
}

func tooSmall(name string, w, h, minSide int) error {
	return fmt.Errorf("%s: found %dx%d pixels, expected at least %dx%d (data.patch)", name, w, h, minSide, minSide)
}

// cache keeps decoded images up to a number of bytes. What is in stays in: every
// epoch asks for every image once, in a new order, and for such a walk no rule
// of eviction keeps more hits than none.
type cache struct {
	mu      sync.Mutex
	budget  int64
	entries map[int]*entry
}

// entry is decoded once by whoever comes first; the others wait.
type entry struct {
	once sync.Once
	p    *planes
	err  error
}

func newCache(bytes int64) cache {
	if bytes == 0 {
		bytes = defaultCache
	}
	return cache{budget: bytes, entries: make(map[int]*entry)}
}

// get returns the planes of image i, from the cache or from decode.
func (c *cache) get(i int, decode func() (*planes, error)) (*planes, error) {
	c.mu.Lock()
	e := c.entries[i]
	if e == nil {
		e = new(entry)
		c.entries[i] = e
	}
	c.mu.Unlock()
	e.once.Do(func() {
		e.err = errors.New("image decoder panicked") // overwritten unless it does
		e.p, e.err = decode()
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.err != nil || e.p.bytes() > c.budget {
			delete(c.entries, i)
			return
		}
		c.budget -= e.p.bytes()
	})
	return e.p, e.err
}
