#!/usr/bin/env bash
# From a fresh clone to a trained, evaluated, compressed model:
#
#   launch/quickstart.sh [flags of tt_compress.main]
#
# Run again, it continues from the checkpoint. See setup.sh for PYTHON, VENV.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh

set_up ''
exec "$VENV/bin/python" -m tt_compress.main --config=configs/quickstart.py "$@"
