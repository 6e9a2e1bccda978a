#!/usr/bin/env bash
# `make demo`: what the last step can do, in two minutes, with a store of its own; and that nothing of it is left.
set -euo pipefail
cd "$(dirname "$0")/.."

step=step09_network
python=.venv/bin/python
MYDOCKER_ROOT=$(mktemp -d)
export MYDOCKER_ROOT
pause=0
if [ -t 1 ]; then pause=${PAUSE:-2}; fi # seconds to read before each command; in a pipe nobody reads along

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
mydocker() { # ARG…: show the command, then do it
    local word shown=""
    for word; do
        case $word in *[!A-Za-z0-9_./:,=-]*) shown+=" '$word'" ;; *) shown+=" $word" ;; esac
    done
    printf '\033[2m$ python -m %s%s\033[0m\n' "$step" "$shown"
    sleep "$pause"
    $python -m "$step" "$@"
}

traces() { # NAME…: links, mounts, cgroups and firewall tables that have one of these names in theirs
    local patterns=() name
    for name; do patterns+=(-e "$name"); done
    {
        ls /sys/class/net
        cat /proc/self/mountinfo
        find /sys/fs/cgroup -path '*/mydocker/*' -type d 2>/dev/null || true
        if command -v nft >/dev/null && [ "$(id -u)" = 0 ]; then nft list tables; fi
    } | grep -F "${patterns[@]}" || true
}

clean() {
    local all
    all=$($python -m "$step" ps -aq)
    # shellcheck disable=SC2086 # ids are words of their own
    if [ -n "$all" ]; then $python -m "$step" rm -f $all >/dev/null; fi
    all=$($python -m "$step" network ls -q)
    # shellcheck disable=SC2086
    if [ -n "$all" ]; then $python -m "$step" network rm $all >/dev/null; fi
    chmod -R u+w "$MYDOCKER_ROOT" && rm -rf "$MYDOCKER_ROOT"
}
trap 'clean || true' EXIT

publish=()
if [ "$(id -u)" = 0 ]; then publish=(-p 127.0.0.1::80); fi

say "1. A web server in the background, with a volume for its pages."
mydocker run -d --name web "${publish[@]}" -v pages:/www busybox httpd -f -h /www
web=$($python -m "$step" ps -q)
mydocker ps

say "2. Into the running container: write a page."
# shellcheck disable=SC2016 # for the shell inside
mydocker exec web sh -c 'echo "Hello from $(hostname), process 1 is $(cat /proc/1/comm)" > /www/index.html; ps'

if [ "$(id -u)" = 0 ]; then
    say "3. From outside, through the published port: a bridge, NAT and a cable lie between."
    port=$($python -m "$step" ps | grep -oE '127\.0\.0\.1:[0-9]+')
    echo "http://$port/ says:"
    $python -c "import urllib.request as u; print('  ', u.urlopen('http://$port/', timeout=5).read().decode().strip())"
else
    say "3. From inside: without root there is no bridge to publish a port on."
    mydocker exec web sh -c 'printf "GET /index.html HTTP/1.0\r\n\r\n" | nc 127.0.0.1 80 | tail -n 1'
fi

say "4. Change its files, and make an image of it. The first image stays as it was."
mydocker exec web sh -c 'echo "made in a container" > /made'
mydocker commit web demo:1
mydocker run --rm --network none demo:1 cat /made
mydocker images

say "5. The pages outlive the container."
mydocker rm -f web
mydocker run --rm --network none -v pages:/www:ro busybox cat /www/index.html

say "6. All away; and what is left on the machine?"
mapfile -t names < <($python -m "$step" ps -aq; $python -m "$step" network ls -q)
names+=("$MYDOCKER_ROOT" "$web")
clean
trap - EXIT
left=$(traces "${names[@]}")
if [ -n "$left" ]; then
    echo "$left"
    exit 1
fi
echo "Nothing: no link, mount, cgroup or rule of the firewall."
