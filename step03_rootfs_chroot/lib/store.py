"""Where the runtime keeps what outlives a command: files and directories, with no daemon to look after them."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from .errors import ContainerError


@cache
def root() -> Path:
    """The store: $MYDOCKER_ROOT, else /var/lib/mydocker, without root $XDG_DATA_HOME/mydocker.

    A relative path counts from where we were started, wherever we have moved since.
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
    """A directory of the store, made if missing.

    Nobody else may enter the store: an image's setuid programs would be theirs to run.
    """
    if not root().exists():
        with suppress(FileExistsError):
            root().mkdir(parents=True)
            root().chmod(0o700)
    (root() / name).mkdir(0o700, exist_ok=True)
    return root() / name
