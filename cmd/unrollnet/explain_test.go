package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdWellformed checks that a page is well-formed XML, and that the files its
// pictures come from lie beside it: wellformed FILE.
func cmdWellformed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wellformed FILE")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	dec, pictures := xml.NewDecoder(bytes.NewReader(b)), 0
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		if s, ok := tok.(xml.StartElement); ok && s.Name.Local == "img" {
			for _, a := range s.Attr {
				if a.Name.Local == "src" {
					_, err := os.Stat(filepath.Join(filepath.Dir(path), a.Value))
					ts.Check(err)
					pictures++
				}
			}
		}
	}
	if pictures < 10 {
		ts.Fatalf("%s: %d pictures, expected at least 10", args[0], pictures)
	}
}

// The PSNR on the page is the one that --simulate reports.
func TestExplainReportsTheSamePSNR(t *testing.T) {
	dir := t.TempDir()
	in, net := filepath.Join(dir, "a.png"), filepath.Join(dir, "net.safetensors")
	var buf bytes.Buffer
	if err := png.Encode(&buf, scene(70, 54)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	writeWeights(t, net)
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, now: time.Now}
	page := filepath.Join(dir, "page")
	if code := a.run(context.Background(), []string{"interpolate", "--simulate", "--task", "demosaic", "-m", net, "--json", "--explain", page, in}); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	var rep report
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(page, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("to %.2f dB (PSNR, protocol rgb), SSIM %.4f.", float64(rep.PSNR["rgb"]), float64(rep.SSIM["rgb"]))
	if !strings.Contains(string(b), want) {
		t.Errorf("the page does not say %q", want)
	}
}
