package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"

	"github.com/slirpctl/slirpctl/internal/options"
)

// InstanceName returns the instance's name for a container id: the id itself if it is a valid
// name, as it nearly always is. Runtimes also accept ids with other characters (runc: "+", and any
// first character; crun: nearly all) and longer ones; for those the name is as much of the id as fits,
// with _ for invalid characters, and eight digits of the id's SHA-256, so that different ids never
// share a name. Every hook of a container computes the same name. The error is [fault.Usage] for an
// id that no runtime accepts: with a slash, a control character, "" or "..".
func InstanceName(id string) (string, error) {
	if id == "" || id == "." || id == ".." || strings.ContainsFunc(id, func(r rune) bool {
		return r == '/' || unicode.IsControl(r) || r == unicode.ReplacementChar
	}) {
		return "", badState(fmt.Sprintf("%.80q is not a container id", id), nil)
	}
	clean := strings.Map(func(r rune) rune {
		if options.NameRune(r, true) {
			return r
		}
		return '_'
	}, id)
	if options.CheckName(id) == nil {
		return id, nil
	}
	if !options.NameRune(rune(clean[0]), false) {
		clean = "c" + clean
	}
	sum := sha256.Sum256([]byte(id))
	suffix := "-" + hex.EncodeToString(sum[:4])
	return clean[:min(len(clean), options.MaxName-len(suffix))] + suffix, nil
}
