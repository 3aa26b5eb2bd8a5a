# `make run` and `make test` do everything on a fresh machine with Python 3.11, 3.12 or 3.13.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do $$p -c "$(SUPPORTED)" 2>/dev/null && echo $$p && break; done)

.PHONY: install run test lint wheel digits-classifier clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; install one, or type make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

EXPERIMENT ?= digits
run: install  ## train and score a GAN on the digits that come with the package; make run EXPERIMENT=digits_wgan_gp
	$(BIN)/python src/gan_experiments/run.py experiment=$(EXPERIMENT) $(ARGS)

# Bytecode is kept, or each of the many processes compiles the package again.
test: install lint  ## everything that CI runs
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: install
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

digits-classifier: install  ## train the classifier behind fid_digits again
	$(BIN)/python -m gan_experiments.metrics.train_digits

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
