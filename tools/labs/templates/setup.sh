#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image of the autograder: Ubuntu, with no more than it comes with.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends python3 python3-venv git ca-certificates
"${AUTOGRADER:-/autograder}/source/course/tools/setup.sh" test
