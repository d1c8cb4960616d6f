package main

import (
	"math"
)

// target is a line of the table of targets: what slirpctl must reach, as a ratio to a peer in
// the same rounds or, without a peer, as an absolute figure.
type target struct {
	What, Metric, Us string
	Peer             string // "": none
	How              comparison
	Bound            float64
}

type comparison int

const (
	ratioLeast comparison = iota // us / peer, at least
	ratioMost                    // us / peer, at most
	moreMost                     // us - peer, at most
	most                         // us, at most
)

// targets are the project's targets, in the order of its table. A peer stands for every installed
// version of it.
var targets = []target{
	{"TCP in, one stream", "tcp-in", "direct", "rootlesskit", ratioLeast, 1.15},
	{"TCP in, one stream", "tcp-in", "direct", "pasta", ratioLeast, 1.3},
	{"TCP out, one stream", "tcp-out", "direct", "rootlesskit", ratioLeast, 1.15},
	{"TCP out, one stream", "tcp-out", "direct", "pasta", ratioLeast, 1.3},
	{"connections, 1 client", "conn-1", "direct", "rootlesskit", ratioLeast, 1.8},
	{"connections, 1 client", "conn-1", "direct", "pasta", ratioLeast, 1.1},
	{"connections, 16 clients", "conn-16", "direct", "rootlesskit", ratioLeast, 1.8},
	{"connections, 16 clients", "conn-16", "direct", "pasta", ratioLeast, 1.2},
	{"processor time per GiB in", "cpu-in", "direct", "rootlesskit", ratioMost, 0.8},
	{"processor time per GiB in", "cpu-in", "direct", "pasta", ratioMost, 1},
	{"processor time per GiB out", "cpu-out", "direct", "rootlesskit", ratioMost, 0.8},
	{"processor time per GiB out", "cpu-out", "direct", "pasta", ratioMost, 1},
	{"added latency, one processor", "rtt-one", "direct", "rootlesskit", ratioMost, 0.75},
	{"UDP under 1 % loss", "udp", "direct", "rootlesskit", ratioLeast, 1.5},
	{"up -- true", "up-true", "slirpctl", "bare", ratioMost, 1.15},
	{"up -- true", "up-true", "slirpctl", "rootlesskit", ratioMost, 0.9},
	{"up -- true", "up-true", "slirpctl", "pasta", ratioMost, 0.75},
	{"up -d PID, ms more", "up-detached", "slirpctl", "bare", moreMost, 25},
	{"memory of an instance, MiB", "memory", "direct", "", most, 3},
	{"memory of an instance", "memory", "direct", "rootlesskit", ratioMost, 1.0 / 3},
	{"memory of the supervisor, MiB", "memory-supervisor", "direct", "", most, 10},
	{"processor time of 50 idle instances, ms/s", "idle-cpu", "direct", "", most, 0},
	{"wake-ups of their supervisors and helpers, 1/s", "idle-own", "direct", "", most, 0},
	{"1,000 forwards added", "add-1000", "direct", "rootlesskit", ratioMost, 0.5},
	{"1,000 forwards listed", "list-1000", "direct", "rootlesskit", ratioMost, 0.5},
	{"1,000 forwards removed", "remove-1000", "direct", "rootlesskit", ratioMost, 0.5},
	{"10,000 forwards, last over first", "forwards-10000", "direct", "", most, 1.5},
	{"200 instances, last over first", "instances-200", "slirpctl", "", most, 1.5},
	{"through slirp4netns, out", "slirp-out", "slirp-open", "bare-open", ratioLeast, 0.97},
	{"through slirp4netns, the answer", "slirp-back", "slirp-open", "bare-open", ratioLeast, 0.97},
	{"slirp4netns handler, in", "hostfwd-in", "slirp-open", "bare-open", ratioLeast, 0.97},
	{"slirp4netns handler, out", "hostfwd-out", "slirp-open", "bare-open", ratioLeast, 0.97},
	{"version, ms", "version", "slirpctl", "", most, 8},
	{"size of the binary, MB", "size", "slirpctl", "", most, 16},
	{"healing, ms", "heal", "handler-slirp4netns", "", most, 300},
	{"egress rules: TCP out", "egress-out", "gateway-deny", "slirp-open", ratioLeast, 1},
	{"egress rules: TCP out", "egress-out", "gateway-deny", "pasta-out", ratioLeast, 1},
	{"egress rules: TCP, the answer", "egress-back", "gateway-deny", "slirp-open", ratioLeast, 2},
	{"egress rules: TCP, the answer", "egress-back", "gateway-deny", "pasta-out", ratioLeast, 1},
	{"egress rules: connect and four bytes", "egress-connect", "gateway-deny", "bare-open", ratioMost, 1.4},
	{"egress rules: a denial, µs", "egress-denied", "gateway-deny", "", most, 5000},
	{"egress rules: a cached name, µs", "egress-name", "gateway-deny", "", most, 300},
	{"egress rules: up -d, ms more", "egress-up", "gateway-deny", "slirp-open", moreMost, 30},
	{"egress rules: a command", "egress-run", "slirpctl", "srt", ratioMost, 1},
	{"egress rules: a command", "egress-run", "slirpctl", "fence", ratioMost, 1},
	{"egress rules: 10,000, over with 4", "egress-10000", "gateway-deny", "", most, 1.1},
	{"egress rules: 1,000 changed, ms", "egress-change", "gateway-deny", "", most, 20},
	{"egress rules: memory, MiB more", "egress-memory", "gateway-deny", "slirp-open", moreMost, 4},
	{"egress rules: wake-ups when idle, 1/s", "egress-idle", "gateway-deny", "", most, 0},
}

// verdict is a target and its result.
type verdict struct {
	target
	Against  *contestant // nil: none
	Measured spread
	N        int
}

// judge compares every target with the measurements.
func judge(r *results) []verdict {
	var out []verdict
	for _, t := range targets {
		if t.Peer == "" {
			v := r.good(t.Metric, t.Us)
			out = append(out, verdict{t, nil, spreadOf(v), len(v)})
			continue
		}
		us := r.values(t.Metric, t.Us)
		for _, id := range []string{t.Peer, t.Peer + "-debian"} {
			peer := r.values(t.Metric, id)
			if len(peer) == 0 {
				continue
			}
			v := paired(us, peer, func(a, b float64) float64 {
				if t.How == moreMost {
					return a - b
				}
				return a / b
			})
			out = append(out, verdict{t, r.contestant(id), spreadOf(v), len(v)})
		}
	}
	return out
}

// met reports whether the median reaches the target.
func (v verdict) met() bool {
	if v.How == ratioLeast {
		return v.Measured.Median >= v.Bound
	}
	return v.Measured.Median <= v.Bound // false for NaN
}

// score returns 1 if the target is just reached, 2 if the result is twice as good.
func (v verdict) score() float64 {
	s := v.Measured.Median / v.Bound
	if v.How != ratioLeast {
		s = 1 / s
	}
	switch {
	case v.Bound == 0 && v.Measured.Median == 0:
		return 1
	case v.Measured.Median <= 0 && v.How != ratioLeast:
		return math.Inf(1)
	}
	return s
}
