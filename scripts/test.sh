#!/usr/bin/env bash
# Set everything up, check the style and run the tests, TEST_PROCESSES (2) files at a time.
# --all: the long suites too.   Other arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
bash scripts/setup_engine.sh || {
  [ $? -eq 3 ] || exit 1
  trap 'echo "!! NOT RUN: the tests of engine mindspore_federated with its own servers; there is no Python 3.9 for them (scripts/setup_engine.sh)" >&2' EXIT
}

selection=(-m "not long")
if [ "${1:-}" = --all ]; then
  selection=(); shift
  [ ! -e .venv-engine/.set-up ] || bash scripts/setup_interop.sh
  # PyTorch, which some long tests compare with. Its CPU builds are far smaller: PIP_EXTRA_INDEX_URL may name their index.
  if [ ! -e .venv-torch/.set-up ]; then
    rm -rf .venv-torch
    .venv/bin/python -m venv .venv-torch
    .venv-torch/bin/python -m pip install --quiet --disable-pip-version-check "torch>=2.1" torchvision numpy
    touch .venv-torch/.set-up
  fi
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# A file's tests stay together: they share what they have made.
.venv/bin/python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile "${selection[@]}" "$@"
