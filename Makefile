# The commands of this project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
TESTBED = cargo run --quiet -p testbed --bin dask-testbed --
NAME ?= dev
NODES ?= 2
SEED ?= 1
STEPS ?= 200
export PATH := $(CURDIR)/target/toolchain/go/bin:$(HOME)/.cargo/bin:$(PATH)

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: ## Install what the commands below need (system packages, Go, Rust); seconds when it is there
	@tests/cluster/install.sh

.PHONY: tools
tools: install ## Build Kubernetes, helm and the other programs of the local cluster; 5-10 min the first time
	@$(TESTBED) tools build

.PHONY: image
image: tools ## Build the operator as one static binary and both test images
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --release -p dask-operator --target $(TRIPLE)
	@$(TESTBED) image operator target/$(TRIPLE)/release/dask-operator
	@$(TESTBED) image dask

.PHONY: demo
demo: image ## See a Dask cluster start, compute and scale on a real local Kubernetes
	@cargo run --quiet -p e2e-tests --bin demo

.PHONY: check
check: ## Format, lint and unit tests: the inner loop
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --lib --bins
	cargo test -p dask-operator-api --test documents

.PHONY: test
test: image ## Run all tests: unit, API server, nodes, and a short bench
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace
	@$(MAKE) --no-print-directory test-modules
	cargo run --quiet -p dask-operator-bench -- --quick --operator target/$(TRIPLE)/release/dask-operator

.PHONY: test-modules
test-modules: ## Test the preload modules with real Dask
	@$(TESTBED) python --with pytest==9.2.0 --with pytest-xdist==3.8.0 -m pytest -n 4 -q runtime/telemetry

.PHONY: test-vm
test-vm: image ## Test the local Kubernetes on Debian 12 and 13 with cgroup v2, in emulated machines; 10 min each (ONLY=trixie)
	@tests/cluster/install.sh vm
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet -p testbed --target $(TRIPLE)
	@target/$(TRIPLE)/debug/dask-testbed vm --operator target/$(TRIPLE)/release/dask-operator \
	    $(foreach release,$(ONLY),--release $(release))

.PHONY: bench
bench: image ## Measure the operator, also beside dask-kubernetes, into target/bench/results.json (ONLY="scale-up running-p99")
	cargo run --release -p dask-operator-bench -- --operator target/$(TRIPLE)/release/dask-operator \
	    $(foreach figure,$(ONLY),--only $(figure))

.PHONY: chaos-drain
chaos-drain: image ## Walk at random over a real cluster and audit that no work is lost (SEED=1 STEPS=200)
	@cargo run --quiet -p chaos-tests --bin chaos-drain -- --seed $(SEED) --steps $(STEPS) \
	    --operator target/$(TRIPLE)/release/dask-operator

.PHONY: up
up: tools ## Start a local Kubernetes (NAME=dev NODES=2)
	@$(TESTBED) up --name $(NAME) --nodes $(NODES)

.PHONY: down
down: ## Stop every local Kubernetes and leave nothing behind
	@$(TESTBED) down --all

.PHONY: run
run: ## Run the operator from source against the local Kubernetes (NAME=dev)
	@cargo build --quiet -p dask-operator
	@target/debug/dask-operator crd | target/debug/dask-testbed kubectl --name $(NAME) apply -f -
	KUBECONFIG=$$(target/debug/dask-testbed kubeconfig --name $(NAME)) \
	    target/debug/dask-operator run --all-namespaces --leader-elect=false --log-format text

.PHONY: generate
generate: ## Regenerate CRDs, the chart's copies of them and the reference docs
	@cargo run --quiet -p dask-operator-api --example generate_crds
	@cargo run --quiet -p dask-operator -- metrics-reference > docs/reference/metrics.md

.PHONY: clean
clean: down ## Stop the local clusters and delete everything that was built
	rm -rf target
