"""cgroup version 1: a tree of directories for each controller (kernel: admin-guide/cgroup-v1/).

Systems of before about 2021 have it; some mount it beside version 2.
"""

import os
from contextlib import suppress
from pathlib import Path

from ..lib import linux
from .hierarchy import CONTROLLERS, Hierarchy, make_directory, mounted
from .limits import Limits
from .v2 import PERIOD


def find() -> list[Hierarchy]:
    """Every tree with a controller of ours."""
    found = []
    for root, options in mounted("cgroup"):
        with suppress(OSError):
            if controllers := CONTROLLERS & options:
                base = make_directory(root / "mydocker")
                base.chmod(0o700)
                give_processors(base)
                if os.access(base, os.W_OK):
                    found.append(Hierarchy(base, 1, controllers))
    return found


def settings(limits: Limits) -> list[tuple[str, str, object]]:
    """The same for version 1, where `memsw` is memory and swap together."""
    found: list[tuple[str, str, object]] = []
    if limits.memory is not None:
        found += [("memory", "memory.limit_in_bytes", limits.memory)]
        found += [("memory", "memory.memsw.limit_in_bytes", 2 * limits.memory)]
    if limits.cpus is not None:
        found += [("cpu", "cpu.cfs_period_us", PERIOD), ("cpu", "cpu.cfs_quota_us", round(limits.cpus * PERIOD))]
    if limits.cpu_shares is not None:
        found += [("cpu", "cpu.shares", limits.cpu_shares)]
    if limits.cpuset_cpus is not None:
        found += [("cpuset", "cpuset.cpus", limits.cpuset_cpus)]
    if limits.pids is not None:
        found += [("pids", "pids.max", limits.pids)]
    return found


def give_processors(directory: Path) -> None:
    """A new cpuset has no processors and no memory, and so takes no process: give it all that its parent has."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = directory / name
        if file.exists() and not file.read_text().strip():
            linux.write_file(file, (directory.parent / name).read_text().strip())
