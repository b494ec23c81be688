//go:build windows

package checkpoint

import (
	"errors"
	"syscall"
)

// syncDir does nothing: these systems cannot flush a folder.
func syncDir(string) error { return nil }

// Codes of Windows for a full disk (ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL).
const (
	handleDiskFull = syscall.Errno(39)
	diskFull       = syscall.Errno(112)
)

// IsNoSpace tells whether err comes from a full disk.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, handleDiskFull) || errors.Is(err, diskFull)
}
