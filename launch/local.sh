#!/usr/bin/env bash
# Runs t2i_jax on this machine and restarts it when it exits with status 75 (saved; run me again).
# usage: bash launch/local.sh [--processes=N] [--grace=60] [--dry_run] -- --workdir=FOLDER [flags]
# One process uses all accelerators. --processes=N: N processes over loopback, each with an equal
# share of the GPUs that CUDA_VISIBLE_DEVICES or nvidia-smi lists; on a machine without GPUs, N CPU
# processes, to try several hosts on one. SIGTERM or Ctrl-C: all save a checkpoint and exit; a second
# Ctrl-C kills them. When one fails, the others are asked to exit and killed --grace seconds later.
# EXTRAS=cuda12 (or cuda13, tpu) installs for an accelerator; INSTALL=no installs nothing.
# Status: the worst of the processes' (75, saved and resumable, is better than any other but 0).
# 2: wrong use.
set -euo pipefail
usage() {
  sed -n '2,10s/^# //p' "${BASH_SOURCE[0]}" >&2
  echo "local: $1" >&2
  exit 2
}

processes=1 grace=60 dry_run=no
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case "$1" in
    --processes=*) processes="${1#*=}" ;;
    --grace=*) grace="${1#*=}" ;;
    --dry_run) dry_run=yes ;;
    --processes | --grace) usage "$1 needs its value behind a =, as in $1=2" ;;
    *) usage "$1 stands before the --, where only options of this script may" ;;
  esac
  shift
done
[ $# -gt 1 ] || usage "no flags are given after a --"
shift
[[ "$processes" =~ ^[1-9][0-9]*$ ]] || usage "--processes=$processes: give a number from 1"
[[ "$grace" =~ ^[0-9]+$ ]] || usage "--grace=$grace: give a number of seconds"

list_gpus() {
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    tr ', ' '\n' <<<"$CUDA_VISIBLE_DEVICES" | sed '/^$/d; /^-/d'
  else
    # Without a driver that answers it says so on standard output.
    { nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true; } | sed -n '/^[0-9][0-9]*$/p'
  fi
}

gpus=() port=0
if [ "$processes" -gt 1 ]; then
  for flag in "$@"; do
    case "$flag" in
      --multihost* | --coordinator_address* | --process_count* | --process_index*)
        usage "$flag is chosen here for each process" ;;
    esac
  done
  while read -r gpu; do gpus+=("$gpu"); done < <(list_gpus)
  [ $((${#gpus[@]} % processes)) = 0 ] ||
    usage "--processes=$processes: ${#gpus[@]} GPUs cannot be shared evenly; try ${#gpus[@]}"
  port=$((20000 + $$ % 10000))
  while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done # taken
fi

# Sets `words` to the command of a process: command_of INDEX FLAGS
command_of() {
  local index="$1" share=$((${#gpus[@]} / processes))
  words=("$python" -m t2i_jax.main "${@:2}")
  [ "$processes" -gt 1 ] || return 0
  words+=(--multihost "--coordinator_address=127.0.0.1:$port")
  words+=("--process_count=$processes" "--process_index=$index")
  [ "$share" -gt 0 ] || return 0
  # Inside a Slurm allocation JAX would take one GPU a process unless it is told which are its own.
  words=(
    env "CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${gpus[*]:index * share:share}")"
    "JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((share - 1)))" "${words[@]}"
  )
}

here="$PWD" # Paths are the caller's.
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "$dry_run" = yes ]; then
  python="${VIRTUAL_ENV:-$PWD/.venv}/bin/python"
  for ((index = 0; index < processes; index++)); do
    command_of "$index" "$@"
    printf '%q ' "${words[@]}"
    echo
  done
  exit 0
fi
source launch/environment.sh
use_environment "${EXTRAS:-}"
cd "$here"

pids=() asked=no interrupted=no
tell() { # SIGNAL, to all that still run
  local pid
  for pid in ${pids[@]+"${pids[@]}"}; do kill "-$1" "$pid" 2>/dev/null || true; done
}
# shellcheck disable=SC2317,SC2329 # Called by the trap.
ask_to_end() {
  asked=yes
  tell TERM
}
# Ctrl-C does not reach the processes by itself: what a script starts in the background ignores it.
# shellcheck disable=SC2317,SC2329
interrupt() {
  if [ "$interrupted" = yes ]; then tell KILL; else ask_to_end; fi
  interrupted=yes
}
trap ask_to_end TERM
trap interrupt INT

badness() {
  case "$1" in 0) echo 0 ;; 75) echo 1 ;; *) echo 2 ;; esac
}

# Starts all, waits for all; sets `worst`: run_all FLAGS
run_all() {
  local index pid status left deadline=""
  worst=0
  for ((index = 0; index < processes; index++)); do
    command_of "$index" "$@"
    if [ "$index" = 0 ]; then "${words[@]}" & else "${words[@]}" >&2 & fi
    pids+=("$!")
  done
  [ "$asked" = no ] || tell TERM # It came while they were being started.
  while [ ${#pids[@]} -gt 0 ]; do
    left=()
    for pid in "${pids[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then
        left+=("$pid")
        continue
      fi
      status=0
      wait "$pid" || status=$?
      # Ended by our TERM before it could listen for it: nothing was done that could be lost.
      if [ "$asked" = yes ] && [ "$status" = 143 ]; then status=75; fi
      # Of two that are as bad the first: the others' often follow from it.
      if [ "$(badness "$status")" -gt "$(badness "$worst")" ]; then worst="$status"; fi
    done
    pids=(${left[@]+"${left[@]}"})
    if [ "$worst" != 0 ] && [ -z "$deadline" ]; then
      tell TERM
      deadline=$((SECONDS + 10#$grace)) # not octal where it begins with a 0
    elif [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
      tell KILL
    fi
    [ ${#pids[@]} = 0 ] || sleep 0.2 || true # Signals are looked after when it is over.
  done
}

while :; do
  run_all "$@"
  if [ "$worst" != 75 ] || [ "$asked" = yes ]; then break; fi
  echo "local: it has saved and asks to be started again (status 75)" >&2
done
exit "$worst"
