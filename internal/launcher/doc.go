// Package launcher starts slirp4netns: it finds the binary, detects its features, builds its arguments,
// waits until it is ready, and explains why it failed. It exists so that no other package needs to know,
// for example, that --outbound-addr6=INTERFACE looks at the wrong option, that slirp4netns exits at once if its exit
// descriptor is invalid, and that it ignores an invalid ready descriptor.
//
// # Theory of operation
//
// A start has five steps, each in its own file. Only the last one leaves a process running:
//
//	Detect     run the binary with --help and --version: path, version, features. Features are
//	           taken from the help text. The version number is only for messages, because
//	           distributions backport and disable features. The result is cached while the file
//	           is unchanged.
//	NewPlan    options → Plan: everything that the options decide, with names resolved.
//	Decide     sandbox and seccomp: `auto` becomes on, or off with the reason, which the caller
//	           logs; `true` becomes on or an error. No option is silently dropped.
//	Args       Plan + features → argument list. A pure function; it uses features, not versions.
//	           If the plan needs a feature that the binary lacks, the error is a
//	           MissingFeatureError.
//	Start      run it; the Process owns the child and the parent's ends of its pipes.
//
// The lifetime of the child is controlled by descriptors, not by timers:
//
//	launcher                          slirp4netns
//	ready pipe, read end  ◀────────── 3: writes "1" and closes when the tap is up
//	exit pipe, write end  ──────────▶ 4: exits, and removes its API socket, when this hangs up
//	log                   ◀────────── 1, 2: its output; the tail explains a failed start
//	target                ──────────▶ 5: a pinned namespace, unless the target is given by PID
//
// The child's ends of the pipes are closed right after the start, so that the read end of the ready
// pipe reports both outcomes without polling: a byte, the network is ready; end of file, slirp4netns has
// died. The write end of the exit pipe exists in the supervisor only: slirp4netns exits whenever the
// supervisor does, for any reason. The parent-death signal does the same for a slirp4netns that is stuck
// before it polls the pipe.
//
// With a LoopbackBan slirp4netns is stopped when it is ready. It writes its byte just before its main loop. The
// read end of the pipe has O_ASYNC, with slirp4netns's process group as the owner and SIGSTOP as the signal, so the
// kernel stops it in that write(2), before it reads a frame:
//
//	slirp4netns   … TUNSETIFF, tap up … write "1" ▏stopped                            ▏main loop …
//	launcher                                      ▏its tap by pidfd_getfd,            ▏
//	                                              ▏TUNATTACHFILTER, queue emptied,    ▏
//	                                              ▏O_ASYNC off, SIGCONT to the group  ▏
//
// If the launcher dies in between, no process is left stopped: the parent-death signal kills the child, and the
// kernel continues the rest of the process group, which becomes orphaned.
//
// To stop slirp4netns, Stop closes the exit pipe, then sends SIGTERM, then SIGKILL, with a bounded wait after each,
// and waits for the end. One goroutine waits for the child, makes sure that its whole process group has
// ended (the child may be a wrapper script, and the next slirp4netns needs the tap), and reaps it; all others
// wait for Done.
//
// slirp4netns has one exit status for all failures, so the reason is read from its output (Explain). The
// messages differ little from 0.2 to 1.3; an unknown one is quoted.
//
// Watching the target, which slirp4netns does not do, and restarts are in package supervisor: they
// need the whole instance.
package launcher
