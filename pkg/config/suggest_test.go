package config

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	words := []string{"rggb", "bggr", "grbg", "gbrg", "pattern", "uglr-demosaic", "malvar", "menon"}
	for in, want := range map[string]string{
		"rgbg":          "rggb", // a swap is one edit
		"RGGB":          "rggb",
		"malver":        "malvar",
		"uglr-demosiac": "uglr-demosaic",
		"patt":          "pattern",
		"x":             "",
		"completely":    "",
		"":              "",
	} {
		if got := Nearest(in, words); got != want {
			t.Errorf("Nearest(%q) = %q, expected %q", in, got, want)
		}
	}
	if got := Nearest(strings.Repeat("a", 1<<20), words); got != "" {
		t.Errorf("a very long word: found %q", got)
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"steps", "stesp", 1}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, expected %d", c.a, c.b, got, c.want)
		}
	}
}
