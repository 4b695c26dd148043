# casestore: `make run` and `make test` need python3 (3.11 or newer), python3-venv and make; nothing else.
# Paths are relative, so that the checkout may lie in a folder with any name.

PYTHON ?= python3
PY := .venv/bin/python
# Wheels whose hashes are in the lock file, and nothing else: no compiler runs, no other file is installed.
INSTALL := $(PY) -m pip install --disable-pip-version-check --quiet --require-hashes --only-binary :all:

.DEFAULT_GOAL := help
.PHONY: help run test lint check openapi bench manage shell lock clean venv venv-dev

help:
	@echo 'make run                    everything on this machine: http://127.0.0.1:8000 (PORT, HOST, CASESTORE_HOME)'
	@echo 'make test [ARGS=...]        the tests, against a real PostgreSQL and a real broker'
	@echo 'make lint                   formatting, lint and types'
	@echo 'make check                  migrations, Django'"'"'s own checks, the OpenAPI description'
	@echo 'make openapi                write the OpenAPI description again'
	@echo 'make bench [ARGS=...]       the benchmarks'
	@echo 'make manage ARGS="..."      a command of manage.py'
	@echo 'make shell                  a Python prompt with the models'
	@echo 'make lock                   resolve the dependencies again'
	@echo 'make clean                  remove the virtual environment and caches; the data in .casestore stays'

run: venv
	@exec $(PY) -m casestore.supervisor

test: venv-dev
	@exec $(PY) -m pytest $(ARGS)

lint: venv-dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy casestore cases exports mylists

check: venv-dev
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py check --fail-level WARNING
	$(PY) manage.py spectacular --validate --fail-on-warn --file .openapi.yaml
	@cmp .openapi.yaml casestore/api/openapi.yaml \
	  || { echo 'casestore/api/openapi.yaml is not what the code says; make openapi writes it.' >&2; exit 1; }
	@rm .openapi.yaml

openapi: venv
	$(PY) manage.py spectacular --validate --file casestore/api/openapi.yaml

bench: venv-dev
	@exec $(PY) -m benchmarks $(ARGS)

manage: venv
	@exec $(PY) manage.py $(ARGS)

shell: venv
	@exec $(PY) manage.py shell

# One environment for both; a stamp holds the interpreter's version and the lock file it was made from. Without its
# stamp an environment is unfinished, and made again. The lock on this file keeps two makes from doing that at once.
define environment
	@command -v $(PYTHON) >/dev/null || { echo 'casestore needs python3, version 3.11 or newer.' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'casestore needs Python 3.11 or newer; name one with make PYTHON=python3.11.' >&2; exit 1; }
	@exec 9<Makefile; if command -v flock >/dev/null; then flock 9; fi; \
	current() { { $(PYTHON) -VV; cat $(2); } | cmp -s - .venv/$(1) && $(PY) -c '' 2>/dev/null; }; \
	if current; then exit 0; fi; \
	echo 'Installing the locked dependencies into .venv ...' >&2; \
	trap 'kill $$job 2>/dev/null; wait $$job; exit 1' INT TERM HUP; \
	run() { "$$@" 9<&- & job=$$!; wait $$job; }; \
	$(3) && run $(INSTALL) -r $(2) && { $(PYTHON) -VV; cat $(2); } >.venv/$(1) \
	  || { echo 'The dependencies could not be installed; the message above says why.' >&2; exit 1; }
endef

venv:
	$(call environment,.run-stamp,docker/requirements.lock,run $(PYTHON) -m venv --clear .venv)

venv-dev: venv
	$(call environment,.dev-stamp,docker/requirements-dev.lock,rm -f .venv/.dev-stamp)

UV = $(shell command -v uv || echo .venv/bin/uv)
COMPILE = $(UV) pip compile --no-config --quiet --upgrade --generate-hashes --only-binary :all: --no-annotate \
  --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --python-platform x86_64-manylinux_2_28

lock:
	@test -x "$(UV)" || { echo 'make lock needs uv: .venv/bin/python -m pip install uv' >&2; exit 1; }
	{ echo '# What make run installs. Made from pyproject.toml by: make lock'; \
	  $(COMPILE) pyproject.toml; } >docker/requirements.lock.new
	mv docker/requirements.lock.new docker/requirements.lock
	{ echo '# What make test installs, with all of requirements.lock. Made from pyproject.toml by: make lock'; \
	  $(COMPILE) --extra dev --constraint docker/requirements.lock pyproject.toml; } >docker/requirements-dev.lock.new
	mv docker/requirements-dev.lock.new docker/requirements-dev.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
