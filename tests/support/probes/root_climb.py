"""Attempts to undo what shuts a container in. Arguments: the masked and the read-only paths. Prints what succeeded."""

import ctypes
import json
import os
import sys
from collections.abc import Iterator

MASKED, READ_ONLY = sys.argv[1].split(), sys.argv[2].split()
NOSUID, NODEV, NOEXEC, REMOUNT, BIND = 2, 4, 8, 32, 4096  # of mount(2)
DETACH = 2  # of umount2(2)
NEWNS, NEWUSER, NEWPID, NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000  # of unshare(2)
PLACE = "/dev/shm/place"
libc = ctypes.CDLL(None)


def mount(source: str | None, target: str, kind: str | None, flags: int) -> int:
    words = (word and word.encode() for word in (source, target, kind))
    return int(libc.mount(*words, ctypes.c_ulong(flags), None))


def climb(how: str) -> Iterator[str]:
    """Yield all that would uncover, or make writable, something of the host's."""
    for path in (*MASKED, *READ_ONLY, "/proc", "/sys", "/dev", "/"):
        if os.path.exists(path) and libc.umount2(path.encode(), DETACH) == 0:
            yield f"{how}: umount {path}"
    for path in (*READ_ONLY, "/sys"):
        for flags in (REMOUNT, REMOUNT | BIND, REMOUNT | BIND | NOSUID | NODEV | NOEXEC):
            if os.path.exists(path) and mount(None, path, None, flags) == 0:
                yield f"{how}: remount {path} with flags {flags}"
    for kind in ("proc", "sysfs", "devtmpfs", "cgroup"):
        if mount(kind, PLACE, kind, 0) == 0:
            yield f"{how}: mount a new {kind}"
    if not os.path.samefile("/", "/.."):
        yield f"{how}: something lies above /"


def climb_in_a_user_namespace() -> list[str]:
    """There everybody has all capabilities; but not over the mounts that come from outside."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        if libc.unshare(NEWUSER | NEWNS | NEWPID | NEWNET) == 0 and os.fork() == 0:
            os.write(writing, json.dumps([*climb("in a user namespace")]).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as told:
        found: list[str] = json.loads(told.read() or "[]")
        return found


os.mkdir(PLACE)
succeeded = [*climb("as it is")]
if libc.unshare(NEWNS) == 0:
    succeeded.append("unshare")
if libc.sethostname(b"x", 1) == 0:
    succeeded.append("sethostname")
if libc.setpriority(0, 0, -5) == 0:
    succeeded.append("nice")
print(json.dumps(succeeded + climb_in_a_user_namespace()))
