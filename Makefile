# Every target does all its own set-up: a .venv, and as root whatever Debian package is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run openstack kubernetes test faults check bench scale openstack-client-test lock clean debian debian-bench help

help:
	@echo "make run     three sites of the shop, and a guided tour of what they can do together"
	@echo "make openstack  two sites of OpenStack, installed if need be, and the commands of docs/openstack.md on them"
	@echo "make kubernetes what spans sites, on two sites of Kubernetes, which is built if need be"
	@echo "make test    all checks and tests, as CI runs them"
	@echo "make faults  ten minutes in which everything fails on five sites, and then a judge; ARGS='--minutes 60 --seed 7'"
	@echo "make bench   measures, and writes docs/performance.md"
	@echo "make scale   simulates membership at 10, 100 and 1000 sites, and writes docs/scale.md"
	@echo "make openstack-client-test   the tests of the plugin of python-openstackclient"

run: $(READY)
	$(BIN)/python examples/shop/tour.py

# Installs what is missing (as root from Debian too), starts the sites, shows and checks, and cleans up. What is installed
# stays in .lab-cache. WRITE=1 writes the examples of docs/openstack.md anew.
openstack: $(READY)
	$(BIN)/python examples/openstack/tour.py $(if $(WRITE),--write-docs)

# Real API servers of Kubernetes on two sites. Built from Debian's source package at the first time, which takes ten
# minutes, as root; what is built stays in .lab-cache.
kubernetes: $(READY)
	$(BIN)/pytest tests/end_to_end/real_kubernetes.py

test: check debian
	$(BIN)/pytest

# What happens is written to .lab-faults; after a violation the logs and stores of all sites are there too.
faults: $(READY) debian
	PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) debian-bench
	$(BIN)/python -m bench

scale: $(READY)
	$(BIN)/python -m bench.scale

openstack-client-test:
	PYTHON=$(PYTHON) clients/openstack/test.sh

# What the tests and the bench need of Debian; as root it is installed, else the missing test says what it lacks.
debian:
	@sh .ci/debian curl docker-registry faketime haproxy httpie nginx-light postgresql-15 wrk

debian-bench:
	@sh .ci/debian curl wrk haproxy nginx-light

# In CI the versions are those of requirements.lock; elsewhere they only have to be in the ranges of pyproject.toml.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { sh .ci/debian python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(CI),--constraint requirements.lock) --editable '.[test]'
	@touch $@

# Writes down the versions that are installed now.
lock: $(READY)
	$(BIN)/pip freeze --exclude-editable --local > requirements.lock

clean:
	rm -rf $(VENV) .lab .lab-* build dist
