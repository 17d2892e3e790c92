# Fresh machine: needs python3 (3.11 or newer, with its venv module) and make. Everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test bench clean

demo: .venv/installed-plot
	$(BIN)/sftsolve run data/mnist-denoise.toml

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

bench: .venv/installed-dev
	$(BIN)/python -m pytest benchmarks --benchmark-only

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sftsolve needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv

# The dev extra holds all of plot, so a demo after a test installs nothing.
.venv/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@ $(if $(filter dev,$*),.venv/installed-plot)
