# `make demo` and `make test` do all the set-up themselves, in .venv; they need Python 3.11 or later.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; \
	done)
BIN := .venv/bin
PYTEST_FLAGS ?= -n 2

.PHONY: help demo test lint style types docs bench clean

help:
	@echo "make demo   find the person in a photo; draw a small dataset, train on it, show skeletons"
	@echo "make test   run the tests"
	@echo "make lint   make style and make types"
	@echo "make style  formatting, lint and the direction of imports"
	@echo "make types  types, with pyright; it needs Node"
	@echo "make docs   build the documentation site in site/"
	@echo "make bench  run every benchmark in its quick form"
	@echo "make clean  remove .venv, the caches, the demo's results and the site"

demo: .venv/.installed-demo
	$(BIN)/bpnet demo

# One thread per process: the tests run in two processes.
test: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: style types

style: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.installed-dev
	$(BIN)/pyright

# The variable turns off an advertisement of mkdocs-material.
docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv/.installed-dev
	@for file in $$(grep -l __main__ benchmarks/*.py); do \
		$(BIN)/python -m benchmarks.$$(basename $$file .py) --quick || exit 1; \
	done

clean:
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache .import_linter_cache demo site

# The stamp is older than what it depends on after a change of the requirements: install again.
.venv/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[$*]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later; name one: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
