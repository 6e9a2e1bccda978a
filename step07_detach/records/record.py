"""One record: `containers/<id>/`, what is in it, and how it comes to its end.

The process that stays with a container, its monitor, holds a lock on this directory. The kernel releases the lock when
that process dies, however it dies. So a record that is not closed, and that nobody holds, belongs to a container whose
monitor was killed. Whoever finds such a record puts it right.
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
LOST = 255  # the exit code when nobody learned it, as in Docker
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
        """In one word, as Docker says it."""
        if "exit_code" in self.state:
            return "exited"
        return "running" if "started" in self.state else "created"

    @property
    def running(self) -> bool:
        """Whether it has begun and, as far as is known, not ended."""
        return self.status == "running"


def load(directory: Path) -> Record:
    """The record in this directory. Raises FileNotFoundError if it is gone."""
    config = store.read_json(directory / "config.json")
    if not config:
        raise FileNotFoundError(f"{directory}: no such container any more")
    return Record(directory, config, read_state(directory))


def read_state(directory: Path) -> dict[str, Any]:
    """What state.json says. Whoever reads it while it is written may see half of it, and so reads it again."""
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
    """Add to what is known of a container.

    It is written in place: a full disk, perhaps filled by this container, has no room for a second file.
    """
    text = json.dumps(read_state(directory) | facts).ljust(SIZE)
    with open(directory / "state.json", "r+b", buffering=0) as file:
        file.write(text.encode())


def finish(directory: Path, code: int) -> None:
    """What remains to be done when the container has ended with this exit code. The caller holds its lock."""
    note(directory, exit_code=code, finished=time.time())
    tidy(directory)


def tidy(directory: Path) -> None:
    """Remove what a dead container still has, and close its record."""
    cgroups.remove_all(directory.name)
    close(directory)


def close(directory: Path) -> None:
    """Make the last entry in a record. The record is removed if the command never ran, or --rm was given."""
    record = load(directory)
    if record.running:  # the runtime failed, and killed it; or its monitor was killed
        code = KILLED if record.state["boot"] == process.boot_id() else LOST
        note(directory, exit_code=code, finished=time.time())
    if "started" not in record.state or record.config["remove"]:
        discard(directory)
    else:
        note(directory, closed=True)


def discard(directory: Path) -> None:
    """Remove a container's record and layer: out of sight in one step, and then file by file."""
    with suppress(FileNotFoundError), linux.locked(directory / "upper"):
        pass  # `commit` does not read it any more
    with store.owned("tmp", os.urandom(6).hex()) as work:
        linux.rename(directory, work / directory.name)


def repair(directory: Path) -> None:
    """Put a record right if its monitor was killed: the container must be dead, and the record must say so."""
    with suppress(BlockingIOError, FileNotFoundError), linux.locked(directory, wait=False):  # held, or gone
        record = load(directory)
        if "closed" not in record.state:
            # It may have outlived its monitor: to a command that changes its user the kernel sends no PR_SET_PDEATHSIG.
            process.send(record.state, signal.SIGKILL, patience=10)
            tidy(directory)
