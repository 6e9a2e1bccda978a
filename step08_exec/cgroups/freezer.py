"""Pausing a container: version 1 has a controller for that, in version 2 every cgroup can do it.

Kernel: admin-guide/cgroup-v1/freezer-subsystem.rst; cgroup.freeze in admin-guide/cgroup-v2.rst.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..child import guarded
from ..lib import linux
from ..lib.errors import ContainerError
from . import find_trees

# For each version's switch: what sets and resets it, and which file then contains what.
SWITCHES = {
    "cgroup.freeze": ("1", "0", "cgroup.events", "frozen 1"),
    "freezer.state": ("FROZEN", "THAWED", "freezer.state", "FROZEN"),
}


@contextmanager
def frozen(name: str) -> Iterator[bool]:
    """Pause a container's processes meanwhile. Gives False, and does nothing, where there is no freezer.

    A guard lets them go on even if we are killed.
    """
    places = [tree.base / name / switch for tree in find_trees() for switch in SWITCHES]
    switch = next((place for place in places if place.exists()), None)
    if switch is None:
        yield False
        return
    on, off, status, reached = SWITCHES[switch.name]
    with ExitStack() as cleanup:
        thaw = os.open(switch, os.O_WRONLY)
        cleanup.callback(os.close, thaw)
        fcntl.flock(thaw, fcntl.LOCK_EX)  # one commit after another, or the first to end would thaw it for the second
        cleanup.enter_context(guarded(lambda: os.write(thaw, off.encode())))  # it holds the lock, too
        cleanup.callback(let_go, switch, off)
        for _ in range(1000):
            linux.write_file(switch, on)
            if reached in switch.with_name(status).read_text():
                break
            time.sleep(0.01)
        else:
            raise ContainerError(f"{name}: cannot be paused: a process in it does not stop, perhaps waiting for a disk")
        yield True


def let_go(switch: Path, off: str) -> None:
    """Let paused processes go on. If the container has been killed meanwhile, its cgroup may be gone (ENODEV, too)."""
    try:
        linux.write_file(switch, off)
    except OSError:
        if switch.exists():
            raise
