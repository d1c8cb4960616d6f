package launcher

import "strings"

// Quote writes args as one line that a POSIX shell reads back as the same words.
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
	// A first word with = would be an assignment; a = elsewhere is harmless but never quoted
	// alone, so that --mtu=1500 stays readable.
	plain := word != "" && strings.IndexFunc(word, isOther) < 0
	if plain && (strings.HasPrefix(word, "-") || !strings.Contains(word, "=")) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
