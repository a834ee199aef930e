# shellcheck shell=bash
# Sourced by the other scripts.

# Uses the active virtual environment, else creates .venv. Sets `python`.
# usage: use_environment EXTRAS    (EXTRAS: "" or a list such as "test" or "cuda12,test")
# INSTALL=no: uses the environment as it is, without a network.
use_environment() {
  local extras="$1"
  local constraints="$PWD/launch/constraints.txt"
  local works="PYTHON=python3.12 bash $0"
  if [ -n "${VIRTUAL_ENV:-}" ]; then
    python="$VIRTUAL_ENV/bin/python" works="deactivate; $works"
  elif [ -x .venv/bin/python ]; then
    python="$PWD/.venv/bin/python" works="rm -r .venv; $works"
  else
    python="${PYTHON:-python3}"
  fi
  local version
  version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" || version="not here"
  case "$version" in
    3.11 | 3.12 | 3.13) ;;
    *) echo "t2i_jax needs Python 3.11 to 3.13, and $python is $version; try: $works" >&2; exit 2 ;;
  esac
  if [ -z "${VIRTUAL_ENV:-}" ]; then
    # --clear: of a Python that was removed, a link that leads nowhere is left.
    [ -x .venv/bin/python ] || "$python" -m venv --clear .venv
    python="$PWD/.venv/bin/python"
  fi
  [ "${INSTALL:-yes}" != no ] || return 0
  has_pip() { "$python" -m pip --version >/dev/null 2>&1; }
  if ! has_pip; then # The making of .venv was broken off, or it is uv's.
    "$python" -m ensurepip >&2 || true
    has_pip || { echo "$python has no pip (on Debian: apt install python3-venv); try: $works" >&2; exit 2; }
  fi
  "$python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" \
    --editable ".${extras:+[$extras]}" >&2 ||
    { echo "pip failed; where $python has all of it already, INSTALL=no bash $0 skips this" >&2; exit 1; }
}

# Prints all flags of a command line with their values, those of its flag files included; fails with a line where the
# program would refuse them: meaning FLAGS
meaning() {
  "$python" -c '
import sys
from t2i_jax import errors
from t2i_jax.config import flags
try:
  parsed = flags.parse(sys.argv)
except errors.InputError as error:
  sys.exit(f"t2i_jax: {errors.with_flags(error)}")
if isinstance(parsed, flags.Help):
  sys.exit("t2i_jax: --help: ask python -m t2i_jax.main for it")
print("\n".join(flags.as_flags(parsed[0])))
' "$@"
}

# Runs a command; its status. Bash hears no signal before a command in the foreground has ended, so it runs in the
# background. At SIGTERM or Ctrl-C it is sent SIGTERM, and the script exits behind it, with 75 or 130. A second Ctrl-C
# kills it. From the first use on, the script exits so between commands, too.
# usage: interruptible COMMAND
child="" exits_with=""
interruptible() {
  local status
  trap 'pass_on 75' TERM
  trap 'pass_on 130' INT
  child=starting
  "$@" &
  child=$!
  [ -z "$exits_with" ] || kill "$child" 2>/dev/null || true # It came while this was being started.
  while :; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break # A signal ends `wait` before the command has ended.
  done
  child=""
  [ -z "$exits_with" ] || exit "$exits_with"
  return "$status"
}
# shellcheck disable=SC2317,SC2329 # Called by the traps.
pass_on() { # STATUS
  local signal=TERM
  [ -n "$child" ] || exit "$1"
  [ "$exits_with $1" != "130 130" ] || signal=KILL
  exits_with="$1"
  kill "-$signal" "$child" 2>/dev/null || true
}
