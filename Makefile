# Every verb in one line; `make help` lists them. Works on a fresh clone: what a verb needs, it makes first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LISTEN ?= 127.0.0.1:50051
METRICS ?= 127.0.0.1:9090
export BASE VARIANT PIP_OPTIONS IMAGE BUILDER

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

$(VENV)/.installed-deploy: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[server,dev,deploy]'
	@touch $@

$(VENV)/.installed-ray: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[server,dev,ray]'
	@touch $@

test-deploy: $(VENV)/.installed-deploy ## Test manifests, rules, image and replicas; as root; CONTRIBUTING.md says what it needs.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m 'deploy and not ray' tests/deploy

test-ray: $(VENV)/.installed-ray ## Test the Ray job on a cluster of its own; takes minutes.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m ray tests/deploy

test-bench: $(INSTALLED) ## Run each benchmark in its shortest mode, to its end; minutes.
	$(BIN)/pytest -m bench tests/benchmarks

image: ## Build the image; BASE, VARIANT (cuda or cpu), PIP_OPTIONS, IMAGE: see deploy/Dockerfile.
	deploy/build-image.sh

check: $(INSTALLED) ## Lint, type-check, check imports, protos and generated code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/python scripts/generate.py --check
	$(BIN)/python scripts/metric_reference.py --check
	$(BIN)/python scripts/dashboard.py --check

generate: $(INSTALLED) ## Generate the client's code from the protos, the metric reference and the dashboard.
	$(BIN)/python scripts/generate.py
	$(BIN)/python scripts/metric_reference.py
	$(BIN)/python scripts/dashboard.py

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

stylize-check: $(INSTALLED) ## Give a photograph several styles and look at them; takes minutes.
	$(BIN)/python scripts/check_stylize.py demo/out/stylize

models-check: $(INSTALLED) ## Serve thirteen networks from a repository and compare their logits; takes minutes.
	$(BIN)/python scripts/check_models.py

bench: $(INSTALLED) ## Measure speed and fairness on this machine, as ratios; ten minutes. docs/performance.md explains.
	$(BIN)/python -m benchmarks.core
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.worker_profile
	$(BIN)/python -m benchmarks.maximize_jobs
	$(BIN)/python -m benchmarks.company --rate 2 --requests 25
	$(BIN)/python -m benchmarks.costs

bench-peers: $(INSTALLED) ## Measure throughput against other servers, each in an environment of its own; a quarter of an hour.
	$(BIN)/python -m benchmarks.peers

bench-gpu: $(INSTALLED) ## Measure on cuda:0, or say that there is none; needs no network.
	$(BIN)/python -m benchmarks.gpu

bench-report: $(INSTALLED) ## Fill the tables of docs/performance.md from benchmarks/out.
	$(BIN)/python -m benchmarks.report

bench-stylizer: $(INSTALLED) ## Compare a stylizer's pass with the optimisation that reaches its loss; takes minutes.
	$(BIN)/python scripts/style_images.py benchmarks/out/styles
	$(BIN)/python -m benchmarks.stylizer benchmarks/out/styles

clean: ## Remove what the other verbs made.
	rm -rf $(VENV) demo/out demo/index.html benchmarks/out

.PHONY: help install demo serve test test-deploy test-ray test-bench image check generate matrix matrix-check long-check \
	insertion-check maximize-check stylize-check models-check bench bench-peers bench-gpu bench-report bench-stylizer clean
