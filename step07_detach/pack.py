"""Tar archives, written: pax(1), "pax Interchange Format", in the dialect that Docker, Podman and GNU tar read."""

import errno
import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from . import tree
from .archive import XATTR, zstd
from .errors import ContainerError
from .images import Progress

CHUNK = 2**20  # bytes
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
        with open(fd, "wb") as target:
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

    Left out are device files and sockets, which an image has no business with.
    """
    done = 0
    links: dict[tuple[int, int], str] = {}  # (device, inode) of files with several names: the first of them
    kind: Any = {"mode": "w|", "format": tarfile.PAX_FORMAT, "copybufsize": CHUNK, "bufsize": CHUNK}
    with compress(file) as target, tarfile.open(fileobj=target, **kind) as archive:
        for name, path, info in walk(root):
            archive.members.clear()  # type: ignore[attr-defined]  # or they would fill the memory
            first = links.setdefault((info.st_dev, info.st_ino), name)
            member = describe(name, path, info)
            if first != name and not stat.S_ISDIR(info.st_mode):
                member.type, member.linkname = tarfile.LNKTYPE, first
                archive.addfile(member)
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as content:
                    add_file(archive, member, content.fileno(), info.st_size)
                done += info.st_size
                progress(done, None)
            else:
                archive.addfile(member)
    file.flush()
    return done


def walk(root: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Each file's name in the archive, its path and its facts: a directory before what is in it."""
    device = root.lstat().st_dev
    yield "./", root, root.lstat()
    folders = [root]
    for folder in folders:  # grows while we walk
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path, info = Path(entry), entry.stat(follow_symlinks=False)
            if stat.S_IFMT(info.st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO):
                continue
            yield str(path.relative_to(root)), path, info
            if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
                folders.append(path)


def describe(name: str, path: Path, info: os.stat_result) -> tarfile.TarInfo:
    """All about a file but what is in it. What the old header has no room for stands in pax records."""
    member = tarfile.TarInfo(name)
    member.mode, member.uid, member.gid = stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
    seconds, nanoseconds = divmod(abs(info.st_mtime_ns), 10**9)
    records = {"mtime": f"{'-' * (info.st_mtime_ns < 0)}{seconds}.{nanoseconds:09}"}
    for attribute in os.listxattr(path, follow_symlinks=False):
        value = os.getxattr(path, attribute, follow_symlinks=False)
        records[XATTR + attribute] = os.fsdecode(value)
    member.pax_headers = records
    if stat.S_ISDIR(info.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(info.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISFIFO(info.st_mode):
        member.type = tarfile.FIFOTYPE
    return member


def add_file(archive: tarfile.TarFile, member: tarfile.TarInfo, content: int, size: int) -> None:
    """Add a file with its bytes; of one with holes only what is none, behind a table of where each piece belongs.

    That is GNU tar's sparse format 1.0 (tar manual, "PAX Format, Version 1.0"). Who does not know it gets a file of
    that odd name.
    """
    pieces = tree.data_pieces(content, size)
    member.size = sum(count for _, count in pieces)
    table = b""
    if member.size < size:
        numbers = [len(pieces) + 1, *(number for piece in pieces for number in piece), size, 0]
        table = "".join(f"{number}\n" for number in numbers).encode()
        table += bytes(-len(table) % tarfile.BLOCKSIZE)
        member.size += len(table)
        sparse = {"major": "1", "minor": "0", "name": member.name, "realsize": str(size)}
        member.pax_headers = {**member.pax_headers, **{f"GNU.sparse.{key}": value for key, value in sparse.items()}}
        folder, base = os.path.split(member.name)
        member.name = os.path.join(folder, "GNUSparseFile.0", base)
    archive.addfile(member, io.BufferedReader(Pieces(table, content, pieces), min(CHUNK, member.size) or 1))


class Pieces(io.RawIOBase):
    """Some bytes, and after them pieces (offset, count) of a file, to be read as one."""

    def __init__(self, head: bytes, file: int, pieces: list[tuple[int, int]]) -> None:
        self.head, self.file, self.pieces = head, file, pieces

    def readable(self) -> bool:
        """It is for reading only."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the beginning of `buffer`; returns how many bytes, 0 at the end."""
        if self.head:
            count = min(len(self.head), len(buffer))
            buffer[:count], self.head = self.head[:count], self.head[count:]
            return count
        if not self.pieces:
            return 0
        (offset, left), *later = self.pieces
        count = os.preadv(self.file, [buffer[:left]], offset)
        self.pieces = [(offset + count, left - count), *later] if count < left else later
        return count
