# `make help` lists the targets. Start with `make demo` and `make test`.

PREFIX      ?= /usr/local
DESTDIR     ?=
FUZZTIME    ?= 10s
TESTTIMEOUT ?= 20m
GOTESTFLAGS ?=
OUT         ?= bin/slirpctl
# The packages to test, lint and fuzz: PKG=./internal/subnet for a single package.
PKG         ?= ./...

PLACE = $(DESTDIR)$(PREFIX)

export PATH := $(PATH):/usr/local/go/bin
# Version control stamps would differ between a clone and an unpacked tarball, and git refuses to
# read a clone that belongs to another user than the one who runs make.
# HTTP/2 is not used on UNIX sockets, and would add half a megabyte.
export GOFLAGS := $(GOFLAGS) -buildvcs=false -tags=nethttpomithttp2

VERSION = $(shell GIT_OPTIONAL_LOCKS=0 git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo dev)

# Tools are pinned in .ci/tools.mod, outside go.mod, because the program does not depend on them.
GOTOOL = go tool -modfile=.ci/tools.mod

# Prints a line for each package, the failures, and at the end the skipped tests with their reasons.
GOTESTSUM = bin/gotestsum --format pkgname --post-run-command .ci/no-skips --

# When root builds in another user's clone, gives the files to that user.
GIVE_BACK = @[ "$$(id -u)" != 0 ] || ! [ -d bin ] || chown -R "$$(stat -c %u:%g .)" bin

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: demo-deps build ## demonstrate slirpctl, after installing what that needs
	@CGO_ENABLED=0 go build -trimpath -o bin/demo ./internal/demo
	$(GIVE_BACK)
	@.ci/testenv --no-user bin/demo bin/slirpctl

.PHONY: test
test: test-deps build ## run every test, after installing what they need
	@go build -modfile=.ci/tools.mod -o bin/gotestsum gotest.tools/gotestsum
	$(GIVE_BACK)
	.ci/testenv $(GOTESTSUM) -count=1 -timeout $(TESTTIMEOUT) $(GOTESTFLAGS) $(PKG)

.PHONY: attack
attack: test-deps build ## run the attacks on slirpctl by other users and from inside
	@go build -modfile=.ci/tools.mod -o bin/gotestsum gotest.tools/gotestsum
	$(GIVE_BACK)
	.ci/testenv $(GOTESTSUM) -count=1 -timeout $(TESTTIMEOUT) -parallel 4 -run '^TestAttack' ./...

.PHONY: race
race: race-deps test-deps build ## run every test under the race detector
	@go build -modfile=.ci/tools.mod -o bin/gotestsum gotest.tools/gotestsum
	$(GIVE_BACK)
	CGO_ENABLED=1 .ci/testenv $(GOTESTSUM) -race -count=1 -timeout $(TESTTIMEOUT) $(GOTESTFLAGS) $(PKG)

# The real slirp4netns of other Debian releases, kept between runs.
VERSIONS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/slirpctl-versions
# The tests that depend on slirp4netns. Scripts that test for a feature don't stop if it is missing.
VERSION_SCRIPTS = up-pid|up-foreground|netns|command-(status|user)|wrappers|host-loopback|map-users|start-fails|other-userns|addresses|dns|egress
VERSION_TESTS = TestScripts$$/^($(VERSION_SCRIPTS))$$|^TestSlirp|^TestHelperDies|^TestAttackLoopback$$|^TestFewDescriptors|^TestFailedStarts

.PHONY: test-versions
test-versions: test-deps build ## run the integration tests over slirp4netns 1.0.1, 1.2.1 and 1.3.3
	@go build -modfile=.ci/tools.mod -o bin/gotestsum gotest.tools/gotestsum
	$(GIVE_BACK)
	.ci/versions '$(VERSIONS)' .ci/testenv $(GOTESTSUM) -count=1 -timeout $(TESTTIMEOUT) -run '$(VERSION_TESTS)' ./cmd/slirpctl

# Behind a tag, because Java, Node and PostgreSQL are much to install for the other tests.
.PHONY: test-programs
test-programs: test-programs-deps ## curl, git, npm, pip, Java and others through egress rules, after installing them
	@go build -modfile=.ci/tools.mod -o bin/gotestsum gotest.tools/gotestsum
	$(GIVE_BACK)
	.ci/testenv $(GOTESTSUM) -count=1 -timeout $(TESTTIMEOUT) -tags nethttpomithttp2,programs -run '^TestEgressPrograms$$' ./cmd/slirpctl

STORM ?= 60s

.PHONY: test-packages
test-packages: test-deps ## build the packages twice and look at each of them; minutes the first time
	@go build -modfile=.ci/tools.mod -o bin/gotestsum gotest.tools/gotestsum
	$(GIVE_BACK)
	.ci/testenv --no-user $(GOTESTSUM) -count=1 -timeout $(TESTTIMEOUT) -tags packages ./internal/packages

.PHONY: storm
storm: test-deps build ## stress slirpctl from 16 callers, for STORM [60s], three times, and once with the race detector
	for seed in 1 2 3; do \
		SLIRPCTL_STORM=$(STORM) SLIRPCTL_STORM_SEED=$$seed .ci/testenv go test -count=1 -v -run '^TestStorm$$' ./cmd/slirpctl || exit 1; \
	done
	SLIRPCTL_TEST_RACE=1 SLIRPCTL_STORM=20s .ci/testenv go test -count=1 -v -run '^TestStorm$$' ./cmd/slirpctl

.PHONY: bench-healing
bench-healing: test-deps build ## measure the time from slirp4netns's death to a working forward, median of 20
	.ci/testenv go test -run '^$$' -bench '^BenchmarkHealing$$' -benchtime 20x ./cmd/slirpctl

# Packages whose tests need no namespaces: qemu's user mode supports few of their system calls, and can't
# execute a test binary a second time (InOtherProcess). The real slirp4netns is the host's.
ARM64_PKG ?= ./internal/subnet ./internal/options ./internal/hostfwd ./internal/oci
# Nor does it know sock_diag, which tells who holds a port.
ARM64_SKIP = InOtherProcess|AgainstSlirp4netns|^TestDiagnose|^TestManagerExplains$$|^TestListening$$|^TestDumpError$$|^TestWhoHoldsThePort$$

.PHONY: test-arm64
test-arm64: test-deps ## run the unit tests for arm64, in qemu's user mode
	GOARCH=arm64 CGO_ENABLED=0 go test -exec 'qemu-aarch64-static' -count=1 -skip '$(ARM64_SKIP)' $(ARM64_PKG)

# The number of processors for `make bench-cpus`.
N ?= $(shell nproc)

.PHONY: bench-cpus
bench-cpus: test-deps ## throughput and connections of `direct` by number of loops, on N [all] processors; results in bin/bench-cpus
	@mkdir -p bin/bench-cpus
	.ci/testenv taskset -c 0-$$(($(N) - 1)) go test -run '^$$' -bench '^BenchmarkLoops$$' -count 5 ./internal/hostfwd/direct | tee bin/bench-cpus/results.txt
	@go tool test2json <bin/bench-cpus/results.txt >bin/bench-cpus/results.json

# The directory for the newest peers that `make bench` fetches. BENCH_RUNS is the number of measurements.
PEERS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/slirpctl-bench

.PHONY: bench
bench: bench-deps build ## compare with all available peers, into docs/benchmarks.md
	@CGO_ENABLED=0 go build -trimpath -o bin/bench ./internal/bench
	$(GIVE_BACK)
	.ci/bench-peers '$(PEERS)'
	.ci/testenv bin/bench -slirpctl bin/slirpctl -peers '$(PEERS)/bin'

.PHONY: build
build: ## build bin/slirpctl, a static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION) -E github.com/slirpctl/slirpctl/internal/rlimit.entry' -o $(OUT) ./cmd/slirpctl
	$(GIVE_BACK)

# What is installed besides the program: FILE:PLACE below PREFIX.
INSTALLED = completions/slirpctl.bash:share/bash-completion/completions/slirpctl \
	completions/_slirpctl:share/zsh/site-functions/_slirpctl \
	completions/slirpctl.fish:share/fish/vendor_completions.d/slirpctl.fish \
	completions/slirpctl.ps1:share/slirpctl/slirpctl.ps1 \
	docs/examples/systemd/slirpctl@.service:lib/systemd/user/slirpctl@.service \
	$(foreach page,$(sort $(wildcard docs/man/*.[1-8])),$(page):share/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))

# Under sudo, an existing build is installed: root has another PATH, often without Go, and would
# download every module again.
.PHONY: install
install: ## install into PREFIX [/usr/local], below DESTDIR
	@if ! [ -x bin/slirpctl ] || { [ -z "$$SUDO_UID" ] && command -v go >/dev/null; }; then $(MAKE) build; fi
	install -d '$(PLACE)/bin'
	install -m 0755 bin/slirpctl '$(PLACE)/bin/slirpctl'
	@set -e; for pair in $(INSTALLED); do \
		to='$(PLACE)'/$${pair#*:}; echo "install $$to"; \
		install -d "$${to%/*}"; install -m 0644 "$${pair%%:*}" "$$to"; \
	done

# Directories that others may use too are kept, except below DESTDIR, where packages are prepared.
.PHONY: uninstall
uninstall: ## remove what install installed; PREFIX and DESTDIR as there
	rm -f '$(PLACE)/bin/slirpctl'
	@set -e; for pair in $(INSTALLED); do echo "rm $(PLACE)/$${pair#*:}"; rm -f '$(PLACE)'/$${pair#*:}; done
	@[ ! -d '$(PLACE)/share/slirpctl' ] || rmdir --ignore-fail-on-non-empty '$(PLACE)/share/slirpctl'
	@case '$(DESTDIR)' in '' | /) exit ;; esac; [ -d '$(PLACE)' ] || exit 0; prefix='$(PREFIX)'; \
	find '$(PLACE)' -mindepth 1 -depth -type d -empty -delete; \
	cd '$(DESTDIR)' && rmdir -p --ignore-fail-on-non-empty "$${prefix#/}"

.PHONY: deps
deps: ## install what demo, lint, test, race and bench need
	.ci/deps demo lint test race bench

.PHONY: demo-deps test-deps race-deps lint-deps bench-deps test-programs-deps
demo-deps test-deps race-deps lint-deps bench-deps:
	@.ci/deps $(@:-deps=)
test-programs-deps:
	@.ci/deps test programs

.PHONY: lint
lint: lint-deps ## go vet, staticcheck, gofumpt, shellcheck, actionlint
	go vet $(PKG)
	go vet -tags packages ./internal/packages
	go vet -tags nethttpomithttp2,programs ./cmd/slirpctl
	$(GOTOOL) staticcheck $(PKG)
	@unformatted=$$($(GOTOOL) gofumpt -l cmd internal) && \
	if [ -n "$$unformatted" ]; then echo "not gofumpt'ed (make fmt):"; echo "$$unformatted"; exit 1; fi
	shellcheck $$(grep -lE '^#!/bin/(ba)?sh' .ci/*) docs/examples/*.sh docs/examples/ci/*.sh
	$(GOTOOL) actionlint .github/workflows/*.yml docs/examples/ci/github-actions.yml

.PHONY: fmt
fmt: ## format the Go code
	$(GOTOOL) gofumpt -w cmd internal

.PHONY: generate
generate: ## generate completions, manual pages and the table of keys, from the program
	go test ./cmd/slirpctl -count=1 -run '^TestGenerated$$' -update

.PHONY: docs
docs: demo-deps build generate ## redraw docs/demo.svg, and run generate
	@go build -o bin/termsvg ./internal/termsvg
	$(GIVE_BACK)
	PATH="$$PWD/bin:$$PATH" .ci/testenv --no-user bin/termsvg docs/demo.session >docs/demo.svg.new
	mv docs/demo.svg.new docs/demo.svg

# Every time stamp in the packages is that of the last commit.
SOURCE_DATE_EPOCH ?= $(shell GIT_OPTIONAL_LOCKS=0 git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || echo 0)

# The tools' own modules pin their dependencies; the first build takes minutes. 2.15.0 is the newest GoReleaser for Go 1.26.
GORELEASER = github.com/goreleaser/goreleaser/v2@v2.15.0
CYCLONEDX = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# Converts the output of git describe to a version that every package format accepts: v1.2.0-3-gabc becomes
# 1.2.0+3.gabc; a version without a tag sorts below all others.
PACKAGE_VERSION = $(shell echo '$(VERSION)' | sed -E 's/-dirty$$//; s/^v//; /^[0-9]+\./!s/^/0.0.0-/; s/-/+/; s/-/./g')

.PHONY: packages
packages: ## build deb, rpm, apk and tarball for amd64 and arm64, into dist
	GOFLAGS= GOBIN='$(CURDIR)/bin' go install $(GORELEASER)
	GOFLAGS=-trimpath CGO_ENABLED=0 GOBIN='$(CURDIR)/bin' go install $(CYCLONEDX)
	PATH='$(CURDIR)/bin':"$$PATH" VERSION='$(VERSION)' PACKAGE_VERSION='$(PACKAGE_VERSION)' \
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) MTIME="$$(date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%dT%H:%M:%SZ)" \
	GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
		goreleaser release --snapshot --clean
	$(GIVE_BACK)
	@[ "$$(id -u)" != 0 ] || chown -R "$$(stat -c %u:%g .)" dist

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME [10s]
	@.ci/fuzz $(FUZZTIME) $(PKG)

.PHONY: clean
clean: ## remove built files
	rm -rf bin dist
