//go:build !linux

package kernel

import "time"

var started = time.Now()

// threadTime returns the time since start, for want of a portable thread clock.
func threadTime() time.Duration { return time.Since(started) }
