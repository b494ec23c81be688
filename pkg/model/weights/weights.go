// Package weights holds the trained networks compiled into the binary, each with
// its model card. Their names persist from release to release.
package weights

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"sort"
	"strings"
	"sync"
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

// Info is what is known of an embedded network beside its weights.
type Info struct {
	// DefaultFor is what the network is the best for that is embedded, its time
	// considered: demosaic, fill or x2; empty where another is better.
	DefaultFor string `json:"default_for"`
	// ExplainFor is what the network is the best for of those that can be explained,
	// where that is not the default.
	ExplainFor string `json:"explain_for,omitempty"`
	// Figures are measured on whole images by `unrollnet eval`; the card says how.
	Figures []Figure `json:"figures"`
}

// Figure is a mean PSNR in dB over the images of a set.
type Figure struct {
	Set      string  `json:"set"`
	Protocol string  `json:"protocol"`
	PSNR     float64 `json:"psnr"`
}

var index = sync.OnceValue(func() map[string]Info {
	b, err := files.ReadFile("files/index.json")
	if err != nil {
		panic(err) // embedded at build time
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var m map[string]Info
	if err := dec.Decode(&m); err != nil {
		panic(fmt.Sprintf("weights: files/index.json: %v", err)) // a test reads it
	}
	return m
})

// About returns what is known of the embedded network called name; the zero Info
// for an unknown one.
func About(name string) Info { return index()[name] }

// Default returns the name of the embedded network to take for a purpose
// (demosaic, fill, x2), or "" where there is none.
func Default(purpose string) string {
	for _, name := range Names() {
		if About(name).DefaultFor == purpose {
			return name
		}
	}
	return ""
}

// DefaultExplained is Default among the networks that can be explained: those
// unrolled from a graph problem.
func DefaultExplained(purpose string) string {
	for _, name := range Names() {
		if About(name).ExplainFor == purpose {
			return name
		}
	}
	return Default(purpose)
}

func read(name, suffix string) ([]byte, error) {
	b, err := files.ReadFile("files/" + name + suffix)
	if err != nil {
		return nil, fmt.Errorf("no embedded network %q; there is %s", name, strings.Join(Names(), ", "))
	}
	return b, nil
}
