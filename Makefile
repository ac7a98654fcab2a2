# Each target does its own set-up in .venv, once; later runs reuse it. Needs Python >= 3.10, a Rust toolchain and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')
PYTHON_CODE := python tests/python examples benches/python tools
PEER_LIBRARIES := $(if $(PEERS),$(VENV)/.peers)

# Build against the interpreter in .venv, whatever environment the caller has activated.
export VIRTUAL_ENV := $(abspath $(VENV))
export PYO3_PYTHON := $(abspath $(BIN)/python)
unexport CONDA_PREFIX
export PIP_QUIET := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Packages are downloaded while the crate compiles. Cargo has a job limit of its own and must not see that of make.
MAKEFLAGS += --jobs=2
unexport MAKEFLAGS MFLAGS

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow recipes zoo peers pythons lint format bench accuracy guide build clean lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build $(PEER_LIBRARIES)  ## initialize a 1.2-billion-parameter model and measure it (ARGS="--layers 2" etc. are passed on)
	$(BIN)/python examples/llama.py $(ARGS)

test: build $(VENV)/.frameworks  ## run the tests and doctests of both languages (ARGS goes to pytest)
	cargo test
	$(BIN)/pytest --numprocesses=2 --dist=worksteal $(ARGS)

test-slow: build $(VENV)/.frameworks  ## run the tests that need 9 GB of memory and a long time
	$(BIN)/pytest -m slow $(ARGS)

recipes: build $(VENV)/.recipes  ## run the recipes of docs/frameworks.md, in Rust too (ARGS="-k burn" etc.)
	$(BIN)/pytest -m "slow or not slow" tests/python/test_recipes.py $(ARGS)

zoo: build $(VENV)/.frameworks  ## compare 750 models of transformers and timm with and without fastinit (ARGS="--library timm" etc.)
	$(BIN)/python tests/python/zoo.py $(ARGS)

peers: build $(VENV)/.frameworks  ## run the tests of Keras, timm and PyTorch plainly and with fastinit (ARGS="timm" etc.)
	$(BIN)/python tools/peers.py $(ARGS)

pythons: $(VENV)/.build  ## test the wheels on several Pythons (PYTHONS="python3.10 python3.10@1.26.4 python3.14t" etc.)
	$(BIN)/python tools/pythons.py $(or $(PYTHONS),$(PYTHON)) $(ARGS)

lint: $(VENV)/.dev  ## check file names, formatting, lints, types and documentation
	$(BIN)/python tools/tree.py
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	$(BIN)/mypy python examples benches/python tools
	cargo fmt --check
	cargo clippy --all-targets --features python -- -D warnings
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

format: $(VENV)/.dev  ## rewrite both languages in the project's style
	cargo fmt
	$(BIN)/ruff check --fix $(PYTHON_CODE)
	$(BIN)/ruff format $(PYTHON_CODE)

bench: build $(VENV)/.dev $(PEER_LIBRARIES)  ## compare with NumPy and, with PEERS=1, torch, JAX, Keras, ... (QUICK=1: two minutes)
	$(BIN)/python benches/python/bench.py $(if $(QUICK),--quick) $(ARGS)
	$(if $(PEERS),$(BIN)/python benches/python/models.py $(if $(QUICK),--rounds 1))
	$(if $(PEERS),$(BIN)/python benches/python/keras_models.py $(if $(QUICK),--rounds 1))
	cargo bench --bench fill -- $(if $(QUICK),--quick)

accuracy: $(RUST_SOURCES)  ## measure the errors of the normal and the truncated normal over all words
	cargo test --release -- --ignored --nocapture accuracy

guide: build $(VENV)/.frameworks  ## regenerate the tables and pictures of docs/guide.md
	$(BIN)/python tools/guide.py

build: $(VENV)/.built  ## build the extension into .venv, optimized

clean:  ## remove everything that can be regenerated
	cargo clean
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache python/fastinit/_core*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: $(VENV)/.dev  ## update the pinned Python dependencies from requirements-*.in
	$(BIN)/pip install uv
	for set in build dev frameworks recipes bench; do \
	    $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --prerelease disallow \
	        --no-annotate --custom-compile-command "make lock" \
	        requirements-$$set.in --output-file requirements-$$set.txt || exit 1; \
	done

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "fastinit needs Python >= 3.10")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.build: requirements-build.txt | $(BIN)/python
	$(BIN)/pip install --requirement $<
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.build
	$(BIN)/pip install --requirement $<
	@touch $@

$(VENV)/.frameworks: requirements-frameworks.txt $(VENV)/.dev
	$(BIN)/pip install --requirement $<
	@touch $@

$(VENV)/.recipes: requirements-recipes.txt $(VENV)/.frameworks
	$(BIN)/pip install --requirement $<
	@touch $@

$(VENV)/.peers: requirements-bench.txt $(VENV)/.dev
	$(BIN)/pip install --requirement $<
	@touch $@

# The Python sources are linked, not copied, so only a change on the Rust side needs a new build.
$(VENV)/.built: $(RUST_SOURCES) $(VENV)/.build
	$(BIN)/maturin develop --release --quiet
	@touch $@
