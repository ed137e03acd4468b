# The front door. Every target installs what it needs and is missing; `make help` lists them.
#
#   make test ARGS="-k breakpoint -x"     passes arguments on to pytest
#
# One chain of stamps in build/, each made once and again when what it depends on changes:
#   system packages -> .venv with the tools -> release wheel -> the wheel, installed into .venv
#
# Nothing here is an editable install: tests, stubtest and the demo all meet the wheel that a user gets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV ?= .venv
BUILD ?= build
# The first Python that is new enough; for another one: make PYTHON=python3.13
PYTHON ?= $(or $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done),python3)
export PYTHON VENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := $(VENV)/bin
STAMPS := $(BUILD)/stamps
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(wildcard README.md) \
	$(shell find src python -type f -not -name '*.so' -not -path '*/__pycache__/*' -not -path '*/.*')
WHEELS := $(BUILD)/wheels
INSTALLED := $(STAMPS)/installed
# Prints the folder of the Linux guest, built if need be; nothing, and the reason on stderr, where that cannot be.
GUEST := { scripts/system-packages guest && tests/guests/linux/build.sh || \
	echo "*** no Linux guest, for the reason above: what boots it will be SKIPPED ***" >&2; }

.PHONY: help demo test test-rust test-python test-amdv shell-amdv quirks stress fuzz sanitize lint lint-rust lint-python lint-deny bench instructions docs notebooks stubs linux-guest install-check clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

demo: $(INSTALLED) ## build, install, and run the main job
	@guest=$$($(GUEST)); $(BIN)/belljar demo $${guest:+--linux "$$guest"} $(ARGS)

# Rust first, so that the last lines are pytest's.
test: test-rust test-python ## run every test, Rust and Python (ARGS goes to pytest)

# The dev profile, though the wheel has built the same crates in release: overflow checks and debug assertions are half
# of what these tests are for.
test-rust: $(STAMPS)/system
	cargo test --locked --no-default-features

test-python: $(INSTALLED) test-rust
	@$(GUEST) >/dev/null
	@scripts/system-packages gdb || echo "*** no gdb, for the reason above: tests of it will be SKIPPED ***" >&2
	$(BIN)/pytest --junitxml=$(BUILD)/junit.xml $(ARGS)

test-amdv: $(INSTALLED) ## run the KVM tests on stock KVM semantics, in an emulated PC (CPUS=2, ARGS="-k x")
	@scripts/system-packages gdb || echo "*** no gdb, for the reason above: tests of it will be SKIPPED ***" >&2
	$(BIN)/python tests/amdv/lane.py $(if $(CPUS),--cpus $(CPUS)) $(ARGS)

shell-amdv: $(INSTALLED) ## a shell in that emulated PC, with belljar and the tests in /lab
	$(BIN)/python tests/amdv/lane.py $(if $(CPUS),--cpus $(CPUS)) --shell

quirks: $(INSTALLED) ## what the quirk probe answers, here and in the emulated PC
	$(BIN)/python tests/amdv/compare.py

# Each of the two finds what the other hides: -X dev checks allocations and slows everything down.
stress: $(INSTALLED) ## 64 machines, threads, Ctrl-C: no crash, hang, leak or lost exception (DURATION=60)
	$(BIN)/python -X dev tests/stress/stress.py --seconds $(or $(DURATION),60) $(ARGS)
	$(BIN)/python -X faulthandler tests/stress/stress.py --seconds $(or $(DURATION),60) $(ARGS)

fuzz: $(STAMPS)/system ## run each fuzz target on AddressSanitizer (DURATION=10, ARGS="images" for some of them)
	@scripts/system-packages fuzz
	scripts/fuzz $(or $(DURATION),10) $(ARGS)

sanitize: $(STAMPS)/system ## the unit tests of the core on AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked --no-default-features --lib \
		--target x86_64-unknown-linux-gnu --target-dir $(BUILD)/sanitize

lint: lint-rust lint-python lint-deny ## formatting, clippy, ruff, mypy, stubtest, layers, cargo-deny

# With and without Python, since the core must stand alone.
lint-rust: $(STAMPS)/venv
	cargo fmt --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --locked --all-targets -- -D warnings

lint-python: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy python/belljar
	$(BIN)/python -m mypy.stubtest --concise --mypy-config-file pyproject.toml belljar._belljar
	$(BIN)/pytest -q -p no:cacheprovider tests/unit/test_layers.py

lint-deny:
	scripts/deny

bench: $(INSTALLED) ## measure against the bare counterparts: table, JSON and picture (ARGS="--rows 1,2 --quick")
	$(BIN)/python benches/scoreboard.py $(ARGS)

instructions: $(INSTALLED) ## count instructions per exit; fails if they grow by 5 % (ARGS=--update stores them)
	@scripts/system-packages bench
	$(BIN)/python benches/instructions.py $(ARGS)

notebooks: $(INSTALLED) ## run every notebook, and write what it shows into it
	$(BIN)/python scripts/notebooks.py $(ARGS)

docs: $(INSTALLED) $(STAMPS)/docs ## build the pages (tutorial, API) into build/docs; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -n -q -d $(BUILD)/doctrees docs $(BUILD)/docs
	@echo "docs: $(BUILD)/docs/index.html"

stubs: $(STAMPS)/venv ## rewrite python/belljar/_belljar.pyi from the built module
	scripts/stubs

linux-guest: ## build the Linux test guest (cached outside the tree), print where it is
	@scripts/system-packages guest && tests/guests/linux/build.sh

install-check: $(STAMPS)/wheel ## the wheel, and `pip install .`, each in an empty environment
	scripts/install-check $(WHEELS)/*.whl

clean: ## remove everything that make made in this tree
	rm -rf $(BUILD) $(VENV) target dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMPS)/system: scripts/system-packages
	@command -v cargo >/dev/null || { echo "belljar needs a Rust toolchain (1.90 or newer): https://rustup.rs" >&2; exit 1; }
	@scripts/system-packages base
	@mkdir -p $(@D) && touch $@

$(STAMPS)/venv: pyproject.toml | $(STAMPS)/system
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "belljar needs Python 3.11 or newer")'
	@$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*p["dependencies"], *p["optional-dependencies"]["dev"], sep="\n")' >$(STAMPS)/requirements.txt
	$(BIN)/pip install --quiet -r $(STAMPS)/requirements.txt
	@touch $@

$(STAMPS)/docs: pyproject.toml | $(STAMPS)/venv
	@$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*p["optional-dependencies"]["docs"], sep="\n")' >$(STAMPS)/docs-requirements.txt
	$(BIN)/pip install --quiet -r $(STAMPS)/docs-requirements.txt
	@touch $@

$(STAMPS)/wheel: $(SOURCES) | $(STAMPS)/venv
	@rm -rf $(WHEELS)
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out $(WHEELS)
	@touch $@

# The tools and the dependencies are there already; --force-reinstall because the version seldom changes.
$(INSTALLED): $(STAMPS)/wheel $(STAMPS)/venv
	$(BIN)/pip install --quiet --force-reinstall --no-deps $(WHEELS)/*.whl
	@touch $@
