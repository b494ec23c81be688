package data

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/internal/testdata"
)

// dataScript runs scripts/data.sh with the data in dir.
func dataScript(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh to run scripts/data.sh")
	}
	cmd := exec.Command(sh, append([]string{filepath.Join("..", "..", "scripts", "data.sh")}, args...)...)
	cmd.Env = append(os.Environ(), "DATA="+dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The text of Go's sources: at most 98 symbols, about 2.4 million of them, and
// what -verify says of it when it has changed.
func TestScriptGoText(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to find the sources with")
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"gotext"}, {"-verify", "gotext"}} {
		if out, err := dataScript(t, dir, args...); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	path := filepath.Join(dir, "gotext", "gotext.txt")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range text {
		if (b < ' ' || b > '~') && b != '\t' && b != '\n' && b != 0x1a {
			t.Fatalf("byte %#02x at %d", b, i)
		}
	}
	if bytes.Contains(text, []byte("\x1a\x1a\x1a\x1a\x1a\x1a\x1a\x1a")) || !bytes.HasPrefix(text, []byte("// Copyright")) {
		t.Error("the text does not look like Go sources")
	}
	c, err := OpenText(path, Text{}, 10, 9)
	if err != nil {
		t.Fatal(err)
	}
	val := float64(part(t, c, PartVal).Len()) / float64(c.Len())
	if n := c.Vocabulary().Len(); n > 98 || c.Len() < 2e6 || c.Len() > 3e6 || val < 0.095 || val > 0.105 {
		t.Errorf("%d characters of %d symbols, %.3f for validation, expected about 2.4 million of at most 98 and 0.1", c.Len(), n, val)
	}
	text[1000] ^= 1
	put(t, text, path)
	if out, err := dataScript(t, dir, "-verify", "gotext"); err == nil || !strings.Contains(out, "gotext.txt: found sha256") {
		t.Errorf("a changed text: %v: %s", err, out)
	}
}

func TestScriptVerifies(t *testing.T) {
	if _, err := exec.LookPath("md5sum"); err != nil {
		t.Skip("no md5sum")
	}
	dir := t.TempDir()
	put(t, []byte("no digits"), dir, "mnist", mnistTrainImages+".gz")
	out, err := dataScript(t, dir, "-verify", "mnist")
	if err == nil || !strings.Contains(out, "expected f68b3c2dcbeaaa9fbdd348bbdeb94873") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "mnist", mnistTrainImages+".gz")); err != nil {
		t.Errorf("-verify moved the file: %v", err)
	}
	put(t, make([]byte, 3072), dir, "cifar10", "data_batch_1.bin")
	if out, err := dataScript(t, dir, "-verify", "cifar10"); err == nil || !strings.Contains(out, "found 3072 bytes, expected a multiple of 3073") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := dataScript(t, filepath.Dir(testdata.Dir(t, "mnist")), "-verify", "mnist"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
