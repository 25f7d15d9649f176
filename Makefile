# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
export ORT_DISABLE_TELEMETRY = 1
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
# In a process of their own: after the engines' libraries, an interrupted training crashed in one run.
LEARNING := tests/evaluation/ tests/playground/ tests/training/
SERVING  := tests/deploy/ tests/e2e/ tests/gateway/ tests/policies/ tests/serving/

.PHONY: help setup demo test lint types unit unit-serving unit-others unit-learning evaluation benchmark load pages docs stubs clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 11), (3, 12)) else f"error: Python 3.11 or 3.12 is needed (the bundled Triton has stubs that work for these two), {v[0]}.{v[1]} found; run: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

setup: $(READY)  ## create .venv with everything in it

demo: $(READY)  ## unlearn a concept, evaluate, serve it from Triton, show before and after in demo/
	@$(PY) -m unsee.playground.demo.run --output-dir demo

test: lint types unit  ## lint, types and all tests

lint: $(READY)  ## ruff, and which package may import which
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: $(READY)  ## mypy, strict in our packages
	$(VENV)/bin/mypy

unit: unit-serving unit-others unit-learning  ## pytest, those against a real tritonserver included

unit-serving: $(READY)
	$(PY) -m pytest $(SERVING)

unit-others: $(READY)
	$(PY) -m pytest $(filter-out $(LEARNING) $(SERVING),$(wildcard tests/*/)) tests/test_namespace.py

unit-learning: $(READY)
	$(PY) -m pytest $(LEARNING)

evaluation: $(READY)  ## unlearn and evaluate every concept and policies of several; hours
	@$(PY) -m unsee.playground.experiments.every_concept
	@$(PY) -m unsee.playground.experiments.composed_policies
	@$(PY) -m benchmarks.pages

benchmark: $(READY)  ## measure what is fast, what Triton and the client cost, how cost grows
	$(PY) -m benchmarks.engines.compare --write
	$(PY) -m benchmarks.serving.overhead --write
	$(PY) -m benchmarks.engines.scaling --write
	$(PY) -m benchmarks.serving.footprint --write
	$(PY) -m benchmarks.serving.client --write
	@$(PY) -m benchmarks.pages

load: $(READY)  ## measure throughput, latency and fairness under load (run `make demo` first)
	@$(PY) -m benchmarks.serving.load --write > /dev/null
	@$(PY) -m benchmarks.pages

pages: $(READY)  ## render the measured pages and plots from their records, measuring nothing
	@$(PY) -m benchmarks.pages

docs: $(READY)  ## the documents as a site, in build/site; a warning is an error
	$(VENV)/bin/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d build/site.doctrees . build/site

stubs: $(READY)  ## the clients' types, the protocol and the contract's tables, from clients/contract
	@$(PY) clients/generator/make_stubs.py

clean:  ## remove what the commands above made, except .venv
	rm -rf demo build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find model_repository -mindepth 1 -maxdepth 1 ! -name text_to_video -exec rm -rf {} +
	rm -rf model_repository/text_to_video/assets
