// Command check-imports enforces the import rules of the repository: packages
// import downward only, and the autodiff library stays in the rooms made for
// it. It reads `go list -json` for two architectures, so that files behind
// build constraints are seen too, prints one line for each broken rule and
// exits 1 if there is any.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	module, err := goTool(nil, "list", "-m")
	if err != nil {
		fail(err)
	}
	var all []pkgInfo
	for _, arch := range []string{"amd64", "arm64"} {
		out, err := goTool([]string{"GOOS=linux", "GOARCH=" + arch},
			"list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
		if err != nil {
			fail(err)
		}
		pkgs, err := decode(bytes.NewReader(out))
		if err != nil {
			fail(err)
		}
		all = append(all, pkgs...)
	}
	bad := violations(strings.TrimSpace(string(module)), all)
	for _, line := range bad {
		fmt.Println(line)
	}
	if len(bad) > 0 {
		os.Exit(1)
	}
}

// decode reads the concatenated objects `go list -json` prints.
func decode(r io.Reader) ([]pkgInfo, error) {
	var pkgs []pkgInfo
	dec := json.NewDecoder(r)
	for {
		var p pkgInfo
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		pkgs = append(pkgs, p)
	}
}

// goTool runs the go command with env added to the environment.
func goTool(env []string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "check-imports:", err)
	os.Exit(1)
}
