#!/usr/bin/env bash
# Usage: unshare.sh COMMAND [ARG...]
#
# What `slirpctl up -- COMMAND` does, in the steps of a script that makes its own namespaces:
# COMMAND waits behind a gate until the network is there. Exits as COMMAND does.
set -euo pipefail

resolv=$(mktemp)
trap 'rm -f "$resolv"' EXIT
slirpctl ip --format resolv.conf >"$resolv"

# A pipe with both ends in one descriptor, and no name in the file system.
exec {gate}<> <(:)

# shellcheck disable=SC2016 # it is the inner bash that expands it
unshare --user --map-root-user --net --mount -- bash -euc '
	gate=$1 resolv=$2
	shift 2
	mount --bind "$resolv" /etc/resolv.conf
	read -r -n 1 -u "$gate"
	exec {gate}>&-
	exec "$@"
' unshare.sh "$gate" "$resolv" "$@" <&0 &
pid=$!

# up waits until the process has unshared, and opens the gate when the network is ready.
slirpctl up --detach --name "unshare-$$" --ready-fd "$gate" "$pid" >/dev/null || {
	kill "$pid"
	exit 125
}
wait "$pid"
