"""Tar archives, unpacked as if each were written by an enemy: tar(5), pax(1).

An archive may name `/etc/passwd`, or `../../etc/passwd`, or first a symbolic link to `/` and then a file behind it. We
do not try to see through such tricks. The process that unpacks first makes the target its root directory: whatever
a path says, the kernel finds nothing outside.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import resource
import stat
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from .. import child, namespaces
from ..lib import linux, store
from ..lib.errors import ContainerError
from . import tree

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": zstd.ZstdFile,
}
BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError, ValueError, OverflowError)
MOST_MEMORY = 2**30  # bytes
XATTR = "SCHILY.xattr."  # the pax keyword before an extended attribute's name


def unpack(source: int, target: Path, progress: Callable[[int], None]) -> int:
    """Unpack the archive that the descriptor `source` reads into the directory `target`; return the bytes of its files.

    Plain or compressed with gzip, bzip2, xz or zstd, a file or a pipe. `progress` is told how far `source` has been
    read. Raises ContainerError if the archive is broken or ends too early.
    """
    return child.run(lambda: unpack_confined(source, target), lambda: progress(position(source)))


def position(source: int) -> int:
    """How far a file has been read, by whichever process shares its descriptor; 0 for a pipe."""
    try:
        return os.lseek(source, 0, os.SEEK_CUR)
    except OSError:
        return 0


def unpack_confined(source: int, target: Path) -> int:
    """Lock this process into `target` and unpack there. All modules must be loaded before the chroot.

    Descriptors that lead outside are still open, but there is no /proc inside through which a path could use them.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_AS)
    most = MOST_MEMORY if limit == resource.RLIM_INFINITY else min(MOST_MEMORY, limit)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))  # a header may claim to be of any length
    linux.chroot(str(target))
    os.umask(0o022)
    try:
        unpacker = Unpacker(source)
        unpacker.unpack()
    except MemoryError:
        raise ContainerError(f"the archive takes more than {MOST_MEMORY >> 20} MiB of memory to read") from None
    except BROKEN as error:
        kinds = "a tar archive, plain or compressed with gzip, bzip2, xz or zstd"
        raise ContainerError(f"the archive is broken, or is not {kinds}: {error}") from None
    return unpacker.size


class Unpacker:
    """Unpacks one archive into the root directory."""

    def __init__(self, source: int) -> None:
        self.size = 0  # bytes in the files unpacked
        self.folders: dict[str, tarfile.TarInfo] = {}
        reader = io.BufferedReader(io.FileIO(source, closefd=False), 16384)
        start = reader.peek(8)
        opener = next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), None)
        # From a plain file the kernel can copy by itself; everything else must be read through from front to end.
        self.plain = source if opener is None and reader.seekable() else None
        stream = reader if opener is None else opener(reader)
        mode: Literal["r:", "r|"] = "r|" if self.plain is None else "r:"
        self.archive = tarfile.open(fileobj=stream, mode=mode, bufsize=2**20)  # noqa: SIM115
        self.stream: Any = self.archive.fileobj

    def unpack(self) -> None:
        """Unpack all members; the metadata of directories last, as filling a directory changes its times."""
        while (member := self.archive.next()) is not None:
            self.archive.members.clear()  # type: ignore[attr-defined]  # or they would fill the memory
            member.name = member.pax_headers.get("GNU.sparse.name", member.name)  # else at times where its pieces are
            path = os.path.normpath(f"/{member.name}")
            try:
                try:
                    self.unpack_member(member, path)
                except (FileExistsError, FileNotFoundError):
                    self.make_room(path)
                    self.unpack_member(member, path)
            except OSError as error:
                raise ContainerError(f"{member.name!r} cannot be unpacked: {error.strerror or error}") from None
        # The end mark is the block that tarfile has read beyond the last member.
        if self.stream.tell() - self.archive.offset != tarfile.BLOCKSIZE:
            raise ContainerError("the archive ends too early: its end mark is missing")
        for path in sorted(self.folders, reverse=True):  # the deepest first
            set_metadata(self.folders[path], path)

    def unpack_member(self, member: tarfile.TarInfo, path: str) -> None:
        """Make one file, of whatever kind. Raises FileExistsError or FileNotFoundError if `path` is not free for it."""
        if member.isreg():
            self.unpack_file(member, path)
        elif member.isdir():
            if not os.path.isdir(path) or os.path.islink(path):
                os.mkdir(path)
            self.folders[path] = member
            return
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            target = os.path.normpath(f"/{member.linkname}")
            if target != path:
                os.link(target, path, follow_symlinks=False)
            return
        elif member.isfifo():
            os.mkfifo(path)
        else:
            return  # a device: an image has no business with the host's disks
        set_metadata(member, path)

    def make_room(self, path: str) -> None:
        """Make missing parents, and remove what an earlier member of the same name has left."""
        for parent in reversed(Path(path).parents):
            if not parent.exists():
                parent.mkdir()
        if os.path.isdir(path) and not os.path.islink(path):
            store.remove(Path(path))
            self.folders = {
                name: member for name, member in self.folders.items() if not f"{name}/".startswith(f"{path}/")
            }
        elif os.path.lexists(path):
            os.unlink(path)

    def unpack_file(self, member: tarfile.TarInfo, path: str) -> None:
        """Copy the member's bytes. Of a sparse file the archive holds only what is not hole, piece after piece."""
        pieces: Any = member.sparse or [(0, member.size)]
        position = member.offset_data
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            for offset, count in pieces:
                os.lseek(fd, offset, os.SEEK_SET)
                self.copy(position, fd, count)
                position += count
            os.ftruncate(fd, member.size)
        finally:
            os.close(fd)
        self.size += member.size

    def copy(self, position: int, target: int, count: int) -> None:
        """Copy `count` bytes at `position` of the archive to where `target` stands."""
        if self.plain is None:
            self.stream.seek(position)
        while count:
            if self.plain is not None:
                done = os.sendfile(target, self.plain, position, count)
            else:
                data = self.stream.read(min(count, 2**20))
                done = len(data)
                write_all(target, data)
            if done == 0:
                raise ContainerError("the archive ends too early, inside a file")
            position += done
            count -= done


def write_all(fd: int, data: bytes) -> None:
    """write(2) may take less than it is given, as on a disk that is nearly full."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def set_metadata(member: tarfile.TarInfo, path: str) -> None:
    """Owner, mode, extended attributes and times of a member; in this order, as each undoes some of the next."""
    if not namespaces.ROOTLESS:
        os.lchown(path, member.uid, member.gid)
    if not member.issym():
        os.chmod(path, stat.S_IMODE(member.mode))
    for keyword, value in member.pax_headers.items():
        if keyword.startswith(XATTR):
            name = keyword.removeprefix(XATTR).replace("%3D", "=").replace("%25", "%")  # as GNU tar writes them
            tree.set_attribute(path, name, os.fsencode(value))
    time = nanoseconds(member)
    os.utime(path, ns=(time, time), follow_symlinks=False)


def nanoseconds(member: tarfile.TarInfo) -> int:
    """A member's time of modification. tarfile makes it a float, which cannot hold nanoseconds: so read the text."""
    text = str(member.pax_headers.get("mtime", int(member.mtime)))
    match = re.fullmatch(r"(-?)(\d{1,12})(?:\.(\d*))?", text, re.ASCII)
    if not match:
        raise tarfile.ReadError(f"{text!r} is no time")
    sign, seconds, fraction = match.groups(default="")
    return int(f"{sign}1") * (int(seconds) * 10**9 + int(f"{fraction:0<9.9}"))
