# make train   set up .venv if needed, then fine-tune the model that comes along on the reviews that come along
# make bench   ours beside trl and datasets.map on this machine: writes docs/benchmarks.md
# make test    set up .venv if needed, then lint, types, import contracts, doctests, tests

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))) python3)
BIN := .venv/bin
READY := .venv/.ready
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1
# the tests share the machine with the subprocesses they start: more threads than cores is many times slower
test-slow doctests: export OMP_NUM_THREADS ?= 2
tests: export OMP_NUM_THREADS ?= 1

.NOTPARALLEL:
.PHONY: bench help train setup test lint types imports doctests tests test-slow

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

train: $(READY) ## the main job: python -m core +method=lora +quant=int4 (ARGS="..." adds to it)
	$(BIN)/python -m core +method=lora +quant=int4 $(ARGS)

setup: $(READY) ## build .venv from requirements.lock

test: lint types imports doctests tests ## all quick checks

lint: $(READY) ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## pyright, strict, on core and plugins
	$(BIN)/pyright

imports: $(READY) ## who may import whom
	$(BIN)/lint-imports

doctests: $(READY) ## the examples in docstrings
	$(BIN)/pytest --doctest-modules core plugins

tests: $(READY) ## tests but the slow ones, a process for each core
	$(BIN)/pytest -m "not slow" -n logical --maxprocesses 8 --dist loadscope $(ARGS)

test-slow: $(READY) ## tests that train the real model
	$(BIN)/pytest -m slow $(ARGS)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	  { echo "error: hooktune needs Python 3.11, 3.12 or 3.13, which $(PYTHON) is not" >&2; \
	    echo "  fix: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: $(PYTHON) cannot make virtual environments" >&2; \
	    echo "  fix: apt-get install python3-venv" >&2; exit 2; }
	@echo "setting up .venv: torch first, then the rest of requirements.lock"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c requirements.lock $(shell grep '^torch==' requirements.lock)
	$(BIN)/pip install -q --no-deps -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

bench: $(READY) ## ours beside trl and datasets.map: writes docs/benchmarks.md; run nothing beside it (ARGS="--cases sft")
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/output_layer.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/encoding.py
	$(BIN)/python benchmarks/beside_trl.py $(ARGS)
