.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: help demo test faults bench lint up clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --editable . --group dev
	touch $@

demo: $(VENV)/ready ## Feed a casino day through the whole line and show what comes out.
	$(BIN)/roundhouse demo

up: $(VENV)/ready ## Start the whole stack on this machine; Ctrl-C stops it.
	$(BIN)/roundhouse up

test: $(VENV)/ready ## Lint, check types and run all tests.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

faults: $(VENV)/ready ## Run only the tests that do harm (real Kafka).
	$(BIN)/pytest tests/faults

bench: $(VENV)/ready ## Measure the worker on the yardstick job (real Kafka; a minute).
	$(BIN)/python -m benchmarks.line --events 100000 300000

lint: $(VENV)/ready ## Lint and format in place.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what the targets above made, data included.
	rm -rf $(VENV) .kafka data
