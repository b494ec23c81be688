// Package weights holds the trained networks compiled into the binary, each with
// its model card. Their names persist from release to release.
package weights

import (
	"embed"
	"fmt"
	"io/fs"
	"sort"
	"strings"
)

//go:embed files
var files embed.FS

const suffix = ".safetensors"

// Names returns the names of the embedded networks, sorted.
func Names() []string {
	var names []string
	entries, err := fs.ReadDir(files, "files")
	if err != nil {
		panic(err) // embedded at build time
	}
	for _, e := range entries {
		if n, ok := strings.CutSuffix(e.Name(), suffix); ok {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return names
}

// Open returns the weight file (safetensors) of the embedded network called name.
func Open(name string) ([]byte, error) { return read(name, suffix) }

// Card returns the model card (Markdown) of the embedded network called name:
// data, licence, command and figures.
func Card(name string) ([]byte, error) { return read(name, ".md") }

func read(name, suffix string) ([]byte, error) {
	b, err := files.ReadFile("files/" + name + suffix)
	if err != nil {
		return nil, fmt.Errorf("no embedded network %q; there is %s", name, strings.Join(Names(), ", "))
	}
	return b, nil
}
