"""Unpack tar archives with Python's tarfile. An attacker may have written the archive.

An archive may name `/etc/passwd` or `../../etc/passwd`, or a symbolic link to `/` and then a file behind this link. We
do not look for such tricks. Instead, the process that unpacks first makes the target its root directory. Then the
kernel looks up every path inside the target, whatever the path says.
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
LATEST = Decimal(10**12)  # seconds since 1970: later than any file system can store
XATTR = "SCHILY.xattr."  # what archives write before the name of an extended attribute


class Member(tarfile.TarInfo):
    """A member of an archive. Here a damaged header is an error; for tarfile it would be the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header. Raises tarfile.ReadError if it is damaged."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.InvalidHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None


@dataclass
class Hashed:
    """A stream, and the SHA-256 of the bytes that have been read from it."""

    stream: IO[bytes]
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def read(self, count: int) -> bytes:
        """Read at most `count` bytes."""
        data = self.stream.read(count)
        self.sha256.update(data)
        return data


def confined(
    source: int, target: Path, work: "Callable[[tarfile.TarFile], int] | None" = None, digest: str = ""
) -> int:
    """Make the directory `target` this process's root, and unpack an archive into it. Call this in a worker process.

    The descriptor `source` is a file or a pipe, plain or compressed with gzip, bzip2, xz or zstd. Returns the files'
    size in bytes. Raises ContainerError if the archive is broken, ends too early or does not have the SHA-256 `digest`.

    Every module must be imported before the chroot. Descriptors of files outside are still open, but a path could reach
    them only through /proc, and there is no /proc inside.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_AS)
    most = MOST_MEMORY if limit == resource.RLIM_INFINITY else min(MOST_MEMORY, limit)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))  # a header may claim any length
    reader = io.BufferedReader(io.FileIO(source, closefd=False), CHUNK)
    try:
        stream: Any = decompressed(reader)
        if digest:
            stream = Hashed(stream)
        linux.told("chroot", [target], os.chroot, target)
        linux.chdir("/")  # else the working directory is still outside, which is a way out
        os.umask(0o022)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=2**14, tarinfo=Member) as archive:
            size = (work or unpack_all)(archive)
        while stream is not reader and stream.read(CHUNK):  # read to the end, where the checksum is
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
    except Exception as error:  # each reader raises its own kinds, and a broken archive can cause unexpected ones
        kinds = "a tar archive, plain or compressed with gzip, bzip2, xz or zstd"
        raise ContainerError(f"the archive is broken, or is not {kinds}: {error}") from None


def decompressed(reader: "io.BufferedReader[io.FileIO]") -> IO[bytes]:
    """Return the archive without compression. Its first bytes tell the method; only this module is imported."""
    kinds = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "lzma", b"\x28\xb5\x2f\xfd": "zstd"}
    start = reader.peek(8)
    name = next((name for magic, name in kinds.items() if start.startswith(magic)), None)
    module: Any = zstd() if name == "zstd" else importlib.import_module(name or "io")
    opened: IO[bytes] = module.open(reader) if name else reader
    return opened


def zstd() -> Any:
    """Return the module for zstd; Python has one from 3.14 on. Raises ContainerError if there is none."""
    try:
        return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        raise ContainerError("zstd archives need one more Python package: pip install backports.zstd") from None


def unpack_all(archive: tarfile.TarFile, left_out: Callable[[str], bool] = lambda path: False) -> int:
    """Unpack all members except those `left_out` into the root directory. Returns the files' size in bytes."""
    size = 0
    folders: dict[str, tarfile.TarInfo] = {}
    for member in iter(archive.next, None):
        archive.members.clear()  # type: ignore[attr-defined]  # else they would fill the memory
        member.name = member.pax_headers.get("GNU.sparse.name", member.name)  # the real name of a file with holes
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
    # tarfile has read one block after the last member: the end mark.
    if archive.fileobj.tell() - archive.offset != tarfile.BLOCKSIZE:
        raise ContainerError("the archive ends too early: its end mark is missing")
    for path in sorted(folders, reverse=True):  # deepest first, and only now: new files changed their directory's time
        if is_folder(path):
            set_metadata(folders[path], path)
    return size


def unpack_one(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """Unpack one member of any kind. Devices are left out: an image must not give access to the host's disks."""
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
    """Return the path of the file that a hard link names."""
    return os.path.normpath(f"/{member.linkname}")


def is_folder(path: str) -> bool:
    """Return whether `path` is a directory, and not a symbolic link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def remove(path: str) -> None:
    """Remove a file, or a directory with all that is in it."""
    if is_folder(path):
        store.remove(Path(path))
    else:
        os.unlink(path)


def make(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """Make the file that a member describes, and write its content."""
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
    """Set owner, mode, extended attributes and time, in this order: a new owner clears some modes and attributes."""
    if not namespaces.ROOTLESS:
        os.lchown(path, member.uid, member.gid)
    if not member.issym():
        os.chmod(path, stat.S_IMODE(member.mode))
    for keyword, value in member.pax_headers.items():
        if keyword.startswith(XATTR):
            name = keyword.removeprefix(XATTR).replace("%3D", "=").replace("%25", "%")  # as GNU tar writes them
            set_attribute(path, name, os.fsencode(value))
    # tarfile converts the time to a float, which cannot hold nanoseconds. So we read the text.
    seconds = Decimal(member.pax_headers.get("mtime", member.mtime))
    time = int(min(max(seconds, -LATEST), LATEST) * 10**9)
    os.utime(path, ns=(time, time), follow_symlinks=False)


def set_attribute(path: str, name: str, value: bytes) -> None:
    """Set an extended attribute (xattr(7)). If the user may not or the file system cannot, leave it out."""
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP):
            raise
