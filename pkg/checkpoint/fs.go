package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is the part of a file system that checkpoints need. OS is the real one;
// tests pass one that fails at a chosen operation.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm fs.FileMode) (Handle, error)
	MkdirAll(name string, perm fs.FileMode) error
	// ReadDir lists a folder in the order of names.
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// Rename replaces a file, or moves a folder to a name that is free.
	Rename(from, to string) error
	Remove(name string) error
	RemoveAll(name string) error
	// SyncDir flushes the entries of a folder to the disk, where the system can.
	SyncDir(name string) error
	// Lock takes the exclusive lock that the file of that name stands for and
	// holds it until Close; ErrLocked where another holder has it.
	Lock(name string) (io.Closer, error)
}

// Handle is an open file.
type Handle interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
}

// OS is the file system of the machine.
var OS FS = osFS{}

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (Handle, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }
func (osFS) Rename(from, to string) error                 { return os.Rename(from, to) }
func (osFS) Remove(name string) error                     { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                  { return os.RemoveAll(name) }
func (osFS) SyncDir(name string) error                    { return syncDir(name) }
func (osFS) Lock(name string) (io.Closer, error)          { return lockFile(name) }

// AtomicWrite makes the file at path hold what write writes, or leaves it as it
// was: the bytes go to a temporary file in the same folder, which is flushed
// to the disk and renamed over path. On any failure the temporary file is
// removed.
func AtomicWrite(fsys FS, path string, write func(io.Writer) error) (err error) {
	dir, base := filepath.Split(path)
	var (
		tmp string
		f   Handle
	)
	for i := 0; ; i++ {
		tmp = filepath.Join(dir, fmt.Sprintf(".%s.tmp-%d-%d", base, os.Getpid(), i))
		f, err = fsys.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) || i == 100 {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	defer func() {
		if err != nil {
			fsys.Remove(tmp)
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err = fsys.Rename(tmp, path); err != nil {
		return err
	}
	if dir == "" {
		dir = "."
	}
	return fsys.SyncDir(filepath.Clean(dir))
}

// WriteFile writes f to path, whole or not at all; see AtomicWrite and
// File.Write. An existing file is replaced.
func WriteFile(path string, f *File) error {
	return AtomicWrite(OS, path, f.Write)
}
