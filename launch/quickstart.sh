#!/usr/bin/env bash
# Installs the package in a fresh clone, then trains and evaluates a compressed
# model and its dense twin:
#
#   launch/quickstart.sh [--config.name=value ...]
#
# A second call resumes from the checkpoints. See setup.sh for PYTHON and VENV.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh

set_up ''
echo 'Training the dense twin, then the compressed model.'
"$VENV/bin/python" -m tt_compress.main \
  --config=configs/quickstart.py:dense "$@" >/dev/null
exec "$VENV/bin/python" -m tt_compress.main --config=configs/quickstart.py "$@"
