# scanbus: what to run. `make` alone prints this list.
#
# Needs git, make and Python >= 3.11; everything else goes into .venv. No compiler, no
# Redis: the demo and the tests bring their own server.
#
#   make demo ARGS="--help"        make test ARGS="tests/unit -k names"
#   make test PYTHON=python3.13    (another Python: run `make clean` first)

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
IN_JUDGES = $(VENV)/judges/bin/python -m pip --disable-pip-version-check --quiet --quiet
COMPONENTS := schemas bus publisher subscriber writer cli
ARGS ?=
# Processes that run tests: as many as there are processors; 1: in this one.
JOBS ?= auto
# File by file, since the tests of a file share servers, and in order: what comes last
# (tests/unit) is short, so no process waits long for another.
IN_PROCESSES = $(if $(filter-out 1,$(JOBS)),--numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder)
# Rings of tests beyond `make test`: what takes long, or needs more than a bare machine. A
# ring is a folder tests/NAME and its name here. Its tests run in one process and may use
# all processors. QUICK=1 leaves out those marked `long`; .ci/run runs every ring so.
RINGS := faults checklist
QUICK ?=
# LONG=1: `make test` runs those marked `long`, too.
LONG ?=
FAULTS ?= 100
MINUTES ?= 10
SEED ?= $(FAULTS_SEED)
PYTHON ?=

# A name on the PATH is not enough (a pyenv shim may stand for nothing): each candidate
# is run. Under `make -s` or not, only sentences are printed.
define FIND_PYTHON
for candidate in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3.14 python3); do \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    found=$$candidate; break; \
  fi; \
done; \
if [ -z "$$found" ]; then \
  echo "scanbus needs Python 3.11 or newer, and $(if $(PYTHON),$(PYTHON) is none,none was found). On Debian 12 or later: apt-get install python3 python3-venv; or name one: make PYTHON=/path/to/python3" >&2; \
  exit 1; \
fi; \
if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
  echo "$$found cannot make virtual environments. On Debian: apt-get install $$("$$found" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; \
  exit 1; \
fi
endef

# Where it is set, each of the thousands of processes that tests start compiles all of
# scanbus anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'ARGS="..." is passed on; PYTHON=... chooses the Python of a new .venv.'

.PHONY: demo
demo: $(VENV)/.installed-demo  ## simulate a scan, write it, check it and show it
	@$(BIN)/scanbus demo $(ARGS)

.PHONY: test
test: $(VENV)/.installed-test  ## run the fast tests (or those in ARGS) on all processors (JOBS=1: on one)
	@$(BIN)/python -m pytest $(IN_PROCESSES) $(if $(LONG),,-m "not long") $(ARGS)

# For the list that `make` prints; the rule is the pattern below.
test-faults:  ## run publisher, Redis and writer through faults (QUICK=1; FAULTS=500 MINUTES=30 SEED=7)
test-faults: export FAULTS_COUNT := $(FAULTS)
test-faults: export FAULTS_MINUTES := $(MINUTES)
test-faults: export FAULTS_SEED := $(SEED)

.PHONY: $(RINGS:%=test-%)
$(RINGS:%=test-%): test-%: $(VENV)/.installed-test
	@$(BIN)/python -m pytest tests/$* $(if $(QUICK),-m "not long") $(ARGS)

# What reads the files besides h5py. It takes minutes to install, so only here.
test-checklist: $(VENV)/.installed-judges
test-checklist: export JUDGES_PYTHON := $(abspath $(VENV)/judges/bin/python)

.PHONY: checklist
checklist: export WRITE_PAGES := 1
checklist: test-checklist  ## ask programs of others about our files; write what they show to the docs

.PHONY: test-all
test-all: $(VENV)/.installed-test  ## run every ring in full, write docs/reference/test-results.md (more than an hour)
	@LONG=1 $(BIN)/python -m tests.all_rings test $(RINGS:%=test-%) bench

.PHONY: rings
rings:
	@echo $(RINGS:%=test-%)

.PHONY: lint
lint: $(VENV)/.installed-lint  ## ruff, mypy, pyright and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.installed-lint  ## let ruff put the code in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: bench
bench: $(VENV)/.installed-test  ## measure every speed goal (more than 20 minutes; QUICK=1: two)
	@$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick) $(ARGS)

.PHONY: faults
faults: $(VENV)/.installed-test  ## kill publisher, Redis and writer: FAULTS=500 MINUTES=30 SEED=7
	@$(BIN)/python -m tests.faults.run --faults $(FAULTS) --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.installed-test  ## feed the parsers with bytes steered by coverage: MINUTES=5
	@$(PIP) install atheris || { echo "atheris has no wheel for this Python: fuzz with another one."; exit 1; }
	@$(BIN)/python -m tests.fuzz.run -max_total_time=$$((60 * $(MINUTES))) $(ARGS)

.PHONY: build
build: $(VENV)/.installed-test  ## make sdist and wheel in dist/
	@$(PIP) install build
	@$(BIN)/python -m build --outdir dist

.PHONY: clean
clean:  ## remove .venv, caches and built packages
	@rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(COMPONENTS) tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.created:
	@$(FIND_PYTHON); \
	echo "Making $(VENV) with $$("$$found" --version) ..."; \
	"$$found" -m venv --clear $(VENV) && touch $@

# One stamp for each set of extras: installed again only when pyproject.toml changed. The
# install is editable, so a change in the code needs nothing.
$(VENV)/.installed-demo: pyproject.toml $(VENV)/.created
	@echo "Installing scanbus and what the demo needs into $(VENV) (a minute or so) ..."
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.created
	@echo "Installing scanbus and what the tests need into $(VENV) (a minute or two) ..."
	@$(PIP) install --editable '.[test]'
	@$(INSTALL_DECTRIS)
	@touch $@ $(VENV)/.installed-demo

# Judges have an environment of their own: what they need does not touch that of scanbus.
# One that does not install (dectris-compression needs a compiler) keeps no other away.
JUDGES := tests/checklist
$(VENV)/.installed-judges: $(JUDGES)/requirements.txt $(JUDGES)/package.json | $(VENV)/.created
	@echo "Installing programs that judge our files into $(VENV)/judges (some minutes, 2 GB) ..."
	@$(BIN)/python -m venv $(VENV)/judges
	@$(IN_JUDGES) install -r $(JUDGES)/requirements.txt || \
	  sed 's/ *#.*//; /^$$/d' $(JUDGES)/requirements.txt | while read -r judge; do \
	    $(IN_JUDGES) install "$$judge" || echo "$$judge could not be installed: its tests say so."; \
	  done
	@mkdir -p $(VENV)/judges/node && cp $(JUDGES)/package.json $(VENV)/judges/node/
	@cd $(VENV)/judges/node && PATH="$(abspath $(VENV)/judges/bin):$$PATH" npm install --silent \
	  --no-package-lock --ignore-scripts --no-audit --no-fund || \
	  echo "The readers in node could not be installed: their tests say so."
	@touch $@

$(VENV)/.installed-lint: pyproject.toml $(VENV)/.installed-test
	@echo "Installing the linters into $(VENV) ..."
	@$(PIP) install --editable '.[lint]'
	@touch $@

# DECTRIS' own decoder is a second opinion in some tests. It has to be compiled, so it is
# left out where there is no compiler, and those tests say that they were skipped.
define INSTALL_DECTRIS
if command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1; then \
  $(PIP) install dectris-compression >/dev/null 2>&1 || \
    echo "dectris-compression could not be built: the tests that compare with it are skipped."; \
else \
  echo "No C compiler: the tests that compare with dectris-compression are skipped."; \
fi
endef
