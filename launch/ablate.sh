#!/usr/bin/env bash
# Trains each flag file under each seed, scores the runs, and ends with one page, table and picture grid of them all.
# usage: bash launch/ablate.sh A.flags B.flags ... -- --steps=N [--seeds=3] [--split=test] [--folder=runs/ablation] [flags]
# A run's folder is FOLDER/A/seed<k>, k from 0. What is finished is skipped, what was cut off goes on; the first flag
# file is what the others are held against. Any flags of training may follow "--" and override those of the files, also
# --flagfile=launch/flags/toy.flags; --metrics and --inception_weights are for the scores. A value follows its "=".
# Leaves FOLDER/report.html, .md, .json, .png. Status 1: a run failed, and is named at the end; 2: wrong use.
set -euo pipefail
usage() {
  sed -n '2,7s/^# //p' "${BASH_SOURCE[0]}" >&2
  echo "ablate: $1" >&2
  exit 2
}

files=() all=() data=() judged=() seeds=3 folder=runs/ablation metrics=all
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case "$1" in -*) usage "$1 stands before the --" ;; esac
  [ -f "$1" ] || usage "$1: there is no such flag file"
  files+=("$1")
  shift
done
[ ${#files[@]} -gt 0 ] || usage "no flag file is given"
for flag in "${@:2}"; do
  case "$flag" in
    --seeds=*) seeds="${flag#*=}" ;;
    --folder=*) folder="${flag#*=}" ;;
    --metrics=*) metrics="${flag#*=}" judged+=("$flag") ;;
    --inception_weights=*) judged+=("$flag") ;;
    --split=* | --data_dir=* | --raw_dir=*) all+=("$flag") data+=("$flag") ;;
    --seed=* | --workdir=* | --mode=*) usage "$flag is chosen here for each run; see --seeds and --folder" ;;
    --seeds | --seed | --folder | --metrics | --split) usage "$flag needs its value behind a =, as in $flag=VALUE" ;;
    *) all+=("$flag") ;;
  esac
done
[[ "$seeds" =~ ^[1-9][0-9]*$ ]] || usage "--seeds=$seeds: give a number from 1"
[ -n "$folder" ] || usage "--folder= is empty"
name() { # of a flag file
  local last="${1##*/}"
  echo "${last%.*}"
}
twice="$(for file in "${files[@]}"; do name "$file"; done | sort | uniq -d)"
[ -z "$twice" ] || usage "two flag files are named $twice; their runs would share a folder"

here="$PWD" # Paths are the caller's.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
use_environment "${EXTRAS:-}"
cd "$here"
trap 'exit 130' INT TERM

# Prints the flags that these words come to, whatever files they name.
meaning() {
  "$python" - "$@" <<'PY'
import sys
from t2i_jax import errors
from t2i_jax.config import flags
try:
  config, _ = flags.parse(sys.argv)
except errors.InputError as error:
  sys.exit(f"t2i_jax: {error}")
print("\n".join(flags.as_flags(config)))
PY
}

# Whether the scores of the newest checkpoint are there: is_scored WORKDIR SPLIT METRICS
is_scored() {
  "$python" - "$@" <<'PY'
import os, sys
from t2i_jax.page import runs
workdir, *wanted = sys.argv[1:]
step = max(int(name) for name in os.listdir(os.path.join(workdir, "checkpoints")) if name.isdigit())
found = [[line["step"], line["split"], line["metrics"]] for line in runs.read_scores(workdir)]
sys.exit([step, *wanted] not in found)
PY
}

# What a run is asked for; its own flags last, so that nothing overrides them: ask FILE SEED
ask() {
  run="$folder/$(name "$1")/seed$2"
  words=("--flagfile=$1" ${all[@]+"${all[@]}"} --mode=train "--seed=$2" "--workdir=$run")
  asked="$(meaning "${words[@]}")" || return 1
  split="$(sed -n 's/^--split=//p' <<<"$asked")"
  asked="$(grep -v '^--split=' <<<"$asked")" # To score another split is no reason to train.
}

# A wrong flag is told before hours of training.
meaning --mode=evaluate "--workdir=$folder" ${data[@]+"${data[@]}"} ${judged[@]+"${judged[@]}"} >/dev/null || exit 2
for file in "${files[@]}"; do
  ask "$file" 0 || { echo "ablate: $file with these flags cannot be run" >&2; exit 2; }
done

trained=() failed=()
for file in "${files[@]}"; do
  for ((seed = 0; seed < seeds; seed++)); do
    ask "$file" "$seed"
    finished="$run/finished.flags"
    if [ -f "$finished" ] && [ "$asked" = "$(cat "$finished")" ]; then
      echo "ablate: $run is trained already" >&2
    else
      echo "ablate: $run" >&2
      rm -f "$finished"
      "$python" -m t2i_jax.main "${words[@]}" >&2 || { failed+=("$run: training"); continue; }
      printf '%s\n' "$asked" >"$finished"
    fi
    trained+=("$run")
    is_scored "$run" "$split" "$metrics" ||
      "$python" -m t2i_jax.main --mode=evaluate "--workdir=$run" "--split=$split" \
        ${data[@]+"${data[@]}"} ${judged[@]+"${judged[@]}"} >&2 || failed+=("$run: scoring")
  done
done

if [ ${#trained[@]} -gt 0 ]; then
  compare=()
  for run in "${trained[@]:1}"; do compare+=("--compare=$run"); done
  "$python" -m t2i_jax.main --mode=report "--workdir=${trained[0]}" ${compare[@]+"${compare[@]}"} \
    ${data[@]+"${data[@]}"} "--output=$folder/report.html" || failed+=("$folder/report.html")
fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'ablate: failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
