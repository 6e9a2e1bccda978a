"""Copy a directory tree as an archive that is never stored: one child packs it into a pipe, another unpacks it.

So a copy keeps what archives keep: owners, modes, times, extended attributes, hard links and holes.
"""

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from .. import child
from . import unpack


def copy(target: Path, pack: Callable[[IO[bytes]], object]) -> int:
    """Unpack into `target` what `pack` writes to a pipe; both run in children. Returns the files' size in bytes."""
    reading, writing = os.pipe()

    def unpacking() -> int:
        os.close(writing)  # else we would never read the end of the pipe
        return unpack.confined(reading, target)

    def packing() -> int:
        with suppress(BrokenPipeError):  # the other child has failed, and says why
            pack(pipe)
            pipe.flush()
        return 0

    with open(writing, "wb", unpack.CHUNK) as pipe, closing(child.worker(unpacking)) as unpacker:
        os.close(reading)
        child.run(packing)
        pipe.close()
        return child.result(unpacker)
