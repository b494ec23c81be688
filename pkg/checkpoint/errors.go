package checkpoint

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of failure a caller tells apart with errors.Is.
var (
	// ErrNotFound: the file, the run or any checkpoint in it does not exist.
	ErrNotFound = errors.New("not found")
	// ErrLocked: another process holds the run directory.
	ErrLocked = errors.New("locked by another process")
	// ErrDamaged: a file is not a valid safetensors file, or its digest is not
	// the recorded one, or every checkpoint of a run is in that state.
	ErrDamaged = errors.New("damaged")
)

// FormatError says where a safetensors file departs from the format.
// errors.Is(err, ErrDamaged) holds for it.
type FormatError struct {
	File     string // file name as given to the reader
	Tensor   string // tensor concerned, empty where it is the file as a whole
	Found    string
	Expected string
}

// Error gives one line: file, tensor, found, expected.
func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	b.WriteString(": ")
	if e.Tensor != "" {
		fmt.Fprintf(&b, "tensor %s: ", quoteShort(e.Tensor))
	}
	fmt.Fprintf(&b, "found %s, expected %s", e.Found, e.Expected)
	return b.String()
}

// Unwrap makes errors.Is(e, ErrDamaged) true.
func (e *FormatError) Unwrap() error { return ErrDamaged }

// quoteShort quotes s on one line and cuts it after 80 bytes: names in hostile
// files may be megabytes long.
func quoteShort(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q...", s[:80])
	}
	return fmt.Sprintf("%q", s)
}
