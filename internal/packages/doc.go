// Package packages tests what make packages makes. The tests have the build tag packages, because GoReleaser
// takes minutes to build the first time: make test-packages runs them.
package packages
