package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/unrollnet/unrollnet/pkg/model"
)

func mustParse(t *testing.T, text string, sets ...string) Experiment {
	t.Helper()
	e, err := Parse("x.yaml", []byte(text), sets)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	want := Default()
	var err error
	if want.Model, err = want.Model.Resolved(); err != nil {
		t.Fatal(err)
	}
	if want.Data.Degradation, err = want.Data.Degradation.Resolved(); err != nil {
		t.Fatal(err)
	}
	want.Eval.Protocols = []string{"rgb", "cpsnr-b10"}
	for _, text := range []string{"", "# nothing\n", "---\n", "{}\n"} {
		if d := cmp.Diff(want, mustParse(t, text)); d != "" {
			t.Errorf("%q: %s", text, d)
		}
	}
}

// TestMergeOrder checks defaults < file < environment < --set.
func TestMergeOrder(t *testing.T) {
	t.Setenv("UNROLLNET_SCHEDULE_WARMUP", "0")
	const key = "train.steps"
	if e := mustParse(t, ""); e.Train.Steps != Default().Train.Steps {
		t.Errorf("default: found %d", e.Train.Steps)
	}
	const file = "train: {steps: 10}\n"
	if e := mustParse(t, file); e.Train.Steps != 10 {
		t.Errorf("file: found %d", e.Train.Steps)
	}
	t.Setenv("UNROLLNET_TRAIN_STEPS", "20")
	if e := mustParse(t, file); e.Train.Steps != 20 {
		t.Errorf("environment over file: found %d", e.Train.Steps)
	}
	if e := mustParse(t, file, key+"=30"); e.Train.Steps != 30 {
		t.Errorf("--set over environment: found %d", e.Train.Steps)
	}
	if e := mustParse(t, file, key+"=30", key+"=40"); e.Train.Steps != 40 {
		t.Errorf("last --set: found %d", e.Train.Steps)
	}
}

func TestOverridesOfEveryKind(t *testing.T) {
	t.Setenv("UNROLLNET_DATA_AUGMENT", "false")
	t.Setenv("UNROLLNET_MODEL_FEATURES_LAYERS", "3")
	t.Setenv("UNROLLNET_SCHEDULE_LR", "") // as good as unset
	e := mustParse(t, "data: {augment: true}",
		"optim.lr=3e-4", "name=007", "eval.protocols=[rgb, cpsnr-b10]",
		"schedule.milestones=[5, 9]", "model.slope=false", "model.window=0", "model.offsets=[[0, 1], [1, 0]]", "data.val=")
	if e.Data.Augment || e.Model.Features.Layers != 3 {
		t.Errorf("environment: found augment %v, layers %d", e.Data.Augment, e.Model.Features.Layers)
	}
	if e.Schedule.LR != 3e-4 || e.Name != "007" || e.Data.Val != "" || *e.Model.Slope {
		t.Errorf("sets: found %+v", e)
	}
	if d := cmp.Diff([]string{"rgb", "cpsnr-b10"}, e.Eval.Protocols); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]int{5, 9}, e.Schedule.Milestones); d != "" {
		t.Error(d)
	}
	if len(e.Model.Offsets) != 2 || e.Model.Offsets[1] != [2]int{1, 0} {
		t.Errorf("offsets: found %v", e.Model.Offsets)
	}
}

// TestErrors holds each message to its place, the key, what was found and what
// was expected.
func TestErrors(t *testing.T) {
	cases := []struct {
		name, text string
		sets       []string
		want       []string
	}{
		{"unknown key", "seed: 1\ntrain:\n  stesp: 5\n", nil, []string{"x.yaml:3: train.stesp: unknown key (did you mean train.steps?)"}},
		{"unknown section", "seed: 1\nmodle: {}\n", nil, []string{"x.yaml:2: modle: unknown key (did you mean model?)"}},
		{"key of another section", "optim: {warmup: 5}\n", nil, []string{"x.yaml:1: optim.warmup", "did you mean schedule.warmup?"}},
		{"far from every key", "train: {zzzzqqqq: 1}\n", nil, []string{"train.zzzzqqqq: unknown key, expected one of steps, batch"}},
		{"repeated key", "train:\n  steps: 5\n  steps: 6\n", nil, []string{"x.yaml:3: train.steps: found a second time", "line 2"}},
		{"repeated section", "train: {steps: 5}\nseed: 2\ntrain: {batch: 8}\n", nil, []string{"x.yaml:3: train: found a second time"}},
		{"two names of one key", "optim: {lr: 1e-3}\nschedule: {lr: 1e-3}\n", nil, []string{"x.yaml:2: schedule.lr: found a second time under another name"}},
		{"word for number", "train: {steps: many}\n", nil, []string{`x.yaml:1: train.steps: found "many", expected a whole number`}},
		{"fraction for number", "train: {steps: 1.5}\n", nil, []string{`found "1.5", expected a whole number`}},
		{"overflow", "train: {steps: 99999999999999999999}\n", nil, []string{"train.steps", "expected a whole number"}},
		{"negative seed", "seed: -1\n", nil, []string{`x.yaml:1: seed: found "-1", expected a whole number, not negative`}},
		{"yes for true", "data: {augment: yes}\n", nil, []string{`found "yes", expected true or false`}},
		{"True for true", "data: {augment: True}\n", nil, []string{`found "True", expected true or false`}},
		{"number for text", "name: 5\n", nil, []string{`x.yaml:1: name: found "5", expected text`}},
		{"nan", "schedule: {lr: .nan}\n", nil, []string{`schedule.lr: found ".nan", expected a number`}},
		{"inf", "schedule: {lr: .inf}\n", nil, []string{`schedule.lr: found ".inf", expected a number`}},
		{"empty value", "train:\n  steps:\n", nil, []string{"x.yaml:2: train.steps: found nothing, expected a whole number"}},
		{"empty section", "train:\n", nil, []string{"x.yaml:1: train: found nothing, expected a section"}},
		{"list for number", "train: {steps: [1]}\n", nil, []string{"train.steps: found a list, expected a whole number"}},
		{"number for list", "eval: {protocols: rgb}\n", nil, []string{`eval.protocols: found "rgb", expected a list such as [rgb]`}},
		{"wrong length", "model: {window: 0, offsets: [[1, 2, 3]]}\n", nil, []string{"model.offsets[0]: found 3 values, expected 2"}},
		{"list for section", "train: [1]\n", nil, []string{"train: found a list, expected a section"}},
		{"a list of sections", "- train\n", nil, []string{"x.yaml:1: found a list, expected an experiment"}},
		{"plain text", "hello\n", nil, []string{`x.yaml:1: found "hello", expected an experiment`}},
		{"no YAML", "train: {steps: 5\nseed: 1\n", nil, []string{"x.yaml:", "found no valid YAML"}},
		{"tab", "train:\n\tsteps: 5\n", nil, []string{"x.yaml:2: found no valid YAML"}},
		{"binary", "\x89PNG\r\n\x1a\n\x00\x00", nil, []string{"found no valid YAML"}},
		{"two documents", "seed: 1\n---\nseed: 2\n", nil, []string{"found a second document"}},
		{"merge key", "a: &a {steps: 5}\ntrain: {<<: *a}\n", nil, []string{"x.yaml:1: a: unknown key"}},
		{"key of numbers", "1: 2\n", nil, []string{"found a key that is not a plain word"}},
		{"model out of range", "seed: 2\nmodel:\n  heads: 99\n", nil, []string{"x.yaml:3: model.heads: found 99, expected 1 to 64"}},
		{"written zero", "model:\n  heads: 0\n", nil, []string{"x.yaml:2: model.heads: found 0, expected 1 to 64"}},
		{"key of another type", "model: {type: uglr, gamma: 3}\n", nil, []string{"x.yaml:1: model.gamma: found for type uglr, which has no such key"}},
		{"unknown preset", "model: {preset: papre}\n", nil, []string{"x.yaml:1: model.preset: found \"papre\", expected"}},
		{"out of range", "train:\n  ema: 1\n", nil, []string{"x.yaml:2: train.ema: found 1, expected 0 (off) to less than 1"}},
		{"unknown word", "train: {loss: l3}\n", nil, []string{`x.yaml:1: train.loss: found "l3" (did you mean l1?), expected l1 | l2 | charbonnier`}},
		{"micro batch", "train: {batch: 6, micro_batch: 4}\n", nil, []string{"train.micro_batch: found 4, expected a divisor of train.batch (6)"}},
		{"warm-up longer than the run", "train: {steps: 5}\nschedule: {warmup: 5}\n", nil, []string{"x.yaml:2: schedule.warmup: found 5, expected 0 to 4"}},
		{"milestones", "schedule: {milestones: [5, 5]}\n", nil, []string{"schedule.milestones: found [5 5], expected steps in rising order"}},
		{"protocol", "eval: {protocols: [rgb, psnr]}\n", nil, []string{`eval.protocols: found "psnr"`}},
		{"task", "data: {degradation: {task: demosaik}}\n", nil, []string{"x.yaml:1: data.degradation.task: found \"demosaik\""}},
		{"pattern", "data: {degradation: {pattern: rgbg}}\n", nil, []string{"data.degradation.pattern: found \"rgbg\""}},
		{"odd patch", "data: {patch: 33}\n", nil, []string{"x.yaml:1: data.patch: found 33, expected a multiple of 2"}},
		{"name with a slash", "name: a/b\n", nil, []string{`name: found "a/b", expected a word that can name a folder`}},
		{"one channel mosaic", "model: {channels: 1}\n", nil, []string{"model.channels: found 1, expected 3 for task demosaic"}},
		{"key of restoration", "seed: 1\nmodel: {type: plat-vit}\ndata: {patch: 32}\n", nil, []string{"x.yaml:3: data.patch: found beside model.type plat-vit, which classifies images and has no such key"}},
		{"section of restoration", "model: {type: plat-lm}\ndata: {degradation: {task: fill}}\n", nil, []string{"x.yaml:2: data.degradation.task: found beside model.type plat-lm, which predicts text"}},
		{"protocols of a classifier", "model: {type: plat-vit}\n", []string{"eval.protocols=[rgb]"}, []string{"--set eval.protocols=[rgb]: eval.protocols: found beside model.type plat-vit"}},
		{"labels of pictures", "data: {labelled: {flip: true}}\n", nil, []string{"x.yaml:1: data.labelled.flip: found beside model.type uglr, which restores images"}},
		{"smoothing of pictures", "train: {label_smoothing: 0.1}\n", nil, []string{"train.label_smoothing: found beside model.type uglr"}},
		{"text of images", "model: {type: plat-vit}\ndata: {text: {block: 5}}\n", nil, []string{"x.yaml:2: data.text.block: found beside model.type plat-vit"}},
		{"loss of pictures", "model: {type: plat-vit}\ntrain: {loss: l1}\n", nil, []string{`x.yaml:2: train.loss: found "l1", expected cross_entropy`}},
		{"loss of classes", "train: {loss: cross_entropy}\n", nil, []string{`found "cross_entropy", expected l1 | l2 | charbonnier`}},
		{"all smoothed", "model: {type: plat-vit}\ntrain: {label_smoothing: 1}\n", nil, []string{"x.yaml:2: train.label_smoothing: found 1, expected 0 to less than 1"}},
		{"format of labels", "model: {type: plat-vit}\ndata: {labelled: {format: mnits}}\n", nil, []string{`x.yaml:2: data.labelled.format: found "mnits"`}},
		{"unit of text", "model: {type: plat-lm}\ndata: {text: {unit: words}}\n", nil, []string{`x.yaml:2: data.text.unit: found "words", expected characters or bytes`}},
		{"generated labels", "model: {type: plat-vit}\ndata: {train: synthetic}\n", nil, []string{"x.yaml:2: data.train: found synthetic, which are pictures to restore, expected a folder of labelled images"}},
		{"generated text", "model: {type: plat-lm}\ndata: {train: a.txt, val: synthetic}\n", nil, []string{"data.val: found synthetic, which are pictures to restore, expected a text file"}},
		{"pictures of text", "model: {type: plat-lm}\nlog: {samples_every: 5}\n", nil, []string{"x.yaml:2: log.samples_every: found 5, expected 0"}},
		{"p of zero", "model: {type: plat-vit, plat: {p: [0]}}\n", nil, []string{"x.yaml:1: model.plat.p: found 0, expected more than 0"}},
		{"negative p", "model: {type: plat-lm, plat: {p: [2, 2, 2, -1]}}\n", nil, []string{"model.plat.p: found -1, expected more than 0"}},
		{"eps of zero", "model: {type: plat-vit, plat: {p: [1.5], eps: 0}}\n", nil, []string{"x.yaml:1: model.plat.eps: found 0, expected more than 0"}},
		{"heads of the width", "model: {type: plat-vit, heads: 3}\n", nil, []string{"model.plat.width: found 64, expected a multiple of the 3 heads"}},
		{"fidelity of no weight", "model: {type: plat-vit, plat: {fidelity: values, mu: 0}}\n", nil, []string{"x.yaml:1: model.plat.mu: found 0, expected more, the weight of model.plat.fidelity values"}},
		{"set without value", "", []string{"train.steps"}, []string{"--set train.steps: found no key=value"}},
		{"set of unknown key", "", []string{"train.stpes=5"}, []string{"--set train.stpes=5: train.stpes: unknown key (did you mean train.steps?)"}},
		{"set of a section", "", []string{"train=5"}, []string{"--set train=5: train: unknown key"}},
		{"set of wrong type", "", []string{"train.steps=many"}, []string{`--set train.steps=many: train.steps: found "many", expected a whole number`}},
		{"set of nothing", "", []string{"train.steps="}, []string{"train.steps: found nothing, expected a whole number"}},
		{"set out of range", "train: {steps: 5}\n", []string{"train.steps=0"}, []string{"--set train.steps=0: train.steps: found 0, expected 1 or more"}},
		{"set of broken YAML", "", []string{"eval.protocols=[rgb"}, []string{"--set eval.protocols=[rgb: eval.protocols: found no valid YAML"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte(c.text), c.sets)
			if err == nil {
				t.Fatal("found no error")
			}
			var typed *Error
			if !errors.As(err, &typed) {
				t.Errorf("found %T, expected *config.Error", err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("found %q, expected it to contain %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("found more than one line: %q", err)
			}
		})
	}
}

func TestEnvironmentErrors(t *testing.T) {
	cases := []struct{ variable, value, want string }{
		{"UNROLLNET_TRAIN_STEPS", "many", `UNROLLNET_TRAIN_STEPS: train.steps: found "many", expected a whole number`},
		{"UNROLLNET_TRAIN_STEPS", "0", "UNROLLNET_TRAIN_STEPS: train.steps: found 0, expected 1 or more"},
		{"UNROLLNET_TRAIN_STESP", "5", "environment: UNROLLNET_TRAIN_STESP: unknown variable (did you mean UNROLLNET_TRAIN_STEPS?)"},
	}
	for _, c := range cases {
		t.Run(c.variable+"="+c.value, func(t *testing.T) {
			t.Setenv(c.variable, c.value)
			_, err := Parse("x.yaml", nil, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("found %v, expected %q", err, c.want)
			}
		})
	}
	t.Run("one key twice", func(t *testing.T) {
		t.Setenv("UNROLLNET_OPTIM_LR", "1e-3")
		t.Setenv("UNROLLNET_SCHEDULE_LR", "1e-3")
		if _, err := Parse("x.yaml", nil, nil); err == nil {
			t.Error("found no error")
		}
	})
	t.Run("variables of other parts", func(t *testing.T) {
		t.Setenv("UNROLLNET_KERNEL", "generic")
		t.Setenv("UNROLLNET_DATA", "/somewhere")
		if _, err := Parse("x.yaml", nil, nil); err != nil {
			t.Error(err)
		}
	})
}

// TestAliases checks that anchors work and that a file whose aliases multiply
// is refused quickly.
func TestAliases(t *testing.T) {
	e := mustParse(t, "train: {micro_batch: 1, batch: &n 7}\nlog: {every: *n}\n")
	if e.Log.Every != 7 {
		t.Errorf("alias: found %d, expected 7", e.Log.Every)
	}
	var b strings.Builder
	b.WriteString("model:\n  window: 0\n  offsets:\n")
	b.WriteString("    - &o [0, 1]\n")
	for range 40000 {
		b.WriteString("    - *o\n")
	}
	if _, err := Parse("x.yaml", []byte(b.String()), nil); err == nil || !strings.Contains(err.Error(), "aliases") {
		t.Errorf("many aliases: found %v", err)
	}
	if _, err := Parse("x.yaml", []byte("eval: {protocols: &a [*a]}\n"), nil); err == nil {
		t.Error("alias to itself: found no error")
	}
	if _, err := Parse("x.yaml", bytes.Repeat([]byte("#"), maxFileBytes+1), nil); err == nil {
		t.Error("large file: found no error")
	}
}

// TestPrintReadsBack checks that the printed form of resolved experiments holds
// every key with a comment and reads back the same.
func TestPrintReadsBack(t *testing.T) {
	for _, text := range []string{
		"",
		"model: {preset: paper}\nname: 'yes'\ntrain: {ema: 0}",
		"data: {degradation: {task: fill, missing_range: [0.5, 0.9], shape: block}}",
		"data: {degradation: {task: scale, scale: 3, noise: 2}, patch: 48}\nmodel: {channels: 1}",
		"model: {type: plat-vit}",
		"model: {type: plat-vit, plat: {p: [1.5, 2, 2.5, 3], fidelity: first, mu: 0.5}}\ndata: {labelled: {flip: true, erase: 0.25}, holdout: {every: 5}}\ntrain: {label_smoothing: 0.1}\nlog: {samples_every: 7}",
		"model: {type: plat-lm, plat: {positions: rotary, symbols: 256}}\ndata: {text: {unit: bytes, block: 100}}",
		"model: {offsets: [[0, 1], [1, 0]]}\nschedule: {lr: 1e-07, min_lr: 0, milestones: [3, 5]}\ndata: {train: 'a: b #c', val: \"x\\ny\"}",
	} {
		e := mustParse(t, text)
		var buf bytes.Buffer
		if err := Print(&buf, e); err != nil {
			t.Fatal(err)
		}
		got, err := Parse("printed.yaml", buf.Bytes(), nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, &buf)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Errorf("%s\n%s", d, &buf)
		}
		for line := range strings.Lines(buf.String()) {
			if strings.TrimSpace(line) != "" && !strings.Contains(line, "  # ") {
				t.Errorf("no comment on %q", line)
			}
		}
	}
}

// TestCommentsMatchKeys fails when a key has no comment or a comment no key.
func TestCommentsMatchKeys(t *testing.T) {
	want := map[string]bool{}
	for _, l := range leaves {
		for k := l.key; k != ""; {
			want[k] = true
			i := strings.LastIndexByte(k, '.')
			k = k[:max(i, 0)]
		}
	}
	for k := range want {
		if comments[k] == "" {
			t.Errorf("key %s has no comment", k)
		}
	}
	for k := range comments {
		if !want[k] {
			t.Errorf("comment for %s, which is no key", k)
		}
	}
	for kind, m := range commentsOf {
		for k := range m {
			if !want[k] {
				t.Errorf("comment for %s of kind %s, which is no key", k, kind)
			}
		}
	}
	for k := range keysOf {
		if !want[k] {
			t.Errorf("%s is said to be of some kinds, but is no key", k)
		}
	}
	for alias, key := range synonyms {
		if want[alias] || !want[key] {
			t.Errorf("synonym %s of %s", alias, key)
		}
	}
}

// TestDefaultsOfAKind checks what experiments of classifiers and language models
// begin with, and that no key of restoration is shown for them.
func TestDefaultsOfAKind(t *testing.T) {
	for _, c := range []struct {
		text         string
		kind         model.Kind
		batch, micro int
		without      []string
	}{
		{"model: {type: plat-vit}", model.Classify, 128, 32, []string{"degradation", "patch: 64", "augment", "cache_mb", "charbonnier", "protocols", "text:", "context"}},
		{"model: {type: plat-lm}", model.Language, 8, 4, []string{"degradation", "patch:", "augment", "protocols", "labelled", "channels", "classes"}},
		{"model: {type: plat-lm}\ntrain: {batch: 2}", model.Language, 2, 2, nil},
		{"", model.Restore, 16, 4, []string{"labelled", "text:", "plat", "smoothing"}},
	} {
		e := mustParse(t, c.text)
		if e.Kind() != c.kind || e.Train.Batch != c.batch || e.Train.MicroBatch != c.micro {
			t.Errorf("%q: found kind %s, batch %d of %d", c.text, e.Kind(), e.Train.Batch, e.Train.MicroBatch)
		}
		if (e.Train.Loss == "cross_entropy") != (c.kind != model.Restore) || (len(e.Eval.Protocols) > 0) != (c.kind == model.Restore) {
			t.Errorf("%q: found loss %s, protocols %v", c.text, e.Train.Loss, e.Eval.Protocols)
		}
		var buf bytes.Buffer
		if err := Print(&buf, e); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(buf.String()) {
			key, _, _ := strings.Cut(line, "#")
			for _, w := range c.without {
				if strings.Contains(key, w) {
					t.Errorf("%q: printed %q", c.text, line)
				}
			}
		}
	}
	if e := mustParse(t, "model: {type: plat-vit}", "data.labelled.shift=2"); e.Data.Labelled.Shift != 2 || e.Data.Labelled.Format != "auto" {
		t.Errorf("found labels %+v", e.Data.Labelled)
	}
	if e := mustParse(t, "model: {type: plat-lm}"); e.Data.Text.Unit != "characters" || e.Data.Text.Block != 4096 {
		t.Errorf("found text %+v", e.Data.Text)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "found no such file",
		dir:                             "found a folder",
	} {
		if _, err := Load(path, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: found %v, expected %q", path, err, want)
		}
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, bytes.Repeat([]byte("#\n"), maxFileBytes), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big, nil); err == nil || !strings.Contains(err.Error(), "bytes, expected") {
		t.Errorf("big file: found %v", err)
	}
}

// TestShippedConfigs loads every file of configs/ and its folders and holds it to being
// complete: each key of the experiment stands in it.
func TestShippedConfigs(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	inside, err := filepath.Glob("../../configs/*/*.yaml")
	if err != nil || len(inside) == 0 {
		t.Fatalf("found %d files in folders, %v", len(inside), err)
	}
	for _, path := range append(files, inside...) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			e, err := Load(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.TrimSuffix(filepath.Base(path), ".yaml"); e.Name != want {
				t.Errorf("name: found %q, expected %q", e.Name, want)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			node, err := parseYAML(path, text)
			if err != nil {
				t.Fatal(err)
			}
			var got Experiment
			d := &decoder{name: path, root: reflect.ValueOf(&got).Elem(), origin: map[string]string{}}
			if err := d.decode(node, "", d.root); err != nil {
				t.Fatal(err)
			}
			for _, l := range leaves {
				if _, ok := d.origin[l.key]; !ok && !l.optional && !optional[l.key] && e.Uses(l.key) {
					t.Errorf("key %s is missing", l.key)
				}
			}
		})
	}
}

// optional are the keys a file need not hold: each excludes another.
var optional = map[string]bool{"model.offsets": true, "model.window": true}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "seed: 1\n", "train: {steps: &n 7}\nlog: {every: *n}\n", "model: {offsets: [[0, 1]]}\n",
		"model: {type: plat-vit, plat: {p: [1, 2, 2, 3], mu: 0}}\ndata: {labelled: {erase: 1}}\n", "model: {type: plat-lm, preset: tiny}\ndata: {text: {block: 2}}\n",
		"a: &a [*a]\n", "? [x]\n: y\n", "!!binary x: y\n", "data: {augment: !!str true}\n", "- - - - -\n", "seed: 0x1F\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Parse("f.yaml", text, nil)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("found more than one line: %q", err)
			}
			return
		}
		var buf bytes.Buffer
		if err := Print(&buf, e); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("printed.yaml", buf.Bytes(), nil); err != nil {
			t.Errorf("printed form does not read back: %v\n%s", err, &buf)
		}
	})
}
