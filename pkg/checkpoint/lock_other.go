//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// lockFile creates name, which must not exist, and removes it on Close. A
// process that was killed leaves it behind: the message says what to do.
func lockFile(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		holder, _ := os.ReadFile(name)
		return nil, fmt.Errorf("%s: %w (process %s; remove the file if that process is gone)", name, ErrLocked, strings.TrimSpace(string(holder)))
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(f, "%d\n", os.Getpid())
	return &lockedFile{f, name}, nil
}

type lockedFile struct {
	f    *os.File
	name string
}

func (l *lockedFile) Close() error {
	err := l.f.Close()
	if rerr := os.Remove(l.name); err == nil {
		err = rerr
	}
	return err
}
