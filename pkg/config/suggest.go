package config

import "strings"

// Nearest returns the candidate most like word by edit distance (insertions,
// deletions, substitutions and swaps of neighbours count one each, case counts
// nothing), or "" if none is close enough to be what was meant. The first of
// equals wins.
func Nearest(word string, candidates []string) string {
	best, bestDist := "", 1+max(1, min(len(word), 24)/3)
	lower := strings.ToLower(word)
	for _, c := range candidates {
		if d := editDistance(lower, strings.ToLower(c)); d < bestDist {
			best, bestDist = c, d
		}
	}
	if best != "" {
		return best
	}
	// A prefix typed for the whole: "patt" for "pattern".
	if len(word) >= 3 {
		for _, c := range candidates {
			if strings.HasPrefix(strings.ToLower(c), lower) {
				return c
			}
		}
	}
	return ""
}

// editDistance is the restricted Damerau-Levenshtein distance of two strings,
// byte by byte. Inputs longer than any key are cut: their distance is large
// anyway, and the table must not grow with hostile input.
func editDistance(a, b string) int {
	const limit = 64
	a, b = a[:min(len(a), limit)], b[:min(len(b), limit)]
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

// didYouMean is the tail of an error about an unknown word, or "".
func didYouMean(word string, candidates []string) string {
	if n := Nearest(word, candidates); n != "" {
		return " (did you mean " + n + "?)"
	}
	return ""
}
