# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
export ORT_DISABLE_TELEMETRY = 1
BASE   := playground
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
DEMO   := $(VENV)/.ready-for-demo
PYTEST := $(PY) -m pytest --numprocesses

.PHONY: help setup demo quick test lint types unit unit-quick evaluation benchmark load pages docs stubs clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(PY):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 11), (3, 12)) else f"error: Python 3.11 or 3.12 is needed (the bundled Triton has stubs that work for these two), {v[0]}.{v[1]} found; run: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)

$(DEMO): pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -e ".[train,evaluate,export,serve]"
	@touch $@

# Byte code of 20,000 modules takes pip two minutes, and most of them are never imported.
$(READY): pyproject.toml | $(PY)
	$(PY) -m pip install --no-compile --quiet --disable-pip-version-check -e ".[dev,docs,deploy-checks,page-checks]"
	@touch $(DEMO) $@

setup: $(READY)  ## create .venv with everything in it

demo: $(DEMO)  ## unlearn a concept, evaluate, serve it from Triton, show before and after in demo/ (BASE=playground)
	@$(PY) -m unsee.playground.demo.run --base "$(BASE)"

quick: lint types unit-quick  ## lint, types and the tests that need neither torch, Triton nor a process: a minute

# mypy computes on one core, and many tests wait: together they fill both.
test: $(READY)  ## lint, types and all tests
	@$(MAKE) --no-print-directory --jobs=2 lint types unit

lint: $(READY)  ## ruff, and which package may import which
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: $(READY)  ## mypy, strict in our packages
	$(VENV)/bin/mypy

unit: $(READY)  ## all tests, those against a real tritonserver included
	$(PYTEST)=2 --dist=loadfile --durations=40 --durations-min=5

unit-quick: $(READY)  # they wait more than they compute
	$(PYTEST)=4 --quick

evaluation: $(READY)  ## unlearn and evaluate every concept and policies of several; hours (BASE=playground)
	@$(PY) -m unsee.playground.experiments.every_concept --base "$(BASE)"
	@$(PY) -m unsee.playground.experiments.composed_policies --base "$(BASE)"
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

stubs: $(READY)  ## the clients' types and the contract's page, from clients/contract
	@$(PY) clients/generator/make_stubs.py

clean:  ## remove what the commands above made, except .venv
	rm -rf demo build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find model_repository -mindepth 1 -maxdepth 1 ! -name text_to_video ! -name prompt_encoder -exec rm -rf {} +
	rm -rf model_repository/text_to_video/assets model_repository/*/config.pbtxt
