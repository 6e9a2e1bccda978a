"""Find the user that the command runs as, in the image's own files: passwd(5) and group(5).

This is called inside the container's root. Python's module pwd would ask the host's name services.
"""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field

from . import namespaces
from .lib.errors import ContainerError

LONGEST_FILE = 2**20  # bytes: the image may hold anything
LARGEST_ID = 2**32 - 2  # -1, all bits set, means "leave as it is" to the kernel


@dataclass(frozen=True)
class User:
    """A user as the kernel knows it, by numbers; and the home directory."""

    uid: int
    gid: int
    groups: list[int] = field(default_factory=list)
    home: str = "/"


def find(wanted: str) -> User:
    """Return the user for `USER[:GROUP]`, each a name or a number. Raises ContainerError if there is no such name.

    Without root the container has only one user: its root, which is the caller.
    """
    name, _, group = wanted.partition(":")
    user = look_up(name or "0", group)
    if namespaces.ROOTLESS and (user.uid or user.gid):
        raise ContainerError("-u: without root the container's only user is root (you); leave -u out, or run as root")
    return user


def look_up(name: str, group: str) -> User:
    """Find a user in the image's files. Without `group`, take the user's own groups from there.

    A number that is not in the files is allowed, as in Docker: then the group is 0 and the home is `/`.
    """
    entries = [fields for fields in table("/etc/passwd") if len(fields) >= 6 and fields[2].isdecimal()]
    entry = next((fields for fields in entries if name in (fields[0], fields[2])), None)
    uid = number(entry[2] if entry else name, "user")
    gid = number(entry[3], "group") if entry else 0
    home = (entry[5] if entry else "") or "/"
    if group:
        return User(uid, find_group(group), [], home)
    members = {number(fields[2], "group") for fields in groups() if entry and entry[0] in fields[3].split(",")}
    return User(uid, gid, sorted(members - {gid}), home)


def find_group(wanted: str) -> int:
    """Return the number of a group, given its name or number."""
    found = [fields[2] for fields in groups() if fields[0] == wanted]
    return number(found[0] if found else wanted, "group")


def groups() -> list[list[str]]:
    """Return the entries of /etc/group: name, password, number, members."""
    return [fields for fields in table("/etc/group") if len(fields) == 4 and fields[2].isdecimal()]


def table(path: str) -> list[list[str]]:
    """Return the fields of each line in a file like passwd(5); an empty list if the image has no such file."""
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # with a FIFO we would wait for ever
        try:
            data = os.read(fd, LONGEST_FILE) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)
        return [os.fsdecode(line).split(":") for line in data.split(b"\n")]
    return []


def number(text: str, what: str) -> int:
    """Return a user's or group's number. Raises ContainerError if `text` is a name: it was not found."""
    if not (text.isascii() and text.isdecimal()):
        raise ContainerError(f"{what} {text!r} is not in the image's /etc/{'passwd' if what == 'user' else 'group'}")
    if len(text) > 10 or int(text) > LARGEST_ID:
        raise ContainerError(f"{what} {text:.20}: the number may be at most {LARGEST_ID}")
    return int(text)
