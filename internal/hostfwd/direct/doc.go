// Package direct is slirpctl's own way of carrying a forwarded port. It exists because the
// other ways either pass every byte through a user-mode TCP stack (slirp4netns) or ask a second
// process for every connection (RootlessKit's builtin driver).
//
// # How it works
//
// A socket belongs to the network namespace it was created in, whoever uses it later, and
// connect(2) may be called from anywhere. So sockets are made inside the guest's namespace
// ahead of time (see [Sockets]) and kept in a small pool:
//
//	client ──> listener (host) ──> accept4 ─┐
//	                                        ├─ conn: two directions, one thread
//	guest program <── connect <── pool ─────┘
//
// All descriptors hang on one epoll loop (two on machines with more than four processors) that
// runs on a thread of its own, with edge-triggered events. A listener costs a table entry and
// no goroutine, so thousands are cheap. Small pieces are carried by read and write; once a
// direction is bulk it is carried by splice(2) through a pipe that belongs to the direction only
// while bytes are in it.
//
// UDP is relayed in batches: recvmmsg, then one send for every run of equal datagrams where the
// kernel can cut them up itself (UDP_SEGMENT), else sendmmsg. A client's session is one
// socket in the namespace and ends after [Config].UDPIdle without a datagram.
//
// Ends are passed on as they come: a FIN as a FIN, after the bytes before it; a reset, a
// refused connection and an unreachable guest as a reset. A reset does not wait for a reader of what
// came before it.
//
// # Shares
//
// What there is of descriptors, time and kernel memory is shared out among forwards and connections, so
// that clients of one can't starve the others. An event is only noted; the work it makes has its place in its forward's
// lane, and the lanes have turns (lane.go). Descriptors are counted, with a reserve for the rest of the process,
// so that none ever runs into EMFILE in the normal course of things; where it happens, listeners pause for a moment
// (quota.go, accept.go). Buffers get smaller the more connections there are (quota.go).
//
// Package rootlesskit uses all this with a [Dialer] in the place of [Sockets].
//
// The program inside sees the connection come from the guest's own address: the client's
// address is not kept.
//
// # What was measured
//
// Ratios of interleaved runs on two busy processors, to RootlessKit 3's builtin driver unless
// said otherwise. The loop against goroutines: 1.8 to 2.8 times the new connections (1.3 to 3 times
// pasta's). Bulk: level throughput with 0.75 of the forwarder's CPU time per byte; larger
// buffers and not being woken while the other side is full made that from 0.9, at the same
// throughput. Where the host's TCP is BBR, reno between neighbours then tripled what goes out. Copying bulk through a 256 KiB buffer instead of splice(2) needs 1.2 to 1.5 times
// the forwarder's time but the least of sender, forwarder and receiver together, and was ahead
// in some runs and behind in others; 64 KiB pieces are slower throughout; so are smaller pipes. A raised
// SO_RCVLOWAT during bulk gained less than the noise. A round trip of one byte adds 0.7 to 0.85 of
// builtin's median, with everything on one processor 0.8: what is left is two more wake-ups, and
// polling before sleeping makes it longer where processors are few. UDP: more than 4 times.
package direct
