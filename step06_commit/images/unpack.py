"""Tar archives, unpacked: Python's tarfile reads them; what it reads may have been written by an enemy.

An archive may name `/etc/passwd`, or `../../etc/passwd`, or first a symbolic link to `/` and then a file behind it. We
do not look for such tricks. The process that unpacks first makes the target its root directory: whatever a path says,
the kernel finds nothing outside.
"""

import errno
import hashlib
import importlib
import io
import os
import resource
import stat
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Self

from .. import namespaces
from ..lib import linux, store
from ..lib.errors import ContainerError

CHUNK = 2**18  # bytes
MOST_MEMORY = 2**30  # bytes
LATEST = Decimal(10**12)  # seconds since 1970: far beyond what any file system can say
XATTR = "SCHILY.xattr."  # what archives write before the name of an extended attribute


class Member(tarfile.TarInfo):
    """A member of an archive. tarfile would take a damaged header for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header. Raises tarfile.ReadError if it is damaged."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.InvalidHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None


@dataclass
class Hashed:
    """A stream, and the SHA-256 of what has been read of it."""

    stream: IO[bytes]
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def read(self, count: int) -> bytes:
        """Read at most so many bytes."""
        data = self.stream.read(count)
        self.sha256.update(data)
        return data


def confined(
    source: int, target: Path, work: "Callable[[tarfile.TarFile], int] | None" = None, digest: str = ""
) -> int:
    """Make the directory `target` this process's root, and fill it with what is in an archive: for a worker.

    The descriptor `source` is a file or a pipe, plain or compressed with gzip, bzip2, xz or zstd. Returns the bytes in
    the files. Raises ContainerError if the archive is broken or ends too early, or has not this SHA-256 `digest`.

    Every module must have been imported before the chroot. Descriptors that lead outside are still open, but there is
    no /proc inside through which a path could use them.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_AS)
    most = MOST_MEMORY if limit == resource.RLIM_INFINITY else min(MOST_MEMORY, limit)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))  # a header may claim to be of any length
    reader = io.BufferedReader(io.FileIO(source, closefd=False), CHUNK)
    try:
        stream: Any = decompressed(reader)
        if digest:
            stream = Hashed(stream)
        linux.told("chroot", [target], os.chroot, target)
        linux.chdir("/")  # a working directory outside is the way out
        os.umask(0o022)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=2**14, tarinfo=Member) as archive:
            size = (work or unpack_all)(archive)
        while stream is not reader and stream.read(CHUNK):  # to the end, where the checksum is
            pass
        if digest and stream.sha256.hexdigest() != digest:
            raise ContainerError(f"a layer is damaged: its SHA-256 is not {digest}")
        return size
    except OSError as error:
        raise ContainerError(f"{target}{error.filename or ''}: {error.strerror or error}") from None
    except ContainerError:
        raise
    except MemoryError:
        raise ContainerError(f"the archive takes more than {MOST_MEMORY >> 20} MiB of memory to read") from None
    except Exception as error:  # each reader has its own, and a broken archive can cause some that nobody has planned
        kinds = "a tar archive, plain or compressed with gzip, bzip2, xz or zstd"
        raise ContainerError(f"the archive is broken, or is not {kinds}: {error}") from None


def decompressed(reader: "io.BufferedReader[io.FileIO]") -> IO[bytes]:
    """The archive as tar wrote it. The first bytes tell what has compressed it; only that module is imported."""
    kinds = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "lzma", b"\x28\xb5\x2f\xfd": "zstd"}
    start = reader.peek(8)
    name = next((name for magic, name in kinds.items() if start.startswith(magic)), None)
    module: Any = zstd() if name == "zstd" else importlib.import_module(name or "io")
    opened: IO[bytes] = module.open(reader) if name else reader
    return opened


def zstd() -> Any:
    """The module for zstd, which Python has from 3.14 on. Raises ContainerError if there is none."""
    try:
        return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        raise ContainerError("zstd archives need one more Python package: pip install backports.zstd") from None


def unpack_all(archive: tarfile.TarFile, left_out: Callable[[str], bool] = lambda path: False) -> int:
    """Unpack all members, but for those `left_out`, into the root directory. Returns the bytes in the files."""
    size = 0
    folders: dict[str, tarfile.TarInfo] = {}
    for member in iter(archive.next, None):
        archive.members.clear()  # type: ignore[attr-defined]  # or they would fill the memory
        member.name = member.pax_headers.get("GNU.sparse.name", member.name)  # else it may be the name of its pieces
        path = os.path.normpath(f"/{member.name}")
        if left_out(path):
            continue
        try:
            unpack_one(archive, member, path)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), path) from None
        if member.isdir():
            folders[path] = member
        size += member.size if member.isreg() else 0
    # The end mark is the block that tarfile has read beyond the last member.
    if archive.fileobj.tell() - archive.offset != tarfile.BLOCKSIZE:
        raise ContainerError("the archive ends too early: its end mark is missing")
    for path in sorted(folders, reverse=True):  # the deepest first: what is made in a directory changes its time
        if is_folder(path):
            set_metadata(folders[path], path)
    return size


def unpack_one(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """Unpack one member, of whatever kind. Devices are left out: an image has no business with the host's disks."""
    if member.ischr() or member.isblk() or (member.islnk() and target_of(member) == path):
        return
    if os.path.lexists(path) and not (member.isdir() and is_folder(path)):  # a directory may be named twice
        remove(path)
    try:
        make(archive, member, path)
    except FileNotFoundError:  # its parents may be missing
        for parent in reversed(Path(path).parents):
            if not parent.exists():
                parent.mkdir()
        make(archive, member, path)
    if not (member.isdir() or member.islnk()):
        set_metadata(member, path)


def target_of(member: tarfile.TarInfo) -> str:
    """The path that a hard link is to."""
    return os.path.normpath(f"/{member.linkname}")


def is_folder(path: str) -> bool:
    """Whether this is a directory, and not a link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def remove(path: str) -> None:
    """Remove a file, or a directory with all that is in it."""
    if is_folder(path):
        store.remove(Path(path))
    else:
        os.unlink(path)


def make(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """Make the file that a member describes, and write what is in it."""
    if member.isdir():
        if not os.path.isdir(path):
            os.mkdir(path)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(target_of(member), path, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(path)
    else:
        archive.makefile(member, path)


def set_metadata(member: tarfile.TarInfo, path: str) -> None:
    """Owner, mode, extended attributes and time of a member, in this order: a new owner would take some away again."""
    if not namespaces.ROOTLESS:
        os.lchown(path, member.uid, member.gid)
    if not member.issym():
        os.chmod(path, stat.S_IMODE(member.mode))
    for keyword, value in member.pax_headers.items():
        if keyword.startswith(XATTR):
            name = keyword.removeprefix(XATTR).replace("%3D", "=").replace("%25", "%")  # as GNU tar writes them
            set_attribute(path, name, os.fsencode(value))
    # tarfile makes the time a float, which cannot hold nanoseconds: so read the text.
    seconds = Decimal(member.pax_headers.get("mtime", member.mtime))
    time = int(min(max(seconds, -LATEST), LATEST) * 10**9)
    os.utime(path, ns=(time, time), follow_symlinks=False)


def set_attribute(path: str, name: str, value: bytes) -> None:
    """Set an extended attribute (xattr(7)), where this user may and this file system can."""
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP):
            raise
