#!/usr/bin/env bash
# A run on all workers of a TPU VM, started in the repository on your computer:
#
#   TPU_NAME=my-tpu ZONE=us-west4-a launch/tpu_vm.sh set_up
#   TPU_NAME=my-tpu ZONE=us-west4-a launch/tpu_vm.sh \
#     --config=configs/wmt14_tt.py --workdir=/shared/runs/wmt14_tt
#
# `set_up` copies the code to every worker and installs it with pinned versions;
# repeat it after every change of the code. All workers must mount the file
# system of the workdir and the data. If a worker fails, all end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${TPU_NAME:?set TPU_NAME to the name of the TPU VM}"
: "${ZONE:?set ZONE to its zone}"

everywhere() {
  gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all \
    --command="$1"
}

if [[ "${1:-}" == set_up ]]; then
  everywhere 'mkdir -p tt_compress'
  gcloud compute tpus tpu-vm scp --recurse --zone="$ZONE" --worker=all \
    tt_compress configs constraints launch setup.cfg pyproject.toml README.md \
    LICENSE "$TPU_NAME:tt_compress/"
  everywhere 'set -eu; cd tt_compress; source launch/setup.sh; set_up ""
    pins="$(pins_for "$(python_version "$VENV/bin/python")")"
    "$VENV/bin/python" -m pip install --quiet --constraint "$pins" "jax[tpu]"'
  exit
fi
# The shells of the workers remove one more level of quotes.
everywhere "cd tt_compress && .venv/bin/python -m tt_compress.main \
--cluster=tpu$(printf ' %q' "$@")"
