//go:build unix

package lab

import (
	"os/exec"
	"syscall"
	"time"
)

// CPUTime returns the processor time this process has used, in user and system
// mode, on all its threads.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// apart puts a process into a group of its own, so that a signal to the group of
// this program (an interrupt typed at a terminal) reaches it once, from here: the
// second would make a training leave at once.
func apart(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
