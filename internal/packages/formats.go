package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// nfpmConfig is nfpm's configuration for one architecture. Everything that nfpm would take from
// the machine is given.
func (j *job) nfpmConfig(arch string, files []file) string {
	stamp := j.epoch.Format(time.RFC3339)
	var b strings.Builder
	fmt.Fprintf(&b, `name: slirpctl
arch: %s
platform: linux
version: %q
version_schema: semver
section: net
priority: optional
maintainer: slirpctl maintainers <maintainers@slirpctl.invalid>
description: |
  Network namespaces with a network, without root
  slirpctl drives slirp4netns: it starts it with the right options, watches over
  it, forwards ports into the namespace, and says what the host can do.
homepage: https://github.com/slirpctl/slirpctl
license: Apache-2.0
mtime: %s
rpm:
  buildhost: localhost
  group: Applications/Internet
overrides:
  deb:
    depends: [slirp4netns]
    recommends: [uidmap]
  rpm:
    depends: [slirp4netns]
    recommends: [shadow-utils]
  apk:
    depends: [slirp4netns]
contents:
`, arch, packageVersion(j.version), stamp)
	for _, f := range files {
		if f.format == "tar" {
			continue
		}
		fmt.Fprintf(&b, "  - {src: %q, dst: %q, packager: %q, file_info: {mode: 0%o, owner: root, group: root, mtime: %s}}\n", f.from, f.to, f.format, f.mode, stamp)
	}
	return b.String()
}

// packageVersion makes what every package format takes of a version of git describe: "v1.2.0" and
// "v1.2.0-3-gabc" stay in order, and what has no tag is below all.
func packageVersion(version string) string {
	v := strings.TrimPrefix(version, "v")
	v = strings.TrimSuffix(v, "-dirty")
	if v == "" || v[0] < '0' || v[0] > '9' || !strings.Contains(v, ".") {
		return "0.0.0+" + strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return '.'
		}, v)
	}
	tag, rest, ok := strings.Cut(v, "-")
	if !ok {
		return v
	}
	return tag + "+" + strings.ReplaceAll(rest, "-", ".")
}

// tarball writes the files below a directory top, as they lie from /usr on.
func (j *job) tarball(path, top string, files []file) error {
	var b bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	w := tar.NewWriter(zw)
	for _, f := range files {
		if f.format != "" && f.format != "tar" {
			continue
		}
		data, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		h := &tar.Header{
			Name: top + strings.TrimPrefix(f.to, "/usr"), Mode: int64(f.mode), Size: int64(len(data)),
			ModTime: j.epoch, Uname: "root", Gname: "root", Format: tar.FormatUSTAR, Typeflag: tar.TypeReg,
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := zw.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// spdxDocument is as much of SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/) as is needed here.
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	Name      string         `json:"name"`
	ID        string         `json:"SPDXID"`
	Version   string         `json:"versionInfo"`
	Location  string         `json:"downloadLocation"`
	Analyzed  bool           `json:"filesAnalyzed"`
	Concluded string         `json:"licenseConcluded"`
	Declared  string         `json:"licenseDeclared"`
	Copyright string         `json:"copyrightText"`
	Checksums []spdxChecksum `json:"checksums,omitempty"`
	Refs      []spdxRef      `json:"externalRefs"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// sbom lists what is linked into a program, from what Go's linker wrote into it.
func (j *job) sbom(binary string) ([]byte, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	const none = "NOASSERTION"
	module := func(i int, path, version string) spdxPackage {
		return spdxPackage{
			Name: path, ID: fmt.Sprintf("SPDXRef-Package-%d", i), Version: version, Location: "https://pkg.go.dev/" + path,
			Concluded: none, Declared: none, Copyright: none,
			Refs: []spdxRef{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + version}},
		}
	}
	main := module(0, info.Main.Path, j.version)
	main.Declared = "Apache-2.0"
	main.Checksums = []spdxChecksum{{"SHA256", sum}}
	std := module(1, "stdlib", strings.TrimPrefix(info.GoVersion, "go"))
	std.Location = "https://go.dev/dl/"
	doc := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "slirpctl-" + j.version,
		Namespace: "https://github.com/slirpctl/slirpctl/spdx/" + sum,
		Creation:  spdxCreation{j.epoch.Format(time.RFC3339), []string{"Tool: slirpctl internal/packages"}},
		Packages:  []spdxPackage{main, std},
	}
	for i, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		doc.Packages = append(doc.Packages, module(i+2, dep.Path, dep.Version))
	}
	doc.Relationships = []spdxRelationship{{doc.ID, "DESCRIBES", main.ID}}
	for _, p := range doc.Packages[1:] {
		doc.Relationships = append(doc.Relationships, spdxRelationship{main.ID, "DEPENDS_ON", p.ID})
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	return append(out, '\n'), err
}
