package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/egress"
)

// egressLog prints the lines of an egress log that are written to it.
type egressLog struct {
	w                    io.Writer
	follow, denied, json bool
	rest                 []byte
}

func (l *egressLog) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	var out bytes.Buffer
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			break
		}
		l.line(&out, line)
		l.rest = rest
	}
	_, err := l.w.Write(out.Bytes())
	return len(b), err
}

func (l *egressLog) line(out *bytes.Buffer, line []byte) {
	var r struct {
		egress.Record
		Msg string `json:"msg"` // of the log's own
	}
	if json.Unmarshal(line, &r) != nil {
		return
	}
	switch {
	case r.Msg != "" && !l.json:
		fmt.Fprintf(out, "-- %s\n", r.Msg)
	case l.denied && r.Verdict == egress.Allowed:
	case l.json:
		out.Write(line)
		out.WriteByte('\n')
	default:
		out.WriteString(recordText(r.Record))
	}
}

// recordText is a record as people read it. Lines are aligned without knowing those that come.
func recordText(r egress.Record) string {
	target := cmp.Or(r.Name, r.IP)
	if r.Port != 0 {
		target = net.JoinHostPort(target, strconv.Itoa(int(r.Port)))
	}
	why := cmp.Or(r.Reason, r.Rule)
	if r.Name != "" && r.IP != "" {
		why = r.IP + "  " + why
	}
	text := fmt.Sprintf("%s  %-7s  %-4s  %-40s  in %-8s out %-8s %6.1f s  %s", r.Time.Format("2006-01-02 15:04:05"), r.Verdict, r.Proto, target,
		byteText(r.BytesIn), byteText(r.BytesOut), float64(r.DurationMs)/1000, why)
	return strings.TrimRight(text, " ") + "\n"
}

// byteText returns a number of bytes in the largest unit that leaves a whole part.
func byteText(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"Ki", "Mi", "Gi", "Ti"} {
		if f /= 1024; f < 1024 {
			break
		}
	}
	return fmt.Sprintf("%.1f%s", f, unit)
}

// noteDenials says on stderr what was denied, how often, and which rule would allow it.
func (a *app) noteDenials(first []egress.Denial, more int) {
	for _, d := range first {
		times := ""
		if d.Times > 1 {
			times = fmt.Sprintf(", %d times", d.Times)
		}
		what := d.Reason
		if d.Allow != "" {
			what = "allow it with --allow '" + d.Allow + "'"
		}
		a.note("egress: denied %s%s: %s", d.Target, times, what)
	}
	if more > 0 {
		a.note("egress: denied others %d times", more)
	}
}
