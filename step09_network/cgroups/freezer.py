"""Letting a container's processes stand still: in version 1 a controller, in version 2 part of every cgroup.

Kernel: admin-guide/cgroup-v1/freezer-subsystem.rst; cgroup.freeze in admin-guide/cgroup-v2.rst.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..child import guarded
from ..lib import linux
from ..lib.errors import ContainerError
from . import find_trees


@contextmanager
def frozen(name: str) -> Iterator[bool]:
    """Let a container's processes stand still meanwhile. Gives False, and does nothing, where there is no freezer.

    A guard lets them go on even if we are killed.
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
