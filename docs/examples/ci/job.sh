#!/usr/bin/env bash
# A CI job that tests a server: it runs in a network of its own, the job reaches it by a forwarded port, and nothing is
# left however the job ends.
set -euo pipefail

name=server-$$
trap 'slirpctl down --ignore "$name"' EXIT

slirpctl up --detach --json --name "$name" -p 127.0.0.1::8000 --wait-listen 8000 -- \
	busybox httpd -f -p 8000 -h . >up.json
port=$(jq '.ports[0].hostPort' up.json)

curl --silent --show-error --fail "http://127.0.0.1:$port/README.md" >page
grep --quiet . page
echo "the server answers on port $port"
