package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unrollnet/unrollnet/pkg/checkpoint"
	"github.com/unrollnet/unrollnet/pkg/config"
	"github.com/unrollnet/unrollnet/pkg/data"
	"github.com/unrollnet/unrollnet/pkg/imageio"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// stripes writes a folder of images in classes that are easy to tell apart, of
// height x width: a bright row, a bright column, or a bright diagonal.
func stripes(t testing.TB, height, width, each int, classes ...string) string {
	t.Helper()
	dir := t.TempDir()
	for k, class := range classes {
		if err := os.Mkdir(filepath.Join(dir, class), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range each {
			rng := data.Rand(11, uint64(k), uint64(i))
			img := imageio.New(1, height, width)
			row, col := rng.IntN(height), rng.IntN(width)
			for j := range img.Pix {
				y, x := j/width, j%width
				v := 0.2 * rng.Float32()
				if k == 0 && y == row || k == 1 && x == col || k == 2 && (x+y)%height == row%height {
					v += .7
				}
				img.Pix[j] = v
			}
			f, err := os.Create(filepath.Join(dir, class, fmt.Sprintf("%02d.png", i)))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(imageio.Encode(f, img, "png"), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// alphabet writes a text in which each letter but the last of five is followed
// by the next one.
func alphabet(t testing.TB, n int) string {
	t.Helper()
	rng := data.Rand(12, 0, 0)
	var b strings.Builder
	for b.Len() < n {
		b.WriteString("abcd"[rng.IntN(3):])
		b.WriteByte('e')
	}
	path := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// parse is an experiment in YAML with sets over it.
func parse(t testing.TB, text string, sets ...string) config.Experiment {
	t.Helper()
	cfg, err := config.Parse("test.yaml", []byte(text), sets)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// kindsOf are tiny experiments of the kinds that do not restore, by kind.
func kindsOf(t testing.TB, steps int) map[model.Kind]config.Experiment {
	shared := []string{fmt.Sprint("train.steps=", steps), "train.batch=8", "train.micro_batch=2", "train.workers=2", "train.ema=0.9",
		"schedule.warmup=2", "schedule.lr=0.01", "eval.every=4", "log.every=3", "checkpoint.every=4", "checkpoint.minutes=0"}
	return map[model.Kind]config.Experiment{
		model.Classify: parse(t, "model: {type: plat-vit, preset: tiny}\ndata: {holdout: {every: 3}, labelled: {shift: 1, flip: true, erase: 0.3}}\ntrain: {label_smoothing: 0.1}",
			append(shared, "data.train="+stripes(t, 6, 8, 9, "rows", "columns", "slopes"))...),
		model.Language: parse(t, "model: {type: plat-lm, preset: tiny}\ndata: {holdout: {every: 3}, text: {block: 50}}",
			append(shared, "data.train="+alphabet(t, 1500))...),
	}
}

func mustBuild(t testing.TB, cfg config.Experiment) parts {
	t.Helper()
	p, err := build(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestKindsSameBitsForAnyNumberOfWorkers(t *testing.T) {
	for kind, cfg := range kindsOf(t, 6) {
		var want [3]string
		var rows string
		for i, n := range []int{1, 2, 5} {
			cfg.Train.Workers = n
			dir := t.TempDir()
			mustRun(t, cfg, Options{RunDir: dir}, mustBuild(t, cfg))
			got, validation := digests(t, dir), read(t, dir, "validation.csv")
			if i == 0 {
				want, rows = got, validation
				continue
			}
			if got != want {
				t.Errorf("%s, %d workers: tensors %v, expected those of one worker %v", kind, n, got, want)
			}
			if validation != rows {
				t.Errorf("%s, %d workers: validation %q, expected %q", kind, n, validation, rows)
			}
		}
	}
}

// TestKindsResume stops a run in the middle of an epoch and holds what it becomes
// to a run never stopped.
func TestKindsResume(t *testing.T) {
	for kind, cfg := range kindsOf(t, 7) {
		whole, cut := t.TempDir(), t.TempDir()
		mustRun(t, cfg, Options{RunDir: whole}, mustBuild(t, cfg))
		stop := make(chan struct{})
		err := run(context.Background(), cfg, Options{RunDir: cut, Stop: stop, Hooks: []Hook{func(ev Event) error {
			if ev.Step == 3 {
				close(stop)
			}
			return nil
		}}}, mustBuild(t, cfg))
		if !errors.Is(err, ErrStopped) {
			t.Fatalf("%s: found %v, expected ErrStopped", kind, err)
		}
		mustRun(t, cfg, Options{RunDir: cut}, mustBuild(t, cfg))
		if a, b := digests(t, whole), digests(t, cut); a != b {
			t.Errorf("%s: resumed to %v, expected %v", kind, b, a)
		}
		if a, b := read(t, whole, "validation.csv"), read(t, cut, "validation.csv"); a != b {
			t.Errorf("%s: validation %q after resuming, expected %q", kind, b, a)
		}
		if a, b := withoutTimes(read(t, whole, "metrics.csv")), withoutTimes(read(t, cut, "metrics.csv")); a != b {
			t.Errorf("%s: rows %q after resuming, expected %q", kind, b, a)
		}
	}
}

// TestKindsLearn checks that each kind learns what is there to learn, and what it
// writes down.
func TestKindsLearn(t *testing.T) {
	for kind, cfg := range kindsOf(t, 120) {
		cfg.Eval.Every, cfg.Checkpoint.Every, cfg.Log.Every = 40, 0, 40
		cfg.Data.Labelled.Erase, cfg.Train.LabelSmoothing = 0, 0
		if kind == model.Classify {
			cfg.Log.SamplesEvery = 120
		}
		dir := t.TempDir()
		var out bytes.Buffer
		mustRun(t, cfg, Options{RunDir: dir, Out: &out}, mustBuild(t, cfg))
		rows := strings.Split(strings.TrimSpace(read(t, dir, "validation.csv")), "\n")
		if len(rows) != 10 || rows[0] != "step,examples,figure,value,best" {
			t.Fatalf("%s: found rows %q", kind, rows)
		}
		first := map[model.Kind]string{model.Classify: "120,9,top1,", model.Language: "120,490,nats,"}[kind]
		var value float64
		if !strings.HasPrefix(rows[7], first) {
			t.Fatalf("%s: found row %q, expected %q...", kind, rows[7], first)
		}
		if _, err := fmt.Sscanf(strings.TrimPrefix(rows[7], first), "%g", &value); err != nil {
			t.Fatal(err)
		}
		switch kind {
		case model.Classify:
			if value < .7 {
				t.Errorf("found %v of the validation images right, expected 0.7 or more", value)
			}
			if m, _ := filepath.Glob(filepath.Join(dir, "samples", "*.png")); len(m) != 4 {
				t.Errorf("found samples %v, expected four", m)
			}
		case model.Language:
			// A letter is known but for how each group begins: one of three after e.
			if value > .75 {
				t.Errorf("found %v nats, expected 0.75 or fewer", value)
			}
		}
		if !strings.Contains(out.String(), map[model.Kind]string{model.Classify: "on 9 images", model.Language: "on 490 symbols"}[kind]) {
			t.Errorf("%s: progress %q", kind, out.String())
		}
		var line map[string]any
		log := strings.Split(strings.TrimSpace(read(t, dir, "log.jsonl")), "\n")
		if err := json.Unmarshal([]byte(log[len(log)-1]), &line); err != nil {
			t.Fatal(err)
		}
		if line["event"] != "validation" || line["score"] != line[strings.Split(first, ",")[2]] || line["examples"] == nil {
			t.Errorf("%s: last event %v", kind, line)
		}
		f, err := checkpoint.ReadFile(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.LoadModel(f)
		if err != nil {
			t.Fatal(err)
		}
		var trained data.Trained
		if err := json.Unmarshal([]byte(f.Metadata[model.MetaTask]), &trained); err != nil {
			t.Fatal(err)
		}
		outputs := 0
		switch n := m.(type) {
		case model.Classifier:
			outputs = n.Classes()
		case model.LanguageModel:
			outputs = n.Symbols()
		}
		if err := trained.Validate(outputs); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if kind == model.Classify && strings.Join(trained.Classes, " ") != "columns rows slopes" {
			t.Errorf("found classes %v", trained.Classes)
		}
		if kind == model.Language && trained.Vocabulary.Symbols != "abcde" {
			t.Errorf("found vocabulary %+v", trained.Vocabulary)
		}
		state := read(t, dir, "checkpoints", "step-00000120", "state.json")
		if strings.Contains(state, "degradation") {
			t.Errorf("%s: state holds keys of restoration: %s", kind, state)
		}
	}
}

// TestKindsBestIsKept holds the state's best to validation.csv: of nats the
// fewest.
func TestKindsBestIsKept(t *testing.T) {
	cfg := kindsOf(t, 16)[model.Language]
	cfg.Schedule.LR = 0.05 // learns, if at all, unsteadily
	dir := t.TempDir()
	mustRun(t, cfg, Options{RunDir: dir}, mustBuild(t, cfg))
	least := math.Inf(1)
	for _, row := range strings.Split(strings.TrimSpace(read(t, dir, "validation.csv")), "\n")[1:] {
		f := strings.Split(row, ",")
		if f[2] != "nats" {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(f[3], &v); err != nil {
			t.Fatal(err)
		}
		if (f[4] == "true") != (v < least) {
			t.Errorf("row %q, fewest nats so far %v", row, least)
		}
		least = min(least, v)
	}
}

func TestKindsSkipBadSteps(t *testing.T) {
	for kind, cfg := range kindsOf(t, 5) {
		p := mustBuild(t, cfg)
		weight := p.net.Params().All()[0].Data
		good := weight[0]
		skipped := 0
		// The last hook of step 2 breaks a weight, that of step 3 mends it.
		mustRun(t, cfg, Options{RunDir: t.TempDir(), Hooks: []Hook{func(ev Event) error {
			switch ev.Step {
			case 2:
				good, weight[0] = weight[0], float32(math.NaN())
			case 3:
				weight[0] = good
			}
			if ev.Skipped != "" {
				skipped++
				if ev.Step != 3 {
					t.Errorf("%s: step %d skipped", kind, ev.Step)
				}
			}
			return nil
		}}}, p)
		if skipped != 1 {
			t.Errorf("%s: %d steps skipped, expected one", kind, skipped)
		}
	}
}

// TestKindsMismatch holds the errors of data and model that do not fit.
func TestKindsMismatch(t *testing.T) {
	three, two := stripes(t, 6, 8, 4, "a", "b", "c"), stripes(t, 6, 8, 4, "a", "b")
	other := stripes(t, 6, 8, 4, "a", "b", "d")
	text := alphabet(t, 700)
	strange := filepath.Join(t.TempDir(), "strange.txt")
	if err := os.WriteFile(strange, []byte("abcdeabcdeX"), 0o644); err != nil {
		t.Fatal(err)
	}
	const vit, lm = "model: {type: plat-vit, preset: tiny}\ndata: {holdout: {every: 2}}\nschedule: {warmup: 0}",
		"model: {type: plat-lm, preset: tiny}\ndata: {holdout: {every: 2}, text: {block: 50}}\nschedule: {warmup: 0}"
	for _, c := range []struct {
		text string
		sets []string
		want string
		file bool // a DataError
	}{
		{vit, nil, "data.train: found nothing, expected a folder of labelled images", false},
		{vit, []string{"data.train=" + two}, "model.plat.classes: found 3, expected 2, the classes of " + two, false},
		{vit, []string{"data.train=" + three, "data.val=" + two}, "model.plat.classes: found 3, expected 2, the classes of " + two, false},
		{vit, []string{"data.train=" + three, "data.val=" + other}, `data.val: found class 2 of ` + other + ` to be "d", expected "c"`, false},
		{vit, []string{"data.train=" + three, "data.labelled.shift=6"}, "data.labelled.shift: found 6, expected at most 5", false},
		{vit, []string{"data.train=" + three + "/nowhere"}, "data.train: " + three + "/nowhere: found", false},
		{vit, []string{"data.train=" + text}, text + ": found", true},
		{vit, []string{"data.train=" + three, "data.labelled.format=mnist"}, three, true},
		{lm, nil, "data.train: found nothing, expected a text file", false},
		{lm, []string{"data.train=" + text, "model.plat.symbols=6"}, "model.plat.symbols: found 6, expected 5, the characters of " + text, false},
		{lm, []string{"data.train=" + text, "data.val=" + strange}, strange + ": found the character 'X'", true},
		{lm, []string{"data.train=" + text, "model.plat.context=60"}, "model.plat.context: found 60, expected at most 49", false},
		{lm, []string{"data.train=" + text + ".none"}, "data.train: " + text + ".none: found", false},
		{lm, []string{"data.train=" + three}, three + ": found a folder", true},
	} {
		_, err := build(parse(t, c.text, c.sets...))
		var file *DataError
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || errors.As(err, &file) != c.file {
			t.Errorf("%v: found %v (%T), expected %q", c.sets, err, err, c.want)
		}
	}
}
