"""How containers end: `kill`, `stop`, `wait`, `rm`.

When PID 1 has died, it takes a moment until its record says so. In this moment `ps` still shows "Up". A command that
comes in this moment finds the process dead, and waits for the record.
"""

import json
import signal
import time
from contextlib import suppress

from ..images import settings
from ..lib import linux, store
from ..lib.errors import ContainerError
from . import process
from .record import LOST, Record, discard, load, repair


def send_signal(record: Record, number: int) -> None:
    """Send a signal to the container's PID 1. If the signal kills it at once, wait until its record says so.

    Raises ContainerError if it is not running.
    """
    if not record.running:
        raise ContainerError(f"{record.name}: it is not running")
    if process.send(record.state, number) or number == signal.SIGKILL:
        wait(record)


def stop(record: Record, patience: float) -> None:
    """Ask PID 1 to end, by SIGTERM or its image's StopSignal; kill it after `patience` seconds. Wait for its end."""
    if record.running:
        asked = settings.read(record.directory).get("StopSignal") or "TERM"
        if not process.send(record.state, parse_signal(str(asked)), patience):
            process.send(record.state, signal.SIGKILL)
        wait(record)


def wait(record: Record) -> int:
    """Wait until the container has ended and its monitor has cleaned up. Returns the exit code."""
    if "exit_code" in record.state:
        return int(record.state["exit_code"])
    with suppress(FileNotFoundError), open(record.directory / "state.json") as state:  # even if the record is removed
        with suppress(FileNotFoundError), linux.locked(record.directory):
            pass  # the monitor releases this lock as its last action
        repair(record.directory)  # if its monitor was killed
        return int(json.load(state).get("exit_code", LOST))
    return LOST


def remove(record: Record, force: bool) -> None:
    """Remove a container. Raises ContainerError if it is running and `force` is false."""
    with suppress(FileNotFoundError):  # --rm was faster
        while store.is_held(record.directory):  # it runs, is being set up (which may hang), or is about to be closed
            record = load(record.directory)
            if not process.send(record.state, signal.SIGKILL if force else 0) and record.running and not force:
                raise ContainerError(f"{record.name}: it is running: stop it first, or give -f to kill it")
            time.sleep(0.01)
        repair(record.directory)  # if its monitor was killed
        discard(record.directory)


def parse_signal(text: str) -> int:
    """Return a signal's number, given its name (with or without SIG) or its number."""
    numbers = {each.name: each.value for each in signal.Signals} | {str(n): int(n) for n in signal.valid_signals()}
    for n in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):  # Python names only the first and the last: signal(7)
        numbers |= {f"SIGRTMIN+{n - signal.SIGRTMIN}": n, f"SIGRTMAX-{signal.SIGRTMAX - n}": n}
    number = numbers.get(text, numbers.get(f"SIG{text.upper().removeprefix('SIG')}"))
    if number is None:
        raise ContainerError(f"{text!r} is no signal: a name such as TERM or a number to {max(signal.valid_signals())}")
    return number
