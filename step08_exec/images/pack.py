"""Write tar archives: pax(1), "pax Interchange Format", in the form that Docker, Podman and GNU tar read.

Each file begins with a header: a block of numbers and names in the format of 1988 (ustar in tar(5)). Values that do not
fit into this block come before it, as records: lines of text. Python's tarfile can write both, but takes three times as
long for each, and an image has many small files.
"""

import errno
import os
import stat
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO

from ..lib import linux
from .unpack import XATTR

CHUNK = 2**16  # bytes per read. For more, Python asks for new memory each time; that costs as much as the copy
BLOCK = 512  # bytes
END = bytes(2 * BLOCK)
FILE, HARD_LINK, SYMLINK, FOLDER, FIFO = b"0", b"1", b"2", b"5", b"6"
RECORDS = b"x"  # not a file, but more data about the file that follows
KINDS = {stat.S_IFREG: FILE, stat.S_IFLNK: SYMLINK, stat.S_IFDIR: FOLDER, stat.S_IFIFO: FIFO}

Pieces = list[tuple[int, int]]  # (offset, count) in bytes
Records = dict[str, bytes]  # by keyword


def pack(root: Path, target: IO[bytes]) -> None:
    """Write all that is in the directory `root` to `target`, without other file systems that are mounted there.

    Device files and sockets are left out: an image must not contain them. `root` becomes the working directory, as the
    kernel finds short paths faster.
    """
    links: dict[tuple[int, int], str] = {}  # of hard links: (device, inode), and the first name
    linux.chdir(str(root))
    for name, info in walk():
        kind = KINDS[stat.S_IFMT(info.st_mode)]
        first = links.setdefault((info.st_dev, info.st_ino), name) if info.st_nlink > 1 and kind != FOLDER else name
        if first != name:
            target.write(header(name, HARD_LINK, info, first))
        elif kind == FILE:
            write_file(target, name, info)
        else:
            link = os.readlink(name) if kind == SYMLINK else ""
            target.write(header(name, kind, info, link, records=attributes(name)))
    target.write(END)


def walk() -> Iterator[tuple[str, os.stat_result]]:
    """Yield name and stat of all that goes into the archive: each directory, and directly after it all that is in it.

    After a directory, tar sets its time and its mode, which may be read-only. So nothing in it may come later.
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
            if stat.S_IFMT(inside.st_mode) in KINDS:
                slash = "/" if stat.S_ISDIR(inside.st_mode) else ""
                waiting.append((f"{name.removeprefix('./')}{entry.name}{slash}", inside))


def attributes(name: str) -> Records:
    """Return a file's extended attributes (xattr(7)) as records."""
    found = {}
    for attribute in os.listxattr(name, follow_symlinks=False):
        keyword = XATTR + attribute.replace("%", "%25").replace("=", "%3D")  # = ends the keyword
        try:
            found[keyword] = os.getxattr(name, attribute, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EOVERFLOW:  # without root: file capabilities of another user namespace
                raise
    return found


def write_file(target: IO[bytes], name: str, info: os.stat_result) -> None:
    """Write a file: its header, and its data without the holes. Raises OSError if the file becomes shorter."""
    shorter = OSError(errno.EIO, "the file became shorter while it was read", name)
    # If nothing could pause the container, it may have put a link or a FIFO there by now.
    content = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(content).st_mode):
            raise OSError(errno.EIO, "it became another kind of file while it was read", name)
        pieces = data_pieces(content, info)
        size = sum(count for _, count in pieces)
        if size == info.st_size:
            target.write(header(name, FILE, info, size=size, records=attributes(name)))
        elif os.fstat(content).st_size < info.st_size:
            raise shorter
        else:
            target.write(sparse_header(name, info, size, pieces))
        for offset, count in pieces:
            while count:
                data = os.pread(content, min(CHUNK, count), offset)
                if not data:
                    raise shorter
                target.write(data)
                offset, count = offset + len(data), count - len(data)
        target.write(padding(size))
    finally:
        os.close(content)


def data_pieces(file: int, info: os.stat_result) -> Pieces:
    """Return the parts of a file that are data, not holes: lseek(2) with SEEK_DATA and SEEK_HOLE."""
    if info.st_blocks * 512 >= info.st_size:
        return [(0, info.st_size)]  # as usual: no block is missing
    pieces: Pieces = []
    hole = 0
    while hole < info.st_size:
        try:
            offset = os.lseek(file, hole, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here to the end
                break
            raise
        if offset >= info.st_size:  # the file has grown by now, after this hole
            break
        hole = min(os.lseek(file, offset, os.SEEK_HOLE), info.st_size)
        pieces.append((offset, hole - offset))
    return pieces


# ---- headers ----


def header(
    name: str, kind: bytes, info: os.stat_result, link: str = "", size: int = 0, records: Records | None = None
) -> bytes:
    """Return what stands before a file's data: the records that it needs, and its header."""
    path, target = os.fsencode(name), os.fsencode(link)
    seconds, fraction = divmod(info.st_mtime_ns, 10**9)
    needed = {}
    if len(path) > 100:
        needed["path"] = path
    if len(target) > 100:
        needed["linkpath"] = target
    if fraction or not 0 <= seconds < 8**11:
        needed["mtime"] = f"{Decimal(info.st_mtime_ns).scaleb(-9):f}".encode()
    for keyword, number, digits in (("uid", info.st_uid, 7), ("gid", info.st_gid, 7), ("size", size, 11)):
        if number >= 8**digits:
            needed[keyword] = b"%d" % number
    lines = b"".join(record(os.fsencode(keyword), value) for keyword, value in (needed | (records or {})).items())
    before = block(b"PaxHeaders", RECORDS, 0o644, 0, 0, len(lines), 0) + lines + padding(len(lines)) if lines else b""
    return before + block(path, kind, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, size, seconds, target)


def sparse_header(name: str, info: os.stat_result, size: int, pieces: Pieces) -> bytes:
    """Return the header of a file with holes, and the table of its pieces of data: only these follow.

    This is GNU tar's sparse format 1.0 (tar manual, "PAX Format, Version 1.0"). A program that does not know it unpacks
    a file with the odd name.
    """
    numbers = [len(pieces) + 1, *(number for piece in pieces for number in piece), info.st_size, 0]
    table = b"".join(b"%d\n" % number for number in numbers)
    table += padding(len(table))
    facts = {"major": "1", "minor": "0", "name": name, "realsize": str(info.st_size)}
    records = attributes(name) | {f"GNU.sparse.{keyword}": os.fsencode(value) for keyword, value in facts.items()}
    folder, base = os.path.split(name)
    odd = os.path.join(folder, "GNUSparseFile.0", base)
    return header(odd, FILE, info, size=len(table) + size, records=records) + table


def block(name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, seconds: int, link: bytes = b"") -> bytes:
    """Return a header. Its numbers are octal. A value that does not fit is cut off here; a record has all of it."""
    octal = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        *(mode, min(uid, 8**7 - 1), min(gid, 8**7 - 1)),
        *(min(size, 8**11 - 1), min(max(seconds, 0), 8**11 - 1)),
    )
    front, back = name[:100].ljust(100, b"\0") + octal, kind + link[:100].ljust(100, b"\0") + b"ustar\00000"
    checksum = sum(front) + sum(back) + 8 * ord(" ")  # its own eight bytes count as blanks
    return (b"%b%06o\0 %b" % (front, checksum, back)).ljust(BLOCK, b"\0")


def record(keyword: bytes, value: bytes) -> bytes:
    """Return a record: a line that begins with its own length in bytes. The digits of the length count too."""
    line = b" %b=%b\n" % (keyword, value)
    digits = len(str(len(line) + len(str(len(line)))))
    return b"%d%b" % (digits + len(line), line)


def padding(size: int) -> bytes:
    """Return the zero bytes that fill up `size` bytes to whole blocks."""
    return bytes(-size % BLOCK)
