// Package direct is slirpctl's own implementation of port forwarding. It exists because the
// alternatives either pass every byte through a user-mode TCP stack (slirp4netns) or ask a second
// process for every connection (RootlessKit's builtin driver).
//
// # How it works
//
// A socket belongs to the network namespace it was created in, no matter which process uses it, and
// connect(2) may be called from any namespace. So sockets are created inside the guest's namespace
// ahead of time (see [Sockets]) and kept in a small pool:
//
//	client ──> listener (host) ──> accept4 ─┐
//	                                        ├─ conn: two directions, one thread
//	guest program <── connect <── pool ─────┘
//
// All descriptors are registered with one epoll loop (one for every four processors, at most four)
// that runs on a thread of its own, with edge-triggered events. A listener costs a table entry and
// no goroutine, so thousands are cheap. Small pieces are carried by read and write; a bulk
// transfer is carried by splice(2) through a pipe that belongs to the direction only while it
// holds bytes.
//
// UDP is relayed in batches: recvmmsg, then one send for every run of equal datagrams if the
// kernel can segment them (UDP_SEGMENT), else sendmmsg. A client's session is one
// socket in the namespace and ends after [Config].UDPIdle without a datagram.
//
// The end of a stream is passed on as it is: a FIN as a FIN, after the bytes before it; a reset, a
// refused connection and an unreachable guest as a reset. A reset does not wait until the bytes
// before it have been read.
//
// # Shares
//
// Descriptors, time and kernel memory are shared among forwards and connections, so that clients of
// one can't starve the others. An event is only recorded; its work is queued in its forward's
// lane, and the lanes take turns (lane.go). Descriptors are counted, with a reserve for the rest of
// the process, so that normally no call fails with EMFILE; if one does, listeners pause for a moment
// (quota.go, accept.go). Buffers get smaller the more connections there are (quota.go).
//
// Package rootlesskit uses all this with a [Dialer] instead of [Sockets].
//
// The program inside sees connections from the guest's own address. With a [Source], the sockets get the client's
// address before they connect (source.go).
//
// # Measurements
//
// Ratios of interleaved runs on two busy processors, relative to RootlessKit 3's builtin driver
// unless stated otherwise. The loop compared with goroutines: 1.8 to 2.8 times the new connections
// (1.3 to 3 times pasta's). Bulk: equal throughput with 0.75 of the forwarder's CPU time per byte,
// down from 0.9 thanks to larger buffers and no wake-ups while the other side is full. With BBR on
// the host, reno between local peers then tripled outgoing throughput. Copying bulk through a 256 KiB buffer
// instead of splice(2) takes 1.2 to 1.5 times the forwarder's time but the least for sender,
// forwarder and receiver together, and was faster in some runs and slower in others; 64 KiB pieces
// and smaller pipes are always slower. Raising SO_RCVLOWAT during bulk gained less than the noise.
// A round trip of one byte adds 0.7 to 0.85 of builtin's median, 0.8 on a single processor: the rest
// is two more wake-ups, and polling before sleeping makes it longer if processors are few. UDP: more
// than 4 times.
package direct
