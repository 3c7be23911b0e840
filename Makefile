# make run  : install what is needed and run the main job on the shipped example
# make test : run every test, and every example in the docstrings
# make gate : the fast checks
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
# uv resolves in seconds what takes pip minutes; pip does it where uv cannot.
comma := ,
INSTALL = $(PIP) uv && $(BIN)/uv pip install -q -p $(BIN)/python -e "$(1)" || $(PIP) -e "$(1)"

.PHONY: run test gate

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Interlock needs Python 3.11 or newer; make run PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(call INSTALL,.[examples])
	@touch $@

# torch first and pinned: a resolver would otherwise choose a build of several gigabytes.
$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) torch==2.13.0
	$(call INSTALL,.[all$(comma)dev])
	@touch $@ $(VENV)/.run

run: $(VENV)/.run
	$(BIN)/python examples/breast_cancer/compare.py

# A worker that dies fails the run: with a new one in its place, pytest-xdist can wait for ever.
test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 -m "not alone"
	$(BIN)/python -m pytest -m alone
	$(BIN)/python -m pytest --doctest-modules src

gate: $(VENV)/.test
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/vulture
