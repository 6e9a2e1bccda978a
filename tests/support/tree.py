"""All that a file system knows about the files below a directory, in a form that can be compared."""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import host
from tests.support.runtime import Runtime


@dataclass(frozen=True)
class Entry:
    """All that a file system knows about one file."""

    kind: str
    mode: int
    owner: tuple[int, int]
    modified: int  # nanoseconds
    content: bytes  # what is in it, or where a symbolic link leads
    names: frozenset[bytes]  # all its hard links
    attributes: frozenset[tuple[str, bytes]]
    holes: bool  # takes less than half its size on the disk


def seen(top: Path) -> dict[bytes, Entry]:
    """Return the entries of the tree below a directory, by their paths."""
    paths = below(top)
    names: dict[tuple[int, int], set[bytes]] = {}
    for path in paths:
        names.setdefault(identity(path), set()).add(os.path.relpath(path, os.fsencode(top)))
    return {os.path.relpath(path, os.fsencode(top)): entry(path, frozenset(names[identity(path)])) for path in paths}


def below(top: Path) -> list[bytes]:
    """Return the paths of all files and directories below a directory."""
    walk = os.walk(os.fsencode(top))
    return [os.path.join(place, name) for place, folders, files in walk for name in (*folders, *files)]


def identity(path: bytes) -> tuple[int, int]:
    info = os.lstat(path)
    return info.st_dev, info.st_ino


def entry(path: bytes, names: frozenset[bytes]) -> Entry:
    info = os.lstat(path)
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo"}
    content = b""
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as opened:
            content = hashlib.file_digest(opened, "sha256").digest()
    elif stat.S_ISLNK(info.st_mode):
        content = os.readlink(path)
    attributes = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in attribute_names(path)]
    return Entry(
        kind[stat.S_IFMT(info.st_mode)],
        stat.S_IMODE(info.st_mode),
        (info.st_uid, info.st_gid),
        info.st_mtime_ns,
        content,
        names,
        frozenset(attributes),
        info.st_blocks * 512 < info.st_size / 2,
    )


def attribute_names(path: bytes) -> list[str]:
    return [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(("user.", "security.cap"))]


@contextmanager
def inside(runtime: Runtime) -> Iterator[Path]:
    """Run a container of this image. Yields its root directory as the host sees it, while it runs."""
    started = runtime.start("sh", "-c", "echo ready; cat", options=["-i"], stdin=subprocess.PIPE)
    assert started.line() == "ready", started.end().err
    yield Path(f"/proc/{host.init().pid}/root")
    assert started.end(b"").code == 0


def differences(one: dict[bytes, Entry], other: dict[bytes, Entry]) -> list[str]:
    found = [f"{name!r} is missing" for name in one.keys() - other.keys()]
    found += [f"{name!r} is too much" for name in other.keys() - one.keys()]
    return found + [
        f"{name!r}: {one[name]} != {other[name]}" for name in one.keys() & other.keys() if one[name] != other[name]
    ]
