"""Which process of the host is a container's PID 1: its PID alone could come to mean another one.

PIDs are used again, at the latest after a reboot. So the time of the process's birth and of the machine's boot are
noted too, and compared once a pidfd is open: from then on the pidfd means this process and no other.
"""

import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any


def identity(pid: int) -> dict[str, Any]:
    """What has to be noted of a process, so that it is found again."""
    return {"pid": pid, "ticks": start_ticks(pid), "boot": boot_id()}


def open_noted(state: dict[str, Any]) -> int | None:
    """A pidfd of the process that was noted in `state`, or None if it is dead."""
    if state.get("boot") != boot_id():
        return None
    with suppress(OSError):  # no such process; or (EINVAL) that number is a thread's now
        process = os.pidfd_open(state["pid"])
        if start_ticks(state["pid"]) == state["ticks"]:
            return process
        os.close(process)
    return None


def send(state: dict[str, Any], number: int, patience: float = 0) -> bool:
    """Send the process a signal; 0 is none. Returns whether it is dead, now or within `patience` seconds."""
    process = open_noted(state)
    if process is None:
        return True
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)
    dead, _, _ = select.select([process], [], [], patience)
    os.close(process)
    return bool(dead)


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot: field 22 of /proc/PID/stat. proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def boot_id() -> str:
    """A number drawn at each boot: /proc/sys/kernel/random/boot_id in random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
