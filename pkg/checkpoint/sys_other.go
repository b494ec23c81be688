//go:build !unix && !windows

package checkpoint

import "strings"

// syncDir does nothing: these systems cannot flush a folder.
func syncDir(string) error { return nil }

// IsNoSpace tells whether err comes from a full disk; these systems say so in
// words alone.
func IsNoSpace(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no space")
}
