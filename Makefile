# One command each: `make demo` to hear it, `make test` to prove it, `make check` before a commit, `make slow` at length.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow check format clean

# The stamp is newer than both once everything that they name is installed. Of musicnn only the weights are wanted; what
# it depends on can no longer be had.
.venv/.installed: pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps musicnn==0.1.0
	touch $@

# The listening room is tested in a real browser. Who may install one here does; else those tests are skipped, and say so.
.venv/.chromium: .venv/.installed
	@if { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium; \
	then touch $@; \
	else echo "no Chromium here: the listening room's tests are skipped (Debian: apt-get install chromium)"; fi

demo: .venv/.installed
	$(BIN)/bardcast demo

# Three workers on two cores, a file to one of them, as collected: half of the tests wait for clocks and sockets.
test: .venv/.chromium
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

slow: .venv/.chromium
	$(BIN)/python -m pytest -m slow

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
