#!/usr/bin/env bash
# Writes constraints/hashed/: the pins of constraints/ with the SHA-256 digests
# of every file that the index has of a version:
#
#   launch/hashes.sh
#
#   UV  the command (default: uv); pip install uv
#
# On any host, without files that are not among them:
#
#   pip install --require-hashes -r constraints/hashed/py312-jax0.11.txt
#   pip install --no-deps .
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../constraints"
mkdir -p hashed
for pins in *.txt; do
  # py311-jax0.10.txt: 3.11.5, the first one that all of its pins support.
  version="3.${pins:3:2}.5"
  {
    echo "# Written by launch/hashes.sh from constraints/$pins."
    "${UV:-uv}" pip compile --quiet --generate-hashes --no-deps --no-header \
      --no-annotate --python-version "$version" "$pins"
  } >"hashed/$pins.partial"
  mv "hashed/$pins.partial" "hashed/$pins"
done
