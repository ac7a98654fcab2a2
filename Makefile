# The one door to the project. Each target does its own set-up in .venv, once; later runs reuse it.
# Needs Python >= 3.10, a Rust toolchain and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')
PYTHON_CODE := python tests/python examples benches/python $(wildcard tools)

# Build against our own interpreter, whatever environment the caller has activated.
export VIRTUAL_ENV := $(abspath $(VENV))
export PYO3_PYTHON := $(abspath $(BIN)/python)
unexport CONDA_PREFIX

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format bench accuracy guide build clean lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build $(if $(PEERS),$(VENV)/.peers)  ## make the weights of a 1.2-billion-parameter model (ARGS="--layers 2" and others pass through)
	$(BIN)/python examples/llama.py $(ARGS)

test: build $(VENV)/.frameworks  ## run the tests and doctests of both languages (ARGS goes to pytest)
	cargo test --no-default-features
	$(BIN)/pytest tests/python $(ARGS)
	$(BIN)/pytest --doctest-modules --doctest-ignore-import-errors python/fastinit \
	    --ignore=python/fastinit/keras --ignore=python/fastinit/guidance/_compare/_keras_network.py

test-slow: build  ## run the tests that need 9 GB of memory and a few minutes
	$(BIN)/pytest tests/python -m slow $(ARGS)

lint: build  ## check formatting, lints, types, stubs and documentation
	cargo fmt --check
	cargo clippy --all-targets --features python -- -D warnings
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --no-default-features
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	$(BIN)/mypy --strict python
	$(BIN)/mypy --strict examples
	$(BIN)/mypy --strict benches/python
	$(BIN)/python -m mypy.stubtest fastinit._core

format:  ## rewrite both languages in the project's style
format: $(VENV)/.dev
	cargo fmt
	$(BIN)/ruff check --fix $(PYTHON_CODE)
	$(BIN)/ruff format $(PYTHON_CODE)

bench: build $(if $(PEERS),$(VENV)/.peers)  ## compare with NumPy and, with PEERS=1, torch, JAX, Keras, ... (QUICK=1: two minutes)
	$(BIN)/python benches/python/bench.py $(if $(QUICK),--quick) $(ARGS)
	$(if $(PEERS),$(BIN)/python benches/python/models.py $(if $(QUICK),--rounds 1))
	$(if $(PEERS),$(BIN)/python benches/python/keras_models.py $(if $(QUICK),--rounds 1))
	cargo bench --no-default-features --bench fill -- $(if $(QUICK),--quick)

accuracy: $(RUST_SOURCES)  ## measure the normal and the truncated normal on all words
	cargo test --release --no-default-features -- --ignored --nocapture accuracy

guide: build $(VENV)/.frameworks  ## make the tables and pictures of docs/guide.md again
	$(BIN)/python tools/guide.py

build: $(VENV)/.built  ## build the extension into .venv, optimized

clean:  ## remove everything that can be made again
	cargo clean
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache python/fastinit/_core*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: $(VENV)/.dev  ## renew the pinned Python dependencies from requirements-*.in
	$(BIN)/pip install --quiet uv
	for set in dev frameworks bench; do \
	    $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --prerelease disallow \
	        --no-annotate --custom-compile-command "make lock" \
	        requirements-$$set.in --output-file requirements-$$set.txt || exit 1; \
	done

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "fastinit needs Python >= 3.10")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.dev: requirements-dev.txt | $(BIN)/python
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	@touch $@

$(VENV)/.frameworks: requirements-frameworks.txt $(VENV)/.dev
	$(BIN)/pip install --quiet --requirement requirements-frameworks.txt
	@touch $@

$(VENV)/.peers: requirements-bench.txt $(VENV)/.dev
	$(BIN)/pip install --quiet --requirement requirements-bench.txt
	@touch $@

# The Python sources are linked, not copied, so only a change on the Rust side needs a new build.
$(VENV)/.built: $(RUST_SOURCES) $(VENV)/.dev
	$(BIN)/maturin develop --release --quiet
	@touch $@
