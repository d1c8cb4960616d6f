package main

// metric is a quantity that is measured for every contestant that has samples.
type metric struct {
	ID, Title, Unit string
	Higher          bool // more is better
	How             string
	// Limit is a contestant that shows the limit of the machine and does not compete.
	Limit string
}

var metrics = []metric{
	{
		ID: "tcp-in", Title: "TCP into the namespace, one stream", Unit: "Gbit/s", Higher: true, Limit: "loopback",
		How: "A client on the host sends through the forward, in writes of 128 KiB; the server inside counts.",
	},
	{
		ID: "tcp-out", Title: "TCP out of the namespace, one stream", Unit: "Gbit/s", Higher: true, Limit: "loopback",
		How: "The same with the server sending.",
	},
	{
		ID: "cpu-in", Title: "Processor time of the forwarder, per GiB in", Unit: "s/GiB",
		How: "utime and stime in /proc/PID/stat of all of the contestant's processes, before and after the stream. The program inside and the client are not counted, nor is what the kernel does in their name.",
	},
	{ID: "cpu-out", Title: "Processor time of the forwarder, per GiB out", Unit: "s/GiB", How: "The same for the other direction."},
	{
		ID: "conn-1", Title: "New connections, 1 client", Unit: "1/s", Higher: true, Limit: "loopback",
		How: "Connect, send 4 bytes, read 4 back, close; again.",
	},
	{ID: "conn-16", Title: "New connections, 16 clients", Unit: "1/s", Higher: true, Limit: "loopback", How: "The same from 16 threads."},
	{
		ID: "rtt-50", Title: "Added to a 1-byte round trip, median", Unit: "µs",
		How: "The median of a few thousand round trips on one connection, less that of the plain loopback in the same round.",
	},
	{ID: "rtt-99", Title: "Added to a 1-byte round trip, 99th percentile", Unit: "µs", How: "The same for the slowest hundredth."},
	{
		ID: "rtt-one", Title: "Added to a 1-byte round trip, all on one processor, median", Unit: "µs",
		How: "As above, with client, forwarder and server held on one processor, so that no processor has to be woken.",
	},
	{
		ID: "udp", Title: "UDP into the namespace, 1,400 bytes, under 1 % loss", Unit: "1,000/s", Higher: true, Limit: "loopback",
		How: "The highest rate found by doubling and halving, each try 0.2 s. Sender and receiver use neither GSO nor GRO.",
	},
	{
		ID: "up-true", Title: "up -- true, from start to end", Unit: "ms",
		How: "The whole process: namespace made, network ready, true run, all torn down; sandbox and seccomp on. Each value is the median of five. The bare shell is unshare, slirp4netns and a ready descriptor in a POSIX script, with its FIFOs made beforehand.",
	},
	{
		ID: "up-detached", Title: "up -d PID, until it returns", Unit: "ms",
		How: "On a namespace that is there; bare slirp4netns until its ready descriptor says so. Each value is the median of five.",
	},
	{ID: "version", Title: "version", Unit: "ms", Limit: "empty", How: "The whole process; each value is the median of twenty."},
	{ID: "size", Title: "Size of the binary", Unit: "MB", How: "Of the stripped binary; 1 MB is 1,000,000 bytes."},
	{
		ID: "memory", Title: "Memory of one of 50 instances with 20 forwards", Unit: "MiB",
		How: "Proportional set size of all of an instance's processes, a value for each instance. The program inside is not counted.",
	},
	{ID: "memory-supervisor", Title: "Memory of the supervisor alone", Unit: "MiB", How: "The same instances, the supervisor's process only."},
	{
		ID: "idle-cpu", Title: "Processor time of 50 idle instances", Unit: "ms/s",
		How: "utime and stime of all their processes over three seconds; the clock behind it ticks every 10 ms.",
	},
	{
		ID: "idle-wakeups", Title: "Wake-ups of 50 idle instances", Unit: "1/s",
		How: "Voluntary context switches of all their threads over the same seconds.",
	},
	{
		ID: "idle-own", Title: "Wake-ups of 50 idle instances, without slirp4netns", Unit: "1/s",
		How: "The same without slirp4netns, which wakes about once a second by itself.",
	},
	{ID: "add-1000", Title: "1,000 forwards added by one command", Unit: "ms", How: "slirpctl forward add with one range; rootlessctl add-ports with 1,000 specs. The whole process."},
	{ID: "list-1000", Title: "1,000 forwards listed", Unit: "ms", How: "slirpctl forward list --format, a line each; rootlessctl list-ports."},
	{ID: "remove-1000", Title: "1,000 forwards removed by one command", Unit: "ms", How: "slirpctl forward remove; rootlessctl remove-ports."},
	{
		ID: "forwards-10000", Title: "10,000 forwards on one instance: last thousand over first", Unit: "×",
		How: "Added in ten commands of a thousand; all ten thousand are listed at the end.",
	},
	{
		ID: "instances-200", Title: "200 instances on one machine: last twenty over first twenty", Unit: "×",
		How: "Median time of up -d of the last twenty over that of the first twenty, all left running.",
	},
	{
		ID: "slirp-out", Title: "Through slirp4netns, out of the namespace", Unit: "Gbit/s", Higher: true,
		How: "A client inside sends to a server on the host, through the gateway address.",
	},
	{ID: "slirp-back", Title: "Through slirp4netns, the answer", Unit: "Gbit/s", Higher: true, How: "The same client receives."},
	{ID: "hostfwd-in", Title: "slirp4netns handler, into the namespace", Unit: "Gbit/s", Higher: true, How: "A client on the host sends through a forward of slirp4netns's own."},
	{ID: "hostfwd-out", Title: "slirp4netns handler, out of the namespace", Unit: "Gbit/s", Higher: true, How: "The same client receives."},
	{
		ID: "heal", Title: "From SIGKILL of slirp4netns to a working forward", Unit: "ms",
		How: "The forward is slirp4netns's own, so it dies with it; a client retries until four bytes come back. Twenty kills, each of a fresh instance. Forwards of the other handlers don't close at all.",
	},
	{
		ID: "tune-out", Title: "Settings inside the namespace: out", Unit: "Gbit/s", Higher: true, Limit: "plain",
		How: "Bare slirp4netns with its best options, and one setting changed in the namespace before the connection is made.",
	},
	{ID: "tune-back", Title: "Settings inside the namespace: the answer", Unit: "Gbit/s", Higher: true, Limit: "plain", How: "The same client receives."},
	{ID: "tune-fwd-in", Title: "Settings inside the namespace: a forward, in", Unit: "Gbit/s", Higher: true, Limit: "plain", How: "Through a forward of slirp4netns's own."},
	{ID: "tune-fwd-out", Title: "Settings inside the namespace: a forward, out", Unit: "Gbit/s", Higher: true, Limit: "plain", How: "The same client receives."},
}
