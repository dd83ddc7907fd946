# One command each; every target makes what it needs.
PYTHON ?= python3
BIN := .venv/bin

CRATE := agent/native
CARGO := $(shell cargo --version >/dev/null 2>&1 && command -v cargo)
NO_CARGO := native: no usable cargo, the daemon will use the pure Python datapath (install Rust 1.91 or newer, then 'make native')
export CARGO_BUILD_JOBS ?= 2
export MATURIN_NO_INSTALL_RUST := 1

FUZZ_SECONDS ?= 60
# Tests at a time, of different files; those of labs wait more than they compute.
WORKERS ?= 2
LABS ?= 3

.PHONY: venv native lint lint-native test test-native unit integration fuzz fuzz-python fuzz-native fuzz-libfuzzer fuzz-differential fuzz-routes lab nat-matrix time-to-direct impairment soak interop routing go-cli docs openapi bench bench-cli bench-control bench-relayed wheels clean
.NOTPARALLEL:

lab bench bench-cli bench-relayed nat-matrix time-to-direct impairment soak interop routing: NEEDS := lab
test integration test-deb: NEEDS := tools

OLD := from sys import *; version_info < (3, 11) and exit( \
  "Python 3.11 or newer is needed, %s is %s.\nIf there is one, name it: make PYTHON=python3.12 ..." % (executable, version.split()[0]))

venv:
	@$(PYTHON) -c '$(OLD)'
	@$(PYTHON) integration/lab/bootstrap.py $(NEEDS)
	@$(MAKE) --no-print-directory native

# The optional Rust extension: built when cargo is here, again when its sources change.
native: $(if $(CARGO),$(BIN)/.native)
	@$(if $(CARGO),:,echo "$(NO_CARGO)")

$(BIN)/.native: $(shell find $(CRATE) -name target -prune -o -type f -print)
	@echo "  building the native datapath (under two minutes the first time)"
	@if $(BIN)/pip install -q --disable-pip-version-check ./$(CRATE); then touch $@; else \
	  echo "native: it did not build, the daemon will use the pure Python datapath"; [ -z "$$CI" ]; fi

# One wheel per machine, for every Python from 3.11 and every Linux with glibc 2.17 or newer.
WHEELS ?= x86_64 aarch64

wheels: venv
	$(BIN)/pip install -q --disable-pip-version-check -e '.[wheels]'
	@for machine in $(WHEELS); do \
	  rustup -q target add $$machine-unknown-linux-gnu && \
	  (cd $(CRATE) && PATH="$(abspath $(BIN)):$$PATH" maturin build --release --zig -F python \
	    --target $$machine-unknown-linux-gnu --compatibility manylinux_2_17 -o $(abspath dist)) || exit 1; \
	done

# dist/tailnet_VERSION_ARCH.deb, for the Python that this distribution has.
deb: venv
	@$(BIN)/python -m integration.package.deb $(ARGS)

# The package made, installed, used and removed, over a copy of this system.
test-deb: venv
	TEST_DEB=1 $(BIN)/pytest integration/test_package.py

lint: venv lint-native
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-native:
ifneq ($(CARGO),)
	cd $(CRATE) && cargo fmt --check
	cd $(CRATE)/fuzz && cargo fmt --check
	cd $(CRATE) && cargo clippy -q --all-targets -- -D warnings
	cd $(CRATE) && cargo clippy -q --features python -- -D warnings
endif

test: test-native unit integration

test-native:
ifneq ($(CARGO),)
	cd $(CRATE) && cargo test -q
endif

unit: venv
	$(BIN)/pytest tests -n $(WORKERS) --dist loadfile

integration: venv
	$(BIN)/pytest integration -n $(LABS) --dist loadfile --no-loadscope-reorder

# Long random runs; FUZZ_SECONDS is for each target. Findings stay in .fuzz/.
fuzz: fuzz-python fuzz-native fuzz-libfuzzer fuzz-differential fuzz-routes

fuzz-python: venv
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

fuzz-native:
ifneq ($(CARGO),)
	cd $(CRATE) && FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test -q --test fuzz -- --nocapture
endif

# libFuzzer guides the same bodies by what they reach: coverage is the stable compiler's own, no nightly is needed.
COVERAGE := passes=sancov-module $(patsubst %,llvm-args=-sanitizer-coverage-%,level=4 inline-8bit-counters pc-table trace-compares)
RUST_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
BODIES = $(shell sed -n 's/^    ("\([a-z_]*\)", [a-z_]*),$$/\1/p' $(CRATE)/tests/fuzz/bodies.rs)

fuzz-libfuzzer:
ifneq ($(CARGO),)
	cd $(CRATE)/fuzz && RUSTFLAGS="$(addprefix -C ,$(COVERAGE))" cargo build -q --release --target $(RUST_HOST)
	@for body in $(BODIES); do \
	  echo "$$body"; mkdir -p .fuzz/native/$$body; \
	  FUZZ_TARGET=$$body $(CRATE)/fuzz/target/$(RUST_HOST)/release/bodies -max_total_time=$(FUZZ_SECONDS) -verbosity=0 \
	    -artifact_prefix=.fuzz/$$body- .fuzz/native/$$body || exit 1; \
	done
endif

fuzz-differential: venv
	FUZZ_EXAMPLES=$$(($(FUZZ_SECONDS) * 20)) $(BIN)/pytest -q --timeout=0 tests/agent/datapath/test_differential.py

fuzz-routes: venv
	FUZZ_EXAMPLES=$$(($(FUZZ_SECONDS) * 2)) $(BIN)/pytest -q --timeout=0 integration/router/test_router_random.py integration/firewall/test_random.py

lab: venv
	@$(BIN)/python -m integration.lab $(ARGS)

impairment: venv
	@$(BIN)/python -m integration.lab.impairment $(ARGS)

interop: venv
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[interop]'
	@$(BIN)/python -m integration.lab.interop $(ARGS)

# Upstream's command line, once, outside of the tree; then integration/test_go_cli.py drives it.
go-cli: venv
	@$(BIN)/python -m integration.lab.go_cli

soak: venv
	@$(BIN)/python -m integration.lab.soak $(ARGS)

nat-matrix: venv
	@$(BIN)/python -m integration.lab.matrix $(ARGS)

time-to-direct: venv
	@$(BIN)/python -m integration.lab.pairs $(ARGS)

routing: venv
	@$(BIN)/python -m integration.lab.routing $(ARGS)

# The pages as a site, in docs/_build/html; what is wrong with one of them is an error.
docs: venv
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[docs]'
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

# Pictures of the page of tnet web, by a real browser.
screenshots: venv
	@SCREENSHOTS=$(abspath docs/pictures) $(BIN)/pytest -q integration/test_web.py

# docs/openapi.json; a test says when it is old.
openapi: venv
	@$(BIN)/python -m tailnet.agent.localapi > docs/openapi.json

bench-control: venv
	@$(BIN)/python -m integration.bench.control $(ARGS)

bench-cli: venv
	@$(BIN)/python -m integration.bench.cli $(ARGS)

bench-relayed: venv
	@$(BIN)/python -m integration.bench.relayed $(ARGS)

bench: venv
	@$(BIN)/python -m integration.bench.throughput $(ARGS)

clean:
	rm -rf .venv agent/native/target .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
