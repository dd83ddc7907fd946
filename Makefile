# One command each; every target makes what it needs.
PY ?= .venv/bin/python
VENV := .venv/.done

.PHONY: venv lint test lab clean
venv: $(VENV)

$(VENV): pyproject.toml
	@python3 integration/lab/bootstrap.py
	@touch $@

lint: $(VENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test: $(VENV)
	.venv/bin/pytest tests
	.venv/bin/pytest integration

lab: $(VENV)
	.venv/bin/python -m integration.lab $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
