"""Where the runtime keeps what outlives a command: files and directories. There is no daemon to look after them."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

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
