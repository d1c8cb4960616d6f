#!/usr/bin/env bash
# Usage: bwrap.sh COMMAND [ARG...]
#
# A bubblewrap sandbox whose network is a slirpctl instance: COMMAND sees the host's files
# read-only and reaches the internet, but neither the host's network nor its loopback. Exits
# as COMMAND does.
set -euo pipefail

# Pipes with both ends in one descriptor, and no name in the file system.
exec {info}<> <(:)
exec {block}<> <(:)

# bwrap tells the sandbox's PID on --info-fd, and waits for a byte on --block-fd.
bwrap --unshare-user --unshare-net --unshare-pid --die-with-parent \
	--ro-bind / / --dev /dev --proc /proc --tmpfs /tmp \
	--ro-bind-data 3 /etc/resolv.conf \
	--info-fd "$info" --block-fd "$block" \
	-- "$@" <&0 3< <(slirpctl ip --format resolv.conf) &
sandbox=$!

text=
while [[ $text != *'}'* ]]; do
	read -r -t 10 -u "$info" line
	text+=$line
done
pid=$(jq '."child-pid"' <<<"$text")

slirpctl up --detach --name "bwrap-$$" "$pid" >/dev/null
echo >&"$block"
wait "$sandbox"
