"""How failures reach the user: always as one line."""

import errno
import os
import sys
from contextlib import suppress

PROGRAM = str(__package__).split(".")[0]  # the step, as people type it
# Whether we are in a container: not in the machine's first PID namespace. Asked before the clone makes a new one.
INSIDE = False
with suppress(OSError):
    # The first's number is in linux/nsfs.h. WSL gives each of its distributions one, and has /run/WSL in it.
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
    """There is no such thing. To `rm -f` that is no failure."""


def sentence(error: BaseException) -> str:
    """What the user reads of a failure."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        told = reason if error.filename is None else f"{error.filename}: {reason}"
        kernels = str(error.filename or "/proc/").startswith(("/proc/", "/sys/"))  # not a file of the user's
        return f"{told}: {OUTER}" if INSIDE and kernels and error.errno in REFUSALS else told
    if isinstance(error, MemoryError):
        return "there is not enough memory left to go on"
    return str(error) if isinstance(error, ContainerError) else f"the runtime failed: {error!r}"


def exit_code(error: BaseException) -> int:
    """What the runtime exits with."""
    return error.code if isinstance(error, ContainerError) else 125


def complain(message: str) -> None:
    """Write one line to standard error, in the program's name."""
    with suppress(OSError):  # nobody reads it: then the exit code has to do
        print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
