"""--explain: tell what is asked of the kernel, as it happens, in the notation of strace(1).

There is one logger. The runtime and the container's init both write to it, each line with one write(2), so that
the order of the lines is the order of events.
"""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from enum import IntFlag

_out: int | None = None  # where the lines go; None: nobody asked
_who = "runtime"


def enable() -> None:
    """Begin to tell, on a copy of standard error: the container may get another one, its terminal."""
    global _out
    _out = os.dup(2)


def descriptor() -> list[int]:
    """The descriptor that must survive when all others are closed, if there is one."""
    return [] if _out is None else [_out]


def i_am(who: str) -> None:
    """Name the process that tells from here on."""
    global _who
    _who = who


def line(text: str) -> None:
    """Write one line, if anybody asked."""
    if _out is not None:
        with suppress(OSError):  # a full disk, or nobody who reads: telling must not change what is done
            os.write(_out, os.fsencode(f"[{_who}] {text}\n"))


def call(name: str, args: Iterable[object], result: int = 0, error: int = 0) -> None:
    """Tell of one system call: `error` is its errno, 0 if it succeeded with `result`."""
    if _out is not None:
        outcome = f"-1 {errno.errorcode.get(error, error)} ({os.strerror(error)})" if error else str(result)
        line(f"{name}({', '.join(map(show, args))}) = {outcome}")


class Raw(str):
    """An argument that is shown as it stands, for what strace writes in a notation of its own."""


def show(value: object) -> str:
    """One argument as strace prints it."""
    match value:
        case None:
            return "NULL"
        case Raw():
            return value
        case str() | bytes() | os.PathLike():
            data = os.fsencode(value)
            return '"' + "".join(map(_escape, data, data[1:] + b"\0")) + '"'
        case list():
            return "[" + ", ".join(map(show, value)) + "]"
        case IntFlag():
            return "|".join(str(flag.name) for flag in type(value) if flag & value) or "0"
        case _:
            return str(value)


def _escape(byte: int, following: int) -> str:
    if named := {0x22: '\\"', 0x5C: "\\\\", 0x09: "\\t", 0x0A: "\\n", 0x0B: "\\v", 0x0C: "\\f", 0x0D: "\\r"}.get(byte):
        return named
    if 0x20 <= byte < 0x7F:
        return chr(byte)
    return f"\\{byte:03o}" if chr(following).isdecimal() else f"\\{byte:o}"  # three digits where one more would follow
