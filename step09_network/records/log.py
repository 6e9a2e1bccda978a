"""Read what a container has written: `logs`. The format of the log is described in monitor.py."""

import mmap
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from ..lib import store
from .monitor import CHUNK
from .record import Record

PAUSE = 0.1  # seconds between two reads of a log that we follow
FLAG, TEXT = 38, 40  # their offsets in a line: all times, and the names of both streams, have the same length


class Piece(NamedTuple):
    """A line that the container has written, or a part of one."""

    time: bytes  # RFC 3339, in UTC
    stream: bytes  # stdout or stderr
    text: bytes
    whole: bool  # whether the line ends here


def parse(line: bytes) -> Piece:
    """Parse a line of the log."""
    whole = line[FLAG : FLAG + 1] == b"F"
    return Piece(line[:30], line[31:37], line[TEXT:] + b"\n" * whole, whole)


def read(record: Record, tail: int | None, follow: bool) -> Iterator[list[Piece]]:
    """Yield the last `tail` lines of the log (None: all lines), as many at a time as there are.

    With `follow`, wait for more lines until the container has ended.
    """
    with open(record.directory / "log", "rb", buffering=0) as file:
        file.seek(0 if tail is None else start_of_tail(file.fileno(), tail))
        unfinished = b""
        while True:
            over = not (follow and store.is_held(record.directory))  # asked before reading: so nothing is missed
            while data := file.read(CHUNK):
                *lines, unfinished = (unfinished + data).split(b"\n")
                yield [parse(line) for line in lines]
            if over:
                return
            time.sleep(PAUSE)


def start_of_tail(log: int, lines: int) -> int:
    """Return where the last `lines` lines begin. The search begins at the end, so a large log takes no longer."""
    if not os.fstat(log).st_size:
        return 0  # mmap(2) refuses an empty file
    with mmap.mmap(log, 0, prot=mmap.PROT_READ) as text:
        end = text.rfind(b"\n") + 1  # after it: an unfinished line, if the monitor was killed
        found = 0
        streams: set[bytes] = set()
        while end:
            start = text.rfind(b"\n", 0, end - 1) + 1
            piece = parse(text[start : end - 1])
            found += piece.whole or piece.stream not in streams  # a whole line, or a stream's unfinished last line
            streams.add(piece.stream)
            if found > lines:
                break
            end = start
        return end
