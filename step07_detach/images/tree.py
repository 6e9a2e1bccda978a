"""Whole directory trees, copied with all that a file system knows of a file."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SHORTER = "the file became shorter while it was read"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what is the target's fault, and not the source's
File = int | str | Path  # an open descriptor, or a path
COPY_UNIT = 64 * 2**20  # bytes handed to the kernel at once


def copy(source: Path, target: Path, copied: Callable[[int], None]) -> None:
    """Copy the directory `source` to `target`, which must not exist, staying on one file system (as cp -ax).

    Kept are ownership, modes, times, extended attributes, hard links and holes. Left out are device files and sockets,
    and what is mounted below `source` (the mount points stay, empty). `copied` is told the bytes of each file.
    """
    links: dict[tuple[int, int], str] = {}  # (device, inode) of files with several names: where the copy is
    folders = [(str(source), str(target))]
    device = source.lstat().st_dev
    for from_folder, to_folder in folders:  # grows while we walk
        os.mkdir(to_folder)
        if os.lstat(from_folder).st_dev != device:
            continue
        for entry in os.scandir(from_folder):
            info = entry.stat(follow_symlinks=False)
            to = f"{to_folder}/{entry.name}"
            if stat.S_ISDIR(info.st_mode):
                folders.append((entry.path, to))
            elif (first := links.get((info.st_dev, info.st_ino))) is not None:
                os.link(first, to, follow_symlinks=False)
            elif stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode) or stat.S_ISFIFO(info.st_mode):
                copy_one(entry.path, to, info)
                copied(info.st_size)
                if info.st_nlink > 1:
                    links[info.st_dev, info.st_ino] = to
    for from_folder, to_folder in reversed(folders):  # last, as filling a directory changes its times
        keep_metadata(from_folder, to_folder, os.lstat(from_folder))


def copy_one(source: str, target: str, info: os.stat_result) -> None:
    """Copy one file that is no directory."""
    if stat.S_ISREG(info.st_mode):
        with open(source, "rb", buffering=0) as reading, open(target, "xb", buffering=0) as writing:
            try:
                copy_data(reading.fileno(), writing.fileno(), info)
                keep_metadata(reading.fileno(), writing.fileno(), info)  # no path has to be looked up again
            except OSError as error:
                raise OSError(error.errno, error.strerror, target if error.errno in FULL else source) from None
        return
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), target)
    else:
        os.mkfifo(target)
    keep_metadata(source, target, info)


def copy_data(source: int, target: int, info: os.stat_result) -> None:
    """Copy a file's bytes inside the kernel, leaving its holes out: copy_file_range(2).

    Where the file system can, the copy shares the original's blocks until one of them is changed.
    """
    for offset, count in data_pieces(source, info):
        os.lseek(source, offset, os.SEEK_SET)
        os.lseek(target, offset, os.SEEK_SET)
        while count:
            count -= transfer(source, target, min(COPY_UNIT, count))
    if os.lseek(target, 0, os.SEEK_CUR) < info.st_size:  # it ends with a hole
        os.ftruncate(target, info.st_size)


def data_pieces(file: int, info: os.stat_result) -> list[tuple[int, int]]:
    """Where a file is not hole: (offset, count) in bytes, by lseek(2) with SEEK_DATA and SEEK_HOLE."""
    size = info.st_size
    if info.st_blocks * 512 >= size:
        return [(0, size)]  # as most are: no block is missing
    pieces = []
    hole = 0
    while hole < size:
        try:
            offset = os.lseek(file, hole, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if os.fstat(file).st_size < size:
                raise OSError(errno.EIO, SHORTER) from None
            break  # nothing but a hole from here to the end
        if offset >= size:  # it has grown meanwhile, behind that hole
            break
        hole = min(os.lseek(file, offset, os.SEEK_HOLE), size)
        pieces.append((offset, hole - offset))
    return pieces


def transfer(source: int, target: int, count: int) -> int:
    """Move up to `count` bytes from one file's position to another's. Raises OSError at an unexpected end of file."""
    try:
        moved = os.copy_file_range(source, target, count)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        moved = os.sendfile(target, source, None, count)
    if moved == 0:
        raise OSError(errno.EIO, SHORTER)
    return moved


def keep_metadata(source: File, target: File, info: os.stat_result) -> None:
    """Give `target` the owner, mode and times in `info`, and the extended attributes of `source`, as far as we may.

    The order matters: changing the owner takes away setuid and file capabilities, a mode may take away our right to
    set attributes.
    """
    follow = isinstance(source, int)  # a descriptor is the file itself; a path might lead elsewhere
    with suppress(PermissionError):  # without root all is the caller's
        os.chown(target, info.st_uid, info.st_gid, follow_symlinks=follow)
    for name in os.listxattr(source, follow_symlinks=follow):
        set_attribute(target, name, os.getxattr(source, name, follow_symlinks=follow))
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=follow)


def set_attribute(file: File, name: str, value: bytes) -> None:
    """Set an extended attribute (xattr(7)), where this user may and this file system can."""
    try:
        os.setxattr(file, name, value, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP):
            raise
