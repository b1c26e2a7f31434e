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
SOURCES := core operator worker gateway cli local tests bench

.PHONY: help demo up down status test coverage test-unit test-integration test-e2e test-faults check format generate bench lock clean

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

demo: $(INSTALLED) ## A tour on this machine: imports two catalogues, then 300 jobs, and shows the fleet follow
	@$(BIN)/import-local demo

up: $(INSTALLED) ## Start a whole installation on this machine (state in .local/)
	@$(BIN)/import-local up

down: $(INSTALLED) ## Stop it
	@$(BIN)/import-local down

status: $(INSTALLED) ## What runs
	@$(BIN)/import-local status

test: $(INSTALLED) ## All tests, on real parts (builds the Kubernetes binaries once)
	@$(BIN)/import-local build
	@$(BIN)/python -m pytest tests -m "not long" -n $(TEST_PROCESSES) --dist loadgroup

coverage: $(INSTALLED) ## Lines that unit and integration tests run, child processes included; at least 85 %
	@$(BIN)/import-local build
	@$(BIN)/python -m pytest tests/unit tests/integration -n $(TEST_PROCESSES) --dist loadgroup --cov --cov-report=term:skip-covered --cov-fail-under=85

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
	$(BIN)/python -m pytest tests/faults --timeout 900; faults=$$?; \
	echo "Waiting for 100,000 random steps of a job's life …"; wait $$steps; walk=$$?; cat .local/state-machine.log; \
	test $$faults -eq 0 -a $$walk -eq 0

check: $(INSTALLED) ## Lint, format, types, import rules, drift of generated files
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m import_local.generate --check

format: $(INSTALLED) ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

generate: $(INSTALLED) ## Write crds/ and the generated reference pages from the models
	@$(BIN)/python -m import_local.generate

bench: $(INSTALLED) ## Benchmarks, as ratios against bare references in the same run
	@$(BIN)/import-local build
	@$(BIN)/python -m bench

lock: ## Pin the dependencies anew (needs uv)
	@uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade --output-file requirements.txt

clean: ## Remove what was built here; stops the local installation first
	@test ! -x $(BIN)/import-local || $(BIN)/import-local down --delete-data
	@rm -rf $(VENV) .local .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage dist
