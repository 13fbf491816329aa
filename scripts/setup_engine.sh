#!/usr/bin/env bash
# Make .venv-engine: what the scheduler and servers of engine mindspore_federated run in (CPython 3.9, the wheel, no
# MindSpore). Does nothing where that was done.   Exit status 3: there is no Python 3.9 that can load the wheel.
#   bash scripts/setup_engine.sh      PYTHON39=/path/to/python3.9 bash scripts/setup_engine.sh   (takes that one)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
wheel=mindspore-federated==0.1.0

# The wheel's extension links libpython3.9.so.1.0: a Python that was built without it cannot load the extension.
usable() {
  [ -n "$1" ] && "$1" -c '
import ctypes, platform, sys
assert sys.version_info[:2] == (3, 9) and platform.machine() == "x86_64" and sys.implementation.name == "cpython"
ctypes.CDLL("libpython3.9.so.1.0")' >/dev/null 2>&1
}

candidates() {
  if [ -n "${PYTHON39:-}" ]; then echo "$PYTHON39"; return; fi
  command -v python3.9 || true
  local pyenv_root=${PYENV_ROOT:-$HOME/.pyenv}
  ls -d "$pyenv_root"/versions/3.9*/bin/python 2>/dev/null || true
  if command -v uv >/dev/null; then uv python find 3.9 2>/dev/null || true; fi
}

python=
while read -r candidate; do
  if usable "$candidate"; then python=$candidate; break; fi
done < <(candidates)
if [ -z "$python" ]; then
  echo "error: no CPython 3.9 for x86-64 with libpython3.9.so.1.0 (looked at PYTHON39, PATH, pyenv, uv); engine mindspore_federated needs one: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.9, or name one: PYTHON39=/path/to/python3.9 bash scripts/setup_engine.sh" >&2
  exit 3
fi

stamp=.venv-engine/.set-up
wanted=$("$python" -c 'import sys; print(sys.version)' | cat - scripts/setup_engine.sh | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

echo "setup: $("$python" --version 2>&1) at $python -> .venv-engine"
rm -rf .venv-engine
"$python" -m venv .venv-engine || { echo "error: $python cannot make a virtual environment" >&2; exit 2; }
pip() { .venv-engine/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
pip numpy PyYAML "redis>=5"
pip --no-deps "$wheel"  # what it requires, its roles do not import
.venv-engine/bin/python -m cross_silo.engines.mindspore_federated.extension
echo "$wanted" > "$stamp"
