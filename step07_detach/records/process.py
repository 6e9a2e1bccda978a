"""Find the process that is a container's PID 1. Its PID is not enough: later another process may have this number.

PIDs are used again, at the latest after a reboot. So we also record the start time of the process and the id of the
machine's boot. We open a pidfd, then compare both. From then on the pidfd means this process and no other.
"""

import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any


def identity(pid: int) -> dict[str, Any]:
    """Return what must be on record of a process to find it again."""
    return {"pid": pid, "ticks": start_ticks(pid), "boot": boot_id()}


def open_noted(state: dict[str, Any]) -> int | None:
    """Open a pidfd of the process on record in `state`. Returns None if the process is dead."""
    if state.get("boot") != boot_id():
        return None
    with suppress(OSError):  # no such process; or (EINVAL) a thread has this number now
        process = os.pidfd_open(state["pid"])
        if start_ticks(state["pid"]) == state["ticks"]:
            return process
        os.close(process)
    return None


def send(state: dict[str, Any], number: int, patience: float = 0) -> bool:
    """Send a signal to the process; 0 sends none. Returns whether it is dead now or within `patience` seconds."""
    process = open_noted(state)
    if process is None:
        return True
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)
    dead, _, _ = select.select([process], [], [], patience)
    os.close(process)
    return bool(dead)


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot: field 22 of /proc/PID/stat, proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def boot_id() -> str:
    """Return the random id of this boot: /proc/sys/kernel/random/boot_id in random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
