"""What the devices do when they are used: how a system call on each of them ends, by the name of the device.

The argument is what is typed at a terminal."""

import errno
import json
import os
import pty
import sys
from collections.abc import Callable


def outcome(name: str, action: Callable[[int], object]) -> object:
    try:
        return action(os.open(f"/dev/{name}", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def read(fd: int) -> int:
    return len(os.read(fd, 16))


def write(fd: int) -> int:
    return os.write(fd, b"0123456789abcdef")


def zeros(fd: int) -> bool:
    return os.read(fd, 16) == bytes(16)


def a_terminal(_: int) -> str:
    master, slave = pty.openpty()
    os.write(master, f"{sys.argv[1]}\n".encode())
    return os.ttyname(slave)[:9] + os.read(slave, 100).decode().strip()


print(
    json.dumps(
        {
            "null": [outcome("null", read), outcome("null", write)],
            "zero": [outcome("zero", zeros), outcome("zero", write)],
            "full": [outcome("full", zeros), outcome("full", write)],
            "random": outcome("random", read),
            "urandom": outcome("urandom", read),
            "tty": outcome("tty", read),
            "ptmx": outcome("ptmx", a_terminal),
        }
    )
)
