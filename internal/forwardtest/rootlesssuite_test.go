package forwardtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rootless-containers/rootlesskit/v3/pkg/api"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/testsuite"
)

// envRootlessKit is set in the processes that RootlessKit's tests start.
const envRootlessKit = "rootlesskit-port-testsuite.mode"

// TestRootlessKitSuite: RootlessKit's own tests of its transparent mode pass. That of UDP wants the
// address not to be kept, which direct does.
func TestRootlessKitSuite(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		for _, h := range []string{"rootlesskit", "direct"} {
			t.Run(h, func(t *testing.T) {
				d := func() port.ParentDriver {
					return &rootlessDriver{w: newWorld(t), pid: filepath.Join(tempDir(t), "pid"), handler: h}
				}
				testsuite.RunTCPTransparent(t, d)
				if h == "rootlesskit" {
					testsuite.RunUDPTransparent(t, d)
				}
			})
		}
	})
}

// rootlessChild is what RootlessKit's tests run inside: it only says which process it is.
type rootlessChild struct{}

func (rootlessChild) RunChildDriver(opaque map[string]string, quit <-chan struct{}, _ string) error {
	tmp := opaque["pid"] + ".tmp"
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, opaque["pid"]); err != nil {
		return err
	}
	<-quit
	return nil
}

// rootlessDriver is an instance of slirpctl as a port driver of RootlessKit.
type rootlessDriver struct {
	w            *world
	pid, handler string
}

func (d *rootlessDriver) OpaqueForChild() map[string]string { return map[string]string{"pid": d.pid} }

func (d *rootlessDriver) RunParentDriver(ready chan struct{}, quit <-chan struct{}, _ *port.ChildContext) error {
	var pid []byte
	eventually(d.w.t, func() (err error) {
		pid, err = os.ReadFile(d.pid)
		return err
	})
	up := d.w.run("up", "-d", "--name", "x", "--port-handler", d.handler, "--source-ip-transparent", string(pid))
	if up.code != 0 {
		return errors.New(up.err)
	}
	ready <- struct{}{}
	<-quit
	if down := d.w.run("down", "x"); down.code != 0 {
		return errors.New(down.err)
	}
	return nil
}

// AddPort forwards to the namespace's 127.0.0.1, as RootlessKit does without an address.
func (d *rootlessDriver) AddPort(_ context.Context, spec port.Spec) (*port.Status, error) {
	r := d.w.run("forward", "add", "x", "--format", "{{.id}}", fmt.Sprintf("%s:%d:127.0.0.1:%d/%s", spec.ParentIP, spec.ParentPort, spec.ChildPort, spec.Proto))
	if r.code != 0 {
		return nil, errors.New(r.err)
	}
	id, err := strconv.Atoi(strings.TrimSpace(r.out))
	return &port.Status{ID: id, Spec: spec}, err
}

func (d *rootlessDriver) RemovePort(_ context.Context, id int) error {
	if r := d.w.run("forward", "remove", "x", strconv.Itoa(id)); r.code != 0 {
		return errors.New(r.err)
	}
	return nil
}

func (d *rootlessDriver) Info(context.Context) (*api.PortDriverInfo, error) {
	return nil, errors.ErrUnsupported
}

func (d *rootlessDriver) ListPorts(context.Context) ([]port.Status, error) {
	return nil, errors.ErrUnsupported
}
