"""Reading what a container has written: `logs`."""

import io
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from ..lib import store
from . import state
from .monitor import CHUNK, TIME

PAUSE = 0.1  # seconds between two looks at a log that is followed


def read(container: state.Container, tail: int | None, follow: bool) -> Iterator[tuple[int, bytes]]:
    """The log from its last `tail` lines on (None: all of it), in pieces with their offset.

    To follow it means to wait for more until the container has ended.
    """
    try:
        log = os.open(container.directory / "log", os.O_RDONLY)
    except FileNotFoundError:
        return  # it has not begun
    try:
        offset = 0 if tail is None else start_of_tail(log, tail)
        while True:
            over = not (follow and store.is_held(container.directory))  # asked before reading: so nothing is missed
            while data := os.pread(log, CHUNK, offset):
                yield offset, data
                offset += len(data)
            if over:
                return
            time.sleep(PAUSE)
    finally:
        os.close(log)


def start_of_tail(log: int, lines: int) -> int:
    """Where the last `lines` lines begin, read from the end: a large log costs no more than a small one."""
    offset = os.fstat(log).st_size
    if lines == 0:
        return offset
    missing = lines + (os.pread(log, 1, max(0, offset - 1)) == b"\n")  # the one at the very end begins no line
    while offset:
        count = min(CHUNK, offset)
        offset -= count
        data = os.pread(log, count, offset)
        if (there := data.count(b"\n")) < missing:
            missing -= there
            continue
        position = len(data)
        for _ in range(missing):
            position = data.rindex(b"\n", 0, position)
        return offset + position + 1
    return 0


def stamped(container: state.Container, pieces: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """The same, with the time at which it was written before each line: RFC 3339, in UTC."""
    begins = True
    with suppress(FileNotFoundError), open(container.directory / "log.times", "rb") as file:
        written = 0  # nanoseconds since 1970
        following = b""
        for start, data in pieces:
            offset = start
            for line in io.BytesIO(data):
                while len(following := following or file.read(TIME.size)) == TIME.size:
                    begin, when = TIME.unpack(following)
                    if begin > offset:
                        break
                    written, following = when, b""
                if begins:
                    yield f"{datetime.fromtimestamp(written // 10**9, UTC):%Y-%m-%dT%H:%M:%S}".encode()
                    yield f".{written % 10**9:09}Z ".encode()
                yield line
                begins = line.endswith(b"\n")
                offset += len(line)
