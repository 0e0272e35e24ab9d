# Two commands do everything on a bare machine with Python 3.11 or newer: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.cellseg-bench

.PHONY: help setup demo test test-all lint bench ops clean

help:
	@echo "make demo      set up, run MNC on the neural data set, show the row and where it is stored"
	@echo "make test      set up, run the fast tests"
	@echo "make test-all  the slow tests as well"
	@echo "make lint      format, lint, types, import rules"
	@echo "make bench     speed, as ratios to the library one would otherwise take"
	@echo "make ops       build mmcv's compiled operators (optional; about 10 minutes, then cached)"
	@echo "make setup     only set up ($(VENV))"

setup: $(STAMP)

# Plain pip; a second call does nothing until pyproject.toml changes.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11 (say which to use: make PYTHON=python3.12)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train,board,dev]'
	@touch $@

demo: setup
	$(BIN)/bench run --method mnc --dataset neural

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-all: setup
	$(BIN)/python -m pytest -m "slow or not slow"

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks

ops: setup
	$(BIN)/python -m bench.ops.build

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
