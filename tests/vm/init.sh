#!/bin/busybox sh
# The first process of the test machine: /init in its initial RAM disk, made by machine.py.
#
# It puts together a root file system of the host's files (read-only, over 9p) under a writable layer on a scratch disk,
# moves into it, runs /command there, and powers off. What else machine.py knows is in /settings, as shell variables.
#
# Two virtual devices lead back to machine.py: /dev/vport*p1 (or, for a terminal, /dev/hvc0) takes what the command
# prints, and the serial port /dev/ttyS1 its exit code. The other serial port, ttyS0, is the kernel's own log.

if [ "$1" != run ]; then
    /bin/busybox --install -s /bin
    export PATH=/bin
    set -e
    trap 'poweroff -f' EXIT # at the first failure; machine.py then finds no exit code, and shows the log
    mount -t devtmpfs devtmpfs /dev
    exec >/dev/ttyS0 2>&1 # what goes wrong here belongs into the kernel's log
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    . /settings

    while read -r module; do insmod "/lib/modules/$module"; done </modules

    # ── The root file system ──────────────────────────────────────────────────────────────────────────────────────────
    # The upper layer is an ext4 disk and not a tmpfs, because a tmpfs has no user.* attributes before Linux 6.6, and
    # rootless overlays keep their whiteouts in these. /tmp and /var/lib lie straight on that disk, beside the overlay:
    # an overlay cannot itself be the upper layer of another one, and that is just what the tests want to mount there.
    mkdir /host /disk /over /new
    mount -t ext4 /dev/vda /disk
    nine=ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose
    if [ -e /directories ]; then
        # For whom we do not trust: an empty system, with the directories that they may see. /usr is writable for them,
        # under a layer; the others are as read-only as qemu keeps them.
        mkdir /disk/root
        mount --bind /disk/root /new
        for directory in dev etc proc root run sys tmp var/lib var/tmp; do mkdir -p "/new/$directory"; done
        chmod 1777 /new/tmp /new/var/tmp
        while read -r tag directory; do
            mkdir -p "/new$directory"
            mount -t 9p -o "$nine" "$tag" "/new$directory"
            if [ "$directory" = /usr ]; then
                mkdir /disk/upper /disk/work
                mount -t overlay -o lowerdir=/new/usr,upperdir=/disk/upper,workdir=/disk/work overlay /new/usr
            fi
        done </directories
        mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /new/run
        cp -a /files/. /new/
        echo 3 >/proc/sys/kernel/yama/ptrace_scope # nobody looks into another process, and nobody can undo this
    else
        mount -t 9p -o "$nine" host /host
        mkdir -p /disk/upper /disk/work /disk/tmp /disk/var/lib /disk/var/tmp
        chmod 1777 /disk/tmp /disk/var/tmp
        mount -t overlay -o lowerdir=/host,upperdir=/disk/upper,workdir=/disk/work overlay /over
        mount --bind /over /new
        for directory in tmp var/lib var/tmp; do mount --bind "/disk/$directory" "/new/$directory"; done
        mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /new/run
        # The project, or its virtual environment, may lie in one of the directories that were just covered.
        for directory in "$PROJECT" "$VENV"; do
            case $directory/ in
            /tmp/* | /var/lib/* | /var/tmp/* | /run/*)
                mkdir -p "/new$directory"
                mount --bind "/over$directory" "/new$directory"
                ;;
            esac
        done
    fi

    # ── What systemd would mount ──────────────────────────────────────────────────────────────────────────────────────
    mount -t proc -o nosuid,nodev,noexec proc /new/proc
    mount -t sysfs -o nosuid,nodev,noexec sysfs /new/sys
    mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /new/sys/fs/cgroup
    mount -t devtmpfs -o nosuid,mode=755 devtmpfs /new/dev
    mkdir -p /new/dev/pts /new/dev/shm /new/dev/mqueue
    mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /new/dev/shm
    mount -t mqueue -o nosuid,nodev,noexec mqueue /new/dev/mqueue
    ln -sf /proc/self/fd /new/dev/fd
    ln -sf fd/0 /new/dev/stdin
    ln -sf fd/1 /new/dev/stdout
    ln -sf fd/2 /new/dev/stderr
    mount --make-rshared /new

    # ── Modules on demand, swap, host name, network ───────────────────────────────────────────────────────────────────
    if [ ! -e /directories ]; then
        mkdir -p /new/lib/modules
        mount --bind "/host$MODULES" /new/lib/modules
    fi
    cp /bin/busybox /new/run/busybox
    ln -sf /run/busybox /new/sbin/modprobe # the host may have none; this one knows the index that busybox depmod made
    mkswap /dev/vdb
    swapon /dev/vdb
    hostname vm
    ip link set lo up

    cp /init /new/run/init
    cp /command /new/run/command
    exec switch_root /new /run/busybox sh /run/init run
fi

# ── In the new root ───────────────────────────────────────────────────────────────────────────────────────────────────
echo started >/dev/ttyS1
if [ -e /dev/hvc0 ]; then
    /run/busybox setsid -c /bin/sh /run/command </dev/hvc0 >/dev/hvc0 2>&1
    code=$?
else
    # A pipe, so that the command may open its /dev/stdout anew, which the port (one user at a time) would refuse.
    /run/busybox mkfifo /run/output
    /run/busybox cat /run/output >"$(echo /dev/vport*p1)" &
    reader=$!
    /run/busybox setsid /bin/sh /run/command </dev/null >/run/output 2>&1
    code=$?
    # Whatever the command left behind could hold the pipe open for ever.
    for process in /proc/[0-9]*; do
        case ${process#/proc/} in
        1 | "$reader") ;;
        *) kill -9 "${process#/proc/}" ;;
        esac
    done 2>/dev/null
    wait "$reader"
fi
echo "$code" >/dev/ttyS1
/run/busybox poweroff -f
