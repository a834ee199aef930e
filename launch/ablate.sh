#!/usr/bin/env bash
# Trains every flag file with every seed, scores the runs, and writes one report about all: page, tables and pictures.
# usage: bash launch/ablate.sh A.flags B.flags ... -- --steps=N [--seeds=3] [--split=test] [--folder=runs/ablation] [flags]
# A run's folder is FOLDER/A/seed<k>, k from 0. Finished runs are skipped, interrupted ones continue. All are compared
# with the first flag file. Flags of training after "--" override those of the files, as --flagfile=launch/flags/toy.flags
# does; --metrics, --captions_scored and --inception_weights are for the scores. Write --flag=value, with the "=".
# --follow scores every checkpoint of a run (see --checkpoint_every and --keep_checkpoints), not the newest alone.
# Leaves FOLDER/report.html, .md, .json, .png, and with --follow FOLDER/study/SPLIT/: scores.jsonl, tables.md, curves.svg.
# Exit status 1: a run failed and is named at the end; 2: wrong usage; 75 after SIGTERM, 130 after Ctrl-C: the run at
# work has saved, the same command goes on.
set -euo pipefail
usage() {
  sed -n '2,10s/^# //p' "${BASH_SOURCE[0]}" >&2
  echo "ablate: $1" >&2
  exit 2
}

files=() all=() data=() judged=() follow="" seeds=3 folder=runs/ablation metrics=all captions_scored=0 inception=""
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
    --inception_weights=*) inception="${flag#*=}" judged+=("$flag") ;;
    --captions_scored=*) captions_scored="${flag#*=}" judged+=("$flag") ;;
    --follow) judged+=("$flag") follow=1 ;;
    --split=* | --data_dir=* | --raw_dir=*) all+=("$flag") data+=("$flag") ;;
    --seed=* | --workdir=* | --mode=*) usage "$flag is chosen here for each run; see --seeds and --folder" ;;
    --seeds | --seed | --folder | --metrics | --split) usage "$flag needs its value behind a =, as in $flag=VALUE" ;;
    *) all+=("$flag") ;;
  esac
done
[[ "$seeds" =~ ^[1-9][0-9]*$ ]] || usage "--seeds=$seeds: give a number from 1"
case "$folder" in
  "") usage "--folder= is empty" ;;
  *://*) usage "--folder=$folder: runs are compared in a folder of this machine; give one" ;;
  \~ | \~/*) folder="$HOME${folder#\~}" ;; # The shell expands no ~ behind a =.
esac
name() { # of a flag file
  local last="${1##*/}"
  echo "${last%.*}"
}
twice="$(for file in "${files[@]}"; do name "$file"; done | sort | uniq -d)"
[ -z "$twice" ] || usage "two flag files are named $twice; their runs would share a folder"

here="$PWD" # Paths are the caller's.
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh
use_environment "${EXTRAS:-}"
cd "$here"

# Succeeds if the newest checkpoint has scores, with --follow all of them, and with --inception_weights those of some
# such weights. Of a run whose checkpoints were removed any scores count: is_scored WORKDIR SPLIT SEED
is_scored() {
  "$python" - "$@" "$metrics" "$captions_scored" "$inception" "$follow" <<'PY'
import pathlib, sys
from t2i_jax.rundir import files, scores
workdir, split, seed, metrics, captions, inception, follow = sys.argv[1:]
names = (path.name for path in pathlib.Path(workdir, files.CHECKPOINTS).glob("*"))
steps = sorted(int(name) for name in names if name.isdigit())
settings = {"split": split, "metrics": metrics, "captions_scored": int(captions), "seed": int(seed)}
networks = {"inception": ""} if inception and metrics == "all" else {}
found = {line["step"] for line in scores.made_with(scores.read(workdir), settings, networks)}
sys.exit(not found or not found.issuperset(steps if follow else steps[-1:]))
PY
}

# Sets run, words, asked and split of a run; its own flags are last, so that nothing overrides them: ask FILE SEED
ask() {
  run="$folder/$(name "$1")/seed$2"
  words=("--flagfile=$1" ${all[@]+"${all[@]}"} --mode=train "--seed=$2" "--workdir=$run")
  asked="$(meaning "${words[@]}")" || return 1
  split="$(sed -n 's/^--split=//p' <<<"$asked")"
  asked="$(grep -v '^--split=' <<<"$asked")" # Scoring another split needs no new training.
}

# Wrong flags end the script here, not after hours of training.
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
      interruptible "$python" -m t2i_jax.main "${words[@]}" >&2 || { failed+=("$run: training"); continue; }
      printf '%s\n' "$asked" >"$finished"
    fi
    trained+=("$run")
    is_scored "$run" "$split" "$seed" ||
      interruptible "$python" -m t2i_jax.main --mode=evaluate "--workdir=$run" "--split=$split" \
        ${data[@]+"${data[@]}"} ${judged[@]+"${judged[@]}"} >&2 || failed+=("$run: scoring")
  done
done

if [ ${#trained[@]} -gt 0 ]; then
  compare=()
  for run in "${trained[@]:1}"; do compare+=("--compare=$run"); done
  interruptible "$python" -m t2i_jax.main --mode=report "--workdir=${trained[0]}" ${compare[@]+"${compare[@]}"} \
    ${data[@]+"${data[@]}"} "--output=$folder/report.html" || failed+=("$folder/report.html")
  study="$folder/study/$split" # Scores of several splits do not compare.
  [ -z "$follow" ] ||
    interruptible "$python" -m t2i_jax.page.study "$study" "${trained[@]}" "--split=$split" || failed+=("$study")
fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'ablate: failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
