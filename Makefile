# Each target does its own set-up in .venv, once; later runs reuse it. Needs Python >= 3.10, a Rust toolchain and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')
PYTHON_CODE := python tests/python examples benches/python docs tools
SECONDS := 600
PEER_LIBRARIES := $(if $(PEERS),$(VENV)/.peers)

# Build against the interpreter in .venv, whatever environment the caller has activated.
export VIRTUAL_ENV := $(abspath $(VENV))
export PYO3_PYTHON := $(abspath $(BIN)/python)
unexport CONDA_PREFIX
export PIP_QUIET := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Packages are installed while the crate is compiled and tested. Cargo has a job limit of its own and must not see that
# of make.
MAKEFLAGS += --jobs=3
unexport MAKEFLAGS MFLAGS

.DEFAULT_GOAL := help
.PHONY: rust-test $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(MAKEFILE_LIST))

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build $(PEER_LIBRARIES)  ## initialize a 1.2-billion-parameter model and measure it (ARGS="--layers 2" etc. are passed on)
	$(BIN)/python examples/llama.py $(ARGS)

test: build $(VENV)/.frameworks rust-test  ## run the tests and doctests of both languages (ARGS goes to pytest)
	$(BIN)/pytest --numprocesses=2 --dist=worksteal $(ARGS)

rust-test:
	cargo test

test-slow: build $(VENV)/.frameworks  ## run the tests that need 9 GB of memory and a long time
	$(BIN)/pytest -m slow $(ARGS)

neon: $(BIN)/python  ## run the Rust tests, and Python's golden and contract tests, on 64-bit Arm under qemu-user
	tools/emulate.sh aarch64 $(BIN)/python

riscv: $(BIN)/python  ## run the Rust tests on 64-bit RISC-V, which has the scalar level, under qemu-user
	tools/emulate.sh riscv64 $(BIN)/python

fuzz: build $(VENV)/.dev  ## look for inputs that break a property, SECONDS=600 three times; needs nightly Rust and cargo-fuzz
	for target in windows plans; do \
	    mkdir -p fuzz/corpus/$$target && \
	    cargo +nightly fuzz run $$target fuzz/corpus/$$target tests/data/fuzz/$$target -- \
	        -max_len=160 -len_control=0 -timeout=60 -max_total_time=$(SECONDS) || exit 1; \
	done
	$(BIN)/python tests/python/test_fuzz.py $(SECONDS)

recipes: build $(VENV)/.recipes  ## run the recipes of docs/frameworks.md, in Rust too (ARGS="-k burn" etc.)
	$(BIN)/pytest -m "slow or not slow" tests/python/test_recipes.py $(ARGS)

zoo: build $(VENV)/.frameworks  ## compare 750 models of transformers and timm with and without fastinit (ARGS="--library timm" etc.)
	$(BIN)/python tests/python/zoo.py $(ARGS)

peers: build $(VENV)/.frameworks  ## run the tests of other libraries plainly and with fastinit (ARGS="timm" etc.)
	$(BIN)/python tools/peers.py $(ARGS)

pythons: $(VENV)/.build  ## test the wheels on several Pythons (PYTHONS="python3.10 python3.10@1.26.4 python3.14t" etc.)
	$(BIN)/python tools/pythons.py $(or $(PYTHONS),$(PYTHON)) $(ARGS)

lint: $(VENV)/.dev  ## check file names, formatting, lints, types and documentation
	$(BIN)/python tools/tree.py
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	$(BIN)/mypy python examples benches/python tools
	$(BIN)/zizmor --offline --pedantic --quiet .github
	@if command -v actionlint; then actionlint; else echo "no actionlint on PATH: the workflows are checked by zizmor alone"; fi
	cargo fmt --check
	cargo clippy --all-targets --features python -- -D warnings
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

audit: $(BIN)/python  ## check dependencies for known vulnerabilities, licenses and sources; needs cargo-deny
	cargo deny check
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install pip-audit
	for set in requirements-*.txt; do \
	    $(VENV)/audit/bin/pip-audit --no-deps --disable-pip --requirement $$set || exit 1; \
	done

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

randomness: build $(VENV)/.dev  ## test words and samples with TestU01 (ARGS="--battery crush words" etc.); needs libtestu01
	$(BIN)/python tools/randomness.py $(ARGS)

guide: build $(VENV)/.frameworks  ## regenerate the tables and pictures of docs/guide.md and of the notebooks
	$(BIN)/python tools/guide.py

release-check: $(VENV)/.release  ## build the wheel, the sdist and the crate as for a release, and check and use them
	$(BIN)/python tools/release.py

docs: build $(VENV)/.docs  ## build the site of the documentation in target/site; warnings are errors
	rm -rf target/site
	$(BIN)/sphinx-build --conf-dir docs --nitpicky --fail-on-warning --quiet . target/site

build: $(VENV)/.built  ## build the extension into .venv, optimized

clean:  ## remove everything that can be regenerated
	cargo clean
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache python/fastinit/_core*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: $(VENV)/.dev  ## update the pinned Python dependencies from requirements-*.in
	$(BIN)/pip install uv
	for set in build dev release frameworks recipes docs bench; do \
	    $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --prerelease if-necessary \
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

$(VENV)/.release: requirements-release.txt $(VENV)/.dev
	$(BIN)/pip install --requirement $<
	@touch $@

$(VENV)/.frameworks: requirements-frameworks.txt $(VENV)/.dev
	$(BIN)/pip install --requirement $<
	@touch $@

$(VENV)/.recipes: requirements-recipes.txt $(VENV)/.frameworks
	$(BIN)/pip install --requirement $<
	@touch $@

$(VENV)/.docs: requirements-docs.txt $(VENV)/.frameworks
	$(BIN)/pip install --requirement $<
	@touch $@

$(VENV)/.peers: requirements-bench.txt $(VENV)/.dev
	$(BIN)/pip install --requirement $<
	@touch $@

# The Python sources are linked, not copied, so only a change on the Rust side needs a new build.
$(VENV)/.built: $(RUST_SOURCES) $(VENV)/.build
	$(BIN)/maturin develop --release --quiet
	@touch $@
