"""Where the runtime keeps what outlives a command: files and directories. There is no daemon to look after them.

Any command may be killed at any moment. So a command holds the lock of each directory that it makes here. If nobody
holds a directory's lock, the process that made it is dead, and the next command removes the directory.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from . import linux
from .errors import ContainerError


@cache
def root() -> Path:
    """Return the store's path: $MYDOCKER_ROOT, else /var/lib/mydocker, or without root $XDG_DATA_HOME/mydocker.

    A relative path starts from the directory in which we were started, also after a chdir.
    """
    if chosen := os.environ.get("MYDOCKER_ROOT"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/mydocker")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    if data.startswith("~"):
        raise ContainerError("you have no home directory to keep images in: set MYDOCKER_ROOT to a directory")
    return Path(data) / "mydocker"


def folder(name: str) -> Path:
    """Return a directory of the store. It is made if it is missing.

    No other user may enter the store: they could run an image's setuid programs.
    """
    if not root().exists():
        with suppress(FileExistsError):
            root().mkdir(parents=True)
            root().chmod(0o700)
    (root() / name).mkdir(0o700, exist_ok=True)
    return root() / name


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or an empty dict if there is no such file."""
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ContainerError(f"{path} is damaged ({error}): correct it by hand, or remove it") from None


def write_json(path: Path, value: Any) -> None:
    """Replace a whole JSON file. A reader sees the old content or the new content, never a part.

    The caller holds a lock. So the next writer may overwrite the unfinished file of a killed writer.
    """
    half = path.with_name(f".{path.name}.new")
    try:
        half.write_text(json.dumps(value, indent=2) + "\n")
        half.rename(path)
    finally:
        half.unlink(missing_ok=True)


def only_one(beginning: str, ids: list[str], what: str) -> str | None:
    """Return the id that begins with `beginning`, or None. Raises ContainerError, which names `what`, for several."""
    matching = sorted(id for id in ids if id.startswith(beginning))
    if len(matching) > 1:
        raise ContainerError(f"{beginning!r}: the ids of several {what} begin with it: {', '.join(matching)}")
    return matching[0] if matching else None


@contextmanager
def owned(kind: str, name: str) -> Iterator[Path]:
    """Make a directory `kind`/`name` and hold its lock. At the end it is removed, if it is still there."""
    parent = folder(kind)
    with linux.locked(parent):  # nobody may sweep it before we have locked it
        sweep(parent)
        (parent / name).mkdir()
        held = linux.lock(parent / name, shared=True)
    try:
        yield parent / name
    finally:
        fcntl.flock(held, fcntl.LOCK_UN)  # close is not enough: children have inherited the descriptor
        os.close(held)
        with suppress(FileNotFoundError), linux.locked(parent / name):  # waits for others, such as commit
            remove(parent / name)


def is_held(directory: Path) -> bool:
    """Return whether a process holds the lock of this directory. The runtime holds its container's."""
    try:
        with linux.locked(directory, wait=False):
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def sweep(parent: Path) -> None:
    """Remove the directories that killed commands have left in `parent`."""
    for leftover in parent.iterdir():
        with suppress(BlockingIOError, FileNotFoundError), linux.locked(leftover, wait=False):
            remove(leftover)  # nobody holds its lock: its maker is dead


def remove(top: Path) -> None:
    """Remove a directory tree, even if directories are read-only, or nested too deep for any path (PATH_MAX).

    The subdirectories of each directory are moved up beside it before it is removed; so no path grows long.
    """
    with suppress(FileNotFoundError):
        while folders := [Path(entry) for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)]:
            for folder in folders:
                folder.chmod(0o700)
                for entry in list(os.scandir(folder)):
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry, 0o700)  # rename(2) writes to it: its `..` changes
                        os.rename(entry, top / f".removing-{os.urandom(8).hex()}")
                    else:
                        os.unlink(entry)
                folder.rmdir()
        for entry in list(os.scandir(top)):
            os.unlink(entry)
        top.rmdir()
