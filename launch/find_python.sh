#!/usr/bin/env bash
# Prints an interpreter of the given version (such as 3.12), from the PATH or pyenv. Status 1: there is none.
set -euo pipefail
for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
  if "$python" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
    command -v "$python"
    exit 0
  fi
done
exit 1
