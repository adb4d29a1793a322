# Table of contents: what people and CI run. The logic is in xtask/ and .ci/.
# Every target installs what it needs (Debian 12, Rust, root) and says how long it takes.

SIGNET := target/release/signet
MATRIX := tests/matrix
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help build demo pictures matrix test lint bench soak fuzz

help:
	@echo 'make build   compile target/release/signet'
	@echo 'make demo    the story of the bank: flat, closed, opened, attacked; leaves the lab up'
	@echo 'make pictures  the pictures of docs/pictures, taken anew'
	@echo 'make matrix  every family, protocol, path and policy on real traffic, as expected or not'
	@echo 'make test    all tests, on this kernel and under Debian'\''s 6.1 and 6.12'
	@echo 'make lint    format, clippy, generated code, architecture, licences, C warnings, shell'
	@echo 'make bench   time per packet and per change, round trips beside nftables, memory, flows'
	@echo 'make soak    the long tests (MINUTES=10 each)'
	@echo 'make fuzz    hostile input for the parsers (MINUTES=10 each)'

build:
	@echo 'build: 5 minutes from nothing, seconds afterwards'
	@.ci/bootstrap build
	cargo build --release --package signet-cli

demo: build
	@echo 'demo: a minute'
	@.ci/bootstrap demo
	@PATH=$$PWD/target/release:$$PATH examples/bank/demo.sh

pictures: build
	@echo 'pictures: two minutes'
	@.ci/bootstrap demo
	@cargo xtask pictures

matrix: build
	@echo 'matrix: a minute'
	@.ci/bootstrap matrix
	@$(SIGNET) lab down $(MATRIX) 2>/dev/null || true
	@$(SIGNET) lab up $(MATRIX) >/dev/null
	@$(SIGNET) lab probe --lab matrix $(MATRIX)/probes.jsonl --manifests $(MATRIX) -o cells; \
		status=$$?; $(SIGNET) lab down matrix; exit $$status

test:
	@echo 'test: 38 minutes from nothing, 33 afterwards'
	@.ci/bootstrap test
	@cargo xtask test

lint:
	@echo 'lint: 5 minutes from nothing, 1 afterwards'
	@.ci/bootstrap lint
	@cargo xtask lint

bench:
	@echo 'bench: 28 minutes from nothing, 18 afterwards'
	@.ci/bootstrap bench
	@cargo xtask bench

soak:
	@echo 'soak: $(MINUTES) minutes for each long test'
	@.ci/bootstrap soak
	@cargo xtask soak --minutes $(MINUTES)

fuzz:
	@echo 'fuzz: $(MINUTES) minutes for each target, and 3 to build from nothing'
	@.ci/bootstrap fuzz
	@cargo xtask fuzz --minutes $(MINUTES)
