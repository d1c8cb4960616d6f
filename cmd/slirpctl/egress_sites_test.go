//go:build programs

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"slices"
	"time"
)

func init() { helperPrograms["sites"] = sites }

// sites serves, at 192.0.2.53, the package indexes and the forge that programs know by name, on ports 80 and 443. It
// writes the certificate of its authority to ca.pem.
func sites([]string) int {
	ca, err := newAuthority()
	if err != nil {
		return failed("sites: %v", err)
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return failed("sites: %v", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return failed("sites: %v", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprintln(w, "it works")
	})
	mux.HandleFunc("ws.example/", webSocket)
	mux.Handle("github.com/", &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + dir}})
	mux.Handle("debs.example/", http.FileServer(http.Dir("debs")))
	pages := packagePages()
	for _, page := range slices.Sorted(maps.Keys(pages)) {
		mux.HandleFunc(page, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(pages[page]) })
	}
	quiet, protocols := log.New(io.Discard, "", 0), new(http.Protocols)
	protocols.SetHTTP1(true) // this program is built without HTTP/2
	secure := &http.Server{Addr: "192.0.2.53:443", Handler: mux, ErrorLog: quiet, Protocols: protocols, TLSConfig: &tls.Config{GetCertificate: ca.certify}}
	go func() { os.Exit(failed("sites: %v", secure.ListenAndServeTLS("", ""))) }()
	plain := &http.Server{Addr: "192.0.2.53:80", Handler: mux, ErrorLog: quiet}
	return failed("sites: %v", plain.ListenAndServe())
}

// packagePages are a package called demo in the indexes of npm, pip and Go.
func packagePages() map[string][]byte {
	tarball := tgz("package/package.json", `{"name":"demo","version":"1.0.0"}`)
	sum := sha1.Sum(tarball)
	wheel := zipped(map[string]string{
		"demo.py":                     "print('it works')\n",
		"demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
		"demo-1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"demo-1.0.dist-info/RECORD":   "demo.py,,\ndemo-1.0.dist-info/METADATA,,\ndemo-1.0.dist-info/WHEEL,,\ndemo-1.0.dist-info/RECORD,,\n",
	})
	mod := "module demo.example/demo\n"
	return map[string][]byte{
		"npm.example/demo": fmt.Appendf(nil, `{"name":"demo","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"demo","version":"1.0.0",`+
			`"dist":{"shasum":"%x","tarball":"https://npm.example/demo/-/demo-1.0.0.tgz"}}}}`, sum),
		"npm.example/demo/-/demo-1.0.0.tgz": tarball,
		"pypi.org/simple/demo/": fmt.Appendf(nil, `<!DOCTYPE html><a href="https://files.pythonhosted.org/demo-1.0-py3-none-any.whl#sha256=%x">demo-1.0-py3-none-any.whl</a>`,
			sha256.Sum256(wheel)),
		"files.pythonhosted.org/demo-1.0-py3-none-any.whl": wheel,
		"goproxy.example/demo.example/demo/@v/v1.0.0.info": []byte(`{"Version":"v1.0.0"}`),
		"goproxy.example/demo.example/demo/@v/v1.0.0.mod":  []byte(mod),
		"goproxy.example/demo.example/demo/@v/v1.0.0.zip": zipped(map[string]string{
			"demo.example/demo@v1.0.0/go.mod": mod, "demo.example/demo@v1.0.0/demo.go": "package demo\n",
		}),
	}
}

func tgz(name, text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	_ = t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
	_, _ = io.WriteString(t, text)
	t.Close()
	z.Close()
	return b.Bytes()
}

func zipped(files map[string]string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, _ := z.Create(name)
		_, _ = io.WriteString(w, files[name])
	}
	z.Close()
	return b.Bytes()
}

// webSocket upgrades a connection, and sends the first message back (RFC 6455).
func webSocket(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	head := make([]byte, 6) // a short text message: type, length, mask
	if _, err := io.ReadFull(rw, head); err != nil {
		return
	}
	text := make([]byte, head[1]&0x7f)
	if _, err := io.ReadFull(rw, text); err != nil {
		return
	}
	for i := range text {
		text[i] ^= head[2+i%4]
	}
	_, _ = c.Write(append([]byte{0x81, byte(len(text))}, text...))
	_, _ = io.Copy(io.Discard, rw)
}

// authority makes certificates for every name.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return a, os.WriteFile("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func (a *authority) certify(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hello.ServerName}, DNSNames: []string{hello.ServerName},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, a.key.Public(), a.key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}, err
}
