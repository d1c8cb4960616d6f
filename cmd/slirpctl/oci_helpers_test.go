package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// bundleHelper makes a bundle with busybox as root file system, as `runc spec` formats it:
//
//	bundle [-netns] [-annotate K=V]... [-bind DIR]... [-cap CAP]... DIR PROGRAM [ARG...]
//
// It has no network namespace, unless -netns is given, directories of the host's where -bind says so, and capabilities
// besides the usual ones.
func bundleHelper(args []string) int {
	fs := flag.NewFlagSet("bundle", flag.ExitOnError)
	netns := fs.Bool("netns", false, "")
	annotations := map[string]string{}
	fs.Func("annotate", "", func(s string) error {
		k, v, _ := strings.Cut(s, "=")
		annotations[k] = v
		return nil
	})
	var binds, caps []any
	fs.Func("bind", "", func(s string) error {
		binds = append(binds, map[string]any{"destination": s, "source": s, "type": "none", "options": []string{"rbind"}})
		return nil
	})
	fs.Func("cap", "", func(s string) error { caps = append(caps, s); return nil })
	_ = fs.Parse(args)
	dir, program := fs.Arg(0), fs.Args()[1:]
	if err := makeRootfs(filepath.Join(dir, "rootfs")); err != nil {
		return failed("bundle: %v", err)
	}
	if err := runtimeDir(); err != nil {
		return failed("bundle: %v", err)
	}
	spec := exec.Command("runc", "spec", "--bundle", dir)
	if os.Geteuid() != 0 {
		spec.Args = append(spec.Args, "--rootless")
	}
	if out, err := spec.CombinedOutput(); err != nil {
		return failed("bundle: %v: %s", err, out)
	}
	file := filepath.Join(dir, "config.json")
	if err := editBundle(file, program, annotations, *netns, binds, caps); err != nil {
		return failed("bundle: %v", err)
	}
	return 0
}

// runtimeDir returns a directory for the runtimes' files, separate from slirpctl's state.
func runtimeDir() error {
	dir := filepath.Join(os.Getenv("S"), "oci-run")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Setenv("XDG_RUNTIME_DIR", dir)
}

func makeRootfs(root string) error {
	for _, sub := range []string{"bin", "proc", "dev", "sys", "etc", "tmp", "www"} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := copyFile(busybox, filepath.Join(root, "bin/busybox"), 0o755); err != nil {
		return err
	}
	for _, applet := range []string{"sh", "ip", "httpd", "nslookup", "cat", "sleep", "grep", "wget", "true", "false"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(root, "www/index.html"), []byte("from the container\n"), 0o644)
}

func editBundle(file string, program []string, annotations map[string]string, netns bool, binds, caps []any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c map[string]any
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	process, root, linux := c["process"].(map[string]any), c["root"].(map[string]any), c["linux"].(map[string]any)
	process["terminal"], process["args"], root["readonly"] = false, program, false
	c["mounts"] = append(c["mounts"].([]any), binds...)
	sets := process["capabilities"].(map[string]any)
	for name, set := range sets {
		if name != "ambient" {
			sets[name] = append(set.([]any), caps...)
		}
	}
	if len(annotations) > 0 {
		c["annotations"] = annotations
	}
	var namespaces []any
	for _, ns := range linux["namespaces"].([]any) {
		switch typ := ns.(map[string]any)["type"]; {
		case typ == "network":
		case typ == "user" && os.Getenv("RUNTIME") == "crun": // see ociHelper
			delete(linux, "uidMappings")
			delete(linux, "gidMappings")
		default:
			namespaces = append(namespaces, ns)
		}
	}
	if os.Geteuid() == 0 {
		// Otherwise it is the container's id, which another script's container may use too.
		linux["cgroupsPath"] = "/slirpctl-test-" + filepath.Base(os.Getenv("S")) + "-" + filepath.Base(filepath.Dir(file))
	}
	if netns {
		namespaces = append(namespaces, map[string]any{"type": "network"})
	}
	linux["namespaces"] = namespaces
	if data, err = json.MarshalIndent(c, "", "\t"); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// ociHelper runs $RUNTIME with containers of this script only.
//
// An ordinary user runs crun in a user namespace, as Podman does: crun makes its container's
// process undumpable, so that outside a user namespace only root can open its namespaces
// (ptrace(2), "Ptrace access mode checking").
func ociHelper(args []string) int {
	name := os.Getenv("RUNTIME")
	program := name
	if path := os.Getenv("RUNTIME_PATH"); path != "" {
		program = path // the name on PATH is this helper
	}
	argv := []string{program, "--root", filepath.Join(os.Getenv("S"), "oci")}
	if name == "crun" {
		argv = append(argv, "--cgroup-manager=disabled")
		if os.Geteuid() != 0 {
			const view = `mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null; exec "$@"` // it may be mounted already
			argv = append([]string{"unshare", "--map-root-user", "--mount", "--cgroup", "sh", "-c", view, "oci"}, argv...)
		}
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return failed("oci: %v", err)
	}
	if err := runtimeDir(); err != nil {
		return failed("oci: %v", err)
	}
	return failed("oci: %v", syscall.Exec(path, append(argv, args...), os.Environ()))
}

// notified SOCKET FILE PROGRAM [ARG...] runs a program as systemd runs a service of Type=notify, and
// writes the notifications to FILE, one a line.
func notified(args []string) int {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: args[0], Net: "unixgram"})
	if err != nil {
		return failed("notified: %v", err)
	}
	defer conn.Close()
	out, err := os.Create(args[1])
	if err != nil {
		return failed("notified: %v", err)
	}
	const last = "\x00" // received after everything sent before
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil || string(buf[:n]) == last {
				return
			}
			fmt.Fprintln(out, string(buf[:n]))
		}
	}()
	cmd := exec.Command(args[2], args[3:]...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+args[0])
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if self, err := net.DialUnix("unixgram", nil, conn.LocalAddr().(*net.UnixAddr)); err != nil {
		return failed("notified: %v", err)
	} else if _, err := self.Write([]byte(last)); err != nil {
		return failed("notified: %v", err)
	}
	<-done
	if err != nil && cmd.ProcessState == nil {
		return failed("notified: %v", err)
	}
	return cmd.ProcessState.ExitCode()
}
