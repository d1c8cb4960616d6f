// Package gateway puts a namespace of slirpctl's own between the guest and slirp4netns, so that
// slirpctl can decide whom the guest may talk to and record whom it talked to. It exists because
// rules inside the guest's namespace belong to its root, and proxies only to programs that ask
// them.
//
//	guest                          gateway (its own user and network namespace)        host
//	tap0 10.0.2.100 ══ frames ═══ gw0 10.0.2.2, .3 ─ nft: redirect TCP ─ sockets ─── supervisor
//	               pump, inspects  └─ UDP, ICMP ─ masquerade ─ tap0 ═ slirp4netns ─────────▶
//
// # How it works
//
// The supervisor holds both ends of the wire: the descriptor of the guest's tap and of gw0. Two
// loops carry frames between them, and the one that reads from the guest sees every frame before
// anybody else does:
//
//   - ARP passes. What is neither ARP nor IPv4, is a fragment, carries a VLAN tag or contradicts
//     itself is dropped.
//   - A TCP SYN waits until the host is connected to: then it passes, the gateway's kernel answers,
//     and the relay joins the two sockets. Where the rules deny it or the host refuses, the
//     guest gets a reset, where nothing answers an ICMP message. So the guest sees of a
//     connection what it would see without the gateway.
//   - A UDP datagram or an echo request passes if its flow is allowed, else an ICMP
//     "administratively prohibited" goes back. The gateway's kernel routes it to slirp4netns.
//   - DNS goes to sockets in the gateway, which the supervisor reads.
//
// The relay takes no connection that was not announced so: a SYN that reached the gateway in any
// other way is accepted and reset. The gateway's nftables rules redirect every TCP connection,
// whatever its address, and route no TCP at all. The kernel drops there what is addressed to
// 127.0.0.0/8.
//
// Nothing in the gateway can be reached from the guest: its user namespace is no relative of
// the guest's, and its one process (which holds the namespace open for slirp4netns) has an empty
// root directory and no descriptor but its socket.
package gateway
