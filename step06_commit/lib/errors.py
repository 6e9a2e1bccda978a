"""How failures reach the user: always as one line."""

import errno
import os
import sys
from contextlib import suppress

PROGRAM = str(__package__).split(".")[0]  # the step's name, as people type it
# Whether the runtime itself is in a container: not in the machine's first PID namespace. Read before the clone.
INSIDE = False
with suppress(OSError):
    # The first namespace has this inode: linux/nsfs.h. WSL gives each distribution another, and a directory /run/WSL.
    INSIDE = os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC and not os.path.exists("/run/WSL")
REFUSALS = (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS)
OUTER = "the container that we are in forbids it; start that one with --privileged (docker run, podman run)"


class ContainerError(Exception):
    """A failure told in one sentence: what is wrong, and what to do.

    `code` is from Docker's table: 125 the runtime failed, 126 the command cannot be executed, 127 it was not found.
    """

    def __init__(self, message: str, code: int = 125) -> None:
        super().__init__(message)
        self.code = code


class NotFoundError(ContainerError):
    """What the user named does not exist. `rm -f` does not count this as a failure."""


def sentence(error: BaseException) -> str:
    """Return the sentence that the user reads about a failure."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        told = reason if error.filename is None else f"{error.filename2 or error.filename}: {reason}"  # 2: the target
        kernels = str(error.filename or "/proc/").startswith(("/proc/", "/sys/"))  # not the user's file
        return f"{told}: {OUTER}" if INSIDE and kernels and error.errno in REFUSALS else told
    if isinstance(error, MemoryError):
        return "there is not enough memory left to go on"
    return str(error) if isinstance(error, ContainerError) else f"the runtime failed: {error!r}"


def exit_code(error: BaseException) -> int:
    """Return the exit code of the runtime after this failure."""
    return error.code if isinstance(error, ContainerError) else 125


def complain(message: str) -> None:
    """Write one line to standard error. It begins with the program's name."""
    with suppress(OSError):  # nobody can read it: the exit code must be enough
        print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
