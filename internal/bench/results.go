package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// results has the results of one run. It is saved as JSON beside the report, which is generated
// from it alone.
type results struct {
	Date        string             `json:"date"`
	Machine     hostInfo           `json:"machine"`
	Runs        int                `json:"runs"`
	Slirp       string             `json:"slirp4netns"`
	Slirpctl    string             `json:"slirpctl"`
	Contestants []*contestant      `json:"contestants"`
	Samples     map[string]samples `json:"samples"` // by metric
	Counted     map[string]string  `json:"counted"` // by contestant: the processes whose time counts
	Failures    []string           `json:"failures,omitempty"`
}

// samples are a metric's values, by contestant, one for each round.
type samples map[string][]value

// value is a number that JSON can hold: NaN, a round that failed, is null.
type value float64

func (v value) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, "%.6g", float64(v)), nil
}

func (v *value) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*v = value(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(v))
}

// hostInfo has the properties of the host that affect the results.
type hostInfo struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	MemoryGiB int    `json:"memoryGiB"`
	Kernel    string `json:"kernel"`
	System    string `json:"system"`
	User      string `json:"user"`
	TCP       string `json:"tcp"` // congestion control
}

func thisHost(uid int) hostInfo {
	m := hostInfo{Cores: runtime.NumCPU(), User: fmt.Sprintf("uid %d", uid)}
	tcp, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	m.TCP = strings.TrimSpace(string(tcp))
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.Processor = strings.TrimSpace(v)
			break
		}
	}
	mem, _ := os.ReadFile("/proc/meminfo")
	m.MemoryGiB = int((field(mem, "MemTotal:") + 1<<19) >> 20)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	os, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(os)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			m.System = strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return m
}

// add records one round of a contestant.
func (r *results) add(metric, contestant string, v float64) {
	if r.Samples[metric] == nil {
		r.Samples[metric] = samples{}
	}
	r.Samples[metric][contestant] = append(r.Samples[metric][contestant], value(v))
}

// values returns a metric's values of a contestant; rounds that failed are NaN.
func (r *results) values(metric, contestant string) []float64 {
	var out []float64
	for _, v := range r.Samples[metric][contestant] {
		out = append(out, float64(v))
	}
	return out
}

// good returns the values without failed rounds.
func (r *results) good(metric, contestant string) []float64 {
	var out []float64
	for _, v := range r.values(metric, contestant) {
		if !math.IsNaN(v) {
			out = append(out, v)
		}
	}
	return out
}

func (r *results) contestant(id string) *contestant {
	for _, c := range r.Contestants {
		if c.ID == id {
			return c
		}
	}
	return &contestant{ID: id, Name: id}
}

func (r *results) save(path string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

func loadResults(path string) (*results, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r results
	return &r, json.Unmarshal(data, &r)
}

func newResults(w *world) *results {
	return &results{
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Machine: thisHost(w.uid), Runs: w.runs,
		Samples: map[string]samples{}, Counted: map[string]string{},
	}
}
