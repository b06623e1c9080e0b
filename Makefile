# make demo and make test need nothing but Python 3.11 or newer: the environment builds itself in .venv.

SHELL := /bin/sh
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
LOCKED := install --no-deps --require-hashes -r requirements.lock
PYTEST := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q
# Tests with real processes mostly wait, all others mostly compute: three parts run side by side.
CLUSTERS_OF_THEIR_OWN := $(addprefix tests/live/test_,harness.py lab.py orphans.py engine_kills.py ext4_shutdown.py failed_sync.py \
  memory_budget.py rocks.py storage_benchmark.py)
define run_tests
@place=$$(mktemp -d); \
$(PYTEST) --ignore=tests/live --ignore=tests/interop > "$$place/others" 2>&1 & others=$$!; \
$(PYTEST) $(CLUSTERS_OF_THEIR_OWN) tests/interop > "$$place/clusters" 2>&1 & clusters=$$!; \
trap 'kill $$others $$clusters 2> /dev/null; rm -rf "$$place"' EXIT; trap 'exit 130' INT TERM; code=0; \
$(PYTEST) tests/live $(addprefix --ignore=,$(CLUSTERS_OF_THEIR_OWN)) || code=$$?; \
wait $$clusters || code=$$?; cat "$$place/clusters"; wait $$others || code=$$?; cat "$$place/others"; exit $$code
endef
SEEDS ?= 1-300
# make PYTHON=... decides for one; otherwise every Python on the path is tried. A shared machine is slow for seconds at a
# time, so each gets five turns, and its best one counts.
ifdef PYTHON
fastest_python = "$(PYTHON)" benchmarks/python_speed.py | cut -d" " -f2-
no_python = $(PYTHON) is none: give make another PYTHON, or none and the fastest of all is taken.
else
no_python = install it (on Debian or Ubuntu: python3 and python3-venv) and run make again.
why_this_python = , the fastest Python here
define fastest_python
IFS=:; for pass in 1 2 3 4 5; do for folder in $$PATH; do \
  for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
    test ! -x "$$folder/$$name" || "$$folder/$$name" benchmarks/python_speed.py 2>/dev/null || :; \
  done; \
done; done | grep -E "^[0-9]+[.][0-9]+ /" | sort -n | head -n 1 | cut -d" " -f2-
endef
endif
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
MAKEFLAGS += --no-print-directory

.PHONY: help demo test check slow long campaign determinism mutants lint bench bench-storage lock ahead wheel-test clean

help:
	@echo "make demo        three nodes on this machine, real data, a node's death and return"
	@echo "make test        the tests (three minutes or so)"
	@echo "make check       what CI runs: format, lint, types, layers, tests"
	@echo "make slow        slower tests: fifty rounds of SIGKILL, memory with far more data"
	@echo "make long        the longest: 200 kills of an engine, 100 shutdowns of its file system"
	@echo "make campaign    three hundred simulated clusters full of faults, judged"
	@echo "make determinism two hundred seeds, twice, under two hash seeds: equal to the byte"
	@echo "make mutants     plant bugs and see which simulated run catches each"
	@echo "make bench       the benchmarks"
	@echo "make bench-storage the storage engine beside LevelDB, RocksDB, LMDB and SQLite; twenty minutes or so"
	@echo "make wheel-test  build the wheel, install it elsewhere, run the tests against it"
	@echo "make ahead       types for Python 3.14, wheels for 3.12 to 3.14"
	@echo "make lock        resolve requirements.lock anew"
	@echo "make clean       remove what builds and tests left (.venv stays)"

demo: $(STAMP)
	@$(BIN)/kvbus demo

test: $(STAMP)
	$(run_tests)

check: lint
	$(run_tests)

slow: $(STAMP)
	@$(PYTEST) -m slow

long: $(STAMP)
	@$(PYTEST) -s -m long

campaign: $(STAMP)
	@$(BIN)/kvbus torture --mode ap --seeds $(SEEDS)

determinism: $(STAMP)
	@KVBUS_DETERMINISM_SEEDS=200 $(PYTEST) -s -m slow tests/sim/test_determinism.py

mutants: $(STAMP)
	@$(BIN)/python -m tests.mutants

lint: $(STAMP)
	@echo "format"; $(BIN)/ruff format --quiet --check . > .venv/format.txt || { echo "Some files are not formatted; run $(BIN)/ruff format ."; exit 1; }
	@echo "lint"; $(BIN)/ruff check --quiet .
	@echo "types: mypy, pyright"; $(BIN)/mypy --no-error-summary & mypy=$$!; $(BIN)/pyright --level error && wait $$mypy
	@echo "layers"; $(BIN)/lint-imports --no-logo > .venv/layers.txt || { cat .venv/layers.txt; exit 1; }

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

bench_peers = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["bench"], sep="\n")
bench-storage: $(STAMP)
	@$(BIN)/python -c '$(bench_peers)' | while read -r peer; do \
	  $(PIP) install --only-binary=:all: "$$peer" || echo "$$peer cannot be installed and is left out"; \
	done
	@$(BIN)/python -m benchmarks.storage

# The lock holds the runtime, its extras rocks and speed, and the development tools, for every platform and Python at once.
lock: $(STAMP)
	@$(PIP) install uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-header --no-emit-index-url \
	  --extra rocks --extra speed --group dev --output-file requirements.lock pyproject.toml
	@! grep -n -e '://' -e '$(CURDIR)' requirements.lock || { echo "requirements.lock names an address"; exit 1; }

# Only Python 3.11 runs the tests; for newer ones every dependency must have a wheel, and in the newest the types must hold.
ahead: $(STAMP)
	@$(BIN)/pyright --level error --pythonversion 3.14
	@for version in 3.12 3.13 3.14; do \
	  $(PIP) download --no-deps --require-hashes --only-binary=:all: --python-version $$version \
	    --dest .venv/wheels -r requirements.lock || exit 1; \
	  echo "Python $$version: $$(ls .venv/wheels | wc -l) wheels found"; rm -rf .venv/wheels; \
	done

# The checkout must be out of reach: only the tests, without tidy, and pytest's settings are carried over. Of the tests
# with real processes those suffice that see what a wheel could lack: commands, pages, plugins, data files.
OF_THE_WHEEL := $(addprefix tests/live/test_,cli.py clients.py dx_scenario.py harness.py http.py stop.py wheel.py)
WHEEL_SUITES ?= tests
wheel-test: $(STAMP)
	@place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; set -e; \
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir "$$place" .; \
	echo "built $$(basename "$$place"/*.whl)"; \
	$(BIN)/python -m venv "$$place/venv"; \
	"$$place/venv/bin/python" -m pip --disable-pip-version-check -qq $(LOCKED); \
	"$$place/venv/bin/python" -m pip --disable-pip-version-check -qq install --no-deps --no-index "$$place"/*.whl; \
	mkdir "$$place/run"; cp -R pyproject.toml README.md docs tests benchmarks "$$place/run"; rm -rf "$$place/run/tests/tidy"; \
	cd "$$place/run"; export PATH="$$place/venv/bin:$$PATH" KVBUS_WHEEL=1; code=0; \
	python -m pytest -q -o pythonpath= --ignore=tests/live --ignore=tests/interop $(WHEEL_SUITES) > others.txt 2>&1 & beside=$$!; \
	python -m pytest -q -o pythonpath= $(OF_THE_WHEEL) || code=$$?; \
	wait $$beside || code=$$?; cat others.txt; exit $$code

clean:
	@rm -rf build dist tests/interop/node/node_modules .bench .demo .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment whose Python is gone or too old is made anew; any other one is brought up to date.
$(STAMP): requirements.lock pyproject.toml
	@set -e; recent='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$recent" 2>/dev/null; then \
	  python=$$($(fastest_python)); \
	  test -n "$$python" || { echo "kvbus needs Python 3.11 or newer that can make environments; $(no_python)"; exit 1; }; \
	  echo "Building .venv with $$("$$python" --version)$(why_this_python); this takes a minute, once."; \
	  "$$python" -m venv --clear .venv; \
	fi; \
	$(PIP) $(LOCKED); \
	$(PIP) install --no-deps --no-build-isolation -e .; \
	touch $(STAMP)
