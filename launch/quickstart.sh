#!/usr/bin/env bash
# Installs t2i_jax, draws a flower by the model that comes with it, trains on synthetic flowers, scores captions of
# unseen ones, makes the report.
# usage: bash launch/quickstart.sh [flags, such as --steps=400 or --workdir=runs/mine]
# EXTRAS=cuda12 (or cuda13, tpu) installs for an accelerator; PYTHON names the interpreter for .venv.
# SIGTERM or Ctrl-C: training saves, status 75 or 130; the same command goes on.
set -euo pipefail
workdir=runs/quickstart
for flag in "$@"; do
  case "$flag" in
    -h | --help) sed -n '2,6s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --dataset=synthetic) ;;
    --dataset*)
      echo "quickstart: $flag: it trains on synthetic flowers, and scores unseen ones; for other datasets see" \
        "docs/datasets.md" >&2
      exit 2 ;;
    --workdir=*://*)
      echo "quickstart: $flag: give a folder of this machine; for a bucket see docs/scaling.md" >&2
      exit 2 ;;
    --workdir=?*) workdir="${flag#*=}" ;;
    --workdir* | -workdir*)
      echo "quickstart: $flag needs its value behind --workdir=, as in --workdir=runs/mine" >&2
      exit 2 ;;
  esac
done

here="$PWD" # Paths are the caller's.
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
use_environment "demo${EXTRAS:+,$EXTRAS}"
flags="$PWD/launch/flags/quickstart.flags"
cd "$here"

interruptible "$python" -m t2i_jax.main --mode=sample --output="$workdir/flower.png" \
  --captions="this flower has long yellow petals and a dark brown center" >&2
echo "a flower by the model that comes with t2i_jax: $workdir/flower.png" >&2
interruptible "$python" -m t2i_jax.main --mode=train --flagfile="$flags" "$@" --workdir="$workdir" >&2
interruptible "$python" -m t2i_jax.main --mode=evaluate --workdir="$workdir" --split=unseen --metrics=attributes
interruptible "$python" -m t2i_jax.main --mode=report --workdir="$workdir" >&2
echo "pictures: $workdir/samples; everything on one page: $workdir/report.html" >&2
printf 'type captions of your own: %q -m t2i_jax.main --mode=demo --workdir=%q\n' "$python" "$workdir" >&2
