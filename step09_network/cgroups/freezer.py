"""Pause a container. Version 1 has a controller for this; in version 2 every cgroup has a file for it.

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

# For each version's file: the words that pause and resume, the file that tells the state, and its text when paused.
SWITCHES = {
    "cgroup.freeze": ("1", "0", "cgroup.events", "frozen 1"),
    "freezer.state": ("FROZEN", "THAWED", "freezer.state", "FROZEN"),
}


@contextmanager
def frozen(name: str) -> Iterator[bool]:
    """Pause a container's processes inside the `with` block. Yields False, and does nothing, if there is no freezer.

    A guard process resumes them even if we are killed.
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
        fcntl.flock(thaw, fcntl.LOCK_EX)  # one commit at a time: the first to end would resume it for both
        cleanup.enter_context(guarded(lambda: os.write(thaw, off.encode()), needs=thaw))  # the guard holds the lock too
        cleanup.callback(let_go, switch, off)
        for _ in range(1000):
            linux.write_file(switch, on)
            if reached in switch.with_name(status).read_text():
                break
            time.sleep(0.01)
        else:
            raise ContainerError(f"{name}: cannot be paused: a process does not stop, perhaps it waits for a disk")
        yield True


def let_go(switch: Path, off: str) -> None:
    """Resume paused processes. If the container was killed, its cgroup may be gone (also ENODEV): this is no error."""
    try:
        linux.write_file(switch, off)
    except OSError:
        if switch.exists():
            raise
