# Berth. `make` lists the targets; CONTRIBUTING.md says when to use which.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The steps of a target run in the order in which they stand, also under -j.
.NOTPARALLEL:

LISTEN ?= 127.0.0.1:8080
ARGS ?=
FUZZTIME ?= 10s
BENCHTIME ?= 1s
# How long make chaos goes on.
DURATION ?= 2m
# How often each test runs; empty takes results from Go's cache where nothing has changed.
COUNT ?=
# The order of tests: on, off or a seed. Go does not cache the results of
# shuffled tests, so only CI shuffles those of the packages unless told to.
SHUFFLE ?= $(if $(CI),on,off)

# Everything but help needs the Go that go.work asks for.
GO_NEEDED := $(shell sed -n 's/^go //p' go.work)
ifneq ($(filter-out help,$(or $(MAKECMDGOALS),help)),)
GO_FOUND := $(shell command -v go >/dev/null && go env GOVERSION 2>/dev/null | sed 's/^[^0-9]*//; s/[- ].*//')
ifneq ($(shell printf '%s\n' $(GO_NEEDED) $(or $(GO_FOUND),0) | sort -V | head -n 1),$(GO_NEEDED))
$(error Berth needs Go $(GO_NEEDED) or newer and found $(or $(GO_FOUND),none): install it from https://go.dev/dl and put its bin folder into PATH)
endif
endif

# The modules of go.work, as ./services/api and so on.
MODULES = $(patsubst $(CURDIR)/%,./%,$(shell go list -m -f '{{.Dir}}'))
# Their packages, without those whose results Go must not cache: the tests in
# test/ look at the tree and at processes, which the cache knows nothing of.
UNITS = $(patsubst %,%/...,$(filter-out ./test,$(MODULES)))
# How the tests in test/ run: always, and in another order each time.
WHOLE = -shuffle=$(patsubst off,on,$(SHUFFLE)) -count=$(or $(COUNT),1)
# The packages with benchmarks of their own; test/perf measures the whole.
BENCHED = $(sort $(dir $(shell grep -rlE --include='*_test.go' '^func Benchmark' $(filter-out ./test,$(MODULES)))))
PROGRAMS := $(addprefix ./services/,api creator deleter licenser watcher) ./cmd/berth ./cmd/devstack
# The go command writes the commit into the programs, where there is one.
VCS = $(shell git rev-parse --verify HEAD >/dev/null 2>&1 && echo true || echo false)

# $(call step,NAME) shows what runs next, and how long make has been at it.
STARTED := $(shell date +%s)
step = @printf '== %s (%d s)\n' '$(1)' $$(($$(date +%s) - $(STARTED))) >&2

FIRST := the first time some minutes: all dependencies are compiled

# $(call debian,COMMAND,PACKAGES) installs what is missing where that is possible, else says what to install.
# Debian keeps the programs of PostgreSQL, whose versions can be there together, out of PATH.
debian = @command -v $(1) >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/$(1)' >/dev/null || { \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo '$(1) is missing: install the Debian packages $(2) or your system'\''s like' >&2; exit 1; \
	fi; \
	echo '== installing $(2)' >&2; export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $(2) >/dev/null; }

# $(call gotest,FLAGS,PACKAGES): a line for each package, what failed in full, and the count. A skipped test is a failure.
gotest = @bin/tools/gotestsum --format=pkgname --format-hide-empty-pkg --jsonfile-timing-events=bin/test.json -- \
		-race -timeout=10m $(1) $(2); \
	if grep -q '"Action":"skip".*"Test":' bin/test.json; then echo 'FAIL: a skipped test proves nothing' >&2; exit 1; fi

##@ Run

help: ## List the targets
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile
	@printf '\nVariables: LISTEN ARGS (up), COUNT SHUFFLE (test), FUZZTIME (fuzz), BENCHTIME (bench), DURATION FAULTS PODS SEED (chaos).\nCONTRIBUTING.md explains them.\n'
.PHONY: help

up: build postgres ## Everything on this machine: Kubernetes, NATS, PostgreSQL and the five services, until ctrl-C (LISTEN, ARGS)
	@exec bin/devstack --listen '$(LISTEN)' --data .berth $(ARGS)
.PHONY: up

build: ## The programs, into bin/
	$(call step,build$(if $(wildcard bin/devstack),,; $(FIRST)))
	@go build -buildvcs=$(VCS) -o bin/ $(PROGRAMS)
.PHONY: build

##@ Check

test: vet lint bench-once kube unit system ## Everything that has to pass (COUNT, SHUFFLE)
	$(call step,everything passed)
.PHONY: test

# All of the workspace, then each module without it, as an image build or a scanner sees it.
vet:
	$(call step,vet$(if $(wildcard bin/tools),,; $(FIRST)))
	@go vet work
	@printf '%s\n' $(MODULES) | xargs -P 4 -I DIR bash -c 'cd DIR && GOWORK=off go vet ./... || { echo "FAIL: DIR by itself (GOWORK=off)" >&2; exit 1; }'
.PHONY: vet

lint: bin/tools/golangci-lint ## Mistakes, style, formatting and the walls between packages
	$(call step,lint)
	@bin/tools/golangci-lint config verify
	@bin/tools/golangci-lint run $(MODULES:%=%/...)
.PHONY: lint

# Each benchmark once, so that none rots.
bench-once:
	$(call step,benchmarks once)
	@out=$$(go test -run='^$$' -bench=. -benchtime=1x $(BENCHED) 2>&1) || { echo "$$out"; exit 1; }
.PHONY: bench-once

# The control plane for the tests, from its Go modules, once for each version of it.
kube:
	$(call step,Kubernetes control plane)
	@go run ./pkg/kube/kubetest/build
.PHONY: kube

unit: bin/tools/gotestsum cgo postgres
	$(call step,tests of the packages)
	$(call gotest,$(addprefix -shuffle=,$(filter-out off,$(SHUFFLE))) $(addprefix -count=,$(COUNT)),$(UNITS))
.PHONY: unit

# They start clusters of their own. e2e keeps two CPUs busy all the time, so nothing runs beside it; the others mostly
# wait: for the faults of chaos to be over, for long polls.
system: bin/tools/gotestsum cgo postgres
	$(call step,tests of the whole)
	$(call gotest,-p=2 $(WHOLE),$(filter-out %/e2e,$(shell go list ./test/...)))
	$(call step,tests of the whole: e2e)
	$(call gotest,$(WHOLE),./test/e2e)
.PHONY: system

verify: git generate tidy fmt vet lint deadcode ## Generated files, go.mod files and formatting are committed as they should be
	$(call step,nothing has changed)
	@git diff --exit-code
	@new=$$(git ls-files --others --exclude-standard); [ -z "$$new" ] || { echo "not committed:"; echo "$$new"; exit 1; }
.PHONY: verify

fuzz: ## Each fuzz target for FUZZTIME
	@grep -roE --include='*_test.go' '^func Fuzz\w+' $(MODULES) | sort | while IFS=: read -r file target; do \
		printf '== %s %s\n' "$${target#func }" "$$(dirname "$$file")" >&2; \
		go test -run='^$$' -fuzz="^$${target#func }\$$" -fuzztime=$(FUZZTIME) "$$(dirname "$$file")" </dev/null; \
	done
.PHONY: fuzz

bench: ## Each micro-benchmark for BENCHTIME, with allocations
	@go test -run='^$$' -bench=. -benchmem -benchtime=$(BENCHTIME) $(BENCHED)
.PHONY: bench

bench-cluster: ## Berth against plain Kubernetes, and long polls by the thousand (ARGS)
	$(call step,what Berth costs over plain Kubernetes; some minutes in which nothing else should run)
	@mkdir -p bin
	@go run ./test/perf --scenario all --svg bin/latency.svg --json bin/bench-cluster.json $(ARGS)
.PHONY: bench-cluster

chaos: ## Break everything at random for DURATION and hold what was seen against the promises (FAULTS, PODS, SEED)
	$(call step,chaos)
	@go run ./test/chaos/cmd/chaos --duration '$(DURATION)' $(addprefix --faults ,$(FAULTS)) $(addprefix --pods ,$(PODS)) $(addprefix --seed ,$(SEED)) $(ARGS)
.PHONY: chaos

##@ Change

fmt: bin/tools/golangci-lint ## Format the code
	$(call step,fmt)
	@bin/tools/golangci-lint fmt
.PHONY: fmt

# What go:generate lines say, docs/events.md for one.
generate:
	$(call step,generate)
	@go generate work
.PHONY: generate

# The sync raises versions to those of the workspace, which leaves something to tidy.
tidy: ## Tidy the go.mod of each module, with the versions of the workspace
	$(call step,tidy)
	@for dir in $(MODULES); do (cd "$$dir" && go mod tidy); done
	@go work sync
	@for dir in $(MODULES); do (cd "$$dir" && go mod tidy); done
.PHONY: tidy

tools: bin/tools/golangci-lint bin/tools/gotestsum ## The developer tools that tools/ pins, into bin/tools/
.PHONY: tools

bin/tools/golangci-lint: tools/golangci/go.mod tools/golangci/go.sum
	$(call step,building golangci-lint; the first time about 2 minutes)
	@cd tools/golangci && GOWORK=off go build -trimpath -buildvcs=false -ldflags='-s -w' -o '$(CURDIR)/bin/tools/' tool
	@touch $@

bin/tools/benchstat bin/tools/deadcode bin/tools/gotestsum &: tools/go.mod tools/go.sum
	$(call step,building developer tools)
	@cd tools && GOWORK=off go build -trimpath -buildvcs=false -ldflags='-s -w' -o '$(CURDIR)/bin/tools/' tool
	@touch bin/tools/benchstat bin/tools/deadcode bin/tools/gotestsum

deadcode: bin/tools/deadcode
	$(call step,dead code)
	@dead=$$(bin/tools/deadcode -test $(MODULES:%=%/...)); [ -z "$$dead" ] || { echo "$$dead"; exit 1; }
.PHONY: deadcode

# The race detector needs a C compiler.
cgo:
	$(call debian,gcc,gcc libc6-dev)
.PHONY: cgo

# The database of devstack and of the tests. Another one's server needs no programs here.
postgres:
	$(if $(findstring --database-url,$(ARGS)),,$(call debian,postgres,postgresql))
.PHONY: postgres

git:
	$(call debian,git,git)
.PHONY: git
