#!/bin/sh
# Make the clone's virtual environment: scripts/python.sh PYTHON VENV. Says in one line what is missing and how to get it.
set -eu
python=$1 venv=$2
command -v "$python" >/dev/null || { echo "Python 3.10 to 3.13 is needed, '$python' was not found: apt-get install python3 python3-venv" >&2; exit 2; }
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
    { echo "Python 3.10 to 3.13 is needed, $("$python" --version) is there: make PYTHON=python3.11 run" >&2; exit 2; }
if ! "$python" -m venv "$venv" 2>/dev/null; then
    rm -rf "$venv"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ]; then
        echo "Installing python$version-venv …"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "python$version-venv" >/dev/null
        "$python" -m venv "$venv"
    else
        echo "Python's venv module is missing: sudo apt-get install python$version-venv" >&2
        exit 2
    fi
fi
