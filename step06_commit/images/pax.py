"""What stands before each file in a tar archive: the block of 1988 (ustar in tar(5)), and the records that pax(1) adds.

Python's own tarfile writes them too, with three times the work for each; and of a system's image, which is many small
files, that work is the half.
"""

import os
import stat
import struct
from dataclasses import dataclass, field

BLOCK = 512  # bytes
USTAR = struct.Struct("100s 48s 8s c 100s 8s 247x")  # name, numbers, checksum, kind, link; owners by name, devices
BLANK = b" " * 8

FILE, HARD_LINK, SYMLINK, FOLDER, FIFO = b"0", b"1", b"2", b"5", b"6"
RECORDS = b"x"  # not a file, but more about the one that follows
KINDS = {stat.S_IFREG: FILE, stat.S_IFLNK: SYMLINK, stat.S_IFDIR: FOLDER, stat.S_IFIFO: FIFO}


@dataclass
class Member:
    """One file of an archive."""

    name: str
    kind: bytes
    info: os.stat_result
    size: int = 0  # bytes that follow the header
    link: str = ""  # where a symbolic link leads; of a hard link, the file's first name
    records: dict[str, bytes] = field(default_factory=dict)  # such as extended attributes


def header(member: Member) -> bytes:
    """All about a file but what is in it. What its block has no room for stands before it, as records."""
    name, link, info = os.fsencode(member.name), os.fsencode(member.link), member.info
    seconds, nanoseconds = divmod(info.st_mtime_ns, 10**9)
    records = {}
    if len(name) > 100:
        records["path"] = name
    if len(link) > 100:
        records["linkpath"] = link
    uid, gid, size = info.st_uid, info.st_gid, member.size
    if nanoseconds or not 0 <= seconds < 8**11:
        records["mtime"] = decimal(info.st_mtime_ns)
        seconds = min(max(seconds, 0), 8**11 - 1)
    if uid >= 8**7:
        records["uid"], uid = b"%d" % uid, 0
    if gid >= 8**7:
        records["gid"], gid = b"%d" % gid, 0
    if size >= 8**11:
        records["size"], size = b"%d" % size, 0
    records |= member.records  # the last counts: of a file with holes, its name
    own = block(name, member.kind, stat.S_IMODE(info.st_mode), uid, gid, size, seconds, link)
    if not records:
        return own
    lines = b"".join(record(os.fsencode(keyword), value) for keyword, value in records.items())
    return block(b"PaxHeaders", RECORDS, 0o644, 0, 0, len(lines), 0) + lines + padding(len(lines)) + own


def block(name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, seconds: int, link: bytes = b"") -> bytes:
    """A header of the old form: numbers are octal, a name is cut where its field ends."""
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, seconds)
    data = USTAR.pack(name, numbers, BLANK, kind, link, b"ustar\00000")
    return b"%b%06o\0 %b" % (data[:148], sum(data), data[156:])  # the checksum, where it was blank meanwhile


def record(keyword: bytes, value: bytes) -> bytes:
    """A line that begins with its length in bytes, the digits of the length included."""
    line = b" %b=%b\n" % (keyword, value)
    digits = len(str(len(line) + len(str(len(line)))))
    return b"%d%b" % (digits + len(line), line)


def decimal(nanoseconds: int) -> bytes:
    """A time as records write it: seconds since 1970, with a fraction."""
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    return b"%b%d.%09d" % (b"-" * (nanoseconds < 0), seconds, fraction)


def padding(size: int) -> bytes:
    """What fills `size` bytes up to whole blocks."""
    return bytes(-size % BLOCK)
