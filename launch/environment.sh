# Creates and activates the environment `.venv` of this clone. The scripts beside this file source it.
# Outside the clone it changes nothing but package caches.
# Set PYTHON to choose an interpreter (3.10 or newer).
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "launch: '$python' is not Python 3.10 or newer; set PYTHON to one that is" >&2
    exit 1
fi

# These two files determine what is installed; their checksum tells whether that has been done.
wanted=$(cat pyproject.toml constraints.txt | cksum)
stamp=.venv/installed
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "launch: installing into $root/.venv"
    if command -v uv >/dev/null; then
        uv=uv
        [ -x .venv/bin/python ] || uv venv --quiet --python "$python" .venv
    else
        [ -x .venv/bin/python ] || "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
        uv=.venv/bin/uv
    fi
    # Install torch and torchvision together, from one index: builds from two indexes do not match.
    # Without compiled bytecode, a process that may not write it spends half of its start compiling.
    "$uv" pip install --quiet --compile-bytecode --python .venv/bin/python --constraint constraints.txt --editable '.[dev]'
    echo "$wanted" >"$stamp"
fi
export PATH="$root/.venv/bin:$PATH"
