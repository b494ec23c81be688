package page

import (
	"bytes"
	"encoding/xml"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestLabelsKeepApart(t *testing.T) {
	var taken []box
	for range 6 {
		a := place("network", 100, 100, 0, 400, 0, 300, taken)
		if slices.ContainsFunc(taken, a.meets) {
			t.Fatalf("label %v lies over %v", a, taken)
		}
		taken = append(taken, a)
	}
	if a := place("network", 395, 100, 0, 400, 0, 300, nil); a.x1 > 400 {
		t.Errorf("label %v leaves the panel", a)
	}
}

func TestTicks(t *testing.T) {
	if got := ticks(0.3, 4.1, 6); !slices.Equal(got, []float64{1, 2, 3, 4}) {
		t.Errorf("found %v", got)
	}
	if got := number(ticks(-0.1, 1, 6)[0]); got != "0" {
		t.Errorf("found %s, expected 0 without a sign", got)
	}
	if got := logTicks(0.04, 3); !slices.Equal(got, []float64{.05, .1, .2, .5, 1, 2}) {
		t.Errorf("found %v", got)
	}
}

// TestLines reads a chart of lines as XML and looks for names, last values and a
// curve for each series, the one too far below left out.
func TestLines(t *testing.T) {
	p := Panel{Title: "a < b", Lines: true, Last: "%.1f dB", Top: 4, Series: []Series{
		{Name: "up", Color: "#000", X: []float64{0, 1, 2}, Y: []float64{1, 9, 10}}, {Color: "#000", Dashed: true, X: []float64{0, 2}, Y: []float64{8, 9}},
	}}
	for _, room := range []float64{0, .25} {
		p.Room = room
		svg := Draw([]Panel{p, {}})
		d := xml.NewDecoder(bytes.NewReader(svg))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in\n%s", err, svg)
			}
		}
		for _, want := range []string{">up, 10.0 dB</text>", "a &lt; b", "stroke-dasharray", `width="420"`} {
			if !bytes.Contains(svg, []byte(want)) {
				t.Errorf("room %g: found no %q in\n%s", room, want, svg)
			}
		}
		if n := strings.Count(string(svg), `stroke-width="2"`); n != 2 {
			t.Errorf("room %g: found %d curves, expected 2", room, n)
		}
	}
}

func TestTable(t *testing.T) {
	want := "| a | b |\n| --- | ---: |\n| x | 1,234,567 |\n"
	if got := Table([]string{"a", "b"}, [][]string{{"x", Thousands(1234567)}}); got != want {
		t.Errorf("found %q, expected %q", got, want)
	}
	if got := string(Tidy([]byte("\na\n\n\n\nb\n\n"))); got != "a\n\nb\n" {
		t.Errorf("found %q", got)
	}
}
