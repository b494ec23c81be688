package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/scripts/internal/lab"
)

func all() *settings {
	return &settings{configs: filepath.Join("..", "..", "configs", "plat"), tasks: taskNames(), forms: formNames(), seeds: []uint64{1, 2, 3}}
}

// TestExperimentsDifferInAttentionAlone holds configs/plat to what this program
// writes, and the experiments of a task to one another.
func TestExperimentsDifferInAttentionAlone(t *testing.T) {
	first := map[string]config.Experiment{}
	jobs := all().jobs()
	for _, j := range jobs {
		want, err := j.experiment()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(j.path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from what \"go run ./scripts/plat configs\" writes (%v)", j.path, err)
		}
		e, err := config.Load(j.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		e.Name = ""
		p := &e.Model.Plat
		p.P, p.PLearned, p.Diagonal, p.Eps, p.EpsRelative, p.Fidelity, p.Mu = nil, nil, "", 0, nil, "", 0
		if f, ok := first[j.task.name]; !ok {
			first[j.task.name] = e
		} else if !reflect.DeepEqual(e, f) {
			t.Errorf("%s differs from %s-%s in more than attention", j.id(), j.task.name, forms[0].name)
		}
	}
	files, err := filepath.Glob(filepath.Join(all().configs, "*.yaml"))
	if err != nil || len(files) != len(jobs) {
		t.Errorf("found %d files in configs/plat (%v), expected %d", len(files), err, len(jobs))
	}
}

func TestCurve(t *testing.T) {
	text := "step,examples,figure,value,best\n5,100,top1,0.5,true\n5,100,loss,1.25,true\n10,100,top1,0.75,true\n"
	got, err := curve([]byte(text), "top1")
	if want := []point{{5, .5}, {10, .75}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("found %v (%v), expected %v", got, err, want)
	}
	for _, bad := range []string{"", "a,b\n", "step,examples,figure,value,best\n5,1,loss,1,true\n", "step,examples,figure,value,best\nx,1,top1,1,true\n", "step,examples,figure,value,best\n1,\"\n"} {
		if _, err := curve([]byte(bad), "top1"); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseEval(t *testing.T) {
	f, err := parseEval([]byte(`{"images":20,"top1":0.75,"top5":1,"loss":0.5}`), true)
	if err != nil || f.Examples != 20 || !reflect.DeepEqual(f.Values, map[string]float64{"top1": .75, "top5": 1, "loss": .5}) {
		t.Errorf("found %+v (%v)", f, err)
	}
	f, err = parseEval([]byte(`{"symbols":64,"nats":2.5,"bits":3.6}`), false)
	if err != nil || f.Examples != 64 || f.Values["nats"] != 2.5 {
		t.Errorf("found %+v (%v)", f, err)
	}
	for _, bad := range []string{`{`, `{"images":20,"top1":null,"top5":1,"loss":0.5}`, `{"top1":1,"top5":1,"loss":0}`} {
		if _, err := parseEval([]byte(bad), true); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestParseAttention(t *testing.T) {
	d, err := parseAttention([]byte(`{"diagnostics":{"inputs":4,"embedding_cosine":0.1,"layers":[
		{"cosine":0.5,"heads":[{"p":1.5,"self_weight":0.25,"entropy":2},{"p":2.5,"self_weight":0.75,"entropy":3}]}]}}`))
	want := []layer{{Cosine: .1}, {Cosine: .5, Self: []float64{.25, .75}, Entropy: []float64{2, 3}, P: []float64{1.5, 2.5}}}
	if err != nil || d.Examples != 4 || !reflect.DeepEqual(d.Layers, want) {
		t.Errorf("found %+v (%v), expected %+v", d, err, want)
	}
	for _, bad := range []string{`{`, `{}`, `{"diagnostics":{"layers":[]}}`} {
		if _, err := parseAttention([]byte(bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestCompare(t *testing.T) {
	of := func(v ...float64) map[uint64]float64 {
		m := map[uint64]float64{}
		for i, x := range v {
			m[uint64(i+1)] = x
		}
		return m
	}
	for _, c := range []struct {
		a, b map[uint64]float64
		want string
	}{
		{of(5, 5.1, 5.2), of(4, 4.2, 4.1), higher},
		{of(4, 4.1, 4.2), of(5, 5.1, 5.2), lower},
		{of(5, 7, 6), of(4.5, 6.4, 5.6), higher},    // seeds differ by more than forms do
		{of(5, 5.1, 6.9), of(4, 4.1, 4.2), leaning}, // differences spread wider than their mean
		{of(4.1, 5, 5), of(4, 4.9, 5.1), within},    // of both signs
		{of(4, 5, 6), of(4, 5, 6), within},
		{of(5, 5), of(4, 4, 4), few},
		{map[uint64]float64{9: 5}, of(4, 4, 4), unknown},
		{nil, of(4), unknown},
	} {
		if got, _ := compare(c.a, c.b); got != c.want {
			t.Errorf("%v against %v: found %q, expected %q", c.a, c.b, got, c.want)
		}
	}
	if _, d := compare(map[uint64]float64{3: 1, 1: 5}, of(4, 4, 4)); !slices.Equal(d, []float64{1, -3}) {
		t.Errorf("found differences %v, expected those of the seeds 1 and 3", d)
	}
}

// TestReport renders figures made up for the test: the page holds them, and says
// better and worse the right way round for shares and for nats.
func TestReport(t *testing.T) {
	var r results
	for _, task := range []string{"lm", "cifar10"} {
		for k, form := range []string{"softmax", "p2.5"} {
			for seed := range 3 {
				v := .5 + .1*float64(k) + .001*float64(seed)
				r.Trainings = append(r.Trainings, training{Task: task, Form: form, Seed: uint64(seed + 1), Steps: 10, Batch: 2, Params: 1234, CPU: 1, Curve: []point{{5, v}, {10, v}}})
				for _, c := range []string{"clean", "noise50"} {
					x := v
					if c == "noise50" {
						x = v - .3 + .05*float64(k)
					}
					if c == "clean" || task == "cifar10" {
						r.Figures = append(r.Figures, figure{Task: task, Form: form, Seed: uint64(seed + 1), Condition: c, Examples: 2000, Values: map[string]float64{taskOf(task).figure: x}})
					}
				}
				r.Attention = append(r.Attention, diagnosis{Task: task, Form: form, Seed: uint64(seed + 1), Examples: 4,
					Layers: []layer{{Cosine: .1}, {Cosine: .4 - .1*float64(k), Self: []float64{.2, .3}, Entropy: []float64{1, 2}}}})
			}
		}
	}
	files, err := render(r, "plat")
	if err != nil {
		t.Fatal(err)
	}
	text := string(files["plat.md"])
	for _, want := range []string{
		"50.10", "60.10", "+10.00", "0.100", "+0.100", "Characters of Go's standard library: **worse** (+0.100)", "10,000 training images: **better** (+10.00)",
		"0.100 0.400", "0.250", "1.50", "2,000 test images", "35.10 (+15.00*)", "loses less at σ = 50 (by 5.0 points)", "p = 2.5: less alike (-0.100), self weight 0.250", "2 of 2",
		"beyond the seeds: p = 2.5 at CIFAR-10, 10,000 training images. Better with every seed, though not by more than they spread: nowhere.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for name, b := range files {
		if !strings.HasSuffix(name, ".svg") {
			continue
		}
		for d := xml.NewDecoder(bytes.NewReader(b)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
		}
	}
}

// TestPublishedReport holds docs/plat.md and its charts to what the data and the
// templates give; UNROLLNET_UPDATE=1 writes them.
func TestPublishedReport(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	b, err := os.ReadFile(filepath.Join(docs, "plat.json"))
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
	files, err := render(r, "plat")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		path := filepath.Join(docs, name)
		if os.Getenv("UNROLLNET_UPDATE") != "" {
			if err := lab.WriteFile(path, want); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from what plat.json gives (%v)", path, err)
		}
	}
}
