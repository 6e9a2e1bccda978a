#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the autograder's image: an Ubuntu with no more than it comes with.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
source=${AUTOGRADER:-/autograder}/source

apt-get update
apt-get install -y --no-install-recommends python3 git ca-certificates
export PYTHON=python3
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    export PYTHON=python3.11 # Ubuntu 22.04 has it beside its own 3.10
    apt-get install -y --no-install-recommends python3.11
fi

kind="test"
! grep -q '"sandbox": "vm"' "$source/lab.json" || kind=v2 # the virtual machine, too
"$source/course/tools/setup.sh" "$kind"
