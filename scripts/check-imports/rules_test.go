package main

import (
	"strings"
	"testing"
)

const mod = "example.org/m"

func TestViolations(t *testing.T) {
	p := func(path string, imports ...string) pkgInfo {
		return pkgInfo{ImportPath: mod + "/" + path, Imports: imports}
	}
	test := func(path string, imports ...string) pkgInfo {
		return pkgInfo{ImportPath: mod + "/" + path, XTestImports: imports}
	}
	cases := []struct {
		name string
		pkg  pkgInfo
		want string // part of the one expected line; "" for none
	}{
		{"down the spine", p("pkg/op", mod+"/pkg/graph", mod+"/pkg/kernel", "gorgonia.org/tensor"), ""},
		{"up the spine", p("pkg/graph", mod+"/pkg/op"), "imports go downward only"},
		{"skipping upward", p("pkg/kernel", mod+"/pkg/train"), "imports go downward only"},
		{"siblings", p("pkg/train", mod+"/pkg/infer"), "imports go downward only"},
		{"own room", p("pkg/model", mod+"/pkg/model/weights"), ""},
		{"own room upward", p("pkg/model/weights", mod+"/pkg/model"), ""},
		{"gorgonia in its rooms", p("pkg/nn", "gorgonia.org/gorgonia"), ""},
		{"gorgonia in a command", p("cmd/unrollnet", "gorgonia.org/gorgonia"), "Gorgonia belongs"},
		{"gorgonia beside", p("pkg/optim", "gorgonia.org/tensor"), "Gorgonia belongs"},
		{"gorgonia in a test", test("pkg/kernel", "gorgonia.org/gorgonia"), "tests of"},
		{"tests look sideways", test("pkg/metric", mod+"/pkg/baseline", mod+"/pkg/internal/testdata"), ""},
		{"importing a command", p("pkg/task", mod+"/cmd/unrollnet"), "nothing imports commands"},
		{"test helper in code", p("pkg/data", mod+"/pkg/internal/testdata"), "belong to tests"},
		{"unknown room", p("pkg/misc"), "no place in the import rules"},
		{"commands see all", p("cmd/unrollnet", mod+"/pkg/train", mod+"/pkg/kernel"), ""},
		{"other modules", p("pkg/kernel", "golang.org/x/sys/cpu", "fmt"), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := violations(mod, []pkgInfo{c.pkg})
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("found %q, expected nothing", got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
				t.Errorf("found %q, expected one line with %q", got, c.want)
			}
		})
	}
}

func TestViolationsListsEachOnce(t *testing.T) {
	bad := pkgInfo{ImportPath: mod + "/pkg/graph", Imports: []string{mod + "/pkg/op"}}
	if got := violations(mod, []pkgInfo{bad, bad}); len(got) != 1 {
		t.Errorf("found %q, expected the line once", got)
	}
}

func TestDecode(t *testing.T) {
	pkgs, err := decode(strings.NewReader(`{"ImportPath":"a","Imports":["b"]}` + "\n" + `{"ImportPath":"c"}`))
	if err != nil || len(pkgs) != 2 || pkgs[0].Imports[0] != "b" || pkgs[1].ImportPath != "c" {
		t.Errorf("found %v, %v", pkgs, err)
	}
	if _, err := decode(strings.NewReader(`{"ImportPath":`)); err == nil {
		t.Error("cut-off input: found no error")
	}
}
