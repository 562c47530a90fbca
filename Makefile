# Every target sets up what it needs; nothing has to be run before it.
#
#   make demo    train on real data, with callbacks chosen by name
#   make test    all tests
#   make test-all       those that take longer too: each plugin alone, all from wheels, the site
#   make soak    500 processes killed at random, or KILLS=n of them; writes build/soak/kills.txt
#   make test-bridges   those of the bridges, each in an environment with its framework
#   make check   ruff, mypy strict, the architecture test
#   make wheels  build every distribution into wheels/
#   make bench-bridges  what each bridge costs beside its framework alone
#   make docs    build the documentation as a site into build/site
#   make bench   hookloop beside the same loop by hand: step, epochs, start-up, data, saving
#   make bench-peers    hookloop beside six other trainers, in one environment of their own
#   make bench-growth   how costs grow with callbacks, epochs, rows, distributions, steps
#   make bench-check    fails if a figure of the benchmarks is past its bound
#   make bench-page     docs/performance.md, from what the benchmarks have found
#   make parity  give Keras's own callbacks the sequences that ours are tested with

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(sort $(filter-out plugins/in_%,$(patsubst %/,%,$(wildcard plugins/*/))))
PEERS := lightning transformers accelerate keras skorch pytorch-ignite
BRIDGES := $(sort $(patsubst %/,%,$(wildcard plugins/in_*/)))
EXAMPLES := $(sort $(patsubst %/,%,$(wildcard examples/plugins/*/)))
MANIFESTS := core/pyproject.toml $(wildcard plugins/*/pyproject.toml examples/plugins/*/pyproject.toml)
# xdist: one worker a core, each with one thread, or they wait for each other.
export OMP_NUM_THREADS ?= 1
# $(call environment,FOLDER) makes a virtual environment, unless there is one that has pip.
environment = $(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "hookloop needs Python 3.11 or newer, which $(PYTHON) is not; name one that is:" \
			"make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.11" >&2; exit 1; }; \
	$(PYTHON) -m venv --clear $(1); }

BRIDGE_TESTS := $(BRIDGES:plugins/%=test-%)

.PHONY: venv demo test test-all soak test-bridges $(BRIDGE_TESTS) bench-bridges check docs wheels \
	bench bench-peers bench-growth bench-check bench-page parity clean

venv: $(VENV)/installed

# torch and the build backend come first, so that the editable installs need no build isolation:
# 4 seconds for all of them instead of 3 each.
$(VENV)/installed: constraints.txt requirements-dev.txt $(MANIFESTS)
	@$(call environment,$(VENV))
	@test -e $@ || echo "Installing hookloop, its plugins, torch and the tools into $(VENV):" \
		"about 1.5 GB with torch for the CPU, more with CUDA; this takes minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation \
		$(foreach folder,core $(PLUGINS) $(EXAMPLES),-e ./$(folder))
	$(foreach folder,$(BRIDGES),$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e ./$(folder) &&) true
	touch $@

demo: venv
	$(BIN)/hookloop demo

test: venv
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Wheels once, into a folder that pip is pointed to. From them: each plugin alone in an environment
# of its own, and all of them together, which pass the whole suite.
LOCAL := build/local
ALL := build/all

test-all: venv
	$(BIN)/python tests_all/environments.py $(LOCAL) $(ALL)
	HOOKLOOP_WHEELS=$(LOCAL) $(BIN)/python -m pytest -n 2 --dist worksteal tests_all
	$(ALL)/bin/python -m pytest -n 2 --dist worksteal

# A run that does not end as the undisturbed one stays in build/soak/runs; SEED= plays all again.
KILLS ?= 500
SEED ?=

soak: venv
	rm -rf build/soak && mkdir -p build/soak
	set -o pipefail; $(BIN)/python tests/hosts/kills.py build/soak/runs --kills $(KILLS) \
		$(if $(SEED),--seed $(SEED)) --to build/soak/kills.json | tee build/soak/kills.txt

# Each framework has an environment of its own, .venv-in_lightning and so on; none is in .venv.
.venv-in_%/installed: constraints.txt constraints-bridges.txt $(MANIFESTS)
	@$(call environment,.venv-in_$*)
	@test -e $@ || echo "Installing $* and hookloop into .venv-in_$*; this takes minutes."
	.venv-in_$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch "setuptools>=77" wheel
	.venv-in_$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-c constraints-bridges.txt --no-build-isolation pytest -e "./plugins/in_$*[$*]" \
		$(foreach folder,core $(PLUGINS),-e ./$(folder))
	touch $@

# A static pattern: make looks for no rule of a phony target by its pattern alone, and does nothing.
$(BRIDGE_TESTS): test-in_%: .venv-in_%/installed
	KERAS_BACKEND=torch .venv-in_$*/bin/python -m pytest plugins/in_$*
	KERAS_BACKEND=torch .venv-in_$*/bin/python -m pytest -q tests/test_docs.py \
		-k "code_of_a_page and (in_$* or bridges)"

test-bridges: $(BRIDGE_TESTS)

# What each bridge costs, beside its framework alone.
bench-in_%: .venv-in_%/installed
	.venv-in_$*/bin/python benchmarks/bridges $*

bench-bridges: $(BRIDGES:plugins/%=bench-%)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core/src $(foreach folder,$(PLUGINS) $(BRIDGES) $(EXAMPLES),$(folder)/src)
	$(BIN)/python -m pytest -q tests/test_architecture.py

# Anew each time: pages that come from code do not change when their files do.
docs: venv
	rm -rf build/site
	$(BIN)/python -m sphinx -W --keep-going -n -E -q -b html -c docs . build/site
	$(BIN)/python docs/links.py build/site

wheels: venv
	rm -rf wheels
	for folder in core $(PLUGINS) $(BRIDGES); do \
		$(BIN)/python -m build --quiet --wheel --no-isolation --outdir wheels $$folder || exit 1; done
	ls wheels

# hookloop beside the loop by hand: three minutes. A device: make bench ARGS="--device cuda".
bench: venv
	$(BIN)/python benchmarks/bench.py $(ARGS)

# Past the bounds of benchmarks/bounds.py it fails. Not a part of make test: it wants a quiet machine.
bench-check: venv
	$(BIN)/python benchmarks/check.py $(ARGS)

# All that hookloop is compared with, in one environment, so that all can take turns in one run.
.venv-bench/installed: constraints.txt constraints-bridges.txt $(MANIFESTS)
	@$(call environment,.venv-bench)
	@test -e $@ || echo "Installing hookloop, torch and six other trainers into .venv-bench; this takes minutes."
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		torch matplotlib psutil "setuptools>=77" wheel
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-c constraints-bridges.txt --no-build-isolation $(PEERS) $(foreach folder,core $(PLUGINS),-e ./$(folder))
	touch $@

# How costs grow with callbacks, epochs, rows, installed distributions and steps.
bench-growth: venv
	$(BIN)/python benchmarks/growth.py $(ARGS)

# docs/performance.md and its pictures, from what the others have left in benchmarks/results.
bench-page: venv
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python docs/generate.py

bench-peers: .venv-bench/installed
	.venv-bench/bin/python benchmarks/peers $(ARGS)

# Keras lives in an environment of its own; what it decides is committed under parity/results/, so
# that no test needs it.
.venv-parity/installed: constraints.txt parity/requirements.txt
	@$(call environment,.venv-parity)
	.venv-parity/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-r parity/requirements.txt
	touch $@

parity: .venv-parity/installed venv
	.venv-parity/bin/python parity/drive.py
	$(BIN)/python -m pytest -q tests/test_parity.py

clean:
	rm -rf $(VENV) .venv-parity .venv-bench .venv-in_* wheels build .pytest_cache .mypy_cache .ruff_cache
