package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/unrollnet/unrollnet/pkg/model"
)

// kindModels are small networks of the kinds that do not restore images, with
// what they were trained for.
var kindModels = map[string]struct {
	cfg  model.Config
	task string
}{
	"classifier": {model.Config{Type: "plat-vit", Preset: "tiny", Plat: model.Plat{Pool: "mean"}}, `{"task":"classify","classes":["cat","dog","tree"]}`},
	"token":      {model.Config{Type: "plat-vit", Preset: "tiny", Channels: 3}, `{"task":"classify","classes":["cat","dog","tree"]}`},
	"language":   {model.Config{Type: "plat-lm", Preset: "tiny"}, `{"task":"language","vocabulary":{"unit":"characters","symbols":"\nabcd"}}`},
	"bytes":      {model.Config{Type: "plat-lm", Preset: "tiny", Plat: model.Plat{Symbols: 256}}, `{"task":"language","vocabulary":{"unit":"bytes"}}`},
	"classless":  {model.Config{Type: "plat-vit", Preset: "tiny"}, `{"task":"classify","classes":["cat","dog"]}`},
}

// cmdNetwork writes the weight file of one of kindModels, with weights large
// enough for its outputs to differ: network KIND FILE.
func cmdNetwork(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: network KIND FILE")
	}
	kind, ok := kindModels[args[0]]
	if !ok {
		ts.Fatalf("network: unknown kind %q", args[0])
	}
	m, err := model.Build(kind.cfg, 3)
	ts.Check(err)
	for k, p := range m.Params().All() {
		for i := range p.Data {
			p.Data[i] += float32(math.Sin(float64(5*i+k))) / 2
		}
	}
	b, err := model.Save(m, kind.task, nil).Bytes()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}

// cmdSelfContained checks that a page is well-formed XML with at least N pictures,
// all of them inside it: selfcontained FILE N.
func cmdSelfContained(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: selfcontained FILE N")
	}
	dec, pictures := xml.NewDecoder(strings.NewReader(ts.ReadFile(args[0]))), 0
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		s, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range s.Attr {
			if (a.Name.Local == "src" || a.Name.Local == "href") && !strings.HasPrefix(a.Value, "data:image/png;base64,") && !strings.HasPrefix(a.Value, "#") {
				ts.Fatalf("%s: %s of %s is %q", args[0], a.Name.Local, s.Name.Local, a.Value)
			}
		}
		if s.Name.Local == "img" {
			pictures++
		}
	}
	if want, err := strconv.Atoi(args[1]); err != nil || pictures != want {
		ts.Fatalf("%s: %d pictures, expected %s", args[0], pictures, args[1])
	}
}

// Text is written as it comes, and what was written stays when it is stopped.
func TestGenerateStreams(t *testing.T) {
	dir := t.TempDir()
	m, err := model.Build(kindModels["language"].cfg, 3)
	if err != nil {
		t.Fatal(err)
	}
	b, err := model.Save(m, kindModels["language"].task, nil).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := dir + "/lm.safetensors"
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &stopper{after: 5, stop: cancel}
	var errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: out, err: &errs, now: time.Now}
	if code := a.run(ctx, []string{"generate", "--model", path, "--prompt", "abc", "--length", "100000"}); code != exitInterrupted {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	if got := out.got.String(); !strings.HasPrefix(got, "abc") || len(strings.TrimSuffix(got, "\n")) < 3+4 || len(got) > 3+6 {
		t.Errorf("found %q, expected the prompt and the five symbols that came", got)
	}
}

// stopper calls stop at a number of writes.
type stopper struct {
	got   bytes.Buffer
	after int
	stop  func()
}

func (s *stopper) Write(b []byte) (int, error) {
	if s.after--; s.after == 0 {
		s.stop()
	}
	return s.got.Write(b)
}
