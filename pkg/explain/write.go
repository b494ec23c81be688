package explain

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
)

// DirError says that a folder cannot take a page.
type DirError struct{ Dir, Found, Expected string }

// Error names the folder, what was found and what was expected.
func (e *DirError) Error() string {
	return fmt.Sprintf("%s: found %s, expected %s", e.Dir, e.Found, e.Expected)
}

// generator marks the pages of this package, so that no other folder is ever
// replaced.
const generator = "unrollnet explain"

// ours matches the names of files that Write makes.
var ours = regexp.MustCompile(`^(index\.html|[1-6]-[a-z0-9-]+\.png)$`)

// CheckDir says, before any work, whether Write could put a page at dir: nothing
// is there, or an empty folder, or, with overwrite, an earlier page and nothing
// else. The folder it lies in must exist.
func CheckDir(dir string, overwrite bool) error {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(filepath.Clean(dir))
		if st, err := os.Stat(parent); err != nil || !st.IsDir() {
			return &DirError{dir, "no folder " + parent, "one that exists"}
		}
		return nil
	case err != nil:
		return err
	case !st.IsDir():
		return &DirError{dir, "a file", "a new or empty folder"}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	switch {
	case len(entries) == 0:
		return nil
	case !overwrite:
		return &DirError{dir, fmt.Sprintf("a folder with %d files", len(entries)), "a new or empty folder, or --overwrite"}
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !ours.MatchString(e.Name()) {
			return &DirError{dir, e.Name() + ", which is no part of an earlier page,", "a folder that holds nothing else"}
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil || !bytes.Contains(page, []byte(`content="`+generator+`"`)) {
		return &DirError{dir, "no page of this program", "a folder that holds nothing else"}
	}
	return nil
}

var tempCount atomic.Int64

// Write makes the folder dir with the page index.html and its pictures. It
// appears whole or not at all: everything is written to a temporary folder beside
// it, which is then renamed. See CheckDir for what may be there before. The same
// report gives the same bytes.
func (r *Report) Write(dir string, overwrite bool) error {
	return replace(dir, overwrite, func(temp string) error {
		pictures := r.Pictures()
		for _, p := range pictures {
			if err := writeFile(filepath.Join(temp, p.Name), func(w io.Writer) error {
				return (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(w, p.Image)
			}); err != nil {
				return err
			}
		}
		return writeFile(filepath.Join(temp, "index.html"), func(w io.Writer) error { return r.page(w, pictures) })
	})
}

// replace makes the folder dir with what fill writes to a temporary one.
func replace(dir string, overwrite bool, fill func(temp string) error) (err error) {
	if err := CheckDir(dir, overwrite); err != nil {
		return err
	}
	dir = filepath.Clean(dir)
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target // a link to a folder stays one
	}
	temp := filepath.Join(filepath.Dir(dir), fmt.Sprintf(".unrollnet-explain-%d-%d.tmp", os.Getpid(), tempCount.Add(1)))
	if err := os.Mkdir(temp, 0o777); err != nil {
		return notWritten(dir, err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
			err = notWritten(dir, err)
		}
	}()
	if err := fill(temp); err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(temp, dir)
	}
	// What was there makes way, and comes back if the new folder cannot take its
	// place.
	old := temp + ".old"
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}

func notWritten(dir string, err error) error { return fmt.Errorf("%s: not written: %w", dir, err) }

func writeFile(path string, fill func(io.Writer) error) error {
	var buf bytes.Buffer
	if err := fill(&buf); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(buf.Bytes())
	return errors.Join(err, f.Close())
}
