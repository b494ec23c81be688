//go:build unix && !linux

package main

import "testing"

// smallDisk skips the test: mounting a small disk is done on Linux only.
func smallDisk(t *testing.T) string {
	t.Helper()
	t.Skip("a small disk is mounted on Linux only")
	return ""
}
