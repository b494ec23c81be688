// Package internal_test tests the helpers below it: the go command leaves a folder
// named testdata out of "./...", so their tests would not run from there.
package internal_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/internal/testdata"
)

func TestFind(t *testing.T) {
	top := t.TempDir()
	repo := filepath.Join(top, "repo")
	deep := filepath.Join(repo, "pkg", "x")
	data := filepath.Join(top, "shared", "data")
	for _, d := range []string{deep, data} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := testdata.Find("", deep); err == nil {
		t.Fatal("found data without a go.mod above the test")
	}
	if err := os.WriteFile(filepath.Join(repo, "go.mod"), []byte("module m\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := testdata.Find("", deep)
	if err != nil || got != data {
		t.Fatalf("find: got %q, %v, want %q", got, err, data)
	}
	other := t.TempDir()
	if got, err := testdata.Find(other, deep); err != nil || got != other {
		t.Fatalf("find with variable: got %q, %v, want %q", got, err, other)
	}
	if _, err := testdata.Find(filepath.Join(other, "absent"), deep); err == nil {
		t.Fatal("a variable naming no folder was accepted")
	}
	if err := os.RemoveAll(filepath.Join(top, "shared")); err != nil {
		t.Fatal(err)
	}
	if got, err := testdata.Find("", deep); err == nil {
		// Only possible where a parent of the temporary folder holds data.
		if rel, _ := filepath.Rel(top, got); !filepath.IsAbs(got) || rel == "." {
			t.Fatalf("find: got %q, want an error", got)
		}
	}
}

func TestDirFollowsTheVariable(t *testing.T) {
	root := t.TempDir()
	want := filepath.Join(root, "kodak")
	if err := os.Mkdir(want, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(testdata.EnvVar, root)
	if got := testdata.Dir(t, "kodak"); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}
