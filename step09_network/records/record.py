"""One record, `containers/<id>/`: what is in it, and how it is closed, repaired and removed.

The process that stays with a container, its monitor, holds the lock of this directory. The kernel releases the lock
when the monitor dies, for whatever reason. So if a record is not closed and nobody holds its lock, the monitor was
killed. The next command that finds such a record repairs it.
"""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import cgroups
from ..lib import linux, store
from ..lib.errors import ContainerError
from . import process

SIZE = 4096  # bytes of state.json, always: one page, which write(2) writes whole or not at all
LOST = 255  # the exit code if nobody knows it, as in Docker
KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True)
class Record:
    """What is known of one container."""

    directory: Path
    config: dict[str, Any]
    state: dict[str, Any]

    @property
    def id(self) -> str:
        """12 hexadecimal digits."""
        return self.directory.name

    @property
    def name(self) -> str:
        """The name that the user gave, or the one we chose."""
        return str(self.config["name"])

    @property
    def status(self) -> str:
        """One of Docker's words: created, running or exited."""
        if "exit_code" in self.state:
            return "exited"
        return "running" if "started" in self.state else "created"

    @property
    def running(self) -> bool:
        """Whether the container has started and, as far as we know, not ended."""
        return self.status == "running"


def load(directory: Path) -> Record:
    """Read the record in this directory. Raises FileNotFoundError if it is gone."""
    config = store.read_json(directory / "config.json")
    if not config:
        raise FileNotFoundError(f"{directory}: no such container any more")
    return Record(directory, config, read_state(directory))


def read_state(directory: Path) -> dict[str, Any]:
    """Read state.json. If it is being written, we may see only a part of the new text: then read it again."""
    file = directory / "state.json"
    while True:
        text = file.read_text()
        try:
            state: dict[str, Any] = json.loads(text)
            return state
        except ValueError as error:
            if file.read_text() == text:
                raise ContainerError(f"{file} is damaged ({error}): remove {directory}") from None


def note(directory: Path, **facts: Any) -> None:
    """Add facts to a container's state.json.

    The file is written in place. A full disk, perhaps filled by this container, has no space for a second file.
    """
    text = json.dumps(read_state(directory) | facts).ljust(SIZE)
    with open(directory / "state.json", "r+b", buffering=0) as file:
        file.write(text.encode())


def finish(directory: Path, code: int) -> None:
    """Record that the container has ended with this exit code, and clean up. The caller holds its lock."""
    note(directory, exit_code=code, finished=time.time())
    clean_up(directory)


def clean_up(directory: Path) -> None:
    """Remove what is left of a dead container, and close its record."""
    from ..network import release  # here and not above: it imports volumes.py, which imports us

    release(directory.name)
    cgroups.remove_all(directory.name)
    close(directory)


def close(directory: Path) -> None:
    """Write the last entry of a record. Remove the record if the command never ran or --rm was given."""
    record = load(directory)
    if record.running:  # the runtime failed, and killed it; or its monitor was killed
        code = KILLED if record.state["boot"] == process.boot_id() else LOST
        note(directory, exit_code=code, finished=time.time())
    if "started" not in record.state or record.config["remove"]:
        discard(directory)
    else:
        note(directory, closed=True)


def discard(directory: Path) -> None:
    """Remove a container's record and layer. Move the directory away in one step, then remove its files."""
    with suppress(FileNotFoundError), linux.locked(directory / "upper"):
        pass  # wait until `commit` has read it
    with store.owned("tmp", os.urandom(6).hex()) as work:
        linux.rename(directory, work / directory.name)


def repair(directory: Path) -> None:
    """Repair the record if its monitor was killed: kill the container, and record its end."""
    with suppress(BlockingIOError, FileNotFoundError), linux.locked(directory, wait=False):  # held, or removed
        record = load(directory)
        if "closed" not in record.state:
            # It may still run: the kernel forgets PR_SET_PDEATHSIG when a command changes its user.
            process.send(record.state, signal.SIGKILL, patience=10)
            clean_up(directory)
