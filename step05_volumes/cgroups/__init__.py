"""Limits on memory, CPU time and processes: cgroups(7), version 2, and version 1 on machines that have it.

A container gets a directory `mydocker/<id>` in each tree of cgroups. Files there hold its limits, and the container's
processes are members. Version 2 has one tree, and init starts in it. Version 1 has one tree for each controller, and
init moves itself into them.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..lib import linux
from ..lib.errors import ContainerError, complain
from . import v1, v2
from .hierarchy import Hierarchy, make_directory
from .limits import Limits, parse_list

SWAP = ("memory.swap.max", "memory.memsw.limit_in_bytes")


@dataclass(frozen=True)
class Cgroup:
    """A container's cgroup: a directory in each tree. The runtime holds the locks of all of them while it runs."""

    name: str
    trees: list[Hierarchy]
    locks: list[int] = field(default_factory=list)

    @property
    def directories(self) -> list[Path]:
        """The cgroup's directories, one in each tree."""
        return [tree.base / self.name for tree in self.trees]

    @property
    def birthplace(self) -> int | None:
        """The descriptor (out of `locks`) of version 2's directory, if there is one: clone3(2) can start init in it."""
        return next((lock for tree, lock in zip(self.trees, self.locks, strict=True) if tree.version == 2), None)

    def enter(self) -> None:
        """Move the caller into the directories of version 1.

        A thread that writes 0 to `tasks` is moved at once. If another process is moved (its PID in `cgroup.procs`),
        the kernel must first stop all processes of the machine from forking: that takes some 10 milliseconds.
        """
        for directory in (tree.base / self.name for tree in self.trees if tree.version == 1):
            linux.write_file(directory / "tasks", "0")

    def complain_of_memory(self) -> None:
        """Tell the user if the kernel killed a process here because memory ran out: exit code 137 does not say so."""
        counters = (path / name for path in self.directories for name in ("memory.events", "memory.oom_control"))
        lines = [line for counter in counters if counter.exists() for line in counter.read_text().splitlines()]
        if any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines):
            complain(
                "the container used up its memory limit, and the kernel killed a process in it: give it more with -m"
            )


@contextmanager
def created(name: str, limits: Limits) -> Iterator[Cgroup]:
    """Make a cgroup with these limits. At the end remove it, and kill the processes that are still in it.

    With the lock of the first tree's base: sweep, then make and lock each directory. After that, set the limits.
    Raises ContainerError, before anything has started, for a limit that this machine cannot set.
    """
    trees = find_trees()
    check(limits, trees)
    cgroup = Cgroup(name, trees)
    try:
        if trees:
            with linux.locked(trees[0].base):  # nobody may sweep our directory before we have locked it
                sweep(trees)
                for directory in cgroup.directories:
                    make_directory(directory)
                    cgroup.locks.append(linux.lock(directory))
        for tree, directory in zip(trees, cgroup.directories, strict=True):
            apply(limits, tree, directory)
        yield cgroup
    finally:
        for directory in cgroup.directories:
            remove(directory)
        for lock in cgroup.locks:
            os.close(lock)


def find_trees() -> list[Hierarchy]:
    """Return each tree that has one of our controllers and that we may write to. Make `mydocker` in each."""
    return v2.find() + v1.find()


def check(limits: Limits, trees: list[Hierarchy]) -> None:
    """Raise ContainerError for a limit that no controller here can enforce."""
    for controller in {controller for controller, _, value in v2.settings(limits) if value}:
        tree = next((tree for tree in trees if controller in tree.controllers), None)
        if tree is None:
            raise ContainerError(f"there is no cgroup controller {controller!r} here to keep that limit: {v2.remedy()}")
        if limits.cpuset_cpus and controller == "cpuset":
            usable = processors_of(tree)
            if not (wanted := parse_list(limits.cpuset_cpus)) or not wanted <= usable:
                raise ContainerError(
                    f"--cpuset-cpus {limits.cpuset_cpus!r}: give a list such as 0-1,3 out of {sorted(usable)}"
                )


def processors_of(tree: Hierarchy) -> set[int]:
    """Return the processors of this tree: a container may run on these and no others."""
    files = [tree.base / name for name in ("cpuset.cpus.effective", "cpuset.effective_cpus")]
    return parse_list(next(file for file in files if file.exists()).read_text())


def apply(limits: Limits, tree: Hierarchy, directory: Path) -> None:
    """Write the limits of this tree's controllers into the container's directory. Version 1 needs processors first.

    None and 0 are not written. A file of SWAP is skipped if it is missing: there the kernel does not count swap.
    """
    if tree.version == 1:
        v1.give_processors(directory)
    for controller, file, value in (v1 if tree.version == 1 else v2).settings(limits):
        no_swap = file in SWAP and not (directory / file).exists()
        if value and controller in tree.controllers and not no_swap:
            linux.write_file(directory / file, str(value))


def sweep(trees: list[Hierarchy]) -> None:
    """Remove the cgroups of runtimes that were killed: nobody holds the lock of such a cgroup."""
    for directory in (entry for tree in trees for entry in tree.base.iterdir() if entry.is_dir()):
        with suppress(BlockingIOError, FileNotFoundError), linux.locked(directory, wait=False):
            remove(directory)


def remove(directory: Path) -> None:
    """Remove a cgroup and the cgroups below it, and kill the processes in them. Complain if that does not work.

    rmdir(2) fails with EBUSY until the last process is reaped. Other processes may have to do that: try for 2 seconds.
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
    """Kill every process in a cgroup. 0 is a process outside our PID namespace: kill(2) would kill our own group."""
    with suppress(OSError):  # gone meanwhile
        for pid in map(int, (directory / "cgroup.procs").read_text().split()):
            if pid:
                os.kill(pid, signal.SIGKILL)
