# Every verb in one line; `make help` lists them. Works on a fresh clone: what a verb needs, it makes first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LISTEN ?= 127.0.0.1:50051
METRICS ?= 127.0.0.1:9090

.DEFAULT_GOAL := help

help: ## List the verbs.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: set PYTHON=..."'
	@$(PYTHON) -m venv $(VENV) || { echo 'On Debian and Ubuntu: apt-get install python3-venv'; exit 1; }
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[server,dev]'
	@touch $@

install: $(INSTALLED) ## Create .venv and install all that the other verbs need.

demo: $(INSTALLED) ## Explain two photographs with a real model; writes demo/index.html.
	$(BIN)/python demo/demo.py

serve: $(INSTALLED) ## Run a server; LISTEN and METRICS give its addresses.
	$(BIN)/gradserve-server serve --listen $(LISTEN) --metrics $(METRICS)

test: $(INSTALLED) ## Run the tests.
	$(BIN)/pytest

check: $(INSTALLED) ## Lint, type-check, check imports, protos and generated code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/python scripts/generate.py --check

generate: $(INSTALLED) ## Generate the client's code from the protos.
	$(BIN)/python scripts/generate.py

matrix: $(INSTALLED) ## Ask every method of eight architectures and write docs/method-matrix.md; takes minutes.
	$(BIN)/python scripts/method_matrix.py

matrix-check: $(INSTALLED) ## Ask the same, and fail if docs/method-matrix.md says otherwise.
	$(BIN)/python scripts/method_matrix.py --check

long-check: $(INSTALLED) ## Show that a request of many rows takes no more memory and lets others through.
	$(BIN)/python scripts/check_long_request.py

insertion-check: $(INSTALLED) ## Compare maps with maps that know nothing and write docs/insertion.md; takes minutes.
	$(BIN)/python scripts/check_insertion.py

maximize-check: $(INSTALLED) ## Maximise ten classes by three presets and look at them; takes minutes.
	$(BIN)/python scripts/check_maximize.py demo/out/maximize

bench: $(INSTALLED) ## Measure what the core costs, as ratios.
	$(BIN)/python benchmarks/core.py

clean: ## Remove what the other verbs made.
	rm -rf $(VENV) demo/out demo/index.html benchmarks/out

.PHONY: help install demo serve test check generate matrix matrix-check long-check insertion-check maximize-check bench clean
