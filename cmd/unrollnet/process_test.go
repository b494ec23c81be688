//go:build unix

package main

import (
	"bufio"
	"bytes"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program returns the command line of this program: TestMain runs main for a
// process called unrollnet.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "unrollnet"
	cmd.Dir = dir
	return cmd
}

// exitOf runs a command and returns its exit code and stderr.
func exitOf(t *testing.T, cmd *exec.Cmd) (int, string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}

const shortRun = `
name: signal
model: {preset: tiny}
data: {train: synthetic, patch: 16, cache_mb: 16}
train: {steps: 1000000, batch: 2, micro_batch: 1, workers: 1}
eval: {every: 0, images: 1}
log: {every: 1}
checkpoint: {every: 0, minutes: 0}
`

// TestTrainSavesOnSignal sends SIGTERM to a run: it saves its state, exits with
// 75 and continues from there.
func TestTrainSavesOnSignal(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "e.yaml"), []byte(shortRun), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, dir, "train", "e.yaml", "--run-dir", "run", "-q")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "run", "metrics.csv")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(log); err == nil && bytes.Count(b, []byte("\n")) > 3 {
			break
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("no steps after a minute: %s", &stderr)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitStopped {
		t.Fatalf("after SIGTERM: %v, expected exit code %d; %s", err, exitStopped, &stderr)
	}
	found, err := filepath.Glob(filepath.Join(dir, "run", "checkpoints", "step-*", "SHA256SUMS"))
	if err != nil || len(found) == 0 {
		t.Fatalf("found no checkpoint, %v", err)
	}
	code, msg := exitOf(t, program(t, dir, "train", "e.yaml", "--run-dir", "run", "--max-time", "1ms"))
	if code != exitStopped || strings.Contains(msg, "step 0 of") {
		t.Errorf("continued: exit code %d, %s", code, msg)
	}
}

// TestInterpolateInterrupted sends SIGINT to a restoration: 130, and nothing is
// left behind.
func TestInterpolateInterrupted(t *testing.T) {
	dir := t.TempDir()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewGray(image.Rect(0, 0, 6000, 4000))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "m.png"), buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	writeWeights(t, filepath.Join(dir, "w.safetensors"))
	cmd := program(t, dir, "interpolate", "-m", "w.safetensors", "m.png")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(pipe)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "demosaicking") {
		t.Errorf("found %q, %v", line, err)
	}
	time.Sleep(100 * time.Millisecond)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, _ := r.ReadString(0)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(rest, "unrollnet: interrupted") {
		t.Errorf("found exit code %d, %q, expected %d", code, rest, exitInterrupted)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("found %v, %v, expected the two inputs alone", entries, err)
	}
}

// TestFullDisk writes to a disk that is too small: exit code 5 and nothing left
// on it.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t)
	dir := t.TempDir()
	var buf bytes.Buffer
	if err := png.Encode(&buf, noisy(300, 300)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.png"), buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	code, msg := exitOf(t, program(t, dir, "interpolate", "-q", "-m", "bicubic", "--scale", "2", "a.png", "-o", disk))
	if code != exitNoSpace || !strings.Contains(msg, "a_x2.png") || strings.Count(msg, "\n") != 1 {
		t.Errorf("interpolate: exit code %d, %q, expected %d", code, msg, exitNoSpace)
	}
	if entries, err := os.ReadDir(disk); err != nil || len(entries) != 0 {
		t.Errorf("found %v, %v on the disk, expected nothing", entries, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "e.yaml"), []byte(shortRun), 0o644); err != nil {
		t.Fatal(err)
	}
	code, msg = exitOf(t, program(t, dir, "train", "e.yaml", "-q", "--run-dir", filepath.Join(disk, "run"), "--max-time", "200ms"))
	if code != exitNoSpace {
		t.Errorf("train: exit code %d, %q, expected %d", code, msg, exitNoSpace)
	}
}
