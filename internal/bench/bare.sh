#!/bin/sh
# What people write by hand, without its mistakes: a namespace, slirp4netns with its best
# options, a command once the network is ready, everything torn down. $1 holds two FIFOs.
set -e
dir=$1; shift
unshare -Urnm sh -c 'echo $$ >"$0/up"; read -r _ <"$0/go"; exec "$@"' "$dir" "$@" &
read -r pid <"$dir/up"
slirp4netns -c --mtu=65520 --disable-host-loopback --enable-sandbox --enable-seccomp -r 3 "$pid" tap0 3>"$dir/up" >/dev/null 2>&1 &
slirp=$!
read -r _ <"$dir/up" || :
echo go >"$dir/go"
status=0
wait "$pid" || status=$?
kill "$slirp"
wait "$slirp" || :
exit "$status"
