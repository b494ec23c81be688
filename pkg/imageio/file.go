package imageio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// EncodeFile writes the image to path in the format of its ending. The file
// appears whole or not at all: the bytes go to a temporary file in the same
// folder, which is synced and renamed; whatever fails, nothing is left behind.
// An existing file is kept, and the error wraps fs.ErrExist, unless overwrite
// is set.
func EncodeFile(path string, m *Image, overwrite bool) error {
	format, err := FormatOf(path)
	if err != nil {
		return err
	}
	return WriteFile(path, overwrite, func(w io.Writer) error { return Encode(w, m, format) })
}

// SameFile reports whether two paths name one file: through links, through
// different spellings, and also while neither exists yet.
func SameFile(a, b string) bool {
	fa, ea := os.Stat(a)
	fb, eb := os.Stat(b)
	if ea == nil && eb == nil {
		return os.SameFile(fa, fb)
	}
	if ea == nil || eb == nil {
		return false
	}
	return resolve(a) == resolve(b)
}

// resolve is the absolute path with the links of its folder followed.
func resolve(p string) string {
	abs, err := filepath.Abs(p)
	if err != nil {
		return filepath.Clean(p)
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		return filepath.Join(dir, filepath.Base(abs))
	}
	return abs
}

var tempCount atomic.Int64

// WriteFile writes a file through fill, whole or not at all; see EncodeFile.
// Links are followed, so that overwriting through one keeps it; a folder, a
// pipe or a device is refused.
func WriteFile(path string, overwrite bool, fill func(io.Writer) error) (err error) {
	target, mode := path, fs.FileMode(0)
	switch fi, err := os.Stat(path); {
	case err == nil && fi.IsDir():
		return &FormatError{Name: path, Found: "a directory", Expected: "the name of a file to write"}
	case err == nil && !fi.Mode().IsRegular():
		return &FormatError{Name: path, Found: "a device or pipe", Expected: "the name of a regular file to write"}
	case err == nil && !overwrite:
		return exists(path)
	case err == nil:
		mode = fi.Mode().Perm()
		if target, err = filepath.EvalSymlinks(path); err != nil {
			return fileError(path, err, "a file to overwrite")
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fileError(path, err, "a writable path")
	}

	dir := filepath.Dir(target)
	f, err := createTemp(dir)
	if err != nil {
		return fileError(path, err, "a folder that can be written to")
	}
	temp := f.Name()
	defer func() {
		if err != nil {
			f.Close() // closing twice does no harm
			os.Remove(temp)
		}
	}()
	buf := bufio.NewWriterSize(f, 1<<16)
	if err := fill(buf); err != nil {
		return writeError(path, err)
	}
	if err := buf.Flush(); err != nil {
		return writeError(path, err)
	}
	if mode != 0 {
		if err := f.Chmod(mode); err != nil {
			return writeError(path, err)
		}
	}
	if err := f.Sync(); err != nil {
		return writeError(path, err)
	}
	if err := f.Close(); err != nil {
		return writeError(path, err)
	}
	if overwrite {
		err = os.Rename(temp, target)
	} else {
		err = renameNew(temp, target)
	}
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return exists(path)
		}
		return writeError(path, err)
	}
	// The rename is durable once the folder is synced; file systems that
	// cannot do that still have the file whole.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
	return nil
}

// renameNew renames without replacing: a hard link fails if the name is taken.
// Where the file system has no links, a check just before the rename has to do.
func renameNew(temp, target string) error {
	err := os.Link(temp, target)
	if err == nil {
		return os.Remove(temp)
	}
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, serr := os.Lstat(target); serr == nil {
		return fs.ErrExist
	}
	return os.Rename(temp, target)
}

// createTemp opens a new file in dir under a name no other process uses, with
// the permissions a new file gets.
func createTemp(dir string) (*os.File, error) {
	for {
		name := fmt.Sprintf(".unrollnet-%d-%d.tmp", os.Getpid(), tempCount.Add(1))
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

func exists(path string) error {
	return &FormatError{Name: path, Found: "an existing file", Expected: "a new name, or leave to overwrite it", Err: fs.ErrExist}
}

// writeError names the file; the cause (no space, no permission) stays visible
// to errors.Is.
func writeError(path string, err error) error {
	var (
		pe *fs.PathError
		le *os.LinkError
	)
	switch {
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	return fmt.Errorf("%s: not written: %w", path, err)
}
