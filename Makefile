# make demo, make test: a fresh machine needs Python ≥ 3.11 (with venv) and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= auto
T ?= tests
LISTEN ?= 127.0.0.1:10069

.DEFAULT_GOAL := help
.PHONY: help demo stack test test-all lint format bench soak docs pictures image sbom audit lock lowest clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is no Python 3.11 or newer that runs; name one: make PYTHON=python3.13 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) has no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }

# The environments are remade when their lock changes.
$(VENV)/.runtime: requirements.lock | $(VENV)/bin/python
	@echo "installing what the exporter needs into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock | $(VENV)/bin/python
	@echo "installing what its tests need into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime  ## simulator and exporter together; no account needed (LISTEN=host:port)
	@exec $(BIN)/python -m exporter demo --web.listen-address $(LISTEN)

stack: $(VENV)/.runtime  ## the demo with Prometheus and Alertmanager, from this machine's packages (STACK="--times 1")
	@exec $(BIN)/python -m tools.stack $(STACK)

# Workers cost more than they save on a single file, and a file that is named runs whole, slow tests included.
WORKERS := -n $(JOBS) --dist worksteal
NAMED := $(foreach path,$(T),$(firstword $(subst ::, ,$(path))))
ONLY_FILES := $(if $(filter-out %.py,$(NAMED)),,yes)

test: $(VENV)/.dev  ## the quick tests, no coverage (T=tests/polling: a folder; T=tests/polling/test_queue.py: a file, all of it)
	$(BIN)/python -m pytest -q $(if $(ONLY_FILES),,$(WORKERS) -m "not slow and not external") $(T) $(PYTEST)

test-all: $(VENV)/.dev  ## every test, the slow ones and those that need Debian's programs too; branch coverage
	$(BIN)/python -m pytest -q $(WORKERS) --cov --cov-report=term $(PYTEST)

lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev  ## let ruff write the code's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev  ## ratios, measured side by side in one run (half an hour); into docs/performance.md
	$(BIN)/python -m benchmarks

soak: $(VENV)/.dev  ## the long proofs at full size (half an hour); their numbers go into docs/reliability.md
	$(BIN)/python -m tests.soak $(SOAK)

docs: $(VENV)/.dev  ## write the generated pages of docs/ anew
	$(BIN)/python -m tools.reference.metrics > docs/metrics.md
	$(BIN)/python -m tools.reference.configuration > docs/configuration.md
	$(BIN)/python -m tools.reference.web_config > docs/web-config.md
	$(BIN)/python -m tools.reference.api > docs/api.md
	$(BIN)/python -m grafana.rules
	$(BIN)/python -m grafana.boards
	$(BIN)/python -m helm.generate
	$(BIN)/python -m tests.reliability

pictures: $(VENV)/.dev  ## the screenshots of the documentation; needs Chromium
	SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/external/test_pages.py -k pictures

ENGINE ?= docker
IMAGE ?= verify-factor-exporter
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)

image:  ## the container image (ENGINE=docker|podman|buildah IMAGE=name:tag PYTHON_IMAGE=base@sha256:…)
	$(ENGINE) build --tag $(IMAGE) --build-arg REVISION=$(REVISION) $(PYTHON_IMAGE:%=--build-arg PYTHON_IMAGE=%) \
	  $(SOURCE:%=--label org.opencontainers.image.source=%) .

sbom: $(VENV)/.dev  ## the image's bill of materials, dist/sbom.cdx.json
	@mkdir -p dist
	$(BIN)/python -m tools.supply_chain.sbom > dist/sbom.cdx.json

audit: $(VENV)/.dev  ## known vulnerabilities of what is locked; fails where nobody can be asked
	@$(BIN)/python -m tools.supply_chain.audit

# What only the CDK around Helm's binary asks for; --no-deps leaves it out when the lock is installed.
CDK := aws-cdk-lib aws-cdk-asset-awscli-v1 aws-cdk-asset-node-proxy-agent-v6 aws-cdk-cloud-assembly-schema \
  constructs jsii publication typeguard
COMPILE := $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header pyproject.toml

lock: $(VENV)/.dev  ## lock the newest dependencies, with hashes
	$(COMPILE) -o requirements.lock
	$(COMPILE) -c requirements.lock --group dev $(CDK:%=--no-emit-package %) -o requirements-dev.lock

lowest: $(VENV)/.dev  ## the tests on the oldest dependencies that pyproject.toml allows
	$(BIN)/uv venv -q --clear --python $(BIN)/python $(VENV)-lowest
	$(BIN)/uv pip install -q --python $(VENV)-lowest/bin/python --resolution lowest-direct --group dev -r pyproject.toml
	$(VENV)-lowest/bin/python -m pytest -q -p no:cacheprovider $(PYTEST)

clean:  ## remove what was made
	rm -rf $(VENV) $(VENV)-lowest .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
