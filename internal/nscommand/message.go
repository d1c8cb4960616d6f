package nscommand

// message is a message between the supervisor and init, in a stream of JSON. Strings of any bytes are []byte, which
// JSON encodes as base64; it would change a string that is not UTF-8.
type message struct {
	// From the supervisor.
	Setup        *initSetup `json:"setup,omitempty"`
	Go           bool       `json:"go,omitempty"`
	Signal       int        `json:"signal,omitempty"`
	StillStopped bool       `json:"stillStopped,omitempty"`
	Remount      bool       `json:"remount,omitempty"` // mount /etc/resolv.conf again if needed

	// From init.
	Warning string      `json:"warning,omitempty"`
	Started bool        `json:"started,omitempty"`
	Failed  *initFailed `json:"failed,omitempty"`
	Stopped bool        `json:"stopped,omitempty"`
	Stop    bool        `json:"stop,omitempty"`
}

type initSetup struct {
	Argv         [][]byte `json:"argv"`
	Umask        int      `json:"umask"`
	Setsid       bool     `json:"setsid"`
	KeepFDs      []int    `json:"keepFDs"`
	LimitSockets bool     `json:"limitSockets"`
	Keep         *keptIDs `json:"keep,omitempty"` // COMMAND's ids; nil: root
	ResolvConf   []byte   `json:"resolvConf"`
	Hide         [][]byte `json:"hide"`
}

type initFailed struct {
	Status int    `json:"status"`
	Msg    []byte `json:"msg"`
}

func toBytes(texts []string) [][]byte {
	out := make([][]byte, len(texts))
	for i, t := range texts {
		out[i] = []byte(t)
	}
	return out
}

func toStrings(texts [][]byte) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = string(t)
	}
	return out
}
