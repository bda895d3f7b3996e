# Everything that is done with a source tree. `make` alone says what there is.
#
# PYTHON names the Python (3.11 or later) that the virtual environment is made with.

SHELL = /bin/sh
VENV = .venv
BIN = $(VENV)/bin
# Tests at a time. Most of them wait, so there may be more than cores.
JOBS = 5
# What takes longest begins first: files are handed out in this order, and each to one process.
LONGEST = tests/cluster tests/runas
URL = http://127.0.0.1:8300

PACKAGED = setup.py pyproject.toml drmaaticd/__init__.py tools/venv.sh
CHECKED = drmaaticd tests benchmarks scripts.d tools setup.py

.PHONY: help run test check lint types unit bench docs dist clean distclean screenshots
.DELETE_ON_ERROR:

help:
	@echo 'make run     the daemon at $(URL), on this machine alone, state in ./var'
	@echo 'make test    all tests'
	@echo 'make check   lint, types and unit tests: the inner loop'
	@echo 'make bench   the benchmarks (minutes)'
	@echo 'make docs    the API and configuration references and the sample configuration, anew'
	@echo 'make screenshots   the pictures of the page in docs/images'
	@echo 'make dist    source package and wheel in dist/'
	@echo 'make clean   remove what builds and tests leave; distclean: $(VENV) and var too'

# Running -----------------------------------------------------------------------------------------

run: $(VENV)/.ready-run
	@echo 'drmaaticd on the embedded engine: scripts from ./scripts.d, state in ./var; Ctrl-C ends it.'
	@echo 'Once it listens, open $(URL)/ in a browser, or in another terminal:'
	@echo
	@echo '    curl $(URL)/script'
	@echo
	@exec $(BIN)/drmaaticd serve --config etc/drmaaticd.toml

# Testing -----------------------------------------------------------------------------------------

test: $(VENV)/.ready-dev $(VENV)/.ready-system
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(LONGEST) \
		$(filter-out $(LONGEST) tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))

check: lint types unit

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check $(wildcard $(CHECKED))
	$(BIN)/ruff format --check $(wildcard $(CHECKED))

types: $(VENV)/.ready-dev
	$(BIN)/mypy

unit: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -q -n 2 tests/unit

bench: $(VENV)/.ready-dev
	$(BIN)/python -m benchmarks

# Both references and the sample configuration say what the code says.
docs: $(VENV)/.ready-dev
	$(BIN)/python tools/docs.py

# The pictures of the page; nothing in them is drawn by hand.
screenshots: $(VENV)/.ready-dev $(VENV)/.ready-system
	$(BIN)/python tools/screenshots.py

# Packaging ---------------------------------------------------------------------------------------

dist: $(VENV)/.ready-dev
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find drmaaticd tests scripts.d benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || :

distclean: clean
	rm -rf $(VENV) $(VENV).lock var

# The environment: made anew or brought up to date whenever what it is made from has changed. --------

$(VENV)/.ready-run: $(PACKAGED)
	@[ -e $(VENV)/.ready-dev ] && extra=dev || extra=; PYTHON='$(PYTHON)' sh tools/venv.sh $(VENV) $$extra
	@touch $@

$(VENV)/.ready-dev: $(PACKAGED)
	@PYTHON='$(PYTHON)' sh tools/venv.sh $(VENV) dev
	@touch $@ $(VENV)/.ready-run

# System programs that some tests start.
$(VENV)/.ready-system: tests/setup-debian.sh | $(VENV)/.ready-dev
	@sh tests/setup-debian.sh
	@touch $@
