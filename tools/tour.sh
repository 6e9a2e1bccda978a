#!/usr/bin/env bash
# `make run`: a shell in a container of step $1. Without a terminal, a short tour of what is different inside.
set -euo pipefail
cd "$(dirname "$0")/.."

step=$1
image=(busybox)
case $step in step01_* | step02_*) image=() ;; esac # they run on the host's files
forget=()
case $step in step07_* | step08_* | step09_*) forget=(--rm) ;; esac # else it stays on record
run=(-m "$step" run "${forget[@]}" "${image[@]}")

# Step 9 makes a bridge for its first container. It goes again, if there was none and no container needs it meanwhile.
networks() { case $step in step09_*) .venv/bin/python -m "$step" network "$@" ;; esac }
if [ -z "$(networks ls -q)" ]; then trap 'networks rm bridge >/dev/null 2>&1 || true' EXIT; fi

if [ -t 0 ] && [ -t 1 ]; then
    echo "A shell in a container of $step; leave it with: exit"
    .venv/bin/python -m "$step" run "${forget[@]}" -it "${image[@]}" sh || [ $? != 125 ] # only that is our failure, not the shell's
    exit
fi

tour() { # COMMAND…
    echo "\$ python ${run[*]} $*"
    .venv/bin/python "${run[@]}" "$@" || [ $? = 127 ] # not there: a small machine has not even ps to copy
    echo
}
echo "Each command below runs in a new container of its own."
echo
tour hostname
tour ps
tour ls /
tour id
echo "For a shell inside, type this in a terminal: make run"
