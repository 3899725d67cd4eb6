# `make demo` and `make test` set themselves up on a fresh machine; everything lands in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test lint types env env-vllm test-vllm clean

demo: env
	$(BIN)/neat-data score 'data/sample/*.train.jsonl' --reward-model data/models/tiny-reward --out $(DEMO)/sample
	$(BIN)/neat-data stats $(DEMO)/sample --report $(DEMO)/sample.html
	@echo "The report is in $(DEMO)/sample.html; try: $(BIN)/neat-data show $(DEMO)/sample --widest-gap 3"

test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

env: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) .venv-vllm $(DEMO)
