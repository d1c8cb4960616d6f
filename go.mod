module github.com/slirpctl/slirpctl

go 1.26.0

require (
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	golang.org/x/sys v0.49.0
)

require github.com/inconshreveable/mousetrap v1.1.0 // indirect

require (
	github.com/containernetworking/plugins v1.9.1 // indirect
	github.com/rootless-containers/rootlesskit/v3 v3.3.0
)
