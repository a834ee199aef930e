#!/usr/bin/env bash
# Installs t2i_jax with its test dependencies, then runs linter, formatter check and tests.
# usage: bash launch/test.sh [pytest arguments, such as -m "not slow"]
# EXTRAS=cuda12 (or cuda13, tpu) installs for an accelerator, too.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
use_environment "test,demo${EXTRAS:+,$EXTRAS}"

"$python" -m ruff check .
"$python" -m ruff format --check .
# Two processes; all tests of a file in the same one, so that it compiles once what they share; in the order of
# tests/conftest.py.
"$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
