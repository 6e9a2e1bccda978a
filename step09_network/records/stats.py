"""What containers use at the moment, read from their cgroups: `stats`."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from .. import cgroups
from ..lib import linux
from .record import Record


@dataclass(frozen=True)
class Sample:
    """One look at one container; None where no controller counts it."""

    when: float  # seconds, of a clock that only goes forward
    cpu: float | None  # seconds of processor time since it began
    memory: int | None  # bytes
    limit: int  # bytes: its own, or all that the machine has
    pids: int | None


def take(record: Record) -> Sample:
    """Look once."""
    directories = cgroups.Cgroup(record.id, cgroups.find_trees()).directories
    memory = number(directories, "memory.current", "memory.usage_in_bytes")
    nanoseconds = number(directories, "cpuacct.usage")
    microseconds = number(directories, "cpu.stat", key="usage_usec")
    cpu = microseconds / 1e6 if microseconds is not None else nanoseconds / 1e9 if nanoseconds is not None else None
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = record.config["limits"]["memory"] or machine
    return Sample(time.monotonic(), cpu, memory, limit, number(directories, "pids.current"))


def number(directories: list[Path], *files: str, key: str = "") -> int | None:
    """The number in the first of these files that there is, behind `key` where the file has several."""
    for file in (directory / name for name in files for directory in directories):
        for words in map(str.split, linux.read_file(file).splitlines()):
            if len(words) == 1 or words[0] == key:
                return int(words[-1])
    return None


def cpu_percent(before: Sample | None, after: Sample) -> float | None:
    """How much of one processor was used between two looks: 200 is two of them. Docker counts likewise."""
    if before is None or before.cpu is None or after.cpu is None:
        return None
    return 100 * (after.cpu - before.cpu) / (after.when - before.when)
