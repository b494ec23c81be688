// Package testdata finds the real image sets that measurements use. The sets
// are not part of the repository, so a test that wants them skips where they
// are absent.
package testdata

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// EnvVar names the environment variable that points at the folder holding the
// sets (kodak, mcm, set5, set14, train_cid22, mnist, ...).
const EnvVar = "UNROLLNET_DATA"

// Dir returns the folder sub below the real data. The data is the folder named
// by UNROLLNET_DATA, else the first `shared/data` found beside the repository
// root (the folder of go.mod) or beside one of its parents. Where there is none
// the test is skipped with the reason; a variable that is set but names no
// folder fails the test, since somebody meant it.
func Dir(t testing.TB, sub ...string) string {
	t.Helper()
	start, err := os.Getwd()
	if err != nil {
		t.Skipf("real data: no working directory: %v", err)
	}
	root, err := Find(os.Getenv(EnvVar), start)
	if err != nil {
		if os.Getenv(EnvVar) != "" {
			t.Fatalf("real data: %v", err)
		}
		t.Skipf("real data: %v", err)
	}
	dir := filepath.Join(append([]string{root}, sub...)...)
	if !isDir(dir) {
		t.Skipf("real data: %s is absent", dir)
	}
	return dir
}

// Images returns the paths of the PNG files directly in Dir(t, sub...), sorted
// by name, and skips the test where there are none.
func Images(t testing.TB, sub ...string) []string {
	t.Helper()
	dir := Dir(t, sub...)
	paths, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil {
		t.Fatalf("real data: %v", err)
	}
	if len(paths) == 0 {
		t.Skipf("real data: no PNG files in %s", dir)
	}
	sort.Strings(paths)
	return paths
}

// Find looks for the data folder: env if it is not empty, else `shared/data`
// in the parents of the module that holds start.
func Find(env, start string) (string, error) {
	if env != "" {
		if !isDir(env) {
			return "", fmt.Errorf("%s=%s is not a folder", EnvVar, env)
		}
		return env, nil
	}
	dir := start
	for !isFile(filepath.Join(dir, "go.mod")) {
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above %s", start)
		}
		dir = up
	}
	// The module's own folder is tried too: a checkout may keep the (ignored)
	// data inside itself.
	var tried []string
	for {
		cand := filepath.Join(dir, "shared", "data")
		if isDir(cand) {
			return cand, nil
		}
		tried = append(tried, cand)
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("%s is not set and none of %s exists", EnvVar, strings.Join(tried, ", "))
		}
		dir = up
	}
}

func isDir(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.IsDir()
}

func isFile(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.Mode().IsRegular()
}
