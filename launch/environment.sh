# shellcheck shell=bash
# Sourced by the other scripts: uses the active virtual environment, else creates .venv. Sets `python`.
# usage: use_environment EXTRAS    (EXTRAS: "" or a list such as "test" or "cuda12,test")
# INSTALL=no: uses the environment as it is, without a network.
use_environment() {
  local extras="$1"
  local constraints="$PWD/launch/constraints.txt"
  if [ -n "${VIRTUAL_ENV:-}" ]; then
    python="$VIRTUAL_ENV/bin/python"
  else
    [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
    python="$PWD/.venv/bin/python"
  fi
  "$python" - <<'PY' || { echo "t2i_jax needs Python 3.11 to 3.13; name one: PYTHON=python3.12 bash $0" >&2; exit 2; }
import sys
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PY
  [ "${INSTALL:-yes}" != no ] || return 0
  "$python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" \
    --editable ".${extras:+[$extras]}" >&2
}
