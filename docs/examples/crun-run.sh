#!/bin/sh
# Usage: crun-run.sh NAME BUNDLE [FLAG OF slirpctl up]...
#
# Runs an OCI bundle with crun and gives it a network between create and start. The container's
# standard streams are the caller's, and so is its exit status (128+N for signal N); TERM, INT and HUP
# go to the container. The bundle needs a network namespace of its own, and something at
# /etc/resolv.conf: `slirpctl ip --format resolv.conf` prints it.
#
# crun hides the container's process from the user who runs it. Without root, run this in a user
# namespace, as Podman does with crun: unshare --map-root-user crun-run.sh NAME BUNDLE
#
# Whoever can do with hooks needs no wrapper: slirpctl hook --bundle BUNDLE && crun run NAME
set -eu

name=$1
bundle=$2
shift 2

dir=$(mktemp -d)
# shellcheck disable=SC2317 # called by the trap
clean() {
	crun delete --force "$name" || true
	rm -rf "$dir"
}
trap clean EXIT

# `crun create` leaves the container without a parent that knows its exit status. Here it is
# adopted by a process that does, as Podman's conmon does it.
reaper='
import ctypes, os, signal, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
pid, early = 0, []
def forward(s, _):
    os.kill(pid, s) if pid else early.append(s)
for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(s, forward)
status = subprocess.call(sys.argv[2:])
if status != 0:
    sys.exit(status)
pid = int(open(sys.argv[1]).read())
for s in early:
    os.kill(pid, s)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
'

# shellcheck disable=SC2016 # it is the inner shell that expands it
steps='
set -eu
name=$1 bundle=$2 pidfile=$3
shift 3
crun create --bundle "$bundle" --pid-file "$pidfile" "$name"
crun state "$name" | slirpctl up --oci-state - "$@"
crun start "$name" </dev/null
'

# In the background, so that signals are passed on at once; by way of 3 the standard input
# is kept, which a shell takes from background jobs.
exec 3<&0
python3 -c "$reaper" "$dir/pid" sh -c "$steps" crun-run.sh "$name" "$bundle" "$dir/pid" "$@" <&3 3<&- &
reaper_pid=$!
trap 'kill -TERM $reaper_pid' TERM
trap 'kill -INT $reaper_pid' INT
trap 'kill -HUP $reaper_pid' HUP

status=0
while :; do
	wait $reaper_pid && status=0 || status=$?
	# A signal ends the wait early; the container may go on.
	kill -0 $reaper_pid 2>/dev/null || break
done
exit $status
