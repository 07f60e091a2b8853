#!/usr/bin/env bash
# Sets up as quickstart.sh does, then lint, format check and tests:
#
#   launch/test.sh [arguments of pytest]
#
# Two processes share the files with tests: much of the time goes into compiling,
# which uses one core. Tests on real data read the folder named by
# TT_COMPRESS_DATA and are skipped without it. See setup.sh for PYTHON and VENV.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh

set_up test
"$VENV/bin/python" -m ruff check
"$VENV/bin/python" -m ruff format --check
exec "$VENV/bin/python" -m pytest --numprocesses=2 --dist=loadfile "$@"
