#!/usr/bin/env bash
# Installs t2i_jax with what its tests need, then runs the linter and the tests.
# usage: bash launch/test.sh [pytest arguments, such as -m "not slow"]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
use_environment test

"$python" -m ruff check .
"$python" -m ruff format --check .
# Two at a time, a file in one process: it compiles once what its tests share.
"$python" -m pytest -n 2 --dist loadfile "$@"
