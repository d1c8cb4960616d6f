package main

import (
	"bytes"
	"encoding/xml"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestReport compares the report and the plots with what results.json gives.
func TestReport(t *testing.T) {
	r, err := loadResults("../../docs/bench/results.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeReport(r, dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "bench/*.svg"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%q, %v", files, err)
	}
	there, err := filepath.Glob("../../docs/bench/*.svg")
	if err != nil || len(there) != len(files) {
		t.Errorf("docs/bench has %q, the results give %q: %v", there, files, err)
	}
	for _, file := range append(files, filepath.Join(dir, "benchmarks.md")) {
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			t.Fatal(err)
		}
		want, err1 := os.ReadFile(file)
		got, err2 := os.ReadFile(filepath.Join("../../docs", rel))
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what results.json gives (%v, %v): bin/bench -render", rel, err1, err2)
		}
		if regexp.MustCompile(`>[^<]*pasta( of the system)?</text>`).Match(want) || bytes.Contains(want, []byte("unknown version")) {
			t.Errorf("%s: a pasta without a version", rel)
		}
		if strings.HasSuffix(file, ".svg") {
			checkPlot(t, rel, want)
		}
	}
}

// shape is an element of a plot.
type shape struct {
	XMLName                           xml.Name
	X, Y, X1, X2, Y1, Y2              float64 `xml:",attr"`
	Width, Height                     float64 `xml:",attr"`
	Size                              float64 `xml:"font-size,attr"`
	Anchor                            string  `xml:"text-anchor,attr"`
	Text                              string  `xml:",chardata"`
	left, right, ascender, underlined float64
}

func (s *shape) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	type plain shape
	if err := d.DecodeElement((*plain)(s), &xml.StartElement{Name: start.Name, Attr: lowerAsFields(start.Attr)}); err != nil {
		return err
	}
	width := float64(utf8.RuneCountInString(s.Text)) * s.Size * letterWidth / 13
	s.left = s.X - map[string]float64{"middle": width / 2, "end": width}[s.Anchor]
	s.right, s.ascender, s.underlined = s.left+width, s.Y-s.Size*0.75, s.Y+s.Size*0.2
	return nil
}

// lowerAsFields gives attributes the names of fields: x1 is X1.
func lowerAsFields(attrs []xml.Attr) []xml.Attr {
	attrs = slices.Clone(attrs)
	for i, a := range attrs {
		if !strings.Contains(a.Name.Local, "-") {
			attrs[i].Name.Local = strings.ToUpper(a.Name.Local[:1]) + a.Name.Local[1:]
		}
	}
	return attrs
}

// checkPlot: no text is cut by the edge, and no line goes through a text.
func checkPlot(t *testing.T, name string, svg []byte) {
	t.Helper()
	var doc struct {
		Width  float64 `xml:"width,attr"`
		Height float64 `xml:"height,attr"`
		Shapes []shape `xml:",any"`
	}
	if err := xml.Unmarshal(svg, &doc); err != nil {
		t.Fatal(err)
	}
	texts := 0
	for _, text := range doc.Shapes {
		if text.XMLName.Local != "text" {
			continue
		}
		texts++
		if text.left < 0 || text.right > doc.Width || text.ascender < 0 || text.underlined > doc.Height {
			t.Errorf("%s: %q reaches from %.0f to %.0f of %.0f", name, text.Text, text.left, text.right, doc.Width)
		}
		for _, line := range doc.Shapes {
			if line.XMLName.Local == "line" && line.X1 > text.left && line.X1 < text.right && line.Y1 < text.underlined && line.Y2 > text.ascender {
				t.Errorf("%s: a line at %.0f goes through %q, from %.0f to %.0f", name, line.X1, text.Text, text.left, text.right)
			}
		}
	}
	if texts < 10 {
		t.Errorf("%s: only %d texts: this test looks at the wrong thing", name, texts)
	}
}

func TestWorthDrawing(t *testing.T) {
	one := bar{"one", spread{1, 1, 1}, ourBar}
	zero := bar{"zero", spread{}, ourBar}
	nan := bar{"failed", spread{math.NaN(), math.NaN(), math.NaN()}, ourBar}
	for _, c := range []struct {
		bars []bar
		want bool
	}{
		{nil, false},
		{[]bar{one}, false},
		{[]bar{zero, zero}, false},
		{[]bar{nan, nan}, false},
		{[]bar{one, zero}, true},
		{[]bar{one, nan}, true},
	} {
		if got := (panel{Bars: c.bars}).worthDrawing(); got != c.want {
			t.Errorf("%v: %t", c.bars, got)
		}
	}
}

// TestPlotLongest: the longest labels and numbers fit, also at the mark.
func TestPlotLongest(t *testing.T) {
	long := bar{strings.Repeat("long ", 20), spread{123456, 111111, 222222}, peerBar}
	checkPlot(t, "long", []byte(svg("long", []panel{{
		Title: "title", Note: strings.Repeat("note ", 10), Unit: "unit", Mark: 100000, MarkText: "the mark",
		Bars: []bar{long, {"short", spread{99999, 99999, 99999}, ourBar}, {"at the mark", spread{100000, 90000, 100000}, ourBar}},
	}})))
}
