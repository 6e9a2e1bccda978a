"""Give each worker that is root a host of its own, made of namespaces: what else the machine does changes no result.

The worker has its own mounts, network and cgroups. It also has its own /dev, where a broken runtime could replace the
machine's /dev/null, and its own /run, where Podman keeps its locks. No other program sees this host, so everything that
is left there is ours; it ends with the worker. Processes are told apart by their ancestors (host.py), files by names.

namespaces(7), cgroup_namespaces(7). In cgroup v1 the worker moves to a child of its present cgroup, in every tree. In
version 2 a cgroup that has processes cannot hand controllers down: so the worker moves to a child of the top, and then
one level deeper. A worker that is at the top of version 2 already (as in the machine of tests/vm) stays there.
"""

import ctypes
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support import session

NEW = 0x00020000 | 0x02000000 | 0x40000000  # CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWNET, from <linux/sched.h>
CONTROLLERS = """
    blkio cpu cpuacct cpuset devices freezer hugetlb memory misc name net_cls net_prio perf_event pids rdma
""".split()  # of version 1, among the options of a mount
SCRIPT = """
    shared=$(findmnt --noheadings --output PROPAGATION / || true)
    mount --make-rprivate /
    for place; do umount --lazy "$place" || true; done
    ip link set lo up

    # Copied before it is covered. -x: not what is mounted in there.
    new=$(mktemp -d)
    mount -t tmpfs -o mode=755 dev "$new"
    cp -ax /dev/. "$new"
    mkdir -p "$new/pts" "$new/shm"
    mount --move "$new" /dev
    rmdir "$new"
    mount -t devpts -o ptmxmode=666,mode=620,gid=5 devpts /dev/pts
    mount -t tmpfs -o mode=1777 shm /dev/shm

    names=$(readlink -f /etc/resolv.conf || true)
    case $names in /run/*) kept=$(mktemp) && cat "$names" >"$kept" ;; *) kept= ;; esac
    mount -t tmpfs -o mode=755 run /run
    mkdir -m 1777 /run/lock
    mkdir /run/netns && mount --bind /run/netns /run/netns && mount --make-shared /run/netns # as ip(8), Podman do once
    if [ "$kept" ]; then mkdir -p "$(dirname "$names")" && cat "$kept" >"$names" && rm "$kept"; fi

    while read -r kind place options; do
        umount --lazy "$place"
        mount -t "$kind" -o "$options" "$kind" "$place"
    done
    if [ "$shared" = shared ]; then mount --make-rshared /; fi
"""


machines_network = ""  # the path of its namespace, once we have left it


def on_the_machines_network() -> tuple[str, ...]:
    """Return the words before a command that needs the machine's network, to fetch something."""
    return ("nsenter", f"--net={machines_network}") if machines_network else ()


@dataclass(frozen=True)
class Tree:
    """A hierarchy of cgroups: `place` is its mount point, `root` the directory in the hierarchy that is seen there."""

    kind: str  # cgroup or cgroup2
    place: Path
    root: str
    controllers: str  # as its mount's options name them; version 2 does not


def trees() -> list[Tree]:
    found: dict[str, Tree] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            names = ",".join(name for name in options.split(",") if name.partition("=")[0] in CONTROLLERS)
            root, place = before.split()[3:5]
            found.setdefault(place, Tree(kind, Path(place), root, names))
    return list(found.values())


def passing_mounts(more: Path) -> list[str]:
    """Return the mount points of other programs: they would vanish from our host, too, when these programs end."""
    needed = [session.directory(), session.REPOSITORY, Path(sys.prefix), Path.cwd(), more]
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    passing = [place for place in places if place.startswith(("/run/", "/tmp/", "/var/tmp/", "/var/lib/"))]
    return [place for place in reversed(passing) if not any(path.is_relative_to(place) for path in needed)]


def in_memory() -> bool:
    """Whether the worker's files can be in memory: if it is large, and a tmpfs has user.* attributes (Linux 6.6)."""
    release = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))
    return release >= (6, 6) and os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 8 << 30


def membership(tree: Tree) -> Path | None:
    """Return the directory of our cgroup; None if it is not below the mount point."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names == tree.controllers:
            with suppress(ValueError):
                return tree.place / Path(path).relative_to(tree.root)
    return None


def name() -> str:
    """Return the name of our cgroups. A later session finds the cgroups of a killed session by this name."""
    return f"{session.directory().name}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


class OwnHost:
    """When this is created, the worker moves to its own host, as far as it is allowed. `leave` moves it out of its new
    cgroups. The path `needed` stays as it is on the machine."""

    def __init__(self, needed: Path) -> None:
        self.old: list[tuple[int, int]] = []  # held open: the directories that we were in, and those above our new ones
        self.moved: list[Tree] = []
        for tree in trees():
            with suppress(OSError):
                self._move(tree)
        network = os.open("/proc/self/ns/net", os.O_RDONLY)  # for as long as we live
        if ctypes.CDLL(None, use_errno=True).unshare(NEW) != 0:
            raise OSError(ctypes.get_errno(), "the tests cannot have namespaces of their own")
        global machines_network
        machines_network = f"/proc/{os.getpid()}/fd/{network}"
        remounted = "".join(f"{tree.kind} {tree.place} {tree.controllers or 'rw'}\n" for tree in self.moved)
        script = ["sh", "-ec", SCRIPT, "sh", *passing_mounts(needed)]
        subprocess.run(script, input=remounted, text=True, check=True, timeout=60)
        if in_memory():
            words = ["mount", "-t", "tmpfs", "-o", "mode=755", "tests", str(session.worker())]
            subprocess.run(words, check=True, timeout=60)
        if [tree.kind for tree in self.moved] == ["cgroup2"]:  # deeper, now that the top we see is the new one
            deeper = self.moved[0].place / "worker"
            deeper.mkdir()
            (deeper / "cgroup.procs").write_text("0")

    def _move(self, tree: Tree) -> None:
        here = membership(tree)
        alone = tree.kind == "cgroup2" and not any(each.kind == "cgroup" for each in trees())
        if here is None or (alone and here == tree.place):
            return
        above = tree.place if alone else here
        new = above / name()
        new.mkdir()
        self.old.append((os.open(here, os.O_RDONLY), os.open(above, os.O_RDONLY)))
        if alone:
            for controller in (above / "cgroup.controllers").read_text().split():
                with suppress(OSError):
                    (above / "cgroup.subtree_control").write_text(f"+{controller}")
        for needed in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty in a new one, which then takes nobody
            if tree.kind == "cgroup" and (above / needed).exists():
                (new / needed).write_text((above / needed).read_text())
        (new / "cgroup.procs").write_text("0")
        self.moved.append(tree)

    def leave(self) -> None:
        """Go back to our old cgroups, and remove the new ones. We use descriptors: no path leads to the old ones."""
        for here, above in self.old:
            with suppress(OSError):
                Path(f"/proc/self/fd/{here}/cgroup.procs").write_text("0")
            remove_below(Path(f"/proc/self/fd/{above}"), name())
            os.close(here)
            os.close(above)
        self.old.clear()


def sweep(prefix: str) -> None:
    """Remove the cgroups of killed workers. The session calls this on the machine, outside of any worker's host."""
    for tree in trees():
        here = membership(tree)
        for above in {tree.place, here or tree.place}:
            remove_below(above, f"{prefix}*")


def remove_below(above: Path, pattern: str) -> None:
    for left in above.glob(pattern):
        for path, _, _ in os.walk(left, topdown=False):
            _remove(Path(path))


def _remove(cgroup: Path) -> None:
    for _ in range(50):  # the kernel may need a moment after the last process
        with suppress(OSError):
            for pid in (cgroup / "cgroup.procs").read_text().split():
                os.kill(int(pid), 9)
            cgroup.rmdir()
            return
        if not cgroup.exists():
            return
        time.sleep(0.02)
