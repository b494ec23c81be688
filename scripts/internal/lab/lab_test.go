package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func TestWorkFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b.json")
	type kept struct {
		Seconds float64
		Held    int
	}
	var c kept
	if ok, err := Load(path, &c); ok || err != nil {
		t.Errorf("an absent file: %v, %v", ok, err)
	}
	if err := Save(path, kept{Seconds: 1.5, Held: 7}); err != nil {
		t.Fatal(err)
	}
	if ok, err := Load(path, &c); !ok || err != nil || c.Seconds != 1.5 || c.Held != 7 {
		t.Errorf("found %+v, %v, %v", c, ok, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, &c); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged file: found %v, expected an error that names it", err)
	}
	cpu := filepath.Join(dir, "cpu")
	for _, v := range []float64{1.25, 2} {
		if err := addCPU(cpu, v); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := readCPU(cpu); err != nil || sum != 3.25 {
		t.Errorf("found %v minutes (%v), expected 3.25", sum, err)
	}
}

// TestTrainCountsAndContinues runs a program that stops once and finishes the next
// time.
func TestTrainCountsAndContinues(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	work := t.TempDir()
	program := filepath.Join(work, "program")
	script := `#!/bin/sh
test "$1 $2 $3 $4" = "train e.yaml --quiet --run-dir" || exit 3
test "$GOMAXPROCS" = 1 || exit 3
test "$6 $7" = "--set a=b" || exit 3
test -e "$5" && exit 0
mkdir -p "$5"; exit 75
`
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(work, "runs", "x")
	_, err := Train(t.Context(), program, "e.yaml", dir, []string{"a=b"})
	if err == nil || !strings.Contains(err.Error(), "x: stopped and saved") {
		t.Fatalf("found %v, expected to be told that it stopped", err)
	}
	used, err := Train(t.Context(), program, "e.yaml", dir, []string{"a=b"})
	if err != nil || used < 0 {
		t.Fatalf("found %v minutes (%v)", used, err)
	}
	b, err := os.ReadFile(dir + ".cpu")
	if err != nil || strings.Count(string(b), "\n") != 2 {
		t.Errorf("found %q (%v), expected the processor time of two processes", b, err)
	}
	if _, err := Train(t.Context(), program, "e.yaml", dir, []string{"a=c"}); err == nil {
		t.Error("a program that fails was taken for one that finished")
	}
}

// TestParallelGoesOn: a job that fails does not keep the others from running.
func TestParallelGoesOn(t *testing.T) {
	l := &Lab{Jobs: 2, Stdout: io.Discard, Stderr: io.Discard}
	var done atomic.Int32
	bad := errors.New("bad")
	err := l.Parallel(t.Context(), 9, func(_ context.Context, i int) error {
		done.Add(1)
		if i == 3 {
			return bad
		}
		return nil
	})
	if !errors.Is(err, bad) || done.Load() != 9 {
		t.Errorf("found %d jobs done and %v, expected 9 and the error of one", done.Load(), err)
	}
}

func TestFileName(t *testing.T) {
	if got := strings.Split(FileName("a b/c.d-1_"), ""); !slices.Equal(got, strings.Split("a_b_c.d-1_", "")) {
		t.Errorf("found %q", got)
	}
}
