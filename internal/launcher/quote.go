package launcher

import "strings"

// Quote returns args as one line that a POSIX shell splits into the same words.
func Quote(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = quoteWord(arg)
	}
	return strings.Join(quoted, " ")
}

func quoteWord(word string) string {
	isPlain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,+@%", r)
	}
	isOther := func(r rune) bool { return !isPlain(r) }
	// A first word with = would be an assignment. Options with = are not quoted, so that --mtu=1500
	// stays readable.
	plain := word != "" && strings.IndexFunc(word, isOther) < 0
	if plain && (strings.HasPrefix(word, "-") || !strings.Contains(word, "=")) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
