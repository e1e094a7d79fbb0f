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
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[server,cli,dev]'
	@touch $@

install: $(INSTALLED) ## Create .venv and install all that the other verbs need.

demo: $(INSTALLED) ## Explain two photographs with a real model; writes demo/index.html.
	$(BIN)/python demo/demo.py

serve: $(INSTALLED) ## Run a server; LISTEN and METRICS give its addresses.
	$(BIN)/gradserve-server serve --listen $(LISTEN) --metrics $(METRICS)

# In two processes, because much of it waits. Folders in their order, so that the files of few and long tests come first.
test: $(INSTALLED) ## Run the tests.
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

$(VENV)/.installed-deploy: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[server,cli,dev,deploy]'
	@touch $@

$(VENV)/.installed-ray: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[server,cli,dev,ray]'
	@touch $@

$(VENV)/.installed-docs: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[server,dev,docs]'
	@touch $@

test-docs: $(VENV)/.installed-docs ## Run every code block of the documents, and follow the page that adds a method; takes minutes.
	$(BIN)/pytest -m docs --numprocesses 2 tests/docs

test-browser: $(INSTALLED) ## Test the page in Chromium; needs Debian's chromium, chromium-driver and npm.
	npm install --prefix tests/browser --no-package-lock --no-audit --no-fund --silent
	$(BIN)/pytest -m browser tests/browser

docs: $(VENV)/.installed-docs ## Build the documentation site in docs/_build; warnings are errors.
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

pictures: $(INSTALLED) ## Draw the pictures of docs/methods.md; takes minutes.
	$(BIN)/python scripts/method_pictures.py

screenshots: $(INSTALLED) ## Picture the page, and the demo if it is there; needs Chromium.
	$(BIN)/python scripts/screenshots.py

test-deploy: $(VENV)/.installed-deploy ## Test manifests, rules, image and replicas; as root; CONTRIBUTING.md says what it needs.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m 'deploy and not ray' tests/deploy

test-ray: $(VENV)/.installed-ray ## Test the Ray job on a cluster of its own; takes minutes.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m ray tests/deploy

test-languages: $(INSTALLED) ## Test the examples of other languages; needs node and npm.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m 'other_languages or not other_languages' tests/integration/test_other_languages.py

test-bench: $(INSTALLED) ## Run each benchmark in its shortest mode, to its end; minutes.
	$(BIN)/pytest -m bench tests/benchmarks

test-gpu: $(INSTALLED) ## Test on a CUDA device: answers as a CPU's, nothing that waits, memory that ends.
	$(BIN)/pytest -m gpu tests/gpu

image: ## Build the image; BASE, VARIANT (cuda or cpu), PIP_OPTIONS, IMAGE: see deploy/Dockerfile.
	deploy/build-image.sh

check: $(INSTALLED) ## Lint, type-check, check imports, protos and generated code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/python scripts/generate.py --check
	$(BIN)/python scripts/contract_reference.py --check
	$(BIN)/python scripts/metric_reference.py --check
	$(BIN)/python scripts/dashboard.py --check

generate: $(INSTALLED) ## Generate the client's code from the protos, the references and the dashboard.
	$(BIN)/python scripts/generate.py
	$(BIN)/python scripts/contract_reference.py
	$(BIN)/python scripts/metric_reference.py
	$(BIN)/python scripts/dashboard.py

matrix: $(INSTALLED) ## Ask every method of eight architectures and write docs/method-matrix.md; takes minutes.
	$(BIN)/python scripts/method_matrix.py

matrix-check: $(INSTALLED) ## Ask the same, and fail if docs/method-matrix.md says otherwise.
	$(BIN)/python scripts/method_matrix.py --check

long-check: $(INSTALLED) ## Show that a request of many rows takes no more memory and lets others through.
	$(BIN)/python scripts/check_long_request.py

fuzz: $(INSTALLED) ## Send a hundred thousand generated requests and decode as many damaged files; takes an hour.
	$(BIN)/python scripts/fuzz_requests.py
	$(BIN)/python scripts/fuzz_decoder.py

overload-check: $(INSTALLED) ## Offer a server 5 and 20 times what it can answer; measures time, takes ten minutes.
	$(BIN)/python scripts/check_overload.py

soak: $(INSTALLED) ## Run a server under mixed load for MINUTES (30) and check that it keeps nothing.
	$(BIN)/python scripts/soak.py --minutes $(or $(MINUTES),30)

insertion-check: $(INSTALLED) ## Compare maps with maps that know nothing and write docs/insertion.md; takes minutes.
	$(BIN)/python scripts/check_insertion.py

client-check: $(INSTALLED) ## Install the client alone: what it brings along, and how long importing it takes.
	$(BIN)/python scripts/check_client.py

floors-check: $(INSTALLED) ## Call a server with the oldest and the newest releases that the client may have.
	$(BIN)/python scripts/check_floors.py

maximize-check: $(INSTALLED) ## Maximise ten classes by three presets and look at them; takes minutes.
	$(BIN)/python scripts/check_maximize.py demo/out/maximize

stylize-check: $(INSTALLED) ## Give a photograph several styles and look at them; takes minutes.
	$(BIN)/python scripts/check_stylize.py demo/out/stylize

models-check: $(INSTALLED) ## Serve thirteen networks from a repository and compare their logits; takes minutes.
	$(BIN)/python scripts/check_models.py

# The image's allocator, for whatever is measured; of Debian's libtcmalloc-minimal4. Empty for the C library's.
ALLOCATOR ?= libtcmalloc_minimal.so.4
bench bench-peers: export LD_PRELOAD = $(ALLOCATOR)

bench: $(INSTALLED) ## Measure speed and fairness on this machine, as ratios; half an hour. docs/performance.md explains.
	$(BIN)/python -m benchmarks.core
	$(BIN)/python -m benchmarks.architectures
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.server_per_core
	$(BIN)/python -m benchmarks.worker_profile
	$(BIN)/python -m benchmarks.maximize_jobs
	$(BIN)/python -m benchmarks.large_images
	$(BIN)/python -m benchmarks.company --rate 2 --requests 25
	$(BIN)/python -m benchmarks.neighbor
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m benchmarks.costs
	$(BIN)/python -m benchmarks.explain_stream

bench-peers: $(INSTALLED) ## Measure throughput against other servers, each in an environment of its own; half an hour.
	$(BIN)/python -m benchmarks.peers

bench-gpu: $(INSTALLED) ## Measure on cuda:0, or say that there is none; needs no network.
	$(BIN)/python -m benchmarks.gpu

bench-report: $(INSTALLED) ## Fill the tables of docs/performance.md from benchmarks/out.
	$(BIN)/python -m benchmarks.report

bench-stylizer: $(INSTALLED) ## Compare a stylizer's pass with the optimisation that reaches its loss; takes minutes.
	$(BIN)/python scripts/style_images.py benchmarks/out/styles
	$(BIN)/python -m benchmarks.stylizer benchmarks/out/styles

clean: ## Remove what the other verbs made.
	rm -rf $(VENV) demo/out demo/index.html benchmarks/out docs/_build tests/browser/node_modules

# Every verb, as `help` lists them.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))
