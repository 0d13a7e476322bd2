.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VAULT ?= vault

# a process that may not keep what Python makes of the modules makes it anew, and tests start hundreds
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check bench test-slow help clean

help: ## show these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | awk -F: '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(READY) ## set up, then bring every layer of the vault up to date (a demo market if it is empty)
	@$(BIN)/python scripts/first_run.py --vault $(VAULT)

test: $(READY) ## set up, then run the tests
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

check: $(READY) ## what CI runs: lint, types, tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

test-slow: $(READY) ## the long fault and soak suites (hours)
	@$(BIN)/python -m pytest -m slow --timeout 0

bench: $(READY) ## speed and memory beside DuckDB, written to BENCH.md
	@$(BIN)/python scripts/bench.py

clean: ## remove the virtual environment
	rm -rf $(VENV)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flowvault needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)
