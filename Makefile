# The commands of this repository, the same for people and CI.
#   make repro      set up, run the pipeline, say where the report is
#   make test       set up, check, run all tests
#   make coverage   the same, one test after another, and which lines they reach
#   make lab        open the notebooks in JupyterLab
#   make check      linters, types and architecture only

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
# DVC keeps databases in a folder that any user may write; ours stays private.
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site

.PHONY: repro test coverage lab check format lock chromium clean

repro: $(READY)
	dvc repro
	@echo "The report is at file://$(CURDIR)/reports/index.html"

# One process for each core; the tests of a file share what they set up, and stay together.
test: check chromium
	pytest -n logical --dist loadfile

coverage: check chromium
	pytest --cov --cov-report=term:skip-covered

lab: $(READY)
	jupyter lab notebooks

check: $(READY)
	ruff check
	ruff format --check
	mypy
	lint-imports
	mlnb lint

format: $(READY)
	ruff check --fix
	ruff format

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'mlnb needs Python 3.11 or newer: make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

# The tests look at reports in a real browser.
chromium:
	@command -v chromium > /dev/null || { \
		echo "The browser tests need Chromium; installing Debian's package."; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || { \
		echo "Install Chromium so that 'chromium' is on the PATH, then repeat."; exit 1; }

# After a change of dependencies in pyproject.toml; needs uv.
lock:
	uv pip compile pyproject.toml --extra reference --extra onnx --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --output-file requirements.lock

clean:
	rm -rf $(VENV)
