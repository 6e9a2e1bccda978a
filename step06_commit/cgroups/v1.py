"""cgroup version 1: a tree of directories for each controller (kernel: admin-guide/cgroup-v1/).

Most systems from before 2021 have it; some mount it beside version 2.
"""

import os
from contextlib import suppress
from pathlib import Path

from ..lib import linux
from .hierarchy import CONTROLLERS, Hierarchy, make_directory, mounted
from .limits import Limits
from .v2 import PERIOD


def find() -> list[Hierarchy]:
    """Return every tree that has one of our controllers and that we may write to."""
    found = []
    for root, options in mounted("cgroup"):
        with suppress(OSError):
            if controllers := CONTROLLERS & options:
                base = make_directory(root / "mydocker")
                give_processors(base)
                if os.access(base, os.W_OK):
                    found.append(Hierarchy(base, 1, controllers))
    return found


def settings(limits: Limits) -> list[tuple[str, str, object]]:
    """Like `settings` in v2.py. `memsw` is memory plus swap; the kernel wants it after the limit on memory."""
    return [
        ("memory", "memory.limit_in_bytes", limits.memory),
        ("memory", "memory.memsw.limit_in_bytes", limits.memory and 2 * limits.memory),
        ("cpu", "cpu.cfs_quota_us", limits.cpus and round(limits.cpus * PERIOD)),  # microseconds of each 100,000
        ("cpu", "cpu.shares", limits.cpu_shares),
        ("cpuset", "cpuset.cpus", limits.cpuset_cpus),
        ("pids", "pids.max", limits.pids if limits.pids != -1 else None),
    ]


def give_processors(directory: Path) -> None:
    """Give a new cpuset the processors and memory of its parent. It has none at first: no process may enter it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = directory / name
        if file.exists() and not file.read_text().strip():
            linux.write_file(file, (directory.parent / name).read_text().strip())
