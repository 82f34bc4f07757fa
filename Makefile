# Two commands on a fresh machine: `make run` and `make test`. PYTHON names the interpreter (3.11 or newer), VENV the
# folder that everything is installed into: `make test PYTHON=python3.14 VENV=.venv-3.14`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

# The long ones: malformed input by the hundred thousand; kills, epochs and steps by the thousand and million.
.PHONY: run test test-gpu test-cluster fuzz stress check format bench clean

run: $(VENV)/installed
	$(BIN)/cifar-exp experiment=quickstart

# Two at a time, a thread each: one after the other the tests take twice as long on two cores. In the order of their
# names: pytest-xdist would otherwise leave the long files with few tests to the end, when one process waits.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

fuzz: $(VENV)/installed-dev
	CIFAR_EXP_FUZZ=150 $(BIN)/python -m pytest tests/safe_io/test_fuzz.py

stress: $(VENV)/installed-dev
	CIFAR_EXP_STRESS=1 $(BIN)/python -m pytest tests/run/test_faults.py tests/run/test_environments.py
	$(BIN)/python tests/stress/kills.py --kills 500
	$(BIN)/python tests/stress/long_run.py --epochs 2000
	$(BIN)/python tests/stress/many_steps.py --steps 10000000

# Whole runs on a GPU (a few minutes); skipped without CUDA.
test-gpu: $(VENV)/installed-dev
	$(BIN)/python -m pytest -rs tests/compute/test_cuda.py

# Sweeps by Ray, Slurm and Optuna, on clusters that the tests start on this machine and end again.
# Slurm itself is Debian's: apt-get install slurmctld slurmd slurm-client munge
test-cluster: $(VENV)/installed-cluster
	$(BIN)/python -m pytest -rs tests/sweeps/test_launchers.py tests/sweeps/test_search.py tests/sweeps/test_clusters.py

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed; name one by PYTHON=...' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python setup.cfg pyproject.toml constraints.txt
	@echo 'Installing (PyTorch is large: a few minutes the first time) ...'
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/bin/python setup.cfg pyproject.toml constraints.txt
	@echo 'Installing with the development tools (PyTorch is large: a few minutes the first time) ...'
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/installed

# Half an hour on two cores; each prints a table as it goes and adds to outputs/benchmarks.csv.
bench: $(VENV)/installed
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training.py compile=true
	$(BIN)/python benchmarks/augmentation.py
	$(BIN)/python benchmarks/after_training.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/sweep_jobs.py
	$(BIN)/python benchmarks/compare_runs.py

$(VENV)/installed-cluster: $(VENV)/installed-dev
	$(INSTALL) -e '.[dev,ray,slurm,optuna]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
