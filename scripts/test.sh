#!/usr/bin/env bash
# Set everything up, check the style and run the tests.   --all: the long suites too.   Other arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

selection=(-m "not long")
if [ "${1:-}" = --all ]; then selection=(); shift; fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/python -m pytest "${selection[@]}" "$@"
