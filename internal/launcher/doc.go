// Package launcher starts slirp4netns and knows it: which binary, what it can do, how it has to be
// told, when it is ready, why it failed. It exists so that nobody else has to know that
// --outbound-addr6 looks at the wrong option, or that an invalid exit descriptor ends
// slirp4netns at once and an invalid ready descriptor is ignored.
//
// # Theory of operation
//
// A start goes through five steps; each is a file, and each but the last starts nothing that
// stays:
//
//	Detect     run --help and --version of the binary: path, version, features. A feature is
//	           what the help names. The version number only words errors: distributions
//	           backport and disable. An answer is kept for as long as the file is the same.
//	NewPlan    options → Plan: what is wanted, with names resolved and nothing left to guess.
//	Decide     sandbox and seccomp: `auto` becomes on, or off with the reason, which the caller
//	           logs; `true` becomes on or an error. Nothing is dropped in silence.
//	Args       Plan + features → argument list. A pure function: everything it knows about a
//	           version is a feature. What the plan wants and the binary lacks is a
//	           MissingFeatureError, never left out.
//	Start      run it; the Process owns the child and the parent's ends of its pipes.
//
// The life of the child hangs on descriptors, not on timers:
//
//	launcher                          slirp4netns
//	ready pipe, read end  ◀────────── 3: writes "1" and closes when the tap is up
//	exit pipe, write end  ──────────▶ 4: ends, and removes its API socket, when this hangs up
//	log                   ◀────────── 1, 2: what it says; the tail explains a failed start
//	target                ──────────▶ 5: a pinned namespace, where it is not named by PID
//
// The child's ends of the pipes are closed right after the start. So the read end of the ready
// pipe tells the two things that can happen, at once and without polling: a byte, the network
// is ready; end of file, slirp4netns has died. Whoever keeps a copy of the write end must poll
// instead. The write end of the exit pipe exists in the supervisor alone: when that goes, in
// whatever way, slirp4netns goes. The parent-death signal does the same for one that is stuck
// before it looks at the pipe.
//
// With a LoopbackBan slirp4netns is held at ready. It writes its byte just before its main loop; the
// read end of the pipe has O_ASYNC, with slirp4netns's process group as the owner and SIGSTOP as the signal, so that the
// kernel stops it in that very write(2), before it reads a frame:
//
//	slirp4netns   … TUNSETIFF, tap up … write "1" ▏stopped                            ▏main loop …
//	launcher                                      ▏its tap by pidfd_getfd,            ▏
//	                                              ▏TUNATTACHFILTER, queue emptied,    ▏
//	                                              ▏O_ASYNC off, SIGCONT to the group  ▏
//
// A launcher that dies in between leaves nobody stopped: the parent-death signal kills the child, and the
// kernel lets the rest of a process group go on that is orphaned by its death.
//
// Ending goes from soft to hard: the exit pipe, SIGTERM, SIGKILL, each with a bounded wait, and
// always a wait for the end. One goroutine waits for the child, sees to it that its whole process group has
// ended (the child may be a wrapper script, and the next slirp4netns needs the tap), and reaps it; everybody else
// waits for Done.
//
// slirp4netns has one exit status for every failure, so why it failed is read from its words
// (Explain). They differ little from 0.2 to 1.3; what is not recognised is quoted as it is.
//
// What is not here: watching the target, which slirp4netns does not do either, and starting
// again after a crash. Both need the whole instance: package supervisor.
package launcher
