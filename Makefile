# `make demo` and `make test` set up what they need. They need python3 (3.11 or newer) and make.
# Everything lives in .venv and demo-out; nothing outside this folder is changed.
PY ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OLDEST := $(VENV)-oldest
TESTS ?= tests --ignore=tests/crash
SCALE ?= 1
ROUNDS ?= 5
MINUTES ?= 20
SEED ?= 7
LONG ?=

.PHONY: screens axe setup demo test test-oldest check fmt bench bench-quick bench-live crash soak clean help

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

# $(1): folder of the environment; $(2): further arguments of the installer.
# uv installs in seconds what pip takes a minute for; where uv is not available, pip installs.
define install
$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lightflow needs Python 3.11 or newer; try: make PY=python3.12 …")'
$(PY) -m venv $(1)
$(1)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5' || true
if [ -x $(1)/bin/uv ]; then $(1)/bin/uv pip install --quiet --compile-bytecode --python $(1)/bin/python -e '.[all]' --group dev $(2); \
else $(1)/bin/python -m pip install --quiet --upgrade 'pip>=25.1' && $(1)/bin/python -m pip install --quiet -e '.[all]' --group dev $(2); fi
endef

# $(1): folder of the environment. Tests start thousands of processes: where PYTHONDONTWRITEBYTECODE is set, as in many
# containers, each of them would compile both packages again.
define compile
@$(1)/bin/python -m compileall -q liteflow lightflow
endef

$(VENV)/ok: pyproject.toml
	$(call install,$(VENV))
	@touch $@

# The lowest versions that pyproject.toml allows: requirements.txt lists the same bounds.
$(OLDEST)/ok: pyproject.toml requirements.txt
	mkdir -p $(OLDEST)
	sed 's/>=/==/' requirements.txt > $(OLDEST)/versions.txt
	$(call install,$(OLDEST),-c $(OLDEST)/versions.txt)
	@touch $@

setup: $(VENV)/ok  ## set up .venv

demo: $(VENV)/ok  ## run a real workflow, show its state, draw its picture
	@mkdir -p demo-out
	$(BIN)/lightflow run examples/etl/etl.yaml --db demo-out/lightflow.db --log-dir demo-out/logs
	$(BIN)/lightflow status --db demo-out/lightflow.db
	$(BIN)/lightflow dag examples/etl/etl.yaml --db demo-out/lightflow.db --run latest --output demo-out/etl.svg
	@echo; echo "The report it made:"; echo; cat demo-out/etl/report.md
	@echo; echo "Its picture: demo-out/etl.svg    Its state, for any SQLite tool: demo-out/lightflow.db"
	@echo "The dashboard, in a browser: $(BIN)/lightflow ui demo-out/lightflow.db --open    (Ctrl-C ends it)"

test: $(VENV)/ok  ## run all tests except the crash suites; LONG=1 for the long forms
	$(call compile,$(VENV))
	$(BIN)/python -m pytest -n 3 --dist worksteal $(if $(LONG),--long )$(TESTS)

test-oldest: $(OLDEST)/ok  ## run the unit and contract tests of what uses packages, with the lowest versions that are allowed
	$(call compile,$(OLDEST))
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal --uses-packages tests/unit tests/contracts

screens: $(VENV)/ok  ## make pictures of all pages of the dashboard, in demo-out/screens
	$(BIN)/python tools/screenshots.py

# For the tests of accessibility alone: it is not part of the product.
axe: $(VENV)/ok
	mkdir -p $(VENV)/axe
	[ -f $(VENV)/axe/package/axe.min.js ] || (cd $(VENV)/axe && npm pack --silent axe-core@4.14.1 && tar xzf axe-core-4.14.1.tgz package/axe.min.js)
	[ -f $(VENV)/axe/acorn/package/dist/acorn.js ] || (mkdir -p $(VENV)/axe/acorn && cd $(VENV)/axe/acorn && npm pack --silent acorn@8.15.0 && tar xzf acorn-8.15.0.tgz package/dist/acorn.js)

check: $(VENV)/ok  ## lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py

fmt: $(VENV)/ok  ## fix lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/ok  ## compare with other engines (installed below .bench); WRITE=--write writes the results to the docs
	$(BIN)/python -m bench --rounds $(ROUNDS) $(WRITE)

bench-quick: $(VENV)/ok  ## compare with own baselines; fails if a ratio is clearly beyond its limit
	$(call compile,$(VENV))
	$(BIN)/python -m bench quick

bench-live: $(VENV)/ok  ## measure the server, its pages and its scheduler beside peers; WRITE=--write as above
	$(BIN)/python -m bench live $(WRITE)

crash: $(VENV)/ok  ## run the crash suites and print their figures; SCALE=10 for the long form
	$(call compile,$(VENV))
	$(BIN)/python tools/crash_table.py --scale $(SCALE)

soak: $(VENV)/ok  ## many runs on one state file while everything is killed; MINUTES=1 for a short run
	$(BIN)/python tools/soak.py --minutes $(MINUTES) --seed $(SEED) $(WRITE)

clean:  ## remove the files of the other commands
	rm -rf .venv .venv-oldest .bench demo-out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
