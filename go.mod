module github.com/slirpctl/slirpctl

go 1.26.0
