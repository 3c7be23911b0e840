# make run  : install what is needed and run the main job on the shipped example
# make test : run every test
# make gate : the fast checks
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test gate install
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e ".[examples,dev]"
	touch $@

run: install
	$(BIN)/interlock version

test: install
	$(BIN)/python -m pytest

gate: install
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/vulture
