#!/usr/bin/env bash
# From a fresh clone to a trained, evaluated, compressed model beside its dense
# twin:
#
#   launch/quickstart.sh [--config.name=value ...]
#
# Run again, it continues from the checkpoints. See setup.sh for PYTHON, VENV.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh

set_up ''
echo 'The dense twin first, then the compressed model.'
"$VENV/bin/python" -m tt_compress.main \
  --config=configs/quickstart.py:dense "$@" >/dev/null
exec "$VENV/bin/python" -m tt_compress.main --config=configs/quickstart.py "$@"
