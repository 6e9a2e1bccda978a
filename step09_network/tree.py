"""Whole directory trees: copied with all that a file system knows of a file, and removed however they resist."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

COPY_UNIT = 64 * 2**20  # bytes handed to the kernel at once


def copy(source: Path, target: Path, copied: Callable[[int], None]) -> None:
    """Copy the directory `source` to `target`, which must not exist, staying on one file system (as cp -ax).

    Kept are ownership, modes, times, extended attributes, hard links and holes. Left out are device files and sockets,
    and what is mounted below `source` (the mount points stay, empty). `copied` is told the bytes of each file.
    """
    links: dict[tuple[int, int], Path] = {}  # (device, inode) of files with several names: where the copy is
    folders = [(source, target)]
    device = source.lstat().st_dev
    for from_folder, to_folder in folders:  # grows while we walk
        to_folder.mkdir()
        if from_folder.lstat().st_dev != device:
            continue
        for entry in os.scandir(from_folder):
            info = entry.stat(follow_symlinks=False)
            to = to_folder / entry.name
            if stat.S_ISDIR(info.st_mode):
                folders.append((Path(entry), to))
            elif (first := links.get((info.st_dev, info.st_ino))) is not None:
                os.link(first, to, follow_symlinks=False)
            elif stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode) or stat.S_ISFIFO(info.st_mode):
                copy_one(Path(entry), to, info.st_mode)
                copied(info.st_size)
                keep_metadata(Path(entry), to)
                if info.st_nlink > 1:
                    links[info.st_dev, info.st_ino] = to
    for from_folder, to_folder in reversed(folders):  # last, as filling a directory changes its times
        keep_metadata(from_folder, to_folder)


def copy_one(source: Path, target: Path, mode: int) -> None:
    """Copy what is in one file."""
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink(source))
    elif stat.S_ISFIFO(mode):
        os.mkfifo(target)
    else:
        with open(source, "rb") as reading, open(target, "xb") as writing:
            try:
                copy_data(reading.fileno(), writing.fileno())
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.fspath(source)) from None


def copy_data(source: int, target: int) -> None:
    """Copy a file's bytes inside the kernel, leaving its holes out: copy_file_range(2).

    Where the file system can, the copy shares the original's blocks until one of them is changed.
    """
    size = os.fstat(source).st_size
    for offset, count in data_pieces(source, size):
        os.lseek(source, offset, os.SEEK_SET)
        os.lseek(target, offset, os.SEEK_SET)
        while count:
            count -= transfer(source, target, min(COPY_UNIT, count))
    os.ftruncate(target, size)


def data_pieces(file: int, size: int) -> list[tuple[int, int]]:
    """Where a file is not hole: (offset, count) in bytes, by lseek(2) with SEEK_DATA and SEEK_HOLE."""
    pieces = []
    hole = 0
    while hole < size:
        try:
            offset = os.lseek(file, hole, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # nothing but a hole from here to the end
            raise
        hole = min(os.lseek(file, offset, os.SEEK_HOLE), size)  # it may have grown meanwhile
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
        raise OSError(errno.EIO, "the file became shorter while it was read")
    return moved


def keep_metadata(source: Path, target: Path) -> None:
    """Give `target` the owner, mode, extended attributes and times of `source`, as far as we may.

    The order matters: changing the owner takes away setuid and file capabilities, a mode may take away our right to
    set attributes.
    """
    info = source.lstat()
    with suppress(PermissionError):  # without root all is the caller's
        os.lchown(target, info.st_uid, info.st_gid)
    for name in os.listxattr(source, follow_symlinks=False):
        set_attribute(target, name, os.getxattr(source, name, follow_symlinks=False))
    if not stat.S_ISLNK(info.st_mode):
        target.chmod(stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def set_attribute(path: str | Path, name: str, value: bytes) -> None:
    """Set an extended attribute (xattr(7)), where this user may and this file system can."""
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP):
            raise


def remove(top: Path) -> None:
    """Remove a directory tree, also where directories are read-only or nested deeper than a path can say.

    Every directory is emptied of its own subdirectories by moving them up beside it; so no path grows long.
    """
    with suppress(FileNotFoundError):
        top.chmod(0o700)
        while folders := [Path(entry) for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)]:
            for folder in folders:
                folder.chmod(0o700)
                for entry in list(os.scandir(folder)):
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry, 0o700)  # a directory that moves has its `..` rewritten
                        os.rename(entry, top / f".removing-{os.urandom(8).hex()}")
                    else:
                        os.unlink(entry)
                folder.rmdir()
        for entry in list(os.scandir(top)):
            os.unlink(entry)
        top.rmdir()
