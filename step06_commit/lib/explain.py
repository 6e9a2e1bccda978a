"""--explain: show each request to the kernel when it is made, in the notation of strace(1).

There is one logger. The runtime and the container's init both write to it. Each line is one write(2), so the order
of the lines is the order of events.
"""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from enum import IntFlag

_out: int | None = None  # the descriptor for the lines; None without --explain
_who = "runtime"


def enable() -> None:
    """Switch --explain on. It writes to a copy of standard error, as init may replace standard error by a terminal."""
    global _out
    _out = os.dup(2)


def descriptor() -> list[int]:
    """Return the descriptor that must stay open when all others are closed: none without --explain."""
    return [] if _out is None else [_out]


def set_process_name(who: str) -> None:
    """Set the name of this process for its lines."""
    global _who
    _who = who


def line(text: str) -> None:
    """Write one line, if --explain is on."""
    if _out is not None:
        with suppress(OSError):  # a full disk or a closed pipe must not change what the runtime does
            os.write(_out, os.fsencode(f"[{_who}] {text}\n"))


def call(name: str, args: Iterable[object], result: int = 0, error: int = 0) -> None:
    """Show one system call. `error` is its errno, or 0 if it succeeded with `result`."""
    if _out is not None:
        outcome = f"-1 {errno.errorcode.get(error, error)} ({os.strerror(error)})" if error else str(result)
        line(f"{name}({', '.join(map(show, args))}) = {outcome}")


class Raw(str):
    """An argument that is shown as it is, without quotes: strace has a special notation for it."""


def show(value: object) -> str:
    """Return one argument as strace prints it."""
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
    return f"\\{byte:03o}" if chr(following).isdecimal() else f"\\{byte:o}"  # three digits if a digit follows
