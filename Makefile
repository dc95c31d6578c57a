# A fresh machine needs Python >= 3.11, make and a package index; nothing else is installed
# outside .venv.
#
#   make run                 the main job on the bundled trace
#   make test                linters, types and tests
#   make run GPU=A100-80 ARGS='--rate 4'
#   make test PYTHON=/usr/bin/python3.12
#   make accuracy SERVING_RUNS=runs.csv

VENV := .venv
BIN := $(VENV)/bin
INTERPRETERS := python3.13 python3.12 python3.11 python3 python

TRACE := workloads/chat_small.csv
MODEL := meta-llama/Llama-3.1-8B-Instruct
GPU := H100
ARGS :=
SERVING_RUNS :=
VALIDATED := build/accuracy

# Settings of the shell that would send packages elsewhere, or leave some of them out.
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_NO_DEPS PIP_DRY_RUN PIP_NO_BUILD_ISOLATION
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test check bench accuracy format clean

help:
	@echo 'make run     simulate $(TRACE) on one $(GPU); TRACE, MODEL, GPU and ARGS change it'
	@echo 'make test    ruff, mypy --strict and pytest'
	@echo 'make bench   measure the speed of the simulator'
	@echo 'make accuracy  compare it with measured servers (and SERVING_RUNS=FILE), write docs/accuracy.md'
	@echo 'make format  let ruff repair and format the code'
	@echo 'make clean   remove .venv and everything else that was made'
	@echo 'PYTHON=... names the interpreter of a new .venv (the first of: $(INTERPRETERS))'

run: $(VENV)/.core
	@$(BIN)/blis run --trace '$(TRACE)' --model '$(MODEL)' --hardware '$(GPU)' $(ARGS)

test check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/python -m pytest -q -W error -n auto --dist loadfile

bench: $(VENV)/.core
	@$(BIN)/blis bench engine $(ARGS)

# Some minutes on two processors.
accuracy: $(VENV)/.core
	@rm -rf '$(VALIDATED)' && mkdir -p '$(VALIDATED)'
	$(BIN)/blis validate --quiet --json $(VALIDATED)/shipped.json
	@if [ -n '$(SERVING_RUNS)' ]; then set -x; \
	    $(BIN)/blis validate --runs '$(SERVING_RUNS)' --quiet --json $(VALIDATED)/runs.json; fi
	@set -e; for engine in vllm tensorrt-llm sglang; do \
	    (set -x; $(BIN)/blis validate --silicon --sample all --engine $$engine --quiet \
	        --json $(VALIDATED)/silicon_$$engine.json); \
	done
	@$(BIN)/python scripts/accuracy_report.py --from $(VALIDATED)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip comes into the environment only where it is needed: it takes longer than uv to install
# everything. Without --no-compile it would also translate every file of every package.
define install
@echo 'Installing into $(VENV), once: half a minute with pip, seconds with uv' >&2
@if command -v uv >/dev/null 2>&1; then \
    uv pip install --quiet --python $(BIN)/python $(1) && exit 0; \
    echo 'uv could not install; trying pip' >&2; \
fi; \
$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null || { \
    echo 'This Python comes without pip: install your python3-venv package, or uv' >&2; exit 1; }; \
$(BIN)/python -m pip install --quiet --no-user --no-compile --disable-pip-version-check $(1)
endef

$(VENV)/.core: pyproject.toml $(BIN)/python
	$(call install,-e .)
	@touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/python
	$(call install,-e '.[dev]')
	@touch $(VENV)/.core $@

$(BIN)/python:
	@for python in $(or $(PYTHON),$(INTERPRETERS)); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    rm -rf $(VENV) && "$$python" -m venv --without-pip $(VENV) && exit 0; \
	done; \
	echo 'Python >= 3.11 is needed; none of these is: $(or $(PYTHON),$(INTERPRETERS));' \
	    'name one with PYTHON=/path/to/python3' >&2; \
	exit 1
