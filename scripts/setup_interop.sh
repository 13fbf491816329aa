#!/usr/bin/env bash
# Make .venv-interop, in which the mindspore-federated wheel's own worker runs: Python 3.9, MindSpore 2.9 and the wheel.
# Only the long tests and tools/benchmarks/engines.py use it. Does nothing where that was done.
# The Python is the one that scripts/setup_engine.sh finds (PYTHON39=/path/to/python3.9 names it); exit status 3: none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup_engine.sh
[ ! -e .venv-interop/.set-up ] || exit 0
rm -rf .venv-interop
"$(.venv-engine/bin/python -c 'import sys; print(sys.base_prefix)')/bin/python3.9" -m venv .venv-interop
echo "setup: installing MindSpore 2.9 and mindspore-federated 0.1.0 into .venv-interop (some 700 MB)"
.venv-interop/bin/python -m pip install --quiet --disable-pip-version-check \
  "mindspore==2.9.0" "mindspore-federated==0.1.0" "numpy<2" PyYAML "protobuf>=3.20,<8"
touch .venv-interop/.set-up
