"""Read from cgroups what containers use at the moment: `stats`."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from .. import cgroups
from ..lib import linux
from .record import Record


@dataclass(frozen=True)
class Sample:
    """What one container uses at one moment. None: no controller counts it."""

    when: float  # seconds, of a clock that only goes forward
    cpu: float | None  # seconds of processor time since the container began
    memory: int | None  # bytes
    limit: int  # bytes: the container's limit, or all memory of the machine
    pids: int | None


def take(record: Record) -> Sample:
    """Read what a container uses now."""
    directories = cgroups.Cgroup(record.id, cgroups.find_trees()).directories
    memory = number(directories, "memory.current", "memory.usage_in_bytes")
    nanoseconds = number(directories, "cpuacct.usage")
    microseconds = number(directories, "cpu.stat", key="usage_usec")
    cpu = microseconds / 1e6 if microseconds is not None else nanoseconds / 1e9 if nanoseconds is not None else None
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = record.config["limits"]["memory"] or machine
    return Sample(time.monotonic(), cpu, memory, limit, number(directories, "pids.current"))


def number(directories: list[Path], *files: str, key: str = "") -> int | None:
    """Return the number in the first of these files that exists. In a file with several, it stands after `key`."""
    for file in (directory / name for name in files for directory in directories):
        for words in map(str.split, linux.read_file(file).splitlines()):
            if len(words) == 1 or words[0] == key:
                return int(words[-1])
    return None


def cpu_percent(before: Sample | None, after: Sample) -> float | None:
    """Return how many percent of one processor were used between two samples. As in Docker, 200 means two of them."""
    if before is None or before.cpu is None or after.cpu is None:
        return None
    return 100 * (after.cpu - before.cpu) / (after.when - before.when)
