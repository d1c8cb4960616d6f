package selftest

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// The parts of RFC 1035 that a question about one name's IPv4 address needs.
const (
	dnsHeader   = 12     // bytes
	dnsResponse = 0x8000 // in the second word
	dnsRCode    = 0x000f // likewise
)

// ourAddress is what our server answers: an address reserved for documentation (RFC 5737).
var ourAddress = []byte{192, 0, 2, 1}

// question asks for the IPv4 address of name.
func question(name string) []byte {
	msg := append(random(2), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired, one question
	for label := range strings.SplitSeq(name, ".") {
		msg = append(append(msg, byte(len(label))), label...)
	}
	return append(msg, 0, 0, 1, 0, 1) // the root; A; IN
}

// answer returns our server's answer to any question; nil if it is not a question.
func answer(question []byte) []byte {
	if len(question) <= dnsHeader || binary.BigEndian.Uint16(question[2:])&dnsResponse != 0 {
		return nil
	}
	msg := bytes.Clone(question)
	msg[2], msg[3] = 0x81, 0x80 // a response; recursion desired and available
	msg[7] = 1                  // one answer
	// The name at offset 12; A; IN; 0 seconds; 4 bytes.
	msg = append(msg, 0xc0, dnsHeader, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
	return append(msg, ourAddress...)
}

// answers reports whether got is an answer to question, including a refusal.
func answers(question, got []byte) bool {
	return len(got) >= dnsHeader && bytes.Equal(got[:2], question[:2]) && binary.BigEndian.Uint16(got[2:])&dnsResponse != 0
}

// answersUs reports whether got is what our server answers to question.
func answersUs(question, got []byte) bool {
	return answers(question, got) && binary.BigEndian.Uint16(got[2:])&dnsRCode == 0 && bytes.HasSuffix(got, ourAddress)
}
