# The commands people and CI use. Everything runs in .venv, made on first use.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv.stamp: requirements-dev.txt pyproject.toml
	@echo "installing the pinned packages into .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: venv
venv: compiled ## install the pinned packages into .venv, and compile the router

.PHONY: compiled
compiled: .venv.stamp ## compile the router's hot path (half a minute; skipped without a C compiler)
	@$(BIN)/python operator/ollama_fleet/router/build.py

.PHONY: check
check: .venv.stamp ## lint, types, layers, chart, manifests, alerts (seconds; helm is built on first use)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m dev.promtool check
	@$(BIN)/yamllint --strict .
	@$(BIN)/python -m dev.conformity
	@$(BIN)/python -m dev.packages

.PHONY: format
format: .venv.stamp ## let ruff tidy the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: generate
generate: .venv.stamp ## write crds/ and docs/reference from the models, manifests/ from the chart
	@$(BIN)/python -m dev.generate

.PHONY: lock
lock: ## pin every package again, with hashes (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade pyproject.toml -o requirements.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade --group dev pyproject.toml -c requirements.txt -o requirements-dev.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --group fuzz -c requirements-dev.txt -o requirements-fuzz.txt
	@printf 'hatchling\nmypy\nsetuptools\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -c requirements-dev.txt - -o requirements-build.txt

SBOM ?= build/sbom.cdx.json
.PHONY: sbom
sbom: .venv.stamp ## list what runs, with licences: build/sbom.cdx.json
	@$(BIN)/python -m venv --clear --without-pip build/sbom
	@$(BIN)/python -m pip --python build/sbom/bin/python install --no-compile --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o $(SBOM) build/sbom
	@echo "$(SBOM)"

.PHONY: tools
tools: .venv.stamp ## make Kubernetes, Ollama and helm ready (minutes, once)
	@$(BIN)/python -m dev.tools

.PHONY: test-unit
test-unit: .venv.stamp ## the pure tests (half a minute)
	@OLLAMA_FLEET_COMPILED=0 $(BIN)/pytest tests/unit

.PHONY: test-component
test-component: tools compiled ## one program at a time, against real peers; the router in both its forms
	@$(BIN)/pytest tests/unit/router tests/component
	@OLLAMA_FLEET_COMPILED=0 $(BIN)/pytest tests/component/router

.PHONY: test-siege
test-siege: test-component ## a little of all that is done to a fleet under fire
	@$(BIN)/pytest tests/walk/test_sample.py
	@$(BIN)/pytest tests/world/test_sample.py
	@$(BIN)/pytest tests/soak/test_sample.py

.PHONY: test-cluster
test-cluster: tools compiled ## the whole, on a real Kubernetes
	@$(BIN)/pytest tests/cluster
	@$(BIN)/pytest tests/faults/test_sample.py tests/faults/test_unheard.py

SAMPLE ?=
.PHONY: test-faults
test-faults: tools compiled ## the operator killed at each write, and every other fault (an hour; SAMPLE=20)
	@$(BIN)/python -m tests.faults $(if $(SAMPLE),--sample $(SAMPLE))
	@$(BIN)/pytest tests/faults/test_leaders.py

FIELDS ?=
.PHONY: test-walk
test-walk: tools compiled ## every field of the three kinds changed, and changed back (FIELDS='Router.*health')
	@$(BIN)/python -m tests.walk '$(FIELDS)'

FAULT ?=
.PHONY: test-world
test-world: tools compiled ## machines, Kubernetes, clocks, keys fail around a living fleet (FAULT=pattern)
	@$(BIN)/python -m tests.world $(if $(FAULT),--only "$(FAULT)")

.PHONY: test-docs
test-docs: tools ## every command of the README and docs, on a real Kubernetes
	@$(BIN)/pytest tests/docs

# the two long suites wait more than they compute: side by side they take little longer than one
.PHONY: test
test: check test-unit tools compiled ## everything
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-siege test-cluster
	@$(MAKE) --no-print-directory test-docs

SUITE ?= bookworm
.PHONY: test-bare
test-bare: ## what CI runs, in a Debian where nothing is installed (root, debootstrap; over an hour; SUITE=trixie)
	@.ci/bare $(SUITE)

.PHONY: image-test
image-test: .venv.stamp ## build the image in earnest (root, buildah, debootstrap; two minutes)
	@$(BIN)/pytest tests/image

.PHONY: cluster
cluster: .venv.stamp ## a real Kubernetes on this machine, with simulated GPUs
	@$(BIN)/python -m dev.cluster up --fleet

.PHONY: cluster-down
cluster-down: .venv.stamp ## stop it, and leave nothing behind
	@$(BIN)/python -m dev.cluster down

.PHONY: bench-update
bench-update: tools ## chats lost while servers are updated, scaled and moved
	@$(BIN)/python -m benchmarks.update

.PHONY: bench-distribution
bench-distribution: .venv.stamp ## a model to 20 servers, with and without a mirror
	@$(BIN)/python -m benchmarks.distribution

.PHONY: bench-routing
bench-routing: compiled ## first tokens, loads and failures by who chooses, against nginx
	@$(BIN)/python -m benchmarks.routing

.PHONY: bench-parallel
bench-parallel: .venv.stamp ## three models on three servers, against one that takes turns
	@$(BIN)/python -m benchmarks.parallel

TIMES ?= 8
.PHONY: explore-api
explore-api: .venv.stamp ## ask the fleet API for whatever its document allows, and for more (TIMES=8)
	@FLEET_API_TIMES=$(TIMES) $(BIN)/pytest tests/component/console/test_schema.py

MINUTES ?= 10
.PHONY: chaos-router
chaos-router: compiled ## servers that die, hang, restart and wedge under load (MINUTES=10)
	@$(BIN)/python -m benchmarks.chaos $(MINUTES)

.PHONY: fuzz
fuzz: .venv.stamp ## hostile input for all readers, other examples each time (MINUTES=10)
	@end=$$((SECONDS + 60 * $(MINUTES))); while ((SECONDS < end)); do \
		FUZZ_EXAMPLES=300 OLLAMA_FLEET_COMPILED=0 $(BIN)/pytest -q tests/unit/*/test_hostile.py || exit 1; \
	done

PROPERTY ?=
.PHONY: fuzz-guided
fuzz-guided: .venv.stamp ## the same led by coverage (MINUTES=10 PROPERTY=head; Linux on x86-64)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.txt
	@OLLAMA_FLEET_COMPILED=0 $(BIN)/python -m tests.guided $(MINUTES) '$(PROPERTY)'

.PHONY: soak
soak: MINUTES = 60
soak: tools compiled ## a fleet in use while all of it is changed, killed and rolled (MINUTES=60)
	@$(BIN)/python -m benchmarks.soak $(MINUTES)

.PHONY: bench-router
bench-router: compiled ## what the router costs beside nginx, HAProxy, vllm-router and LiteLLM
	@OLLAMA_FLEET_COMPILED=1 $(BIN)/python -m benchmarks.router

.PHONY: bench-console
bench-console: .venv.stamp ## the dashboard in a browser, with 10, 100 and 500 servers that change
	@$(BIN)/python -m benchmarks.console

.PHONY: bench-scale
bench-scale: tools compiled ## what a fleet costs as it grows from 10 to 1,000 servers (half an hour)
	@$(BIN)/python -m benchmarks.scale

.PHONY: screenshots
screenshots: tools ## the pictures of the dashboard in docs/images
	@$(BIN)/pytest tests/pictures --into docs/images

.PHONY: demo
demo: .venv.stamp ## from nothing to a chat answer
	@$(BIN)/python -m dev.demo
