.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: help demo test check publish lint-only asyncapi openapi notebook screenshots faults soak bench bench-quick bench-compare bench-chart bench-long lint up clean

SEED ?= 1
ROUNDS ?= 2
MINUTES ?= 0
REQUESTS ?= 5000
TESTERS ?= 4

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/ready: pyproject.toml hatch_build.py $(wildcard streams/*/*.pyx streams/*/*.pxd connectors/*/*.pyx)
	@echo "Installing Roundhouse and its tools into $(VENV): half a minute or more, once ..."
	@$(PYTHON) -m venv $(VENV)
	@echo "  pip"
	@$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	@echo "  dependencies, and the modules in C where there is a C compiler"
	@$(BIN)/pip install --quiet --editable . --group dev
	@echo "Installed."
	@touch $@

demo: $(VENV)/ready ## Feed a casino day through the whole line and show what comes out.
	$(BIN)/roundhouse demo

up: $(VENV)/ready ## Start the whole stack on this machine; Ctrl-C stops it.
	$(BIN)/roundhouse up

test: lint-only ## Lint, check types and run all tests, side by side. TESTERS=
	$(BIN)/pytest --numprocesses $(TESTERS)

check: lint-only ## The inner loop: lint, check types, test the core.
	$(BIN)/pytest --numprocesses 2 tests/streams tests/properties tests/test_structure.py tests/connectors/local

lint-only: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

asyncapi: $(VENV)/ready ## Make docs/asyncapi.yaml anew, from the contracts and the list of topics.
	$(BIN)/roundhouse asyncapi > docs/asyncapi.yaml

openapi: $(VENV)/ready ## Make docs/openapi.json anew, from the formats and the routes of the edge.
	$(BIN)/roundhouse openapi > docs/openapi.json

notebook: $(VENV)/ready ## Store the results of docs/campaigns.ipynb in it anew.
	$(BIN)/python -m tests.notebook

screenshots: $(VENV)/ready ## Make the pictures in docs/screenshots anew; needs Chromium.
	$(BIN)/python -m tests.screenshots

faults: $(VENV)/ready ## Harm the line and count what is lost. SEED= ROUNDS= (0: no end) MINUTES= REQUESTS=
	$(BIN)/python -m tests.faults.run --seed $(SEED) --rounds $(ROUNDS) --minutes $(MINUTES) \
		--requests $(REQUESTS)

soak: $(VENV)/ready ## Hold the line at its limit and watch its memory (20 minutes). SOAK_MINUTES=
	$(BIN)/python -m tests.faults.soak --minutes $(or $(SOAK_MINUTES),20) --seed $(SEED)

bench: $(VENV)/ready ## Measure the worker beside its peers, the whole line, and recovery (a quarter of an hour).
	$(BIN)/python -m benchmarks.line
	$(BIN)/python -m benchmarks.worker
	$(BIN)/python -m benchmarks.recovery

bench-quick: $(VENV)/ready ## Run the worker and the line on little: whether the benchmarks are right.
	$(BIN)/python -m benchmarks.worker --contenders roundhouse --events 20000 60000
	$(BIN)/python -m benchmarks.line --only sustained --items 50000

bench-compare: $(VENV)/ready ## Run the worker of REF= and this one alternately; the ratio of their CPU. PAIRS= EVENTS= PER_S= NOTE=
	$(BIN)/python -m benchmarks.compare $(REF) --pairs $(or $(PAIRS),6) --events $(or $(EVENTS),1000000) \
		$(if $(PER_S),--per-s $(PER_S)) --note "$(NOTE)"

bench-chart: $(VENV)/ready ## Make the chart and the table of comparisons anew from their results.
	$(BIN)/python -m benchmarks.compare --chart

bench-long: $(VENV)/ready ## Measure growth: 10^8 ids, 64 partitions, 50 million rounds (half an hour).
	$(BIN)/python -m benchmarks.growth --ids 100000 1000000 10000000 100000000
	$(BIN)/python -m benchmarks.campaigns

publish: $(VENV)/ready ## Give contracts that have changed a version, an id and golden bytes.
	$(BIN)/python -m tests.publish

lint: $(VENV)/ready ## Lint and format in place.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what the targets above made, data included.
	rm -rf $(VENV) .kafka .tools data
