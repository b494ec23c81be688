package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/config"

	"github.com/unrollnet/unrollnet/scripts/internal/lab"
	"github.com/unrollnet/unrollnet/scripts/internal/page"
)

func TestPlanFollowsTheBudget(t *testing.T) {
	if n := steps(30, 0.45); n != 4000 {
		t.Errorf("30 minutes of 0.45 s: %d steps, expected 4000", n)
	}
	if n := steps(0.01, 60); n != 20 {
		t.Errorf("a budget below one step: %d steps, expected the least, 20", n)
	}
	for _, n := range []int{20, 100, 1000, 4000, 100000} {
		e, err := config.Load("../../configs/compare/demosaic-uglr.yaml", plan(n))
		if err != nil {
			t.Fatalf("%d steps: %v", n, err)
		}
		if e.Train.Steps != n || e.Schedule.Warmup < 1 || e.Schedule.Warmup*20 > max(n, 20) || e.Eval.Every*13 < n {
			t.Errorf("%d steps: warm-up %d, validation every %d", n, e.Schedule.Warmup, e.Eval.Every)
		}
		if window := 1 / (1 - e.Train.EMA); window > max(float64(n)/19, 3) || window > 1001 {
			t.Errorf("%d steps: the average looks back over %.0f", n, window)
		}
	}
}

// TestExperimentsAreAlike holds the files of configs/compare to differing in
// nothing but the network, its learning rate, its name and, between tasks, in how
// samples are taken.
func TestExperimentsAreAlike(t *testing.T) {
	for _, c := range comparisons {
		var first config.Experiment
		for _, n := range networks {
			e, err := config.Load(filepath.Join("../../configs/compare", configName(c.name, n.name)+".yaml"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if e.Model.Type != n.typ || e.Model.Preset != n.preset || e.Schedule.LR != n.lr {
				t.Errorf("%s: found %s, preset %s, learning rate %g, expected %+v", e.Name, e.Model.Type, e.Model.Preset, e.Schedule.LR, n)
			}
			e.Name, e.Schedule.LR, e.Model = "", 0, first.Model
			if n == networks[0] {
				first = e
			}
			if !reflect.DeepEqual(e, first) {
				t.Errorf("%s-%s differs from %s-%s:\n%+v\n%+v", c.name, n.name, c.name, networks[0].name, e, first)
			}
		}
	}
}

func TestCurve(t *testing.T) {
	text := "step,images,protocol,psnr,ssim,best\n10,12,cpsnr-b10,31.5,,true\n10,12,rgb,31,0.9,true\n20,12,cpsnr-b10,33.5,,true\n20,12,rgb,33,0.9,true\n"
	p, n, got, err := curve([]byte(text), 0.5)
	if want := []point{{10, 5, 31}, {20, 10, 33}}; err != nil || p != "rgb" || n != 12 || !slices.Equal(got, want) {
		t.Errorf("found %s %v (%v), expected rgb %v", p, got, err, want)
	}
	p, _, got, err = curve([]byte("step,images,protocol,psnr,ssim,best\n4,1,y,30.25,0.9,true\n"), 1)
	if err != nil || p != "y" || len(got) != 1 || got[0].PSNR != 30.25 {
		t.Errorf("found %s %v (%v)", p, got, err)
	}
	for _, bad := range []string{"", "step,images,protocol,psnr,ssim,best\n", "a,b,c,d\n1,2,y,3\n", "step,images,protocol,psnr,ssim,best\nx,1,y,3,,true\n"} {
		if _, _, _, err := curve([]byte(bad), 1); err == nil {
			t.Errorf("%q gave a curve", bad)
		}
	}
}

func TestParseEval(t *testing.T) {
	line := `{"model":"m","task":"scale","images":2,"params":7,"psnr":{"y":30.5},"ssim":{"y":0.9},"seconds":1,"peak_bytes":100,
		"per_image":[{"width":1000,"height":500,"psnr":{"y":30},"cpu_seconds":2},{"width":100,"height":100,"psnr":{"y":null},"cpu_seconds":0.03}]}`
	m, err := parseEval([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if m.Images != 2 || m.Params != 7 || *m.PSNR["y"] != 30.5 || m.Peak != 100 || math.Abs(m.CPUPerMpx-3) > 1e-12 || m.PerImage[1]["y"] != nil {
		t.Errorf("found %+v, expected 3 CPU s/Mpx and the rest as given", m)
	}
	for _, bad := range []string{"", "{}", `{"images":2,"per_image":[]}`} {
		if _, err := parseEval([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a measurement", bad)
		}
	}
}

func num(v float64) *float64 { return &v }

func TestFiguresTakeTheCleanSubset(t *testing.T) {
	all := []measurement{
		{Label: "uglr", Kind: "trained", Task: "x2", Seed: 1, Condition: "x2-kodak", Images: 3, PSNR: map[string]*float64{"y": num(32)},
			PerImage: []map[string]*float64{{"y": num(30)}, {"y": num(31)}, {"y": num(35)}}},
		{Label: "uglr", Kind: "trained", Task: "x2", Seed: 1, Condition: "x2-noise10", Images: 2, PSNR: map[string]*float64{"y": num(28)}},
		{Label: "uglr", Kind: "trained", Task: "x2", Seed: 2, Condition: "x2-kodak", Images: 3, PSNR: map[string]*float64{"y": num(33)},
			PerImage: []map[string]*float64{{"y": num(33)}, {"y": num(33)}, {"y": num(33)}}},
		{Label: "bicubic", Kind: "classical", Task: "x2", Condition: "x2-kodak", Images: 1, PSNR: map[string]*float64{"y": nil}, PerImage: []map[string]*float64{{"y": nil}}},
	}
	r := results{Figures: figures(all)}
	c, ok := r.cell("uglr", "x2-clean", "y")
	if !ok || len(c.values) != 1 || c.values[0] != 30.5 || c.images != 2 {
		t.Errorf("clean subset: found %+v, expected 30.5 over the two images measured with noise", c)
	}
	if c, _ := r.cell("uglr", "x2-kodak", "y"); !slices.Equal(c.values, []float64{32, 33}) || c.mean() != 32.5 {
		t.Errorf("two seeds: found %+v", c)
	}
	if _, ok := r.cell("bicubic", "x2-kodak", "y"); ok {
		t.Error("an infinite PSNR became a figure")
	}
}

// of makes the figures of a restorer in one condition.
func of(label, kind string, values ...float64) []figure {
	var out []figure
	for i, v := range values {
		out = append(out, figure{Label: label, Kind: kind, Task: "demosaic", Seed: uint64(i + 1), Condition: "c", Images: 24, PSNR: map[string]float64{"rgb": v}})
	}
	return out
}

func TestDifferencesUnderTwoTenthsNeedTwoSeeds(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []figure
		want string
	}{
		{"clear", of("a", "trained", 39.5), of("b", "trained", 39.2), above},
		{"clear, below", of("a", "trained", 38.5), of("b", "trained", 39.2), below},
		{"small, one seed", of("a", "trained", 39.3), of("b", "trained", 39.2), level},
		{"small, one seed on a side", of("a", "trained", 39.3, 39.31), of("b", "trained", 39.2), level},
		{"small, seeds agree", of("a", "trained", 39.3, 39.31), of("b", "trained", 39.2, 39.25), above},
		{"small, seeds agree, below", of("b", "trained", 39.2, 39.25), of("a", "trained", 39.3, 39.31), below},
		{"small, seeds overlap", of("a", "trained", 39.3, 39.2), of("b", "trained", 39.25, 39.1), level},
		{"small, classical has no seed", of("a", "trained", 39.3, 39.31), of("b", "classical", 39.2), above},
		{"absent", of("a", "trained", 39.3), nil, unknown},
	} {
		r := results{Figures: append(c.a, c.b...)}
		names := [2]string{"a", "b"}
		if c.a[0].Label == "b" {
			names = [2]string{"b", "a"}
		}
		if got, d := r.compare(names[0], names[1], "c", "rgb"); got != c.want {
			t.Errorf("%s: found %q (%+.2f dB), expected %q", c.name, got, d, c.want)
		}
	}
}

// fixture is a report's data with two networks and all tables but the x3 one.
func fixture(t *testing.T) results {
	t.Helper()
	b, err := os.ReadFile("testdata/results.json")
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReport holds the page of a fixture to testdata/results.md; with
// UNROLLNET_UPDATE=1 it writes that file instead.
func TestReport(t *testing.T) {
	files, err := render(fixture(t), "results")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Fatalf("found %d files, expected a page and two charts", len(files))
	}
	got := files["results.md"]
	if os.Getenv("UNROLLNET_UPDATE") != "" {
		if err := os.WriteFile("testdata/results.md", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/results.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the page differs from testdata/results.md (UNROLLNET_UPDATE=1 writes it):\n%s", firstDifference(got, want))
	}
	again, err := render(fixture(t), "results")
	if err != nil || !reflect.DeepEqual(files, again) {
		t.Errorf("the same data gave another report (%v)", err)
	}
	for _, s := range []string{
		"| **uglr** |", "%!", "NaN", "<no value>", "Inf",
	} {
		if bytes.Contains(got, []byte(s)) {
			t.Errorf("the page holds %q", s)
		}
	}
}

func firstDifference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			at := func(l []string) string {
				if i < len(l) {
					return l[i]
				}
				return "(end)"
			}
			return fmt.Sprintf("line %d: %q\nexpected %q", i+1, at(x), at(y))
		}
	}
	return "equal"
}

// TestPublishedReport holds docs/results.md and its charts to docs/results.json.
func TestPublishedReport(t *testing.T) {
	b, err := os.ReadFile("../../docs/results.json")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no results published")
	}
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	files, err := render(r, "results")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		got, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, text) {
			t.Errorf("docs/%s is not what \"go run ./scripts/compare report\" writes from docs/results.json:\n%s", name, firstDifference(got, text))
		}
	}
}

// TestChartsAreXML reads every chart as XML, and looks for each restorer's mark.
func TestChartsAreXML(t *testing.T) {
	r := fixture(t)
	for _, svg := range [][]byte{qualityChart(r), trainingChart(r), page.Draw(nil)} {
		d := xml.NewDecoder(bytes.NewReader(svg))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in\n%s", err, svg)
			}
		}
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("a coordinate is not finite:\n%s", svg)
		}
	}
	svg := string(qualityChart(r))
	for _, c := range r.cells("demosaic-kodak", "rgb") {
		if !strings.Contains(svg, ">"+c.label+"</text>") {
			t.Errorf("the chart does not name %s", c.label)
		}
	}
	if n := strings.Count(string(trainingChart(r)), `stroke-width="2"`); n != len(r.Trainings) {
		t.Errorf("%d curves, expected one for each of %d trainings", n, len(r.Trainings))
	}
}

func TestFlags(t *testing.T) {
	for _, bad := range [][]string{
		{}, {"paint"}, {"-tasks", "deblur", "train"}, {"-models", "unet", "train"}, {"-budget", "demosaic", "train"}, {"-budget", "demosaic=-1", "train"},
		{"-seeds", "", "train"}, {"-seeds", "x", "train"}, {"-rates", "0", "train"}, {"-j", "0", "train"}, {"-weights", "=x", "report"}, {"-search-share", "0", "search"},
	} {
		s := &settings{Lab: lab.Lab{Stderr: io.Discard, Stdout: io.Discard}}
		if _, err := s.parse(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	s := &settings{Lab: lab.Lab{Stderr: io.Discard, Stdout: io.Discard}}
	asked, err := s.parse([]string{"-budget", "x2=1.5", "-seeds", "1,2", "-weights", "ours=a/b.safetensors", "-weights", "uglr-x2", "train", "report"})
	if err != nil || !slices.Equal(asked, []string{"train", "report"}) || s.budget["x2"] != 1.5 || !slices.Equal(s.seeds, []uint64{1, 2}) ||
		!slices.Equal(s.given, []given{{"ours", "a/b.safetensors"}, {"uglr-x2", "uglr-x2"}}) {
		t.Errorf("found %+v, %v (%v)", s, asked, err)
	}
}

// TestConditionsAreDistinct: each is a folder of measurements, and each that a
// table shows is measured.
func TestConditionsAreDistinct(t *testing.T) {
	ids := map[string]bool{}
	for _, c := range conditions() {
		if ids[c.id] || lab.FileName(c.id) != c.id {
			t.Errorf("condition %q is there twice or cannot name a folder", c.id)
		}
		ids[c.id] = true
	}
	for _, task := range taskNames() {
		main, _, _ := mainConditions(task)
		for _, what := range []string{"noise", "pattern", "density", "x3"} {
			more, _, _ := robustColumns(what, task)
			main = append(main, more...)
		}
		for _, id := range main {
			if !ids[id] && !strings.HasSuffix(id, "-clean") {
				t.Errorf("a table shows condition %q, which nothing measures", id)
			}
		}
	}
	for _, id := range mainKodak {
		if !ids[id] {
			t.Errorf("condition %q is not measured", id)
		}
	}
}
