package main

import (
	"fmt"
	"sort"
	"strings"
)

// ranks gives each package below pkg/ its height. A package imports only
// packages of a smaller rank, or other packages of its own room (pkg/model may
// import pkg/model/weights). Rooms of equal rank do not know each other.
//
// The spine is kernel < graph < op < nn < model < task < {train, infer,
// explain} < cmd. The other rooms hang beside it at the height of what they
// need.
var ranks = map[string]int{
	"kernel":     0,
	"imageio":    0,
	"checkpoint": 0,
	"optim":      1,
	"graph":      1,
	"metric":     1,
	"op":         2,
	"baseline":   2,
	"data":       2,
	"nn":         3,
	"model":      4,
	"config":     5,
	"task":       6,
	"train":      7,
	"infer":      7,
	"explain":    7,
}

// autodiff lists the rooms that may import Gorgonia and its tensors.
var autodiff = map[string]bool{
	"op": true, "nn": true, "model": true, "task": true,
	"train": true, "infer": true, "explain": true,
}

// pkgInfo is what the rules need to know of a package, as `go list -json` has it.
type pkgInfo struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// room returns the name under pkg/ a package of the module belongs to: "model"
// for pkg/model/weights, "internal" for pkg/internal/..., "cmd" and "scripts"
// for those trees, "" for what is not ours.
func room(module, path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	parts := strings.Split(rest, "/")
	if parts[0] == "pkg" && len(parts) > 1 {
		return parts[1]
	}
	return parts[0]
}

// gorgonia reports whether path is the autodiff library or one of its parts.
func gorgonia(path string) bool {
	return strings.HasPrefix(path, "gorgonia.org/")
}

// violations returns one line for each broken rule, sorted.
func violations(module string, pkgs []pkgInfo) []string {
	var bad []string
	add := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }

	for _, p := range pkgs {
		from := room(module, p.ImportPath)
		rank, ranked := ranks[from]
		switch {
		case ranked, from == "internal", from == "cmd", from == "scripts", from == "examples":
		default:
			add("%s: room %q has no place in the import rules (scripts/check-imports/rules.go)", p.ImportPath, from)
			continue
		}
		for _, imp := range p.Imports {
			if gorgonia(imp) && !autodiff[from] {
				add("%s imports %s: Gorgonia belongs in op, nn, model, task, train, infer and explain only", p.ImportPath, imp)
			}
			to := room(module, imp)
			switch {
			case to == "" || to == from:
			case to == "cmd" || to == "scripts" || to == "examples":
				add("%s imports %s: nothing imports commands", p.ImportPath, imp)
			case to == "internal":
				add("%s imports %s: helpers of tests belong to tests", p.ImportPath, imp)
			case ranked && ranks[to] >= rank:
				add("%s imports %s: imports go downward only, and %s (rank %d) is not below %s (rank %d)",
					p.ImportPath, imp, to, ranks[to], from, rank)
			}
		}
		// Tests may look at any room of their module, but not bring Gorgonia
		// to a room that does without.
		for _, imp := range append(append([]string(nil), p.TestImports...), p.XTestImports...) {
			if gorgonia(imp) && !autodiff[from] {
				add("tests of %s import %s: Gorgonia belongs in op, nn, model, task, train, infer and explain only", p.ImportPath, imp)
			}
		}
	}
	sort.Strings(bad)
	out := bad[:0]
	for i, b := range bad {
		if i == 0 || b != bad[i-1] {
			out = append(out, b)
		}
	}
	return out
}
