"""Where the runtime keeps what outlives a command: files and directories. There is no daemon to look after them.

Any command may be killed at any moment. So a command holds the lock of each directory that it makes here. If nobody
holds a directory's lock, the process that made it is dead, and the next command removes the directory.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

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


@contextmanager
def owned(kind: str, name: str) -> Iterator[Path]:
    """Make a directory `kind`/`name` and hold its lock. At the end it is removed, if it is still there."""
    parent = folder(kind)
    with linux.locked(parent):  # nobody may sweep it before we have locked it
        sweep(parent)
        (parent / name).mkdir()
        held = linux.lock(parent / name)
    try:
        yield parent / name
    finally:
        remove(parent / name)
        os.close(held)


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
