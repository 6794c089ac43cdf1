# Two commands are enough:  make run  (the example, live)  and  make test  (everything that CI checks).
# Both make what they need below .venv, and install again only when pyproject.toml has changed.

VENV    ?= .venv
WORKERS ?= 3
PYTHON  ?= $(firstword $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python; done))

PIP     = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
PYTEST  = $(VENV)/bin/python -m pytest
SOURCES = jobrunner tests benchmarks examples

# Set in many images; it would make every process that is started compile all modules anew, 0.3 s of CPU each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test lint format tests drills soak bench bench-quick test-all clean

help:
	@echo 'make run       run examples/jobs.yaml; Ctrl-C stops it'
	@echo 'make test      what CI runs: format, lint, types, all tests'
	@echo 'make lint      format, lint and types alone'
	@echo 'make format    put the files into their format'
	@echo 'make drills    the fault drills in their full length'
	@echo 'make soak      an hour of work and faults (SOAK_SECONDS); memory, descriptors, database must stay flat'
	@echo 'make bench     every target beside its peers; the figures go to docs/benchmarks.md'
	@echo 'make bench-quick  some of them, in three minutes; the figures go to the terminal'
	@echo 'make test-all  the tests on every Python from 3.11 to 3.14 found here'
	@echo 'make clean     remove environments, caches and what the example wrote'

run: $(VENV)/run.stamp
	$(VENV)/bin/jobrunner run examples/jobs.yaml

test: lint tests

lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff format --check $(SOURCES)
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/mypy

format: $(VENV)/dev.stamp
	$(VENV)/bin/ruff format $(SOURCES)
	$(VENV)/bin/ruff check --fix $(SOURCES)

tests: $(VENV)/dev.stamp
	$(PYTEST) -n $(WORKERS) --dist worksteal

drills: $(VENV)/dev.stamp
	JOBRUNNER_DRILLS=full $(PYTEST) -m drill -s --durations=0 -o faulthandler_timeout=4000

soak: $(VENV)/dev.stamp
	$(VENV)/bin/python -m tests.drills.soak

bench: $(VENV)/dev.stamp
	$(VENV)/bin/python -m benchmarks.suite

bench-quick: $(VENV)/dev.stamp
	$(VENV)/bin/python -m benchmarks.suite --quick

# Every interpreter answers with its version, so that one found twice is tested once.
test-all:
	@set -e; seen=; for python in python3.11 python3.12 python3.13 python3.14 $$HOME/.pyenv/versions/3.1[1-4].*/bin/python; do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		case " $$seen " in *" $$version "*) continue;; esac; seen="$$seen $$version"; \
		echo "== Python $$version ($$python)"; \
		$(MAKE) --no-print-directory tests PYTHON=$$python VENV=.venv-$$version; \
	done; echo "tested on:$$seen"

clean:
	rm -rf .venv .venv-3.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* examples/.jobrunner
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments ---------------------------------------------------------------------------------

$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[dev]'
	@touch $(VENV)/run.stamp $@

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { echo 'jobrunner needs Python 3.11 or later; say where it is: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
