# Everything a developer calls. `make demo` and `make test` set up all they need on a fresh machine:
# Python 3.11+, make and git are enough.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Each process of the tests has servers of its own; more than cores makes them all slower.
TEST_PROCESSES ?= 2
LOCK := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
SOURCES := core operator worker gateway cli local dashboards infra __main__.py tests bench
# What `make cost` estimates: Pulumi.$(STACK).yaml, with further options in COST.
STACK ?= production
COST ?=
# What `make bench-check` compares with; empty: where the branch left origin/main, or the commit before.
BASE ?=

.PHONY: help demo up down status test coverage test-unit test-integration test-e2e test-faults test-scale-in load-test soak check format generate cost bench bench-check bench-peers lock clean

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /|/' | while IFS='|' read -r name text; do printf '  make %-18s %s\n' "$$name" "$$text"; done

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing the Python packages into $(VENV) (about a minute the first time) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# The file is complete. Resolving it anew costs time, and pip before 23.3 fails at it once a package with extras has a newer release.
	@$(BIN)/python -m pip install --quiet --no-compile --no-deps --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip --quiet --disable-pip-version-check check
	@touch $@

demo: $(INSTALLED) ## A tour on this machine: imports two catalogues and 300 jobs, shows the fleet follow, and one catalogue go live and be found
	@$(BIN)/import-local demo

up: $(INSTALLED) ## Start a whole installation on this machine (state in .local/)
	@$(BIN)/import-local up

down: $(INSTALLED) ## Stop it
	@$(BIN)/import-local down

status: $(INSTALLED) ## What runs
	@$(BIN)/import-local status

test: $(INSTALLED) ## All tests, on real parts (builds Kubernetes, Prometheus and Alertmanager once)
	@$(BIN)/import-local build
	@$(BIN)/python -m pytest tests -m "not long" -n $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder

coverage: $(INSTALLED) ## Lines that unit and integration tests run, child processes included; at least 85 %
	@$(BIN)/import-local build
	@$(BIN)/python -m pytest tests/unit tests/integration -n $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder --cov --cov-report=term:skip-covered --cov-fail-under=85

test-unit: $(INSTALLED) ## The tests that need nothing but Python
	@$(BIN)/python -m pytest tests/unit

test-integration: $(INSTALLED) ## The tests of single parts against real databases and a real control plane
	@$(BIN)/import-local build
	@$(BIN)/python -m pytest tests/integration

test-e2e: $(INSTALLED) ## The tests of a whole installation
	@$(BIN)/import-local build
	@$(BIN)/python -m pytest tests/e2e

test-faults: $(INSTALLED) ## Break a whole installation in every way promised to be survived (FAULT_SEED=… repeats, FAULT_SECONDS=… lengthens)
	@$(BIN)/import-local build
	@# The random steps take what the faults leave of the machine: these wait more than they work.
	@mkdir -p .local; \
	IMPORT_STATE_MACHINE_STEPS=100000 nice -n 19 $(BIN)/python -m pytest tests/integration/operator/test_job_state_machine.py > .local/state-machine.log 2>&1 & steps=$$!; \
	$(BIN)/python -m pytest tests/faults --ignore tests/faults/test_scale_in.py --ignore tests/faults/test_soak.py --timeout 900; faults=$$?; \
	echo "Waiting for 100,000 random steps of a job's life …"; wait $$steps; walk=$$?; cat .local/state-machine.log; \
	test $$faults -eq 0 -a $$walk -eq 0

test-scale-in: $(INSTALLED) ## Shrink a fleet under random load for ten minutes (SCALE_IN_SECONDS=… changes that), and interrupt nothing
	@$(BIN)/import-local build
	@$(BIN)/python -m pytest tests/faults/test_scale_in.py --timeout 2400

load-test: $(INSTALLED) ## 1,000 imports accepted at once, with a report and plots (LOAD_JOBS=…, LOAD_WORKERS=…, LOAD_REPORT=a folder)
	@$(BIN)/import-local build
	@$(BIN)/python -m import_local.load

soak: $(INSTALLED) ## An hour of mixed load while things break; nothing may grow or be left over (SOAK_MINUTES=…, SOAK_REPORT=a folder)
	@$(BIN)/import-local build
	@$(BIN)/python -m pytest tests/faults/test_soak.py --capture=no

check: $(INSTALLED) ## Lint, format, types, import rules, drift of generated files
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports
	@$(BIN)/python -m import_local.generate --check
	@$(BIN)/python -m infra.cost.page --check

format: $(INSTALLED) ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

generate: $(INSTALLED) ## Write crds/ and the generated reference pages from the models
	@$(BIN)/python -m import_local.generate
	@$(BIN)/python -m infra.cost.page

cost: $(INSTALLED) ## What a stack costs in a month (STACK=production, COST='--help' for more)
	@$(BIN)/python -m infra.cost --stack $(STACK) $(COST)

bench: $(INSTALLED) ## Benchmarks, as ratios against bare references in the same run
	@$(BIN)/import-local build
	@$(BIN)/python -m bench

bench-peers: $(INSTALLED) ## The same beside other projects, which are installed into environments of their own in the user's cache
	@$(BIN)/import-local build
	@$(BIN)/python -m bench --peers

bench-check: $(INSTALLED) ## Whether the pure parts take more CPU time than at another commit (BASE=… names it)
	@$(BIN)/python -m bench.check $(BASE)

lock: ## Pin the dependencies anew (needs uv)
	@uv pip compile pyproject.toml --all-extras $(LOCK) --upgrade --output-file requirements.txt
	@# The images' packages: the same versions, without the extras of tests; those that also enrich or read pages have files of their own.
	@uv pip compile pyproject.toml $(LOCK) --constraint requirements.txt --output-file deploy/images/requirements.txt
	@uv pip compile pyproject.toml --extra enrich --extra milvus --extra opensearch --extra scraping $(LOCK) --constraint requirements.txt --output-file deploy/images/requirements-enrich.txt
	@uv pip compile pyproject.toml --extra scraping $(LOCK) --constraint requirements.txt --output-file deploy/images/requirements-scraping.txt
	@uv pip compile deploy/images/build-requirements.in $(LOCK) --constraint requirements.txt --upgrade --output-file deploy/images/build-requirements.txt
	@# Other projects that benchmarks are run beside; each is resolved by itself.
	@for peer in bench/peers/*.in; do uv pip compile $$peer $(LOCK) --upgrade --output-file $${peer%.in}.txt || exit 1; done

clean: ## Remove what was built here; stops the local installation first
	@test ! -x $(BIN)/import-local || $(BIN)/import-local down --delete-data
	@rm -rf $(VENV) .local .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage dist
