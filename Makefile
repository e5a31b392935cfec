# Everything runs in .venv, which is made on first use; a second call installs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCALE := workflow/config/digits.yaml
REFERENCE := results/reference/digits
PAGE := results/digits/report/index.html

# make reproduce SEEDS=0,1,2: these seeds in place of the scale's.
CONFIG := $(if $(SEEDS),--config 'seeds=[$(SEEDS)]')

# The rules of the workflow call `python`: this makes it the environment's.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help install reproduce rehearse try report tables compare test test-slurm bench lint clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## Create .venv with the pinned dependencies (the others do it when needed)

reproduce: $(STAMP)  ## Train, sample, measure and report at the digits scale (SEEDS=0,1,2)
	@export $(RUN); python -m dtr unlock && python -m dtr warm -- snakemake --cores all $(CONFIG)
	@echo "The report: $(PAGE)"

rehearse: $(STAMP)  ## Run the paper's own protocol on files of noise: every job and format, no numbers
	@export $(RUN); python -m dtr unlock && \
	python -m dtr rehearse --out results/rehearsal/material --step && \
	python -m dtr warm -- snakemake --cores all --configfile workflow/config/paper.yaml \
	workflow/config/rehearsal.yaml
	@echo "The rehearsal's page: results/rehearsal/report/index.html"

try: $(STAMP)  ## Compare your own method with none and DTR: make try METHOD=methods/checker.py:table
	@export $(RUN); python -m dtr unlock && python -m dtr try --method '$(METHOD)' $(ARGS)

report: $(STAMP)  ## Build the page from what exists now, without starting anything (SEEDS=0,1,2)
	@export $(RUN); settings=$$(python -m dtr settings --scale $(SCALE) $(CONFIG)) && \
	python -m dtr report --settings "$$settings"

tables: $(STAMP)  ## Build tables, figures and the page from the reference results, without training
	@$(RUN) python -m dtr report --reference $(REFERENCE)

compare: $(STAMP)  ## Say value by value whether your results agree with the reference results
	@export $(RUN); settings=$$(python -m dtr settings --scale $(SCALE) $(CONFIG)) && \
	python -m dtr compare --settings "$$settings" --reference $(REFERENCE)

test: $(STAMP)  ## Run all tests
	@$(RUN) python -m pytest --numprocesses 2 --dist loadfile

bench: $(STAMP)  ## Time the work on this machine: make bench ARGS='--against FILE'
	@$(RUN) python -m dtr bench $(ARGS)

test-slurm: $(STAMP)  ## Run sweeps with faults on a SLURM started here (root; slurm-wlm and munge)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c envs/constraints.txt -e '.[slurm]'
	@$(RUN) DTR_TEST_SLURM=$(or $(DTR_TEST_SLURM),1) python -m pytest -s tests/slurm $(ARGS)

lint: $(STAMP)  ## Check style and formatting of the code and of the workflow
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) snakefmt --check Snakefile workflow
	@$(RUN) snakemake --lint

clean:  ## Remove .venv and caches; results and checkpoints stay
	rm -rf $(VENV) dtr.egg-info .pytest_cache .ruff_cache
	find . -path ./results -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml envs/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and \
	"Python 3.11 or newer is needed, $(PYTHON) is %s; try: make PYTHON=python3.12" % v or 0)'
	@echo "Installing the pinned dependencies into $(VENV): a few minutes, this once"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -c envs/constraints.txt -e '.[dev]'
	@touch $@
