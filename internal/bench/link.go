package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ifreq is struct ifreq of netdevice(7).
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

func ifIoctl(ifname string, req uintptr, fill func(*ifreq)) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var r ifreq
	copy(r.name[:], ifname)
	fill(&r)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&r))); e != 0 {
		return fmt.Errorf("ioctl %#x on %s: %w", req, ifname, e)
	}
	return nil
}

// Commands of SIOCETHTOOL, from linux/ethtool.h.
var offloads = map[string]uint32{"sg": 0x19, "tx": 0x17, "tso": 0x1f, "gso": 0x24, "gro": 0x2c}

func setOffload(ifname, name string, on bool) error {
	cmd, known := offloads[name]
	if !known {
		return fmt.Errorf("no offload %q", name)
	}
	value := [2]uint32{cmd, 0}
	if on {
		value[1] = 1
	}
	return ifIoctl(ifname, unix.SIOCETHTOOL, func(r *ifreq) { *(*unsafe.Pointer)(unsafe.Pointer(&r.data)) = unsafe.Pointer(&value) })
}
