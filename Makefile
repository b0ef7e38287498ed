# Two commands on a fresh machine: `make quickstart` and `make test`. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for processes and servers, so two cores have work for one more.
WORKERS ?= 3
export OMP_NUM_THREADS ?= 1
# Where it is set, every process compiles torch anew: 15 s each instead of 4.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup quickstart check unit core test latest faults golden kills bench gpu-bench docker-test cluster hosts docs \
	screenshots audit sbom clean

setup: $(VENV)/.ready

# uv installs the same packages as pip, three times faster; where it cannot be had, pip does it. A machine without a GPU
# gets torch without CUDA, which saves gigabytes, or the usual one where the index of those wheels does not answer.
# On a login node without a GPU, for nodes that have some: make setup NO_CUDA=
# What the last line installs is for one test, which is skipped without it.
NO_CUDA := $(if $(shell command -v nvidia-smi),,--torch-backend=cpu)
uv_install = $(1)/bin/uv pip install --quiet --python $(1)/bin/python $(2)
install = $(if $(NO_CUDA),UV_HTTP_RETRIES=1 $(uv_install) $(NO_CUDA) 2>/dev/null ||) $(uv_install)

$(VENV)/.ready: pyproject.toml constraints.txt tests/dashboard.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true
	if [ -x $(BIN)/uv ]; then \
		$(call install,$(VENV),--constraint constraints.txt --editable '.[dev]'); \
	else \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'; \
	fi
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(VENV)/dashboard --no-deps --compile-bytecode \
		--requirement tests/dashboard.txt || true
	touch $@

# Unit, golden and integration tests on the newest releases of everything: .venv-latest knows no constraints.txt.
latest: $(VENV)-latest/.ready
	$(VENV)-latest/bin/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder tests/unit tests/golden tests/integration

$(VENV)-latest/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-latest
	$(VENV)-latest/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(call install,$(VENV)-latest,--upgrade --editable '.[dev]')
	touch $@

quickstart: setup
	$(BIN)/icd sweep search_spaces/quickstart.yaml
	$(BIN)/icd export quickstart -o best.yaml --unconfirmed --force
	@echo "look at it: $(BIN)/icd ui quickstart"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# Tests have the tier of their folder (tests/conftest.py); CONTRIBUTING says how long each takes.
unit: setup
	$(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 10 tests/unit tests/golden

core: setup
	$(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 10 tests/integration tests/e2e tests/unit tests/golden

# Types are checked beside the first tests: that takes one core for a minute.
test: setup
	$(MAKE) --no-print-directory --jobs 2 check core

faults: setup
	$(BIN)/pytest -n 2 --dist loadscope --durations 10 tests/faults

golden: setup
	$(BIN)/pytest tests/golden
	$(BIN)/python tests/golden/check.py tests/golden/authors

kills: setup
	$(BIN)/python tests/crash/harness.py points build/kills/driver --side driver
	$(BIN)/python tests/crash/harness.py points build/kills/worker --side worker
	$(BIN)/python tests/crash/harness.py kills build/kills/random --kills 200

bench: setup
	$(BIN)/pytest tests/bench
	cd bench && PYTHONPATH=.. ../$(BIN)/python driver_cost.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python versus_ray.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python weak_scaling.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python sample_efficiency.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python claims.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python loss.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python loader.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python files.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python step.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python cache_build.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python trials_per_hour.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python outage.py --quick > /dev/null
	cd bench && PYTHONPATH=.. ../$(BIN)/python cached_or_live.py ../search_spaces/quickstart.yaml --quick > /dev/null

# On a machine with a GPU: torch, torchvision and numpy are enough, so no setup.
gpu-bench:
	cd bench && PYTHONPATH=.. $(PYTHON) gpu_step.py --out ../docs/results

# The image and the compose stack, with the quick start on it; needs a container engine, and says so.
docker-test:
	docker/test.sh

# Tests that take minutes of clusters on this machine: nodes that go, sockets, secrets, strangers, jobs, buckets.
cluster: $(VENV)/.hosts
	$(BIN)/pytest --durations 10 tests/cluster

# Five hosts made of namespaces on this machine, a sweep submitted as a Ray job, and what goes wrong meanwhile: a host cut
# off, another lost, PostgreSQL restarted. Needs Linux, root and PostgreSQL's programs; says so where they are missing.
hosts: $(VENV)/.hosts
	ICD_HOSTS=1 $(BIN)/pytest -s tests/hosts

$(VENV)/.hosts: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cluster,server]'
	touch $@

# The documentation site in build/docs, where a warning is an error, and what it shows: the notebook, a tutorial's commands.
docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	$(BIN)/pytest tests/examples
	@echo "build/docs/index.html"

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Two pictures for the README, of the quick start: its report, and its runs in MLflow. Needs Chromium.
screenshots: quickstart
	PYTHONPATH=. $(BIN)/python docs/screenshots.py quickstart docs/pictures

# Known advisories of everything in .venv, and a list of it as CycloneDX; both need the network.
audit: $(VENV)/.audit
	$(BIN)/pip-audit --skip-editable

sbom: $(VENV)/.audit
	mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-format JSON --output-file build/sbom.json $(BIN)/python
	@echo "build/sbom.json"

$(VENV)/.audit: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[audit]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-latest build *.egg-info
