"""Where cgroups live on this machine, whatever their version."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..lib import linux

CONTROLLERS = {"memory", "cpu", "cpuset", "pids"}


@dataclass(frozen=True)
class Hierarchy:
    """A tree of cgroups: `base` is the directory in it in which containers get theirs."""

    base: Path
    version: int
    controllers: set[str]


def mounted(kind: str) -> Iterator[tuple[Path, set[str]]]:
    """Where the hierarchies of a `kind` ("cgroup2", or "cgroup": version 1) are mounted, with their mount options.

    A hierarchy may be mounted twice, and a mount may be hidden by a later one on the same directory. So each is taken
    once, and only where the directory really is that file system. mountinfo: proc(5); the options are its last field.
    """
    seen = set()
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, details = line.partition(" - ")
        _, _, device, _, where, *_ = fields.split()
        found, _, options = details.split(" ", 2)
        if found == kind and device not in seen:
            major, minor = map(int, device.split(":"))
            with suppress(OSError):  # it may not be seen
                if os.stat(where).st_dev == os.makedev(major, minor):
                    seen.add(device)
                    yield Path(where), set(options.split(","))


def make_directory(directory: Path) -> Path:
    """Make a cgroup, unless it is there. Nobody else may open it: it serves as a lock, too."""
    if not directory.exists():
        with suppress(FileExistsError):  # somebody else's first run
            linux.mkdir(directory, 0o700)
    return directory
