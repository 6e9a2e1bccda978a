#!/usr/bin/env bash
# `make run`: a shell in a container of step $1. Without a terminal, a short tour of what is different inside.
set -euo pipefail
cd "$(dirname "$0")/.."

step=$1
image=(busybox)
case $step in step01_* | step02_*) image=() ;; esac # they run on the host's files
run=(-m "$step" run "${image[@]}")

if [ -t 0 ] && [ -t 1 ]; then
    echo "A shell in a container of $step; leave it with: exit"
    .venv/bin/python -m "$step" run -it "${image[@]}" sh || [ $? != 125 ] # only that is our failure, not the shell's
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
