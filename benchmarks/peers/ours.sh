#!/bin/bash
# ours.sh [small|medium|full] : our own system for the harness of the peer benchmarks.
# In a copy of that harness: ln -s /path/to/benchmarks/peers/ours.sh ours_copernicus.sh; then ./run_all.sh medium ours_copernicus
# It needs peerlib.py in the directory that it is called from, and .venv at the root of this repository (make test).
set -eu
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
export PYTHONPATH="$PWD:$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$root/.venv/bin/python" "$here/ours.py" "${1:-medium}"
