#!/usr/bin/env bash
# Installs the package for tests, then runs lint, format check and tests:
#
#   launch/test.sh [--full] [arguments of pytest]
#
# The default is the fast tier of the tests. --full runs all tests, compares with
# the implementations of others in the extra peers, and builds the documentation
# site. Where pip finds torch for CPUs (2.13.0+cpu; PIP_EXTRA_INDEX_URL or
# PIP_FIND_LINKS name more places), it takes that one, without CUDA. Two processes
# share the files, since compilation, which takes most of the time, uses one core.
# Compiled programs are cached in ~/.cache/tt_compress. Tests on real data read
# the folder TT_COMPRESS_DATA and are skipped without it. See setup.sh for PYTHON
# and VENV.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh

extras=test
tier=()
if [[ "${1:-}" == --full ]]; then
  extras=test,docs,peers
  tier=(-m '')
  shift
fi
set_up "$extras"
"$VENV/bin/python" -m ruff check
"$VENV/bin/python" -m ruff format --check
exec "$VENV/bin/python" -m pytest --numprocesses=2 --dist=loadfile \
  ${tier[@]+"${tier[@]}"} "$@"
