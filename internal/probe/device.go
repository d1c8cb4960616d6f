package probe

import (
	"context"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

const makeTun = "mkdir -p /dev/net && %smknod -m 0666 /dev/net/tun c 10 200"

// TunDevice opens /dev/net/tun in a new network namespace and makes a tap there. It tells apart a
// missing device, a denied one and one without a driver.
func TunDevice(ctx context.Context, env *Env) Result {
	r := Result{Name: "tun-device"}
	t, err := env.bestTrial(ctx)
	if err != nil {
		// Without a namespace only the file's existence can be checked.
		if _, statErr := fs.Stat(env.FS, "dev/net/tun"); statErr == nil {
			r.Status, r.Reason = Unknown, "/dev/net/tun is there, but no namespace could be made to try it in"
			return r
		} else if errno := errnoOf(statErr); errno != 0 {
			t.TunOpen = errno
		} else {
			t.TunOpen = unix.ENOENT // for an fs.FS without error numbers
		}
	}
	r.Status = Failed
	inContainer := env.inContainer()
	const withDevice = "podman run --device /dev/net/tun …"
	switch t.TunOpen {
	case 0:
		return tunAttached(r, env, t.TunAttach)
	case unix.ENOENT, unix.ENOTDIR:
		r.Reason = "missing: there is no /dev/net/tun"
		r.Remedy = env.sudo("modprobe tun") + "; " + env.sudo(fmt.Sprintf(makeTun, env.sudo("")))
		if inContainer {
			r.Remedy = withDevice
		}
	case unix.EACCES:
		r.Reason = fmt.Sprintf("denied: /dev/net/tun can't be opened by %s (%s)", env.User, t.TunOpen)
		r.Remedy = env.sudo("chmod 0666 /dev/net/tun")
	case unix.EPERM:
		r.Reason = "denied: the device cgroup or a security module forbids /dev/net/tun (" + t.TunOpen.Error() + ")"
		r.Remedy = withDevice
		if !inContainer {
			r.Remedy = env.sudo("systemctl edit $UNIT  # DeviceAllow=/dev/net/tun rw")
		}
	case unix.ENODEV, unix.ENXIO:
		r.Reason = "no driver: /dev/net/tun is there, the kernel's tun driver is not (" + t.TunOpen.Error() + ")"
		r.Remedy = env.sudo("modprobe tun")
	default:
		r.Reason = "/dev/net/tun can't be opened: " + t.TunOpen.Error()
	}
	return r
}

func tunAttached(r Result, env *Env, errno unix.Errno) Result {
	switch errno {
	case 0:
		r.Status, r.Reason = OK, "/dev/net/tun was opened and a tap made"
	case unix.ENOTTY, unix.EINVAL:
		r.Reason = "no driver: /dev/net/tun is some other file or device (" + errno.Error() + ")"
		r.Remedy = env.sudo("rm /dev/net/tun") + " && " + env.sudo(fmt.Sprintf(makeTun, env.sudo("")))
	case unix.EPERM, unix.EACCES:
		r.Reason = "denied: /dev/net/tun was opened, but no tap may be made (" + errno.Error() + ")"
		r.Remedy = env.sudo("dmesg | grep -i -e apparmor -e avc | tail")
	default:
		r.Reason = "/dev/net/tun was opened, but no tap could be made: " + errno.Error()
	}
	return r
}

// Sandbox tries the steps of `slirp4netns --enable-sandbox`. Root file systems that don't support
// pivot_root and AppArmor profiles are known to prevent them (upstream issues 161, 249, 348).
func Sandbox(ctx context.Context, env *Env) Result {
	r := Result{Name: "sandbox"}
	t, err := env.bestTrial(ctx)
	switch {
	case err != nil:
		r.Status, r.Reason = Unknown, "no namespace could be made to try it in"
	case t.Sandbox != 0:
		r.Status, r.Reason = Warning, fmt.Sprintf("slirp4netns's sandbox can't work here: %s: %s", t.SandboxStep, t.Sandbox)
		r.Remedy = "export SLIRPCTL_SANDBOX=false"
	default:
		r.Status, r.Reason = OK, "slirp4netns can have its own root directory"
	}
	return r
}

// Seccomp installs a system call filter in a child.
func Seccomp(ctx context.Context, env *Env) Result {
	r := Result{Name: "seccomp"}
	t, err := env.bestTrial(ctx)
	switch {
	case err != nil:
		r.Status, r.Reason = Unknown, "no namespace could be made to try it in"
		if env.exists("proc/sys/kernel/seccomp/actions_avail") {
			r.Status, r.Reason = OK, "supported by the kernel"
		}
	case t.Seccomp != 0:
		r.Status, r.Reason = Warning, "the kernel refused a filter: "+t.Seccomp.Error()
		r.Remedy = "export SLIRPCTL_SECCOMP=false"
	default:
		r.Status, r.Reason = OK, "the kernel accepted a filter"
	}
	return r
}

// EgressRules makes what decides about what leaves a namespace: the nftables rules of a gateway, which take
// the kernel's nat, redirect and masquerading in a user namespace.
func EgressRules(ctx context.Context, env *Env) Result {
	r := Result{Name: "egress-rules"}
	t, err := env.bestTrial(ctx)
	switch {
	case err != nil:
		r.Status, r.Reason = Unknown, "no namespace could be made to try it in"
	case t.Redirect != "":
		r.Status, r.Reason = Warning, "--egress and --allow can't work here: nftables: "+t.Redirect
		r.Remedy = "sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_masq"
	default:
		r.Status, r.Reason = OK, "what leaves a namespace can be decided about and recorded"
	}
	return r
}
