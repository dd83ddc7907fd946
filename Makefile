# One command each; every target makes what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv lint test unit integration lab bench clean
.NOTPARALLEL:

venv:
	@$(PYTHON) integration/lab/bootstrap.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: unit integration

unit: venv
	$(BIN)/pytest tests

integration: venv
	$(BIN)/pytest integration

lab: venv
	@$(BIN)/python -m integration.lab $(ARGS)

bench: venv
	@$(BIN)/python -m integration.bench.throughput $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
