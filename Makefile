# The commands of this repository. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
DEMO := $(TARGET)/demo/buddo-world
DEMO_BINS := buddo buddo-agent buddo-coordinator buddo-web buddo-world

.PHONY: help demo demo-down test fuzz-api sim chaos redeploys density bench check check-api deb check-deb apt-repo test-vm clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Everything on this machine: deploy an app, serve it over HTTPS and print its URL
	@scripts/install-packages
	@# A separate profile: the release build takes three times as long.
	@$(CARGO) build --profile demo --workspace --locked $(foreach bin,$(DEMO_BINS),--bin $(bin))
	@$(DEMO) demo up

demo-down: ## End the demo and remove every trace of it
	@if [[ -x $(DEMO) ]]; then $(DEMO) demo down; \
	elif [[ -e .demo ]]; then \
		$(CARGO) run --quiet --locked --package buddo-tests --bin buddo-world -- demo down; fi

test: ## Every test: unit, property, simulation, and the suite on real Podman, Caddy, ACME, registry
	@scripts/install-packages --tests
	@# Together with the tests, so that both share every dependency: separately, most are built twice.
	@$(CARGO) build --workspace --all-targets --locked
	@# nextest runs the unit tests while the suite on real parts waits for its worlds.
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace --locked; \
	else \
		$(CARGO) test --workspace --locked; fi

DEBIAN ?= 12

test-vm: deb ## The packages on a plain Debian in a virtual machine: real units, limits, reboots, a power cut; prints a table
	@scripts/install-packages --vm
	@scripts/build-vm $(DEBIAN)
	@$(CARGO) build --workspace --bins --locked
	@$(TARGET)/debug/buddo-vm --debian $(DEBIAN) --target $(TARGET)

EXAMPLES ?= 50

fuzz-api: ## Fuzz the API from its OpenAPI document, EXAMPLES=n per operation, as an operator and as an administrator: every answer must be a documented one
	@scripts/install-packages --tests
	@$(CARGO) build --workspace --bins --locked
	@EXAMPLES=$(EXAMPLES) $(CARGO) test --workspace --test it --locked -- fuzz_api:: --nocapture

SEEDS ?= 100000
SEED_START ?= 0

sim: ## The agent in a simulated world, SEEDS=n runs from SEED_START=s; a failing seed is printed and can be repeated
	@SEEDS=$(SEEDS) SEED_START=$(SEED_START) $(CARGO) test --workspace --locked --test sim -- \
		--nocapture every_seed_upholds_every_invariant

chaos: ## Kill everything at random for 5 minutes, 20 apps under load; TRIAL="--seed N" replays
	@scripts/install-packages --tests
	@$(CARGO) build --release --workspace --bins --locked
	@$(TARGET)/release/buddo-trials chaos $(TRIAL)

redeploys: ## 100,000 requests over 20 redeploys, and stop-first ones of a slow app, on two Caddys
	@scripts/install-packages --tests
	@$(CARGO) build --release --workspace --bins --locked
	@$(TARGET)/release/buddo-trials redeploys

APPS ?= 1000

density: ## APPS=n small apps on one host: whether all run, and what they cost
	@scripts/install-packages --tests
	@$(CARGO) build --release --workspace --bins --locked
	@$(TARGET)/release/buddo-trials density --apps $(APPS)

bench: ## Measure what the product costs, compared with raw Podman
	@scripts/install-packages
	@$(CARGO) build --release --workspace --bins --locked
	@$(TARGET)/release/buddo-bench

check: ## Format, imports between rooms, lints, licences and bans
	@scripts/install-tools
	@scripts/check-imports
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	@$(CARGO) deny --workspace check bans licenses sources

check-api: ## The OpenAPI document: two linters find no error, a generated client can be imported
	@scripts/install-api-checkers
	@scripts/check-api

deb: ## The three Debian packages, in target/debian; built on Debian 12 they run on 13 and Ubuntu 24.04, too
	@scripts/install-packagers
	@$(CARGO) build --release --workspace --locked --bin buddo --bin buddo-agent --bin buddo-coordinator
	@scripts/make-debs

check-deb: deb ## Install, upgrade, remove and purge the packages in a bare Debian 12 (as root)
	@scripts/install-packagers --tests
	@scripts/check-debs

apt-repo: deb ## A signed apt repository of them in target/apt; BUDDO_APT_KEY names the key in gpg
	@scripts/make-apt-repo

clean: demo-down ## Remove what was built
	@$(CARGO) clean
