package probe

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

const makeTun = "mkdir -p /dev/net && %smknod -m 0666 /dev/net/tun c 10 200"

// tunDevice opens /dev/net/tun in a new network namespace and makes a tap there. It tells apart a
// missing device, a denied one and one without a driver.
func tunDevice(ctx context.Context, env *Env) Result {
	t, err := env.bestTrial(ctx)
	if err != nil {
		// Without a namespace only the file's existence can be checked.
		_, statErr := fs.Stat(env.FS, "dev/net/tun")
		if statErr == nil {
			return unknown("/dev/net/tun is there, but no namespace could be made to try it in")
		}
		t.TunOpen = cmp.Or(errnoOf(statErr), unix.ENOENT) // for an fs.FS without error numbers
	}
	const withDevice = "podman run --device /dev/net/tun …"
	switch t.TunOpen {
	case 0:
		return tunAttached(env, t.TunAttach)
	case unix.ENOENT, unix.ENOTDIR:
		remedy := env.sudo("modprobe tun") + "; " + env.sudo(fmt.Sprintf(makeTun, env.sudo("")))
		if env.inContainer() {
			remedy = withDevice
		}
		return failed(remedy, "missing: there is no /dev/net/tun")
	case unix.EACCES:
		return failed(env.sudo("chmod 0666 /dev/net/tun"), "denied: /dev/net/tun can't be opened by %s (%s)", env.User, t.TunOpen)
	case unix.EPERM:
		remedy := withDevice
		if !env.inContainer() {
			remedy = env.sudo("systemctl edit $UNIT  # DeviceAllow=/dev/net/tun rw")
		}
		return failed(remedy, "denied: the device cgroup or a security module forbids /dev/net/tun (%s)", t.TunOpen)
	case unix.ENODEV, unix.ENXIO:
		return failed(env.sudo("modprobe tun"), "no driver: /dev/net/tun is there, the kernel's tun driver is not (%s)", t.TunOpen)
	}
	return failed("", "/dev/net/tun can't be opened: %s", t.TunOpen)
}

func tunAttached(env *Env, errno unix.Errno) Result {
	switch errno {
	case 0:
		return ok("/dev/net/tun was opened and a tap made")
	case unix.ENOTTY, unix.EINVAL:
		return failed(env.sudo("rm /dev/net/tun")+" && "+env.sudo(fmt.Sprintf(makeTun, env.sudo(""))),
			"no driver: /dev/net/tun is some other file or device (%s)", errno)
	case unix.EPERM, unix.EACCES:
		return failed(env.sudo("dmesg | grep -i -e apparmor -e avc | tail"), "denied: /dev/net/tun was opened, but no tap may be made (%s)", errno)
	}
	return failed("", "/dev/net/tun was opened, but no tap could be made: %s", errno)
}

const noNamespace = "no namespace could be made to try it in"

// sandbox tries the steps of `slirp4netns --enable-sandbox`. Root file systems that don't support
// pivot_root and AppArmor profiles are known to prevent them (upstream issues 161, 249, 348).
func sandbox(ctx context.Context, env *Env) Result {
	t, err := env.bestTrial(ctx)
	switch {
	case err != nil:
		return unknown(noNamespace)
	case t.Sandbox != 0:
		return warning("export SLIRPCTL_SANDBOX=false", "slirp4netns's sandbox can't work here: %s: %s", t.SandboxStep, t.Sandbox)
	}
	return ok("slirp4netns can have its own root directory")
}

// seccomp installs a system call filter in a child.
func seccomp(ctx context.Context, env *Env) Result {
	t, err := env.bestTrial(ctx)
	switch {
	case err != nil && env.exists("proc/sys/kernel/seccomp/actions_avail"):
		return ok("supported by the kernel")
	case err != nil:
		return unknown(noNamespace)
	case t.Seccomp != 0:
		return warning("export SLIRPCTL_SECCOMP=false", "the kernel refused a filter: %s", t.Seccomp)
	}
	return ok("the kernel accepted a filter")
}

// egressRules tries what egress rules need: nftables with nat, redirect and masquerading in a user namespace, two taps,
// and the system call filter of COMMAND.
func egressRules(ctx context.Context, env *Env) Result {
	t, err := env.bestTrial(ctx)
	switch {
	case err != nil:
		return unknown(noNamespace)
	case t.Redirect != "":
		return failed("sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_masq", "--egress and --allow can't work here: nftables: %s", t.Redirect)
	case t.TunSecond != 0:
		return warning("", "--egress and --allow can't work here: no second tap beside the first: %s", t.TunSecond)
	case t.TunOpen != 0, t.TunAttach != 0:
		return warning("", "--egress and --allow can't work here: they take two taps (see tun-device)")
	case t.Seccomp != 0:
		return warning("", "--egress deny can't start COMMAND here: the kernel refused a system call filter: %s", t.Seccomp)
	}
	return ok("what leaves a namespace can be decided about and recorded")
}

// netem reports whether tc can add latency and loss inside.
func netem(ctx context.Context, env *Env) Result {
	t, err := env.bestTrial(ctx)
	switch {
	case err != nil:
		return unknown(noNamespace)
	case t.Netem == unix.ENOENT:
		return failed("sudo modprobe sch_netem", "tc can't add latency or loss inside: the kernel has no netem")
	case t.Netem != 0 && t.Netem != unix.EINVAL:
		return unknown("netem could not be tried: %s", t.Netem)
	}
	return ok("tc can add latency and loss inside")
}
