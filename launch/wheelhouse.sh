#!/usr/bin/env bash
# Collects all wheels for a host without internet access:
#
#   launch/wheelhouse.sh FOLDER [REQUIREMENT ...]
#   launch/wheelhouse.sh wheels 'jax[cuda13]'
#
#   TARGET   Python version of that host (default: 3.12)
#   MACHINE  processor of that host (default: x86_64); aarch64 for ARM
#   EXTRAS   extras of setup.cfg, e.g. test,studies (default: none)
#   GLIBC    minor version of glibc 2 on that host (default: 28)
#   PYTHON   interpreter with pip on this host (default: python)
#
# constraints/ has the versions (PINS: see setup.sh). On that host:
#
#   pip install --no-index --find-links FOLDER -r FOLDER/requirements.txt
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$here/launch/setup.sh"

if (($# < 1)); then
  echo "usage: $0 FOLDER [REQUIREMENT ...]" >&2
  exit 2
fi
folder="$1"
shift
TARGET="${TARGET:-3.12}"
MACHINE="${MACHINE:-x86_64}"
PYTHON="${PYTHON:-python}"
if ! pins="$(pins_for "$TARGET")"; then
  echo "TARGET=$TARGET has no pins in constraints/; use 3.11, 3.12 or 3.13" >&2
  exit 1
fi

mkdir -p "$folder"
# Files of earlier builds in the repository would get into the wheel.
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
cp -R "$here"/{tt_compress,setup.cfg,pyproject.toml,README.md,LICENSE} "$copy"
# promise and rouge-score have no wheels. All three packages are pure Python, so
# wheels built here run everywhere.
"$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$folder" \
  --constraint "$here/$pins" "$copy" promise rouge-score
wanted=("tt-compress${EXTRAS:+[$EXTRAS]}" "$@")
# A host with glibc 2.28 runs wheels for older versions, too, but pip takes only
# the listed platforms.
platforms=(--platform "manylinux2014_$MACHINE")
for ((minor = ${GLIBC:-28}; minor >= 17; minor--)); do
  platforms+=(--platform "manylinux_2_${minor}_$MACHINE")
done
"$PYTHON" -m pip download --quiet --only-binary=:all: \
  --python-version "$TARGET" --implementation cp "${platforms[@]}" \
  --constraint "$here/$pins" --find-links "$folder" --dest "$folder" \
  "${wanted[@]}"
printf '%s\n' "${wanted[@]}" >"$folder/requirements.txt"
echo "$(find "$folder" -name '*.whl' | wc -l) wheels for Python $TARGET in $folder"
