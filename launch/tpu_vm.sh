#!/usr/bin/env bash
# Trains on a Cloud TPU VM, one machine or a pod slice. Every subcommand can safely be repeated.
# usage: bash launch/tpu_vm.sh SUBCOMMAND NAME [options] [-- flags of t2i_jax]
#   create  requests the VM and waits until it is ready; recreates one that was preempted
#   setup   copies this commit to all workers and installs it there with a Python of its own
#   run     starts `t2i_jax.main --multihost FLAGS` on all workers, independent of ssh. --watch:
#           creates and sets up first, stays, and restarts on a new VM after preemption; ends with
#           the run, or when somebody deletes the VM
#   status  prints the VM's state, each worker's run and the last line of metrics.jsonl
#   logs    prints the log of worker 0 or --worker=N; -f: follows it
#   fetch   copies --workdir=FOLDER or gs://..., without checkpoints, into --output=runs/NAME
#   stop    the run saves a checkpoint and exits; the VM stays, and is billed
#   delete  deletes the VM and its request
# options: --zone= --project= --type=v5litepod-8 --version= (or TPU_ZONE TPU_PROJECT TPU_TYPE
#   TPU_VERSION; default zone and project: gcloud's), --spot, --queued (waits in Google's queue),
#   --dirty (also sends uncommitted changes), --poll=60 (seconds), --dry_run (prints all commands)
# Several machines share no disk: their --workdir is gs://... or on a disk that you mounted on all.
# Status: 2 wrong use; with --watch the run's; else 1 for a failure.
set -euo pipefail
here="$PWD" # Paths are the caller's.
exec </dev/null # ssh would read the terminal.
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "tpu_vm: $*" >&2; }
# Where this machine has the program, it refuses flags before a VM is ordered. (A flag file may be the VM's.)
check_flags() {
  local python="${VIRTUAL_ENV:-$PWD/.venv}/bin/python"
  case " ${flags[*]}" in *" --flagfile=/"* | *" --flagfile=~"*) return 0 ;; esac
  "$python" -c "import t2i_jax.config.flags" 2>/dev/null || return 0
  source launch/environment.sh
  meaning "${flags[@]}" >/dev/null || exit 2
}
usage() {
  sed -n '2,19s/^# //p' launch/tpu_vm.sh >&2
  say "$1"
  exit 2
}

command="${1:-}" name="${2:-}"
case "$command" in
  create | setup | run | status | logs | fetch | stop | delete) ;;
  "") usage "no subcommand is given" ;;
  *) usage "$command: there is no such subcommand" ;;
esac
[[ "$name" =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] ||
  usage "NAME=$name: lower-case letters, digits and - make a name, as in my-tpu"
shift 2
zone="${TPU_ZONE:-}" project="${TPU_PROJECT:-}" type="${TPU_TYPE:-}" version="${TPU_VERSION:-}"
poll=60 worker=0 workdir="" output="runs/$name" spot=() dry_run=no
watch=no queued=no dirty=no follow=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case "$command $1" in
    *\ --zone=*) zone="${1#*=}" ;;
    *\ --project=*) project="${1#*=}" ;;
    *\ --type=*) type="${1#*=}" ;;
    *\ --version=*) version="${1#*=}" ;;
    *\ --dry_run) dry_run=yes ;;
    create\ --spot | run\ --spot) spot=(--spot) ;;
    create\ --queued | run\ --queued) queued=yes ;;
    setup\ --dirty | run\ --dirty) dirty=yes ;;
    create\ --poll=* | run\ --poll=*) poll="${1#*=}" ;;
    run\ --watch) watch=yes ;;
    logs\ -f) follow=(-f) ;;
    logs\ --worker=*) worker="${1#*=}" ;;
    fetch\ --workdir=*) workdir="${1#*=}" ;;
    fetch\ --output=*) output="${1#*=}" ;;
    *) usage "$1 is no option of $command; flags of t2i_jax come after a --" ;;
  esac
  shift
done
[ "${1:-}" != -- ] || shift
[ $# = 0 ] || [ "$command" = run ] || usage "$command takes no flags of t2i_jax"
[[ "$poll" =~ ^[0-9]+$ ]] || usage "--poll=$poll: give a number of seconds"
[[ "$worker" =~ ^[0-9]+$ ]] || usage "--worker=$worker: give a number from 0"
case "$type" in # https://cloud.google.com/tpu/docs/runtimes
  v5litepod-*) version="${version:-v2-alpha-tpuv5-lite}" ;;
  v5p-*) version="${version:-v2-alpha-tpuv5}" ;;
  v6e-*) version="${version:-v2-alpha-tpuv6e}" ;;
  v[234]-*) version="${version:-tpu-ubuntu2204-base}" ;;
esac
case "$command/$watch" in
  create/* | run/yes)
    [ -n "$type" ] || usage "--type is not given, as in --type=v5litepod-8"
    [ -n "$version" ] || usage "--type=$type: name its runtime, as in --version=v2-alpha-tpuv6e" ;;
  fetch/*) [ -n "$workdir" ] || usage "--workdir is not given: a folder of the VM, or gs://..." ;;
esac
case "$output" in
  /*) ;;
  \~ | \~/*) output="$HOME${output#\~}" ;; # The shell expands no ~ behind a =.
  *) output="$here/$output" ;;
esac
where=()
[ -z "$zone" ] || where+=("--zone=$zone")
[ -z "$project" ] || where+=("--project=$project")
flags=("$@") run_workdir=""
for flag in "$@"; do
  case "$flag" in
    --workdir=*) run_workdir="${flag#*=}" ;;
    --multihost) usage "--multihost is given to every run here" ;;
  esac
done
if [ "$command" = run ]; then
  [ -n "$run_workdir" ] || usage "no flag --workdir=... stands after the --, as in gs://BUCKET/a"
  case "$watch/$run_workdir" in
    no/* | yes//* | yes/gs:*) ;;
    *) usage "--workdir=$run_workdir would go with a VM that is preempted; gs://... stays" ;;
  esac
  flags+=(--multihost)
  check_flags
fi
[ "$dry_run" = yes ] || command -v gcloud >/dev/null ||
  { say "gcloud is not installed: https://cloud.google.com/sdk/docs/install"; exit 1; }
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/ours" # While it is there, a missing VM is ours to order; else others deleted it.

show() { printf '%q ' "$@"; echo; }
act() { # runs a command, or shows it
  if [ "$dry_run" = yes ]; then show "$@"; else "$@"; fi
}
vm() { act gcloud compute tpus tpu-vm "$1" "$name" "${@:2}" ${where[@]+"${where[@]}"} --quiet; }
request() {
  act gcloud compute tpus queued-resources "$1" "$name" "${@:2}" ${where[@]+"${where[@]}"} --quiet
}

copy() { act gcloud compute tpus tpu-vm scp "$@" ${where[@]+"${where[@]}"} --quiet; }

# Sets `answer` to what a describing command prints, "" where there is no such thing: ask WORDS
ask() {
  answer="$("$@" 2>"$scratch/told")" || {
    answer=""
    grep -q NOT_FOUND "$scratch/told" || { cat "$scratch/told" >&2; return 1; }
  }
}

# Sets `state` and `hosts` of the VM, and `queue`, its request's state; "" for what there is not.
look() { # STATE that a dry run takes for the answer
  if [ "$dry_run" = yes ]; then
    vm describe '--format=value(state,networkEndpoints[].ipAddress)'
    request describe '--format=value(state.state)'
    state="${1:-}" queue="${1:+ACTIVE}" hosts=1
    say "dry run: as if $name were ${state:-not there}"
    return
  fi
  state=unknown queue=""
  ask vm describe '--format=value(state,networkEndpoints[].ipAddress)' || return 1
  local of_vm="$answer" apart
  ask request describe '--format=value(state.state)' || return 1
  state="${of_vm%%[[:space:]]*}" queue="$answer"
  apart="${of_vm//[^;]/}"
  hosts=$((${#apart} + 1))
}

remove() {
  if [ -n "$queue" ]; then
    request delete --force # its VM, too
  elif [ -n "$state" ]; then
    vm delete
  fi
}

order() {
  if [ "$queued" = yes ]; then
    request create "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$version" \
      ${spot[@]+"${spot[@]}"}
  else
    vm create "--accelerator-type=$type" "--version=$version" ${spot[@]+"${spot[@]}"}
  fi
}

create() {
  look || return 1
  case "$state/$queue" in
    READY/*) say "$name is there already" ;;
    STOPPED/*) vm start ;;
    CREATING/* | STARTING/* | RESTARTING/* | REPAIRING/* | REIMAGING/*) ;;
    /CREATING | /ACCEPTED | /WAITING_FOR_RESOURCES | /PROVISIONING) ;;
    DELETING/* | */DELETING)
      say "$name is being deleted; create it again when it is gone"
      return 1 ;;
    /) { [ -f "$scratch/ours" ] && order; } || return 1 ;; # Else a watch ends at its next look.
    *) # Preempted, suspended or failed: Google does not bring it back.
      say "$name is ${state:-gone}${queue:+, its request $queue}: it is made anew"
      : >"$scratch/ours"
      remove
      order || return 1 ;;
  esac
  rm -f "$scratch/ours"
  [ "$dry_run" = no ] || return 0
  until look && [ "$state" = READY ]; do
    case "$state/$queue" in
      PREEMPTED/* | TERMINATED/* | */FAILED | */SUSPENDED | /)
        say "$name is ${state:-gone}${queue:+, its request $queue}; create it again"
        return 1 ;;
    esac
    say "waiting for $name: ${state:-no VM yet}${queue:+, its request $queue}"
    sleep "$poll"
  done
  say "$name is ready: $hosts worker(s)"
}

# Packs the commit, once: what is edited while a run is watched does not get into it.
pack() {
  local changes tree=HEAD
  commit="$(git rev-parse --short=12 HEAD)"
  changes="$(git status --porcelain)"
  if [ -n "$changes" ] && [ "$dirty" = no ]; then
    say "changes are not committed; commit them, or send them with --dirty:"
    head -n 10 <<<"$changes" >&2
    exit 2
  fi
  if [ -n "$changes" ]; then
    # All that git does not ignore, by way of an index beside the real one. Named by its contents,
    # so that no folder changes under a run.
    GIT_INDEX_FILE="$scratch/index" git add --all
    tree="$(GIT_INDEX_FILE="$scratch/index" git write-tree)"
    commit+="-dirty-${tree:0:8}"
  fi
  archive="build/t2i_jax-$commit.tar.gz"
  act mkdir -p build
  act git archive --format=tar.gz "--output=$archive" "$tree"
}

setup() {
  copy "$archive" "$name:t2i_jax.tar.gz" --worker=all &&
    vm ssh --worker=all --command="mkdir -p t2i_jax/$commit && \
tar -xzf t2i_jax.tar.gz -C t2i_jax/$commit && bash t2i_jax/$commit/launch/tpu_worker.sh install"
}

# Asks launch/tpu_worker.sh something: on_workers all|NUMBER WORDS
on_workers() {
  local script=t2i_jax/current/launch/tpu_worker.sh
  vm ssh "--worker=$1" "--command=[ -f $script ] || \
{ echo \"\$(hostname): bare: setup comes first\"; exit 1; }; bash $script $(printf '%q ' "${@:2}")"
}

need_ready() {
  look READY
  [ "$state" = READY ] || { say "$name is ${state:-not there}; create it first"; exit 1; }
}

start() {
  case "$hosts/$run_workdir" in
    1/* | *//* | */gs:*) ;;
    *) usage "--workdir=$run_workdir: $hosts machines share no such folder; gs://... suits" ;;
  esac
  on_workers all start "${flags[@]}"
}

# Creates, sets up and starts what is missing until the run has ended by itself.
watch() {
  local states ended
  pack
  create
  states="$(on_workers all state)" || true
  case "$states" in
    *": bare:"* | *": idle:"* | *": lost:"* | *": ended "* | "" | gcloud*)
      [ "$dry_run" = no ] || echo "$states"
      case "$states" in *": running "*) on_workers all stop ;; esac
      setup ;;
  esac
  start # says so where this run is at work, and fails where another is
  [ "$dry_run" = no ] || return 0
  while sleep "$poll"; do
    if ! look; then
      say "$name cannot be asked after; it is tried again"
      continue
    fi
    if [ -z "$state$queue" ] && [ ! -f "$scratch/ours" ]; then
      say "$name is not there any more: somebody has deleted it, and so the watch ends"
      exit 1
    fi
    if [ "$state" != READY ]; then
      say "$name is ${state:-gone}: the run goes on as soon as there is another"
      (create && setup && start) || say "that failed; it is tried again"
      continue
    fi
    states="$(on_workers all state)" || true
    case "$states" in
      *": bare:"* | *": idle:"*) # a machine was replaced
        (on_workers all stop || true; setup && start) || say "that failed; it is tried again" ;;
      *": lost:"*)
        say "a machine was started anew; so is the run"
        (on_workers all stop && start) || say "that failed; it is tried again" ;;
      *": running "*) ;;
      *)
        ended="$(sed -n 's/.*: ended with status //p' <<<"$states" | sort -nu)"
        [ "$(grep -c ': ended' <<<"$states")" = "$hosts" ] || continue # not all could be asked
        say "$states"
        case "$ended" in
          0) exit 0 ;;
          75 | 0$'\n'75) say "it has saved; the same command goes on"; exit 75 ;;
        esac
        say "see: bash launch/tpu_vm.sh logs $name"
        exit "$(grep -vx -e 0 -e 75 <<<"$ended" | tail -n 1)" ;;
    esac
  done
}

fetch() {
  act mkdir -p "$output"
  case "$workdir" in
    gs://*)
      act gcloud storage rsync --recursive '--exclude=^checkpoints/' "$workdir" "$output" ;;
    *)
      # By way of plain names: versions of scp differ in how they read others.
      need_ready
      on_workers 0 pack "$workdir"
      act mkdir -p build
      copy "$name:t2i_jax/fetched.tar.gz" "build/$name.tar.gz" --worker=0
      act tar -xzf "build/$name.tar.gz" -C "$output" ;;
  esac
  say "in $output"
}

case "$command/$watch" in
  create/*) create ;;
  setup/*)
    pack
    need_ready
    setup ;;
  run/yes) watch ;;
  run/no)
    need_ready
    start ;;
  status/*)
    look READY
    echo "$name: ${state:-no VM}${queue:+, request $queue}"
    if [ "$state" = READY ]; then
      on_workers all state
      on_workers 0 metrics
    fi ;;
  logs/*) on_workers "$worker" log ${follow[@]+"${follow[@]}"} ;;
  fetch/*) fetch ;;
  stop/*)
    look READY
    if [ "$state" = READY ]; then
      on_workers all stop
    else
      say "$name is ${state:-not there}: nothing runs"
    fi ;;
  delete/*)
    look READY
    [ -n "$state$queue" ] || say "there is no $name"
    remove ;;
esac
