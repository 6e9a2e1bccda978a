"""Tar archives, written: pax(1), "pax Interchange Format", in the dialect that Docker, Podman and GNU tar read."""

import errno
import gzip
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from ..lib import linux
from ..lib.errors import ContainerError
from . import Progress, pax, tree
from .archive import XATTR, zstd

CHUNK = 2**18  # bytes
COMPRESSIONS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".tar": nullcontext,
    ".tar.gz": lambda file: gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6),
    ".tar.zst": lambda file: zstd.ZstdFile(file, "wb"),
}


def compressor(file: Path) -> Callable[[IO[bytes]], Any]:
    """What compresses as the name of `file` says. Raises ContainerError if it says nothing."""
    for ending, compress in COMPRESSIONS.items():
        if file.name.endswith(ending) and file.name != ending:
            return compress
    raise ContainerError(f"-o {str(file)!r}: a name that ends in .tar, .tar.gz or .tar.zst")


@contextmanager
def appearing(file: Path) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name at the end, when it is whole: O_TMPFILE in open(2).

    If we are killed before, the kernel frees what has no name.
    """
    if file.is_dir():
        raise ContainerError(f"-o {str(file)!r}: that is a directory")
    half = file.with_name(f".{os.urandom(6).hex()}.part")
    try:
        try:
            fd = os.open(file.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            fd = os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # a file system that cannot do that
        with open(fd, "wb", buffering=CHUNK) as target:
            yield target
            if not half.exists():
                try:
                    os.link(f"/proc/self/fd/{fd}", file, src_dir_fd=fd, follow_symlinks=True)
                    return
                except FileExistsError:  # only rename(2) puts a file in the place of another
                    os.link(f"/proc/self/fd/{fd}", half, src_dir_fd=fd, follow_symlinks=True)
            half.rename(file)
    finally:
        half.unlink(missing_ok=True)


def pack(root: Path, file: IO[bytes], compress: Callable[[IO[bytes]], Any], progress: Progress) -> int:
    """Write all that is in the directory `root` to `file`, staying on its file system. Returns the bytes of its files.

    Left out are device files and sockets, which an image has no business with. `root` becomes the working directory,
    as short paths are found sooner.
    """
    done = 0
    links: dict[tuple[int, int], str] = {}  # (device, inode) of files with several names: the first of them
    buffer = memoryview(bytearray(CHUNK))  # one for all: fresh memory costs the kernel as much as a copy
    linux.chdir(str(root))
    with compress(file) as target:
        for name, info in walk():
            member = describe(name, info)
            if info.st_nlink > 1 and member.kind != pax.FOLDER:
                first = links.setdefault((info.st_dev, info.st_ino), name)
                if first != name:
                    member.kind, member.link = pax.HARD_LINK, first
            if member.kind == pax.FILE:
                write_file(target, member, buffer)
                done += info.st_size
                progress(done, None)
            else:
                target.write(pax.header(member))
        target.write(bytes(2 * pax.BLOCK))  # the end mark
    file.flush()
    return done


def walk() -> Iterator[tuple[str, os.stat_result]]:
    """The name and the facts of all that goes into the archive: each directory, and right behind it all that is in it.

    For as soon as something else follows, tar gives the directory its times, and a mode that may keep others out.
    """
    root = os.stat(".")
    waiting = [("./", root)]
    while waiting:
        name, info = waiting.pop()
        yield name, info
        if not stat.S_ISDIR(info.st_mode) or info.st_dev != root.st_dev:
            continue
        for entry in sorted(os.scandir(name), key=lambda entry: entry.name, reverse=True):
            inside = entry.stat(follow_symlinks=False)
            if stat.S_IFMT(inside.st_mode) in pax.KINDS:
                path = name.removeprefix("./") + entry.name
                waiting.append((path + "/" * stat.S_ISDIR(inside.st_mode), inside))


def describe(name: str, info: os.stat_result) -> pax.Member:
    """All about a file but what is in it."""
    member = pax.Member(name, pax.KINDS[stat.S_IFMT(info.st_mode)], info)
    if member.kind == pax.SYMLINK:
        member.link = os.readlink(name)
    for attribute in os.listxattr(name, follow_symlinks=False):
        keyword = XATTR + attribute.replace("%", "%25").replace("=", "%3D")  # = ends the keyword
        member.records[keyword] = os.getxattr(name, attribute, follow_symlinks=False)
    return member


def write_file(target: Any, member: pax.Member, buffer: memoryview) -> None:
    """Write a file: its header, and by way of `buffer` its bytes. Raises OSError if it has become shorter."""
    content = os.open(member.name, os.O_RDONLY)
    try:
        pieces = tree.data_pieces(content, member.info)
        member.size = sum(count for _, count in pieces)
        table = make_sparse(member, pieces) if member.size < member.info.st_size else b""
        target.write(pax.header(member) + table)
        for offset, count in pieces:
            while count:
                done = os.preadv(content, [buffer[: min(CHUNK, count)]], offset)
                if not done:
                    raise OSError(errno.EIO, tree.SHORTER, member.name)
                target.write(buffer[:done])
                offset, count = offset + done, count - done
        target.write(pax.padding(member.size))
    finally:
        os.close(content)


def make_sparse(member: pax.Member, pieces: list[tuple[int, int]]) -> bytes:
    """Of a file with holes, only the pieces that are none are written, behind the table that this returns.

    That is GNU tar's sparse format 1.0 (tar manual, "PAX Format, Version 1.0"). Who does not know it gets a file of
    that odd name.
    """
    numbers = [len(pieces) + 1, *(number for piece in pieces for number in piece), member.info.st_size, 0]
    table = b"".join(b"%d\n" % number for number in numbers)
    table += pax.padding(len(table))
    member.size += len(table)
    sparse = {"major": "1", "minor": "0", "name": member.name, "realsize": str(member.info.st_size)}
    member.records |= {f"GNU.sparse.{keyword}": os.fsencode(value) for keyword, value in sparse.items()}
    folder, base = os.path.split(member.name)
    member.name = os.path.join(folder, "GNUSparseFile.0", base)
    return table
