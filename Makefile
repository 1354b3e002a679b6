# Two commands on a fresh machine that has Python and make:  make demo,  make test.
# Each makes .venv and installs into it once; it installs again when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
PRESET ?= cpu
WORKERS ?= 2

venv := .venv
python := $(venv)/bin/python
basic := $(venv)/installed-basic
full := $(venv)/installed-full

.PHONY: demo test lab bench train lint student notebooks

demo: $(basic)
	$(python) -m minidiff demo

test: $(full)
	OMP_NUM_THREADS=1 $(python) -m pytest -n $(WORKERS) --dist worksteal

lab: $(full)
	$(python) -m jupyter lab notebooks

bench: $(basic)
	$(python) -m minidiff bench

train: $(full)
	$(python) -m train.ddpm --preset $(PRESET) --folder runs/town-ddpm

lint: $(full)
	$(python) -m ruff check .

student: $(full)
	cd notebooks && ../$(python) -m checks.student

notebooks: $(full)
	cd notebooks && ../$(python) -m checks.refresh

$(python):
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer expected: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(venv)

$(basic): pyproject.toml constraints.txt | $(python)
	@echo "Installing what minidiff needs into $(venv): a few minutes, once."
	$(python) -m pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	@touch $@

$(full): pyproject.toml constraints.txt | $(python)
	@echo "Installing what tests, notebooks and training need into $(venv): a few minutes, once."
	$(python) -m pip install --quiet --disable-pip-version-check -e ".[train,notebooks,dev]" -c constraints.txt
	@touch $(basic) $@
