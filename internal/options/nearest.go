package options

import "strings"

// Nearest returns the candidate that was probably meant by word, or "" if none is near: a wrong suggestion is worse
// than none. Case, `-` and `_` make no difference. A candidate that has whole parts in common with word (dns and
// disable-dns) or begins with it is near; so is one with at most one typing error for each three letters.
func Nearest(word string, candidates []string) string {
	const longest = 64 // no key is longer; bounds the table below
	if len(word) > longest {
		return ""
	}
	w := normal(word)
	best, score := "", min(len(w)/3, 3)+1
	for _, c := range candidates {
		n := normal(c)
		d := distance(w, n)
		if w != "" && (partOf(w, n) || partOf(n, w)) || len(w) >= 3 && strings.HasPrefix(n, w) {
			d = min(d, 1)
			if best == "" {
				score = max(score, 2)
			}
		}
		if d < score {
			best, score = c, d
		}
	}
	return best
}

// normal returns the spelling in which keys are compared.
func normal(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }

func partOf(part, whole string) bool { return strings.Contains("-"+whole+"-", "-"+part+"-") }

// distance counts insertions, deletions, substitutions and swaps of adjacent characters between a
// and b ("optimal string alignment").
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
