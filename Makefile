# make demo and make test need only Python ≥ 3.11 with venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Many tests wait for programs and sockets, so there are two workers per processor.
JOBS ?= $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))
T ?= tests
LISTEN ?= 127.0.0.1:10069

.DEFAULT_GOAL := help
.PHONY: help demo stack test test-all lint format bench bench-million soak interpreters scrapers scraper-packages cluster cluster-binaries docs site pictures owner image workflows release-check release-image sbom audit lock lowest clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is not a working Python 3.11 or newer; set another one: make PYTHON=python3.13 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) has no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }

# An environment is updated when its lock changes.
$(VENV)/.runtime: requirements.lock | $(VENV)/bin/python
	@echo "installing the exporter's dependencies into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock | $(VENV)/bin/python
	@echo "installing the development dependencies into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime  ## run the simulator and the exporter together; no account needed (LISTEN=host:port)
	@exec $(BIN)/python -m exporter demo --web.listen-address $(LISTEN) --listen-variable LISTEN

stack: $(VENV)/.runtime  ## run the demo with the installed Prometheus and Alertmanager (STACK="--times 1")
	@exec $(BIN)/python -m tools.stack $(STACK)

# For a single file, workers cost more than they save. Its slow tests are run as well.
WORKERS := -n $(JOBS) --dist worksteal
NAMED := $(foreach path,$(T),$(firstword $(subst ::, ,$(path))))
ONLY_FILES := $(if $(filter-out %.py,$(NAMED)),,yes)

test: $(VENV)/.dev  ## run the quick tests (T=FOLDER), or all tests of one file (T=FILE)
	$(BIN)/python -m pytest -q $(if $(ONLY_FILES),,$(WORKERS) -m "not slow and not external") $(T) $(PYTEST)

test-all: $(VENV)/.dev  ## run every test, including slow and external ones, with branch coverage
	$(BIN)/python -m pytest -q $(WORKERS) --cov --cov-report=term $(PYTEST)

lint: $(VENV)/.dev  ## run ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev  ## format the code with ruff
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev  ## run the benchmarks (40 minutes) and write docs/performance.md (BENCH="--only whole")
	$(BIN)/python -m benchmarks $(BENCH)

bench-million: $(VENV)/.dev  ## run a million factors in ten shards, or what two cores hold (half an hour per try)
	$(BIN)/python -m benchmarks --only million $(BENCH)

soak: $(VENV)/.dev  ## run the long tests at full size (half an hour) and update docs/reliability.md
	$(BIN)/python -m tests.soak $(SOAK)

interpreters: $(VENV)/.dev  ## run the quick tests on every Python that can be had (VERSIONS="3.11 3.14")
	$(BIN)/python -m tools.compatibility.interpreters --jobs $(JOBS) $(VERSIONS)

# Datadog's check pins its dependencies to versions that aren't ours, so it has an environment and a lock of its own.
DATADOG := $(VENV)-datadog
NPM_PARSERS := tools/scrapers/npm

$(DATADOG)/.installed: tools/scrapers/datadog/requirements.lock | $(VENV)/.dev
	@echo "installing Datadog's check into $(DATADOG) …"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(DATADOG)
	@$(BIN)/uv pip install -q --python $(DATADOG)/bin/python --require-hashes --no-deps -r $<
	@touch $@

$(NPM_PARSERS)/node_modules/.package-lock.json: $(NPM_PARSERS)/package-lock.json
	@npm ci --prefix $(NPM_PARSERS) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

scraper-packages: $(DATADOG)/.installed $(NPM_PARSERS)/node_modules/.package-lock.json  ## install what test-all scrapes with, from PyPI and npm

scrapers: scraper-packages  ## build and run every scraper that can be had; needs Go, takes minutes
	nice -n 15 $(BIN)/python -m tools.compatibility.scrapers

CLUSTER_FOLDER := $(VENV)-cluster

cluster-binaries: $(VENV)/.dev  ## build Kubernetes and unpack etcd and containerd for make cluster; needs Go (KUBERNETES=v1.35.4)
	nice -n 15 $(BIN)/python -m tools.cluster.binaries --folder $(CLUSTER_FOLDER) $(KUBERNETES:%=--kubernetes %)

cluster: $(VENV)/.dev  ## try the chart on a Kubernetes of its own; with a node if run by root (CLUSTER="--no-node")
	$(BIN)/python -m tools.cluster --folder $(CLUSTER_FOLDER) $(CLUSTER)

docs: $(VENV)/.dev  ## regenerate docs, rules, dashboards and the chart's generated files
	$(BIN)/python -m tools.reference.metrics > docs/metrics.md
	$(BIN)/python -m tools.reference.configuration > docs/configuration.md
	$(BIN)/python -m tools.reference.web_config > docs/web-config.md
	$(BIN)/python -m tools.reference.api > docs/api.md
	$(BIN)/python -m grafana.rules
	$(BIN)/python -m grafana.boards
	$(BIN)/python -m grafana.jsonnet
	$(BIN)/python -m helm.generate
	$(BIN)/python -m tests.reliability

site: $(VENV)/.dev  ## build the documentation as a site in dist/site; a dead link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

pictures: $(VENV)/.dev  ## take the screenshots for the documentation; needs Chromium, Node and Prometheus
	SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/external/test_pages.py -k pictures
	$(BIN)/python -m tests.support.rendering.pictures docs/images/dashboards

owner: $(VENV)/bin/python  ## set the GitHub account that all links to the project lead to (OWNER=acme)
	@$(BIN)/python -m tools.release.repository "$(OWNER)"

ENGINE ?= docker
IMAGE ?= verify-factor-exporter
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)

image:  ## build the container image (ENGINE=docker|podman|buildah IMAGE=name:tag PYTHON_IMAGE=base@sha256:…)
	$(ENGINE) build --tag $(IMAGE) --build-arg REVISION=$(REVISION) $(PYTHON_IMAGE:%=--build-arg PYTHON_IMAGE=%) .

# The programs and registries that a release uses are named in docs/releasing.md.
BASE ?= $(shell sed -n 's/^ARG PYTHON_IMAGE=\(.\)/\1/p' Dockerfile)

release-check: $(VENV)/.dev  ## build what a release publishes, twice, and compare (CHECK="--tag v1.2.3")
	@$(BIN)/python -m tools.release.check $(CHECK)

release-image:  ## build the image of a release, reproducibly, on the base's digest; needs buildah and skopeo
	digest=$$(skopeo inspect --format '{{.Digest}}' docker://$(BASE)) && \
	buildah build --format oci --timestamp $$(git log -1 --format=%ct) --tag $(IMAGE) \
	  --build-arg PYTHON_IMAGE=$(BASE)@$$digest --build-arg REVISION=$(REVISION) \
	  --label org.opencontainers.image.base.digest=$$digest .

workflows:  ## lint the workflows with actionlint; needs Go
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 -color=false

sbom: $(VENV)/.dev  ## write the image's bill of materials to dist/sbom.cdx.json
	@mkdir -p dist
	$(BIN)/python -m tools.supply_chain.sbom > dist/sbom.cdx.json

audit: $(VENV)/.dev  ## check the locked dependencies for known vulnerabilities (AUDIT=pypi|osv)
	@$(BIN)/python -m tools.supply_chain.audit $(AUDIT:%=--source %)

# Needed only by the CDK that wraps Helm's binary; not locked, and --no-deps keeps it from being installed.
CDK := aws-cdk-lib aws-cdk-asset-awscli-v1 aws-cdk-asset-node-proxy-agent-v6 aws-cdk-cloud-assembly-schema \
  constructs jsii publication typeguard
COMPILE := $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header pyproject.toml

lock: $(VENV)/.dev  ## lock the newest versions of the dependencies, with hashes
	$(COMPILE) -o requirements.lock
	$(COMPILE) -c requirements.lock --group dev $(CDK:%=--no-emit-package %) -o requirements-dev.lock
	$(COMPILE:pyproject.toml=tools/scrapers/datadog/requirements.in) -o tools/scrapers/datadog/requirements.lock

lowest: $(VENV)/.dev  ## run the tests with the oldest versions that pyproject.toml allows
	$(BIN)/uv venv -q --clear --python $(BIN)/python $(VENV)-lowest
	$(BIN)/uv pip install -q --python $(VENV)-lowest/bin/python --resolution lowest-direct --group dev -r pyproject.toml
	$(VENV)-lowest/bin/python -m pytest -q -p no:cacheprovider $(PYTEST)

clean:  ## remove environments, caches and build output
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-datadog $(VENV)-interpreters $(VENV)-scrapers $(VENV)-cluster \
	  $(NPM_PARSERS)/node_modules .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
