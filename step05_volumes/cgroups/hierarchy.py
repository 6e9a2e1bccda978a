"""Where this machine's trees of cgroups are mounted, for both versions."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..lib import linux

CONTROLLERS = {"memory", "cpu", "cpuset", "pids"}


@dataclass(frozen=True)
class Hierarchy:
    """A tree of cgroups. Each container gets a directory in `base`."""

    base: Path
    version: int
    controllers: set[str]


def mounted(kind: str) -> Iterator[tuple[Path, set[str]]]:
    """Yield each hierarchy of a `kind` ("cgroup2", or "cgroup": version 1): its mount point and its mount options.

    A hierarchy may be mounted twice, and a later mount on the same directory may hide it. So each is taken once, and
    only where its mount point shows that file system. mountinfo: proc(5); the options are its last field.
    """
    seen = set()
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, details = line.partition(" - ")
        _, _, device, _, where, *_ = fields.split()
        found, _, options = details.split(" ", 2)
        if found == kind and device not in seen:
            major, minor = map(int, device.split(":"))
            with suppress(OSError):  # we may not see that directory
                if os.stat(where).st_dev == os.makedev(major, minor):
                    seen.add(device)
                    yield Path(where), set(options.split(","))


def make_directory(directory: Path) -> Path:
    """Make a cgroup if it is missing. No other user may open it: who opens it can take its lock."""
    if not directory.exists():
        with suppress(FileExistsError):  # another first run has just made it
            linux.mkdir(directory, 0o700)
    return directory
