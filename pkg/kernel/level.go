package kernel

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/cpu"
)

// Level names an instruction set for which kernels exist.
type Level int

// The levels, slowest first.
const (
	Generic Level = iota // plain Go
	AVX2                 // AVX2 and FMA3
	AVX512               // AVX-512 F, BW, DQ and VL
)

var levelNames = [...]string{"generic", "avx2", "avx512"}

// String returns the name used by UNROLLNET_KERNEL.
func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return fmt.Sprintf("Level(%d)", int(l))
	}
	return levelNames[l]
}

// EnvLevel is the environment variable that forces a level:
// generic, avx2 or avx512.
const EnvLevel = "UNROLLNET_KERNEL"

// active is the level kernels run at. It changes only at start and in tests.
var active, startupError = startLevel(os.Getenv(EnvLevel), Available())

// Available returns the levels this machine can run, slowest first.
func Available() []Level {
	levels := []Level{Generic}
	if haveAssembly && cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		levels = append(levels, AVX2)
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL {
			levels = append(levels, AVX512)
		}
	}
	return levels
}

// Active returns the level kernels run at.
func Active() Level { return active }

// CheckEnvironment reports a value of UNROLLNET_KERNEL that names no level or
// one this machine lacks. Kernels then run at the best level available.
func CheckEnvironment() error { return startupError }

// Force makes kernels run at level l, which must be Available, until restore is
// called. It is for tests and benchmarks and must not race with kernels.
func Force(l Level) (restore func()) {
	for _, a := range Available() {
		if a == l {
			old := active
			active = l
			return func() { active = old }
		}
	}
	panic(fmt.Sprintf("kernel: level %v is not available on this machine", l))
}

func startLevel(name string, levels []Level) (Level, error) {
	best := levels[len(levels)-1]
	if name == "" {
		return best, nil
	}
	for _, l := range levels {
		if l.String() == name {
			return l, nil
		}
	}
	names := make([]string, len(levels))
	for i, l := range levels {
		names[i] = l.String()
	}
	return best, fmt.Errorf("%s=%q: this machine has %s", EnvLevel, name, strings.Join(names, ", "))
}
