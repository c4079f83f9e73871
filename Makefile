# make run     serve the example model on 127.0.0.1:5000
# make test    lint, types and all tests
# make help    the rest

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Tests often wait for other processes, so more of them run at once than there are cores.
JOBS   ?= 4
PYTEST := $(BIN)/python -m pytest
# webargs 5.5 is older than the end of distutils.
LOWEST := .venv-lowest/bin/python -m pytest -W "ignore:distutils Version:DeprecationWarning"
# What leans on the insides of aiohttp is tried with the oldest one too.
INSIDE := tests/api/test_fast_path.py tests/api/test_fast_path_inside.py tests/api/test_intake.py

# Else every process compiles the modules of the tests anew.
unexport PYTHONDONTWRITEBYTECODE

# The fast tests: they start few processes.
UNIT   := tests/model tests/test_log.py tests/test_stdio.py tests/test_config.py tests/test_exact_json.py \
  tests/test_clock.py tests/api/test_stall_timer.py tests/api/test_listener.py tests/cmd/test_loading_times.py \
  tests/training/test_backoff.py tests/training/test_callback_times.py tests/training/test_log_times.py \
  tests/serving/test_messages.py tests/serving/test_slot.py tests/serving/test_prediction.py \
  tests/api/test_forms.py tests/api/test_form_parts.py tests/api/test_routing.py tests/api/test_responses.py

PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help run environments test test-busy test-reference test-lowest test-all test-unit test-fuzz test-chaos test-long test-variants test-compat lint format bench bench-before bench-peers bench-training docs clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
# make test-busy    all tests three times, while other processes keep the cores busy
# make test-unit    the fast tests, for while you work
# make test-fuzz    hostile input for FUZZ_MINUTES (60), with random seeds
# make test-long    all tests that take long
# make test-variants  those that `make test` leaves out, as each is a variant of another test
# make test-compat  the behaviour that existing modules and clients rely on, on three environments
# make test-chaos   what kills, stops, full disks and floods do to busy servers; takes about an hour
# make lint         ruff and mypy
# make format       let ruff mend what it can
# make bench        measure against a bare handler and the reference release
# make bench-before  measure whether the source is slower than an older revision (BEFORE=HEAD~1)
# make bench-peers  measure against other servers of models, and under a steady load
# make bench-training  what trainings cost predictions, and what following them costs
# make docs         write docs/options.md from the options
# make clean        remove all that make has made: environments, caches, the state of make run

# What `make run` downloads and keeps lies here and not in the home directory.
RUN := $(CURDIR)/.run

# --- environments -----------------------------------------------------------------------------

$(VENV)/.run: export PIP_CACHE_DIR := $(or $(PIP_CACHE_DIR),$(RUN)/pip)

$(VENV)/.run: pyproject.toml setup.cfg examples/digits/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip setuptools wheel
	$(PIP) install -e . -e examples/digits
	touch $@

$(VENV)/.test: $(VENV)/.run $(wildcard examples/*/pyproject.toml)
	$(PIP) install -e '.[test]' $(foreach dir,$(wildcard examples/*/),-e $(dir))
	touch $@

# The release whose behaviour existing modules and clients rely on.
.venv-reference/.ready: tests/compat/requirements-reference.txt
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python -m pip --quiet --disable-pip-version-check install -r $<
	touch $@

# This package with the oldest dependencies it allows; modules in the field pin some of them. It is
# made after the other one, as both build this package in the same directory.
.venv-lowest/.ready: tests/compat/requirements-lowest.txt pyproject.toml setup.cfg | $(VENV)/.test
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip --quiet --disable-pip-version-check install --upgrade pip wheel
	.venv-lowest/bin/python -m pip --quiet --disable-pip-version-check install -c $< -r $< -e .
	touch $@

# --- serving ----------------------------------------------------------------------------------

run: $(VENV)/.run
	XDG_CACHE_HOME=$(RUN)/cache MPLCONFIGDIR=$(RUN)/matplotlib \
	  $(BIN)/deepaas-run --model-name digits --state-dir $(RUN)/state

# --- tests ------------------------------------------------------------------------------------

# These run at the same time, as each of them waits a good deal; then all the other tests run.
FIRST := lint test-reference test-lowest

# Everything runs; the first failure decides the exit code.
test: environments
	@$(MAKE) --no-print-directory --keep-going -j 3 --output-sync=target $(FIRST); first=$$?; \
	$(MAKE) --no-print-directory test-all; all=$$?; \
	[ $$first = 0 ] || echo "Failed: one of $(FIRST), see above"; \
	[ $$first = 0 ] && exit $$all || exit $$first

# Made at the same time. What cannot be made is tried again by the stage that needs it, and fails it.
environments:
	-@$(MAKE) --no-print-directory --keep-going -j 3 $(VENV)/.test .venv-reference/.ready .venv-lowest/.ready

test-busy: stress-ng
	tests/beside_stress.sh 3 $(MAKE) --no-print-directory test

test-reference: $(VENV)/.test .venv-reference/.ready
	$(PYTEST) tests/compat -n $(JOBS) -q -rfE --deepaas-run .venv-reference/bin/deepaas-run

test-lowest: .venv-lowest/.ready
	$(LOWEST) tests/compat tests/model $(INSIDE) -n $(JOBS) -q

test-all: chromium wrk nginx caddy faketime $(VENV)/.test
	$(PYTEST) -m "not long" -n $(JOBS)

test-unit: $(VENV)/.test
	$(PYTEST) $(UNIT) -n $(JOBS) -q

# Fuzzing with random seeds; `make test` has a short form that is always the same.
FUZZ_MINUTES ?= 60

test-fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz.run --minutes $(FUZZ_MINUTES)

test-long: test-variants test-chaos test-fuzz

test-variants: $(VENV)/.test
	$(PYTEST) -m long -n $(JOBS)

test-compat: test-reference $(VENV)/.test .venv-lowest/.ready
	$(LOWEST) tests/compat -n $(JOBS) -q
	$(PYTEST) tests/compat -n $(JOBS) -q

# `make test` has a short form of this, with a fixed seed. Tests with full disks need root.
ROUNDS ?= 100
SOAK   ?= 600
SEED   ?= $(shell date +%s)

CHAOS := tests/chaos tests/serving/test_chaos.py tests/serving/test_deaths.py tests/training/test_restarts.py

test-chaos: $(VENV)/.test
	$(PYTEST) $(CHAOS) -s -v --chaos-rounds $(ROUNDS) --soak-seconds $(SOAK) --chaos-seed $(SEED)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# --- the rest ---------------------------------------------------------------------------------

# System packages: installed when this is root and they are missing. The two variables keep those
# that are services from being started, by systemd and without it.
.PHONY: wrk chromium nginx caddy faketime stress-ng
wrk chromium nginx caddy faketime stress-ng:
	@command -v $@ >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	  SYSTEMD_OFFLINE=1 RUNLEVEL=1 apt-get install -y -qq $@ >/dev/null; }

bench: wrk $(VENV)/.test .venv-reference/.ready
	$(BIN)/python -m benchmarks.run --reference .venv-reference/bin/deepaas-run $(BENCH)

# The program makes .venv-before itself, as it knows whether it is still the right one.
BEFORE ?= HEAD~1

bench-before: wrk $(VENV)/.test
	$(BIN)/python -m benchmarks.paired --before '$(BEFORE)' $(BENCH)

PEERS := litserve bentoml mlserver mosec

# Other servers of models, each in an environment of its own, as their requirements do not agree.
.venv-%/.peer: benchmarks/requirements-peers-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --quiet --disable-pip-version-check install -r $<
	touch $@

bench-peers: wrk $(VENV)/.test $(PEERS:%=.venv-%/.peer)
	$(BIN)/python -m benchmarks.run --cases small,nobatch,batch \
	  --servers bare,deepaas,$(shell echo $(PEERS) | tr ' ' ,) \
	  $(foreach peer,$(PEERS),--program $(peer)=.venv-$(peer)/bin/python) $(BENCH)
	$(BIN)/python -m benchmarks.latency --servers bare,deepaas $(BENCH)

bench-training: $(VENV)/.test
	$(BIN)/python -m benchmarks.training $(BENCH)

docs: $(VENV)/.test
	$(BIN)/python docs/make_options.py > docs/options.md

clean:
	rm -rf $(VENV) .venv-reference .venv-lowest .venv-before $(PEERS:%=.venv-%) $(RUN)
	rm -rf build dist *.egg-info examples/*/build examples/*/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
