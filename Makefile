# Two commands on a fresh machine: `make run` and `make test`. PYTHON names the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: run test check format clean

run: .venv/installed
	$(BIN)/cifar-exp experiment=quickstart

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed; name one by PYTHON=...' >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python setup.cfg pyproject.toml constraints.txt
	@echo 'Installing (PyTorch is large: a few minutes the first time) ...'
	$(INSTALL) -e .
	@touch $@

.venv/installed-dev: .venv/bin/python setup.cfg pyproject.toml constraints.txt
	@echo 'Installing with the development tools (PyTorch is large: a few minutes the first time) ...'
	$(INSTALL) -e '.[dev]'
	@touch $@ .venv/installed

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
