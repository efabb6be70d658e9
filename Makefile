# Two commands set everything up: `make demo` and `make test`. They need python3 (3.11 or newer) and make.
# Everything lives in .venv and demo-out; nothing outside this folder is changed.
PY ?= python3
BIN := .venv/bin
TESTS ?= tests --ignore=tests/crash
SCALE ?= 1
ROUNDS ?= 5
MINUTES ?= 20
SEED ?= 7

.PHONY: setup demo test check fmt bench bench-quick crash soak clean help

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

# uv installs in seconds what pip takes a minute for; where it cannot be had, pip does it.
.venv/ok: pyproject.toml
	$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lightflow needs Python 3.11 or newer; try: make PY=python3.12 …")'
	$(PY) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5' || true
	if [ -x $(BIN)/uv ]; then $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e . --group dev; \
	else $(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' && $(BIN)/python -m pip install --quiet -e . --group dev; fi
	@touch $@

setup: .venv/ok  ## set up .venv

demo: .venv/ok  ## run a real workflow, watch it, look at its picture
	@mkdir -p demo-out
	$(BIN)/lightflow run examples/etl/etl.yaml --db demo-out/lightflow.db --log-dir demo-out/logs
	$(BIN)/lightflow status --db demo-out/lightflow.db
	$(BIN)/lightflow dag examples/etl/etl.yaml --db demo-out/lightflow.db --run latest --output demo-out/etl.svg
	@echo; echo "The report it made:"; echo; cat demo-out/etl/report.md
	@echo; echo "Its picture: demo-out/etl.svg    Its state, for any SQLite tool: demo-out/lightflow.db"

test: .venv/ok  ## run all tests but the crash suites
	$(BIN)/python -m pytest -n 2 $(TESTS)

check: .venv/ok  ## lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py

fmt: .venv/ok  ## mend lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ok  ## measure beside other engines (installed below .bench); WRITE=--write puts it into the docs
	$(BIN)/python -m bench --rounds $(ROUNDS) $(WRITE)

bench-quick: .venv/ok  ## measure beside own baselines; fails where a ratio is clearly outside its goal
	$(BIN)/python -m bench quick

crash: .venv/ok  ## run the crash suites and print their figures; SCALE=10 for the long form
	$(BIN)/python tools/crash_table.py --scale $(SCALE)

soak: .venv/ok  ## runs, a host program, a reader and a janitor share a state file under kill; MINUTES=1 for a look
	$(BIN)/python tools/soak.py --minutes $(MINUTES) --seed $(SEED) $(WRITE)

clean:  ## remove what the other commands made
	rm -rf .venv .bench demo-out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
