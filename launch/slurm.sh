#!/usr/bin/env bash
# A Slurm job for GPU nodes that saves before its time is up, queues again and continues.
# usage: bash launch/slurm.sh [--dry_run] [options of sbatch] -- --workdir=SHARED_FOLDER [flags]
# as in: bash launch/slurm.sh --nodes=2 --gpus-per-node=8 --time=12:00:00 -- --workdir=/scratch/a
# Installs with EXTRAS=cuda12 (or cuda13, or empty) into the active environment, else into .venv,
# which all nodes must see; INSTALL=no installs nothing. A job waits for an earlier one of the same
# workdir. Status 2: wrong use; the job's status is the program's.
#
# One process a node drives all its GPUs: the data is in memory, and the program compiled, once a
# node. One process a GPU may be better where the node's CPU, which feeds all GPUs, cannot keep up.
set -euo pipefail

# The job. `--signal` reaches the processes themselves, two minutes before the time is up; a TERM to
# this script alone is passed on.
batch() { # ROOT FLAGS
  local root="$1" here="$PWD" step status=0 now
  cd "$root"
  source launch/environment.sh
  INSTALL=no use_environment ""
  cd "$here" # Paths are the caller's.
  # sbatch knows how many processors a task has; srun would forget it.
  [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
  step=""
  trap '[ -z "$step" ] || kill -TERM "$step" || true' TERM
  step_command "$root" "${@:2}"
  "${words[@]}" &
  step=$!
  while kill -0 "$step" 2>/dev/null; do sleep 0.3 || true; done # A signal would end a plain wait.
  wait "$step" || status=$?
  now="$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" || now=unknown
  # Not after scancel, which ends it in the same way; where Slurm preempts, it queues it by itself.
  if [ "$status" = 75 ] && [ "$now" = RUNNING ]; then
    echo "slurm: it has saved and goes back into the queue" >&2
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit "$status"
}

# Sets `words`. A node that has ended leaves the others three minutes to save, too; then they hang.
step_command() { # ROOT FLAGS
  words=(srun --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=180)
  words+=(bash "$1/launch/slurm.sh" task "$python" -m t2i_jax.main "${@:2}" --multihost)
}

task() { # COMMAND, with all of the node's GPUs: under Slurm JAX takes only one unless it is told
  local gpus="${SLURM_GPUS_ON_NODE:-0}"
  if [ "$gpus" -gt 0 ]; then
    JAX_LOCAL_DEVICE_IDS="${JAX_LOCAL_DEVICE_IDS:-$(seq -s, 0 $((gpus - 1)))}"
    export JAX_LOCAL_DEVICE_IDS
  fi
  exec "$@"
}

case "${1:-}" in
  batch | task) "$@" ;;
esac

usage() {
  sed -n '2,7s/^# //p' "${BASH_SOURCE[0]}" >&2
  echo "slurm: $1" >&2
  exit 2
}

options=() dry_run=no workdir=""
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case "$1" in
    --dry_run) dry_run=yes ;;
    -n* | --ntasks*) usage "$1: a node has one process, which uses all its GPUs" ;;
    -a* | --array*) usage "$1: the jobs would share a workdir" ;;
    --wrap*) usage "$1: the job is this script" ;;
    *) options+=("$1") ;;
  esac
  shift
done
[ $# -gt 1 ] || usage "no flags are given after a --"
shift
for flag in "$@"; do
  case "$flag" in
    --workdir=?*) workdir="${flag#*=}" ;;
    --multihost | --coordinator_address* | --process_count* | --process_index*)
      usage "$flag is chosen here for each process" ;;
  esac
done
[ -n "$workdir" ] || usage "no flag --workdir=... stands after the --; all nodes have to see it"

here="$PWD"
unset CDPATH
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
root="$PWD"
# What a user gives comes later, so that it counts.
name="$(basename "$workdir" | tr -c 'A-Za-z0-9_.\n-' _)-$(cksum <<<"$workdir" | cut -d' ' -f1)"
submit=(sbatch --ntasks-per-node=1 --requeue --signal=TERM@120 --open-mode=append)
submit+=("--job-name=t2i_jax-$name" --dependency=singleton ${options[@]+"${options[@]}"})
submit+=("$root/launch/slurm.sh" batch "$root" "$@")
if [ "$dry_run" = yes ]; then
  python="${VIRTUAL_ENV:-$root/.venv}/bin/python"
  step_command "$root" "$@"
  printf '%q ' "${submit[@]}"
  printf '\n# in the job, and again after each status 75:\n# '
  printf '%q ' "${words[@]}"
  printf '\n# '
  # shellcheck disable=SC2016 # Slurm sets it.
  echo 'scontrol requeue "$SLURM_JOB_ID"'
  exit 0
fi
command -v sbatch >/dev/null || { echo "slurm: there is no sbatch here" >&2; exit 1; }
source launch/environment.sh
use_environment "${EXTRAS-cuda12}"
cd "$here"
meaning "$@" --multihost >/dev/null || exit 2 # Before it waits in the queue.
exec "${submit[@]}"
