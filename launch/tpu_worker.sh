#!/usr/bin/env bash
# The part of launch/tpu_vm.sh that runs on each worker of a TPU VM, from the code copied there.
# usage: bash tpu_worker.sh install | start FLAGS | state | stop | log [-f] | metrics | pack WORKDIR
# ~/t2i_jax/ holds a folder for each commit with its .venv; the link `current` to the newest; runs/
# and data/, shared by all commits; and run/: log, command, status and process of the current run.
set -euo pipefail
unset CDPATH
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
run="$PWD/../run"

say() { echo "$(hostname): $*"; }
file() { cat "$run/$1" 2>/dev/null || true; }
quoted() { printf '%q ' "$@"; }
expanded() { # A path whose ~ is the home folder, as Python has it.
  case "$1" in \~ | \~/*) printf '%s' "$HOME${1#?}" ;; *) printf '%s' "$1" ;; esac
}

# The Pythons of TPU images are too old, and differ from image to image. uv brings the same one to
# all, without root and without apt, whose lock a fresh machine's own upgrades hold for minutes.
install() {
  mkdir -p ../runs ../data
  ln -sfn ../runs runs
  ln -sfn ../data data
  export PATH="$HOME/.local/bin:$PATH" VIRTUAL_ENV="$PWD/.venv"
  if ! "$VIRTUAL_ENV/bin/python" -m pip --version >/dev/null 2>&1; then
    command -v uv >/dev/null ||
      curl --retry 5 -LsSf https://astral.sh/uv/install.sh | env UV_NO_MODIFY_PATH=1 sh
    uv venv --quiet --clear --managed-python --python 3.12 --seed "$VIRTUAL_ENV"
  fi
  source launch/environment.sh
  use_environment tpu
  ln -sfn "${PWD##*/}" ../current
  say "${PWD##*/} is installed"
}

# The one that writes the status is the last to go: while it lives, no status is no loss.
is_running() {
  local keeper
  keeper="$(file keeper)"
  [ -n "$keeper" ] && [ ! -f "$run/status" ] &&
    tr '\0' ' ' 2>/dev/null <"/proc/$keeper/cmdline" | grep -q 'tpu_worker.sh keep '
}

start() { # FLAGS
  if is_running; then
    if [ "$(quoted "$@")" = "$(file command)" ]; then
      say "this run is at work already"
      return 0
    fi
    say "another run is at work, stop it first: $(file command)"
    return 1
  fi
  mkdir -p "$run"
  rm -f "$run"/{status,pid,keeper,workdir}
  quoted "$@" >"$run/command"
  for flag in "$@"; do
    case "$flag" in --workdir=*) expanded "${flag#*=}" >"$run/workdir" ;; esac
  done
  # A session of its own, which the end of ssh leaves alone.
  setsid bash launch/tpu_worker.sh keep "$@" </dev/null >>"$run/log" 2>&1 &
  until [ -f "$run/pid" ]; do sleep 0.1; done
  say "started from ${PWD##*/}"
}

keep() { # FLAGS; leaves the status that the run ends with
  local status=0
  echo $$ >"$run/keeper"
  INSTALL=no VIRTUAL_ENV="$PWD/.venv" bash launch/local.sh -- "$@" &
  echo $! >"$run/pid"
  wait $! || status=$?
  echo "$status" >"$run/status"
}

state() { # tpu_vm.sh reads the word after the colon
  if is_running; then
    say "running since $(date -r "$run/pid" '+%F %T')"
  elif [ -f "$run/status" ]; then
    say "ended with status $(file status)"
  elif [ -f "$run/pid" ]; then
    say "lost: the machine was started anew while a run was at work"
  else
    say "idle: nothing was started yet"
  fi
}

stop() {
  local waited
  if is_running; then
    kill -TERM "$(file pid)"
    for ((waited = 0; waited < 240; waited++)); do
      if ! is_running; then break; fi
      sleep 0.5
    done
    if is_running; then
      say "still saving after two minutes; stop again, or see the log"
      return 1
    fi
  fi
  state
}

log() {
  [ "${1:-}" != -f ] || exec tail -n 200 -F "$run/log"
  tail -n 200 "$run/log"
}

metrics() { # the last line of metrics.jsonl
  local workdir
  workdir="$(file workdir)"
  case "$workdir" in
    gs://*) gcloud storage cat --range=-65536 "$workdir/metrics.jsonl" | tail -n 1 || say "no metrics could be read" ;;
    ?*) if [ -f "$workdir/metrics.jsonl" ]; then tail -n 1 "$workdir/metrics.jsonl"; else say "no metrics yet"; fi ;;
  esac
}

pack() { # WORKDIR, all but its checkpoints
  local workdir
  workdir="$(expanded "$1")"
  [ -d "$workdir" ] || { say "there is no folder $1"; return 1; }
  # Status 1: a run at work has written to a file meanwhile.
  tar -czf ../fetched.tar.gz --exclude=./checkpoints -C "$workdir" . || [ $? = 1 ]
}

case "${1:-}" in
  install | start | keep | state | stop | log | metrics | pack) "$@" ;;
  *) sed -n '3s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
