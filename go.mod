module github.com/slirpctl/slirpctl

go 1.26.0

require golang.org/x/sys v0.49.0

require (
	github.com/containernetworking/plugins v1.9.1 // indirect
	github.com/rootless-containers/rootlesskit/v3 v3.3.0
)
