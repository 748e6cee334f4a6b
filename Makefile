# Everything below makes .venv by itself and needs nothing but Python 3.11+ and the package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
# In the order of the folders: the long ones first, so that no processor is left with one of them at the end.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
SECONDS ?= 600
CYCLES ?= 200
SEED ?= 1

.PHONY: demo test lint docs bench soak defects clean format migration

demo: $(VENV)/.demo
	$(BIN)/python demo/run.py

test: $(VENV)/.test
	$(PYTEST) $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

format: $(VENV)/.lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

soak: $(VENV)/.test $(VENV)/.fuzz
	$(BIN)/python -m tests.simulation.soak --seconds $(SECONDS)
	$(BIN)/python -m tests.simulation.soak --seconds $(SECONDS) --wide
	$(BIN)/python -m tests.simulation.soak --seconds $(SECONDS) --wide --servers 100
	$(BIN)/python -m tests.simulation.soak --seconds $(SECONDS) --dense --jobs $(JOBS)
	$(BIN)/python -m tests.simulation.federation.crowds
	$(BIN)/python -m tests.chaos --seed $(SEED) --cycles $(CYCLES)
	$(BIN)/python -m benchmarks.s4_outage --size 10000 --away 600
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)
	CPC_TEST_EXAMPLES=1000 $(PYTEST) -m hypothesis tests/unit
	$(MAKE) defects

# Some two hundred deliberate defects, each of which the tests must catch: about a quarter of an hour on two processors.
defects: $(VENV)/.test
	$(BIN)/python -m tests.defects --jobs $(JOBS) $(ARGS)

clean:
	rm -rf build dist site demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# One stamp per set of packages, so that `make demo` does not wait for what only the tests need.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e ".[demo]"
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e ".[test,demo]"
	touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e ".[test,lint]"
	touch $@

$(VENV)/.fuzz: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e ".[test,demo,fuzz]"
	touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e ".[docs]"
	touch $@
