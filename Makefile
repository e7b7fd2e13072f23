# Every target sets itself up: a fresh clone needs Python 3.11 or later, a C library, and a package index.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_OUT ?= gyrus-demo

# Training frees and takes the same large buffers at every step; glibc hands each back to the kernel, which then has to
# fault and zero the pages anew. Keeping them costs nothing and makes the timing of a step steady.
export MALLOC_MMAP_THRESHOLD_ ?= 4294967296
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format docs bench lock clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## make .venv with everything pinned by requirements.lock

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY) ## phantom -> split -> train -> predict -> explain -> evaluate -> report, in DEMO_OUT
	@rm -rf $(DEMO_OUT)
	$(BIN)/gyrus demo --out $(DEMO_OUT)

# One process per core, each with one thread: the tests' networks are too small for more.
test: lint ## lint, types, and every test with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term

lint: $(READY) ## ruff check, ruff format --check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

bench: $(READY) ## the speed of the explanation engine against grad-cam and a plain forward pass
	$(BIN)/python benchmarks/cam_engine.py

lock: ## pin every dependency anew, without recording where it was found
	uv pip compile pyproject.toml --extra weights --extra dicom --extra export --group dev --group docs --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

clean: ## remove what the other targets made
	rm -rf $(VENV) $(DEMO_OUT) site .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
