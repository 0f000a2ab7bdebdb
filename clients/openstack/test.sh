#!/bin/sh
# Tests the plugin in a venv of its own, with the stock client of requirements.lock. PYTHON names the Python to take.
set -eu
cd "$(dirname "$0")"
ready=.venv/.ready
if [ ! -e $ready ] || [ pyproject.toml -nt $ready ] || [ requirements.lock -nt $ready ]; then
    "${PYTHON:-python3}" -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[test]'
    touch $ready
fi
.venv/bin/mypy
exec .venv/bin/pytest "$@"
