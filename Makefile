# Every target first brings .venv up to date, so one command on a fresh machine does everything:
#   make demo   shows the main job end to end, offline
#   make test   checks style, types, import contracts and behaviour
#   make bench  measures, beside peers, and writes benchmarks/results
#   make docs   builds the documentation, warnings being errors
#   make fix    formats the code and mends what ruff can mend

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
EXTRAS := dev,litellm,sentence-transformers,onnx,otel,server,plot
# What is developed on: the last LiteLLM whose router is Python beside the last PydanticAI that this
# LiteLLM's openai lets in. `.ci/run` tests the oldest and the newest LiteLLM too.
SET := "litellm<1.107" "pydantic-ai-slim<2.32" "openai<3"

# One BLAS thread, so that timings are of the code; nothing is fetched while it runs.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1
export LITELLM_LOCAL_MODEL_COST_MAP := True

.DEFAULT_GOAL := test
.PHONY: demo test bench docs fix anew

demo: $(VENV)/.installed
	$(BIN)/conduit demo

# A process per core, which has whole files: each starts the servers that its tests want. COVERAGE=1
# adds branch coverage; it is off because tracing slows everything.
test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(if $(COVERAGE),--cov --cov-report=term-missing:skip-covered) $(PYTEST_ARGS)

bench: $(VENV)/.installed-bench
	set -e; for file in $$(grep -l '__name__ == "__main__"' benchmarks/*.py); do \
	  echo "== $$file"; $(BIN)/python -m "benchmarks.$$(basename "$$file" .py)"; \
	done

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

fix: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The stamp counts only for an environment that works here: one that was begun, moved, copied, or made
# by a Python that is gone, is made anew. Pip leaves alone what is installed already.
ANEW := $(shell $(BIN)/python -c "import pip" 2>/dev/null \
  && grep -qF -e "$(CURDIR)/$(BIN)/python" -e "$(realpath $(BIN))/python" $(BIN)/pip || echo anew)

anew:
	@python=$$(for each in python3 python3.13 python3.12 python3.11; do \
	    "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	      && { echo "$$each"; break; }; done); \
	  [ -n "$$python" ] || { echo "Conduit needs Python 3.11 or newer as python3" >&2; exit 1; }; \
	  echo "Making $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV)

$(VENV)/.installed: pyproject.toml Makefile $(ANEW)
	@# A fixed torch, where this machine has one to install: another release would move the numbers.
	@$(PIP) "torch==2.13.0" 2>/dev/null || echo "torch 2.13.0 is not available here; going on without a fixed one"
	$(PIP) -e ".[$(EXTRAS)]" $(SET)
	@touch $@

# The peers that benchmarks measure beside us.
$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) -e ".[bench]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e ".[docs]"
	@touch $@
