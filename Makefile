# Every command a contributor needs. Only Python and make have to be there first: `make check` builds the rest.
#   PYTHON=…   the interpreter to build the environment with (3.11, 3.12 or 3.13; a name or a path)
#   ARGS=…     goes to the command behind a target, e.g. make test ARGS="tests/core -k cron"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
ARGS ?=
UV_VERSION := 0.13.8

BIN := .venv/bin
UV := .tools/bin/uv
UV_READY := .tools/.uv-$(UV_VERSION)
# One stamp for each interpreter asked for. uv makes .venv anew when the interpreter changes, and with it
# the other stamps go; so a stamp that is there is never a lie.
READY := .venv/.ready-$(subst /,_,$(PYTHON))

# The interpreter is the contributor's choice, never a download. An activated environment is not touched.
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV

# Whom to trust is the machine's business, as it is for pip: a company's own certificate is in the machine's list.
# uv's own list serves where the machine has none.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),true,false)

## check          format, lint, types, floors, docs: everything that can be said without running the code
.PHONY: check
check: $(READY)
	@$(MAKE) --no-print-directory --keep-going lint types floors docs

## test           the tests, on all cores (ARGS go to pytest)
.PHONY: test
test: $(READY)
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

## test-long      the tests marked `long`: many seeds, many crashes (ARGS go to pytest)
.PHONY: test-long
test-long: $(READY)
	$(BIN)/pytest -n auto --dist worksteal -m long --timeout 3600 --hypothesis-profile long $(ARGS)

## demo           install into .venv and run `onebeat demo` (ARGS go to it)
.PHONY: demo
demo: $(READY)
	$(BIN)/onebeat demo $(ARGS)

## cluster        a server, three nodes and a load, to kill things in (ARGS go to examples/cluster; Ctrl-C ends it)
.PHONY: cluster
cluster: $(READY)
	@$(BIN)/python -m examples.cluster $(ARGS)

## bench          the benchmarks, `python -m bench` (ARGS go to it)
.PHONY: bench
bench: $(READY)
	$(BIN)/python -m bench $(ARGS)

## chaos          nodes that everything happens to, judged from outside: MINUTES=3 STORE=sqlite (ARGS go to it);
##                or a Celery fleet: ENGINE=celery BROKER=redis
MINUTES ?= 3
STORE ?=
ENGINE ?= onebeat
BROKER ?=
.PHONY: chaos
chaos: $(READY)
	@$(BIN)/python -m chaos run --engine $(ENGINE) $(BROKER:%=--broker %) $(STORE:%=--store %) --minutes $(MINUTES) $(ARGS)

## sim            live through simulated clusters, `onebeat-sim` (ARGS go to it: make sim ARGS="--seeds 1000")
.PHONY: sim
sim: $(READY)
	$(BIN)/onebeat-sim $(ARGS)

## mutants        break the source on purpose, one way at a time: each break must fail the tests (ARGS: names)
.PHONY: mutants
mutants: $(READY)
	$(BIN)/python -m onebeat.testing.mutants $(ARGS)

## model          search the models of the protocol with SPIN; it needs a C compiler (ARGS go to it, --long)
.PHONY: model
model: $(READY)
	$(BIN)/python -m model $(ARGS)

## coverage       the tests on one core, with the lines and branches they miss (ARGS go to pytest)
.PHONY: coverage
coverage: $(READY)
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage report

## format         put every file into the one format, and mend what the linter can
.PHONY: format
format: $(READY)
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

## lint           one part of check: format and lint
.PHONY: lint
lint: $(READY)
	$(BIN)/ruff format --check . && formatted=0 || formatted=1; $(BIN)/ruff check . && exit $$formatted

## types          one part of check: mypy --strict
.PHONY: types
types: $(READY)
	$(BIN)/mypy src $(wildcard tests/typing)

## floors         one part of check: which room may import which
.PHONY: floors
floors: $(READY)
	$(BIN)/lint-imports --no-logo

## docs           one part of check: build the docs into .build/site, and read the change notes
# Not with --quiet: mkdocs would forget the warnings that --strict is about.
.PHONY: docs
docs: $(READY)
	$(BIN)/mkdocs build --strict --site-dir .build/site
	$(BIN)/towncrier build --draft --version next >.build/changes.md 2>&1 || { cat .build/changes.md; exit 1; }

## clean          remove what was built
.PHONY: clean
clean:
	rm -rf .build .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .tools .venv dist

## help           this list
.PHONY: help
help:
	@sed -n 's/^## /  make /p' $(firstword $(MAKEFILE_LIST))

# Prints the interpreter's own path: a name such as python3 may be a shim, which uv does not see through.
FIND_PYTHON = interpreter=$$($(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] < (3, 14) or sys.exit(1); \
  print(sys.executable)') || { \
  echo "onebeat needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is not one: make PYTHON=/path/to/python3.12 ..." >&2; \
  exit 1; }

$(READY): pyproject.toml uv.lock src/onebeat/_version.py $(UV_READY)
	@$(FIND_PYTHON); set -x; \
	  $(UV) sync --quiet --locked --all-extras --python "$$interpreter"
	@touch $@

# uv in an environment of its own: `uv sync` removes from .venv whatever the lock does not name.
$(UV_READY):
	@$(FIND_PYTHON); "$$interpreter" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make a virtual environment with pip in it: install python3-venv (Debian, Ubuntu)," >&2; \
	  echo "or choose another interpreter: make PYTHON=/path/to/python3.12 ..." >&2; \
	  exit 1; }
	rm -rf .tools
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: uv==$(UV_VERSION)
	@touch $@
