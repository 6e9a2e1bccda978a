"""Limits on memory, CPU time and processes: cgroups(7), version 1 and version 2.

Version 1 has a tree of directories for each controller, version 2 one tree for all. Either way a container gets a
directory `mydocker/<id>` in the tree; its limits are files there, and writing a PID to `cgroup.procs` moves it in.
Kernel documents: admin-guide/cgroup-v1/, admin-guide/cgroup-v2.rst.
"""

import fcntl
import math
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..guard import guarded
from ..lib import linux
from ..lib.errors import ContainerError, complain

CONTROLLERS = {
    "memory",
    "cpu",
    "cpuset",
    "pids",
    "freezer",  # for `frozen`; in version 2 it is no controller, and always there
}
PERIOD = 100_000  # microseconds: a limit of 0.5 CPUs is 50,000 of running in each 100,000
SMALLEST_MEMORY = 6 * 2**20  # bytes, as in Docker: our init must fit in it until exec


@dataclass(frozen=True)
class Limits:
    """What `run` was told; None is no limit."""

    memory: int | None = None  # bytes
    cpus: float | None = None  # 1.5: one and a half processors' time
    cpu_shares: int | None = None  # 2 to 262144, weighed against 1024, everybody else's
    cpuset_cpus: str | None = None  # "0-2,7"
    pids: int | None = None  # processes and threads


@dataclass(frozen=True)
class Tree:
    """A mounted hierarchy: the directory in it below which containers get theirs, and what it can limit."""

    base: Path
    version: int
    controllers: set[str]


@dataclass(frozen=True)
class Cgroup:
    """A container's directories, one in each tree, each locked by the runtime as long as it lives."""

    directories: list[Path] = field(default_factory=list)
    locks: list[int] = field(default_factory=list)

    def add(self, pid: int) -> None:
        """Move the process `pid` in; what it starts from then on is born inside."""
        for directory in self.directories:
            linux.write_file(directory / "cgroup.procs", str(pid))

    def complain_of_memory(self) -> None:
        """Tell the user if the kernel killed somebody in here for want of memory: 137 alone does not say why."""
        counters = (
            directory / name for directory in self.directories for name in ("memory.events", "memory.oom_control")
        )
        lines = [line for counter in counters if counter.exists() for line in counter.read_text().splitlines()]
        if any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines):
            complain(
                "the container used up its memory limit, and the kernel killed a process in it: give it more with -m"
            )


@contextmanager
def created(name: str, limits: Limits) -> Iterator[Cgroup]:
    """A cgroup with these limits; afterwards it is gone, with all that was left in it.

    Raises ContainerError, before anything has started, for a limit that this machine cannot give.
    """
    trees = find_trees()
    check(limits, trees)
    cgroup = Cgroup()
    try:
        if trees:
            with linux.locked(trees[0].base):  # nobody may sweep a directory that its maker has not locked yet
                sweep(trees)
                for tree in trees:
                    cgroup.directories.append(make_directory(tree.base / name))
                    cgroup.locks.append(linux.lock(cgroup.directories[-1]))
        for tree, directory in zip(trees, cgroup.directories, strict=True):
            apply(limits, tree, directory)
        yield cgroup
    finally:
        for directory in cgroup.directories:
            remove(directory)
        for held in cgroup.locks:
            os.close(held)


@contextmanager
def frozen(name: str) -> Iterator[bool]:
    """Let a container's processes stand still meanwhile. Gives False, and does nothing, where there is no freezer.

    Its guard lets them go on even if we are killed. Kernel: admin-guide/cgroup-v1/freezer-subsystem.rst; in version 2
    cgroup.freeze.
    """
    directories = [tree.base / name for tree in find_trees()]
    # The switch, how it is set and reset, and what can then be read in which file.
    dialects = [
        ("cgroup.freeze", "1", "0", "cgroup.events", "frozen 1"),
        ("freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN"),
    ]
    ways = [(directory, *way) for directory in directories for way in dialects if (directory / way[0]).exists()]
    if not ways:
        yield False
        return
    directory, switch, on, off, status, reached = ways[0]
    with ExitStack() as cleanup:
        thaw = os.open(directory / switch, os.O_WRONLY)
        cleanup.callback(os.close, thaw)
        fcntl.flock(thaw, fcntl.LOCK_EX)  # one after another, or the first to end would thaw it under the second
        cleanup.enter_context(guarded(lambda: os.write(thaw, off.encode()), needs=thaw))  # it holds the lock, too
        cleanup.callback(let_go, directory / switch, off)
        for _ in range(1000):
            linux.write_file(directory / switch, on)
            if reached in (directory / status).read_text():
                break
            time.sleep(0.01)
        else:
            raise ContainerError(f"{name}: cannot be paused: a process in it does not stop, perhaps waiting for a disk")
        yield True


def let_go(switch: Path, off: str) -> None:
    """Let frozen processes go on; if somebody has killed the container and swept its cgroup away, nobody is there."""
    with suppress(FileNotFoundError):
        linux.write_file(switch, off)


# What the user asked for, and what the kernel takes


def check(limits: Limits, trees: list[Tree]) -> None:
    """Raise ContainerError for a limit that makes no sense, or that no controller here could keep."""
    processors = os.cpu_count() or 1
    if limits.memory is not None and limits.memory < SMALLEST_MEMORY:
        raise ContainerError("--memory: at least 6m, or the container could not even start")
    if limits.memory is not None and limits.memory >= 2**62:
        raise ContainerError("--memory: more than any machine has; leave it out for no limit")
    if limits.cpus is not None and not 0.01 <= limits.cpus <= processors:
        raise ContainerError(f"--cpus {limits.cpus:g}: this machine has {processors}, so from 0.01 to {processors}")
    if limits.cpu_shares is not None and not 2 <= limits.cpu_shares <= 262144:
        raise ContainerError(f"--cpu-shares {limits.cpu_shares}: from 2 to 262144; everybody else has 1024")
    if limits.pids is not None and not 1 <= limits.pids <= 2**22:
        raise ContainerError(f"--pids-limit {limits.pids}: from 1 to {2**22}; leave it out for no limit")
    needed = {
        "memory": limits.memory is not None,
        "cpu": limits.cpus is not None or limits.cpu_shares is not None,
        "cpuset": limits.cpuset_cpus is not None,
        "pids": limits.pids is not None,
    }
    for controller in (name for name, asked in needed.items() if asked):
        tree = next((tree for tree in trees if controller in tree.controllers), None)
        if tree is None:
            raise ContainerError(f"there is no cgroup controller {controller!r} here to keep that limit: {remedy()}")
        if limits.cpuset_cpus is not None and controller == "cpuset":
            usable = processors_of(tree)
            if not (wanted := parse_list(limits.cpuset_cpus)) or not wanted <= usable:
                raise ContainerError(
                    f"--cpuset-cpus {limits.cpuset_cpus!r}: a list such as 0-1,3 out of {sorted(usable)}"
                )


def remedy() -> str:
    """What may help where a controller is missing."""
    parents = [delegated(where) for where, version, _ in mounted() if version == 2]
    if blocked := [parent for parent in parents if os.access(parent, os.W_OK) and has_processes(parent)]:
        return f"{blocked[0]} has processes of its own, so it can hand nothing down; move them to a cgroup below it"
    if os.geteuid() != 0:
        return "run as root, or in a shell from 'systemd-run --user --scope -p Delegate=yes $SHELL'"
    return "it is switched off in the kernel, or not handed down to the container that we are in"


def apply(limits: Limits, tree: Tree, directory: Path) -> None:
    """Write the limits that this tree keeps into the container's directory: one wish, two dialects.

    As in Docker, a container may have as much swap again as memory. Version 1 counts both together, version 2 each.
    """
    memory, shares = limits.memory or 0, limits.cpu_shares or 2
    quota = round((limits.cpus or 0) * PERIOD)
    dialects: list[tuple[object, str, dict[str, object], dict[str, object]]] = [
        (
            limits.memory,
            "memory",
            {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": 2 * memory},
            {"memory.max": memory, "memory.swap.max": memory},
        ),
        (
            limits.cpus,
            "cpu",
            {"cpu.cfs_period_us": PERIOD, "cpu.cfs_quota_us": quota},
            {"cpu.max": f"{quota} {PERIOD}"},
        ),
        (limits.cpu_shares, "cpu", {"cpu.shares": shares}, {"cpu.weight": shares_to_weight(shares)}),
        (limits.cpuset_cpus, "cpuset", {"cpuset.cpus": limits.cpuset_cpus}, {"cpuset.cpus": limits.cpuset_cpus}),
        (limits.pids, "pids", {"pids.max": limits.pids}, {"pids.max": limits.pids}),
    ]
    for asked, controller, version_1, version_2 in dialects:
        if asked is None or controller not in tree.controllers:
            continue
        for file, value in (version_1 if tree.version == 1 else version_2).items():
            if (directory / file).exists() or "sw" not in file:  # there is none where the kernel does not count swap
                linux.write_file(directory / file, str(value))


def shares_to_weight(shares: int) -> int:
    """Version 1's cpu.shares (2 … 1024 … 262144) as version 2's cpu.weight (1 … 100 … 10000).

    The curve through these three points that runc draws since 1.3.2: log10(weight) is quadratic in log2(shares). The
    straight line of before made 39 of the default 1024 (opencontainers/runc issue 4772).
    """
    power = math.log2(shares)
    return math.ceil(10 ** ((power**2 + 125 * power) / 612 - 7 / 34))


def processors_of(tree: Tree) -> set[int]:
    """The processors that containers may be given at all."""
    files = [tree.base / name for name in ("cpuset.cpus.effective", "cpuset.effective_cpus")]
    return parse_list(next(file for file in files if file.exists()).read_text())


def parse_list(text: str) -> set[int]:
    """The numbers of a list such as "0-2,7" (cpuset(7), "List format"); none if it is no such list.

    >>> sorted(parse_list("0-2,7")), parse_list("2-0"), parse_list("x")
    ([0, 1, 2, 7], set(), set())
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if not re.fullmatch(r"\d{1,4}(-\d{1,4})?", part, re.ASCII):
            return set()
        ends = range(int(first), int(last or first) + 1)
        if not ends:
            return set()
        numbers.update(ends)
    return numbers


# Where cgroups live on this machine


def find_trees() -> list[Tree]:
    """Every hierarchy with a controller of ours in which we may make directories, our `mydocker` in each made."""
    trees = []
    for parent, version, controllers in mounted():
        with suppress(OSError):  # not ours to write, or not to be seen: no limits from this one
            if version == 2:
                parent = delegated(parent)
                controllers = controllers_in(parent, "controllers")
            if not controllers:
                continue
            base = make_directory(parent / "mydocker")
            base.chmod(0o700)  # or anybody could open it, and hold the lock that we wait for
            if version == 2:
                controllers = hand_down(parent) & hand_down(base)
            if controllers and os.access(base, os.W_OK):
                trees.append(Tree(base, version, controllers))
    return trees


def mounted() -> list[tuple[Path, int, set[str]]]:
    """Where each cgroup hierarchy is mounted, its version, and in version 1 its controllers: mountinfo in proc(5).

    A hierarchy may be mounted twice, and a mount may be hidden by a later one on the same directory; so each is taken
    once, and only where the directory really is that file system.
    """
    found: dict[str, tuple[Path, int, set[str]]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, details = line.partition(" - ")
        _, _, device, _, where, *_ = fields.split()
        kind, _, options = details.split(" ", 2)
        with suppress(OSError):
            major, minor = map(int, device.split(":"))
            if kind in ("cgroup", "cgroup2") and os.stat(where).st_dev == os.makedev(major, minor):
                version = 2 if kind == "cgroup2" else 1
                found.setdefault(device, (Path(where), version, CONTROLLERS & set(options.split(","))))
    return list(found.values())


def delegated(root: Path) -> Path:
    """The part of the version 2 tree that is ours: all of it for root, else the topmost ancestor that we may write to.

    A systemd user manager hands its user such a subtree ("Delegation" in cgroup-v2.rst).
    """
    if os.geteuid() == 0:
        return root
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(root / line.removeprefix("0::/") for line in lines if line.startswith("0::"))
    writable = [folder for folder in (own, *own.parents) if os.access(folder / "cgroup.procs", os.W_OK)]
    return writable[-1] if writable else own


def hand_down(directory: Path) -> set[str]:
    """Version 2: let the children of `directory` use its controllers. Returns those that they can use.

    Nothing can be handed down where `directory` has processes of its own ("No Internal Process Constraint" in
    cgroup-v2.rst). The kernel would let some controllers pass even so, but then refuse to take processes below.
    """
    if has_processes(directory):
        return set()
    for controller in sorted(controllers_in(directory, "controllers") - controllers_in(directory, "subtree_control")):
        with suppress(OSError):
            linux.write_file(directory / "cgroup.subtree_control", f"+{controller}")
    return controllers_in(directory, "subtree_control")


def has_processes(directory: Path) -> bool:
    """Whether there are processes right in a version 2 cgroup. The root of all, which may have some, has no type."""
    return (directory / "cgroup.type").exists() and bool((directory / "cgroup.procs").read_text().strip())


def controllers_in(directory: Path, name: str) -> set[str]:
    """Those of our controllers that the file cgroup.`name` of a version 2 cgroup lists."""
    return CONTROLLERS & set((directory / f"cgroup.{name}").read_text().split())


def make_directory(directory: Path) -> Path:
    """Make a cgroup, unless it is there. In version 1 a new cpuset has no processors, and so takes no process."""
    if not directory.exists():
        with suppress(FileExistsError):  # somebody else's first run
            linux.mkdir(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = directory / name
        if file.exists() and (directory / "tasks").exists() and not file.read_text().strip():
            linux.write_file(file, (directory.parent / name).read_text().strip())
    return directory


# Clean-up


def sweep(trees: list[Tree]) -> None:
    """Remove the cgroups of runtimes that were killed: those whose lock nobody holds."""
    for directory in (entry for tree in trees for entry in tree.base.iterdir() if entry.is_dir()):
        with suppress(BlockingIOError, FileNotFoundError):
            held = linux.lock(directory, wait=False)
            remove(directory)
            os.close(held)


def remove(directory: Path) -> None:
    """Remove a cgroup with the cgroups below it, killing what is still in there.

    rmdir(2) says EBUSY until the last process has been reaped, which is not in our hands: so try for a while.
    """
    for _ in range(200):
        try:
            linux.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError:
            for below, _, _ in os.walk(directory, topdown=False):
                kill_all(Path(below))
                if Path(below) != directory:
                    with suppress(OSError):
                        linux.rmdir(below)
        time.sleep(0.01)
    complain(f"{directory}: still in use, so it is left for the next run to remove")


def kill_all(directory: Path) -> None:
    """Kill every process in a cgroup."""
    with suppress(OSError):  # gone meanwhile
        for pid in map(int, (directory / "cgroup.procs").read_text().split()):
            if pid:  # 0: a process outside our PID namespace; to kill(2) it would mean our own group
                os.kill(pid, signal.SIGKILL)
