package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The environment of TestOCIScripts, in addition to what script_test.go gives to a test process.
const (
	envOCI      = "SLIRPCTL_TEST_OCI"      // set: this is the test process, in the mount namespace that TestOCI made
	envExamples = "SLIRPCTL_TEST_EXAMPLES" // the path of docs/examples
	envOwnDNS   = "SLIRPCTL_TEST_OWN_DNS"  // set: dnsd is the host's name server
)

func init() {
	helperPrograms["bundle"] = bundleHelper
	helperPrograms["oci"] = ociHelper
	helperPrograms["ociview"] = ociView
	helperPrograms["notified"] = notified
}

// TestOCI runs the scripts of testdata/oci with runc and with crun, as root and as an ordinary
// user, on a host with one version of control groups and a name server of the test's own.
func TestOCI(t *testing.T) {
	if os.Geteuid() != 0 {
		runOCI(t, "")
		t.Run("names", func(t *testing.T) {
			lacking(t, "needs root, to put a name server of the test's own behind resolv.conf; the scripts ran without it")
		})
		return
	}
	t.Run("root", func(t *testing.T) { runOCI(t, "root") })
	t.Run("user", func(t *testing.T) {
		name := os.Getenv("SLIRPCTL_TEST_USER")
		if name == "" {
			lacking(t, "there is no SLIRPCTL_TEST_USER to run as: use make test, or .ci/testenv go test")
		}
		runOCI(t, name)
	})
}

// runOCI runs TestOCIScripts in a process of its own, as the named user or the current one.
func runOCI(t *testing.T, name string) {
	for _, program := range []string{"runc", "crun", "busybox", "unshare", "bwrap", "jq", "bash", "python3", "curl", "systemd-analyze"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, "%s is not installed; make deps installs it", program)
		}
	}
	bin := programs.path(t)
	dir, err := os.MkdirTemp("", "o")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	scripts, examples, home := filepath.Join(dir, "oci"), filepath.Join(dir, "examples"), filepath.Join(dir, "home")
	test := filepath.Join(dir, "cmd.test")
	for _, err := range []error{
		os.Chmod(dir, 0o755), copyFile(self, test, 0o755), os.Mkdir(home, 0o755),
		os.CopyFS(scripts, os.DirFS("testdata/oci")), os.CopyFS(examples, os.DirFS(filepath.Join(repoRoot(t), "docs/examples"))),
		os.Chmod(scripts, 0o755), os.Chmod(examples, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// To run a single script: SLIRPCTL_TEST_OCI_RUN=runc/hooks.
	which := "^TestOCIScripts$/" + os.Getenv("SLIRPCTL_TEST_OCI_RUN")
	args := []string{test, "-test.run=" + which, "-test.v=" + strconv.FormatBool(testing.Verbose()), "-test.parallel=3"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+min(max(time.Until(deadline)-5*time.Second, time.Second), 10*time.Minute).String())
	}
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(home, uid, gid); err != nil {
			t.Fatal(err)
		}
		args = append([]string{filepath.Join(bin, "ociview"), u.Uid, u.Gid}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "USER=" + name, "TMPDIR=" + os.TempDir(), "CI=" + os.Getenv("CI"),
		envScripts + "=" + scripts, envExamples + "=" + examples, envBinary + "=" + filepath.Join(bin, "slirpctl"), envOCI + "=1",
	}
	if name != "" {
		cmd.Env = append(cmd.Env, envOwnDNS+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("as %s:\n%s", name, out)
	}
	if err != nil {
		t.Fatalf("the scripts as %s: %v", name, err)
	}
	if bytes.Contains(out, []byte("no tests to run")) {
		t.Fatalf("nothing ran as %s", name)
	}
}

// ociView UID GID COMMAND [ARG...] turns its mount namespace into a host that crun works on: only
// control groups of version 2, and a name server in resolv.conf, which ends with COMMAND. It runs
// COMMAND as that user.
func ociView(args []string) int {
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return failed("ociview: %v", err)
	}
	gid, err := strconv.Atoi(args[1])
	if err != nil {
		return failed("ociview: %v", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return failed("ociview: make mounts private: %v", err)
	}
	for syscall.Unmount("/sys/fs/cgroup", syscall.MNT_DETACH) == nil {
	}
	if err := syscall.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
		return failed("ociview: mount cgroup2: %v", err)
	}
	// A loopback address of our own, to avoid conflicts with other name servers.
	addr := fmt.Sprintf("127.%d.%d.53", 64+os.Getpid()>>8&63, os.Getpid()&255)
	conf, err := os.CreateTemp("", "resolv")
	if err != nil {
		return failed("ociview: %v", err)
	}
	defer os.Remove(conf.Name())
	fmt.Fprintf(conf, "nameserver %s\n", addr)
	conf.Close()
	if err := os.Chmod(conf.Name(), 0o644); err != nil {
		return failed("ociview: %v", err)
	}
	if err := syscall.Mount(conf.Name(), "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return failed("ociview: bind resolv.conf: %v", err)
	}
	go dnsd([]string{addr + ":53", ""})
	cmd := exec.Command(args[2], args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return failed("ociview: %v", err)
	}
	return cmd.ProcessState.ExitCode()
}

// TestOCIScripts is run by TestOCI.
func TestOCIScripts(t *testing.T) {
	if os.Getenv(envOCI) == "" {
		return // run by TestOCI
	}
	bin := programs.path(t)
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:                 os.Getenv(envScripts),
				WorkdirRoot:         t.TempDir(),
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Setup: func(env *testscript.Env) error {
					if err := setupScript(env, bin); err != nil {
						return err
					}
					env.Defer(func() { deleteContainers(env, bin) })
					env.Vars = append(env.Vars, "RUNTIME="+runtime, "EXAMPLES="+os.Getenv(envExamples), "OWN_DNS="+os.Getenv(envOwnDNS))
					return nil
				},
				Condition: func(cond string) (bool, error) {
					switch cond {
					case "root":
						return os.Geteuid() == 0, nil
					case "dns":
						return os.Getenv(envOwnDNS) != "", nil
					case "runc", "crun":
						return cond == runtime, nil
					}
					return false, fmt.Errorf("unknown condition %q", cond)
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"status": cmdStatus, "target": cmdTarget, "endtarget": cmdEndTarget, "need": cmdNeed,
					"leftovers": cmdLeftovers, "jsonenv": cmdJSONEnv,
				},
			})
		})
	}
}

// deleteContainers deletes the containers of a failed script.
func deleteContainers(env *testscript.Env, bin string) {
	root := filepath.Join(env.Getenv("S"), "oci")
	left, _ := os.ReadDir(root)
	for _, container := range left {
		cmd := exec.Command(filepath.Join(bin, "oci"), "delete", "--force", container.Name())
		cmd.Env = env.Vars
		_ = cmd.Run()
	}
}
