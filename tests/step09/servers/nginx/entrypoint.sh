#!/bin/sh
# What is in /entrypoint.d runs first. Then nginx, or whatever was asked for, takes this script's place.
set -eu
for script in /entrypoint.d/*.sh; do
    [ ! -x "$script" ] || "$script" "$@"
done
exec "$@"
