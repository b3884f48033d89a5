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
AXE := $(VENV)/axe/node_modules/axe-core/axe.min.js
export PATH := $(CURDIR)/$(BIN):$(PATH)
# DVC keeps databases in a folder that any user may write; ours stays private.
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site

.PHONY: repro test coverage lab check format lock debian clean

repro: $(READY)
	dvc repro
	@echo "The report is at file://$(CURDIR)/reports/index.html"

# One process for each core; the tests of a file share what they set up, and stay together. The
# longest files come first, as tests/conftest.py orders them.
test: check debian $(AXE)
	pytest -n logical --dist loadfile --no-loadscope-reorder

coverage: check debian $(AXE)
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
	@# What a wheel brings for JupyterLab, an editable installation does not.
	@mkdir -p $(VENV)/share/jupyter/labextensions $(VENV)/etc/jupyter/jupyter_server_config.d
	@ln -sfn $(CURDIR)/mlnb/widget/labextension $(VENV)/share/jupyter/labextensions/mlnb
	@cp mlnb/widget/jupyter_server.json $(VENV)/etc/jupyter/jupyter_server_config.d/mlnb.json
	@touch $(READY)

# The tests look at reports in a real browser, kill commands at each system call, keep a team's state
# in a real PostgreSQL, build and run real containers, and have queries of Prometheus read.
DEBIAN := chromium strace postgresql buildah podman runc catatonit containernetworking-plugins prometheus
debian:
	@{ command -v chromium && command -v strace && ls /usr/lib/postgresql/*/bin/initdb && command -v buildah \
		&& command -v podman && command -v runc && command -v catatonit && command -v promtool \
		&& ls /usr/lib/cni/bridge; } > /dev/null 2>&1 || { \
		echo "The tests need some of Debian's packages; installing $(DEBIAN)."; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $(DEBIAN); } || { \
		echo "Install $(DEBIAN), then repeat."; exit 1; }

# What the tests hold the pages against, for people who do not see them or use no mouse.
$(AXE): $(READY)
	npm install --silent --no-audit --no-fund --no-save --prefix $(VENV)/axe axe-core@4.14.1
	@touch $(AXE)

# After a change of dependencies in pyproject.toml; needs uv.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade --output-file requirements.lock

clean:
	rm -rf $(VENV)
