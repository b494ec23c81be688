package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/unrollnet/unrollnet/pkg/infer"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// openNetwork opens an embedded network or a weight file.
func openNetwork(name string) (*infer.Network, error) {
	n, err := infer.Open(name)
	return n, openError(name, err)
}

// openRestorer opens an embedded network, a weight file or a classical method
// for a task ("" where the name decides).
func openRestorer(task, name string) (*infer.Restorer, error) {
	r, err := infer.Resolve(task, name)
	return r, openError(name, err)
}

// commandOf is the command that uses networks of a kind.
var commandOf = map[model.Kind]string{model.Restore: "interpolate", model.Classify: "predict", model.Language: "generate"}

// openError gives the failures of opening weights their exit codes: names that
// are unknown, ambiguous or of another task keep their types, networks of another
// kind are sent to the command for them, an unreadable file
// stays what it is, anything else is a damaged file.
func openError(name string, err error) error {
	var (
		notFound  *infer.NotFoundError
		task      *infer.TaskError
		ambiguous *infer.AmbiguousError
		kind      *infer.KindError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind):
		return usagef("%s: unrollnet %s takes it", err, commandOf[kind.Kind])
	case errors.As(err, &notFound), errors.As(err, &task), errors.As(err, &ambiguous), errors.Is(err, fs.ErrPermission), noSpace(err):
		return err
	case !strings.Contains(err.Error(), name):
		err = fmt.Errorf("%s: %w", name, err)
	}
	return &damaged{err}
}
