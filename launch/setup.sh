# Creates the virtual environment. quickstart.sh and test.sh source this file
# and call `set_up EXTRAS`; then "$VENV/bin/python" can import the package.
#
#   PYTHON  interpreter (default: the first of 3.12, 3.11, 3.13 on the PATH)
#   VENV    folder of the environment (default: .venv)
#   PINS    file of exact versions (default: see pins_for). The newest JAX, with
#           Python 3.12 or 3.13: PINS=constraints/py312-jax0.12.txt

VENV="${VENV:-.venv}"
PYTHONS="${PYTHON:-python3.12 python3.11 python3.13 python3 python}"

# Prints the version (3.12) if the command runs and can create environments.
# The command may exist without its version, as launchers do, so it has to run.
python_version() {
  "$1" -c 'import ensurepip, sys, venv
print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Prints the pins for a Python version; 3.13 uses those of 3.12.
pins_for() {
  case "$1" in
    3.11) echo "${PINS:-constraints/py311-jax0.10.txt}" ;;
    3.12 | 3.13) echo "${PINS:-constraints/py312-jax0.11.txt}" ;;
    *) return 1 ;;
  esac
}

find_python() {
  local candidate version
  for candidate in $PYTHONS; do
    if version="$(python_version "$candidate")" &&
      pins_for "$version" >/dev/null; then
      echo "$candidate"
      return
    fi
  done
  {
    echo "No suitable Python among: $PYTHONS."
    echo "$0 needs 3.11, 3.12 or 3.13 with the venv module. Install one"
    echo "(Debian/Ubuntu: apt install python3 python3-venv), or set its path:"
    echo "PYTHON=/path/to/python3.12 $0"
  } >&2
  return 1
}

# set_up EXTRAS: installs the package, unless the same installation exists.
set_up() {
  local extras="$1" python version pins stamp wanted
  if [[ ! -x "$VENV/bin/python" ]]; then
    python="$(find_python)"
    echo "Creating $VENV with $python"
    "$python" -m venv "$VENV"
  elif [[ -n "${PYTHON:-}" ]] && [[ "$(python_version "$PYTHON")" != \
    "$(python_version "$VENV/bin/python")" ]]; then
    echo "$VENV has another Python than $PYTHON; remove the folder, or choose" \
      "another one: VENV=.venv-other $0" >&2
    return 1
  fi
  version="$(python_version "$VENV/bin/python" || echo broken)"
  if ! pins="$(pins_for "$version")"; then
    echo "$VENV has an unsupported Python ($version); remove the folder" >&2
    return 1
  fi
  if [[ ! -f "$pins" ]]; then
    echo "PINS=$pins: no such file; choose one of" constraints/*.txt >&2
    return 1
  fi
  stamp="$VENV/.installed-${extras:-core}"
  wanted="$(cat setup.cfg pyproject.toml "$pins" | cksum) $PWD"
  if [[ "$(cat "$stamp" 2>/dev/null)" == "$wanted" ]]; then
    return
  fi
  echo "Installing into $VENV (Python $version, $pins); takes a minute or two"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$pins" --editable ".${extras:+[$extras]}"
  echo "$wanted" >"$stamp"
}
