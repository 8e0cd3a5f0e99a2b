# The one list of developer commands. Each runs from a clean clone; those that need root say so.
.DEFAULT_GOAL := help
SHELL := bash
.PHONY: help build package debian test chaos fuzz lint fmt bench differential demo demo-stop setup deny

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install all that building, testing and running need (root, Debian 12 or 13)
	@bash scripts/setup.sh --tests

build: ## one static release binary: target/release/cakework
	@bash scripts/build.sh

test: ## all tests, with real sandboxes, networks and registries (root)
	@bash scripts/test.sh $(TESTS)

package: ## the Debian package and the tar archive: target/package
	@bash scripts/package.sh

debian: ## install the package in an emulated Debian 12 with cgroup v2, and do the main job there (root)
	@bash scripts/build.sh --fixture && bash scripts/debian.sh

chaos: ## kill every role in every moment, ROUNDS times (2), and look for what was lost or left (root)
	@bash scripts/chaos.sh

fuzz: ## fuzz whatever reads bytes from outside, each target for FUZZ_SECS (60) seconds
	@bash scripts/fuzz.sh $(TARGETS)

differential: ## build many Dockerfiles here and with buildah, compare, write the table (root)
	@bash scripts/differential.sh

bench: ## Cakework beside the tools it stands on: starts, imports, getVm, memory (root)
	@bash scripts/bench.sh $(BENCH)

lint: ## formatting, clippy without a warning, and licences where cargo-deny is installed
	@bash scripts/lint.sh

fmt: ## format the code
	@. scripts/lib.sh && use_toolchain && cargo fmt --all && cargo fmt --manifest-path fuzz/Cargo.toml

deny: ## install cargo-deny, which takes some minutes, and check dependencies and licences
	@bash scripts/lint.sh --deny

demo: ## a private registry, a server and a real app behind a hostname, left running (root)
	@bash scripts/demo.sh start

demo-stop: ## end the demo and remove everything of it (root)
	@bash scripts/demo.sh stop
