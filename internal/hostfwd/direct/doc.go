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
// refused connection and an unreachable guest as a reset.
//
// The program inside sees the connection come from the guest's own address: the client's
// address is not kept.
package direct
