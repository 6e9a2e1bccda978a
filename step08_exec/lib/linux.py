"""System calls that Python lacks, made with ctypes: one small function for each man page.

Each raises OSError if the kernel refuses, and --explain shows each call.
"""

import ctypes
import fcntl
import os
import signal
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum, IntFlag
from functools import partial
from pathlib import Path

from . import explain

# PyDLL, unlike CDLL, keeps Python's global lock during the call. After clone(2) the child has only the calling thread.
# If it released the lock, another thread could hold it at that moment; in the child the lock would stay taken.
_libc = ctypes.PyDLL(None, use_errno=True)
# Calls for which older C libraries have no function. Their numbers are the same on all processors.
NUMBERS = {"clone3": 435, "open_tree": 428, "move_mount": 429, "openat2": 437, "mount_setattr": 442}
AT_FDCWD = -100


class CLONE(IntFlag):
    """Flags of clone3(2) and unshare(2), in strace's order. Most of them create a new namespace (namespaces(7))."""

    CLONE_PARENT = 0x00008000  # the exception: the child's parent is the caller's parent
    CLONE_NEWNS = 0x00020000
    CLONE_NEWCGROUP = 0x02000000
    CLONE_NEWUTS = 0x04000000
    CLONE_NEWIPC = 0x08000000
    CLONE_NEWUSER = 0x10000000
    CLONE_NEWPID = 0x20000000
    CLONE_NEWNET = 0x40000000
    CLONE_INTO_CGROUP = 0x200000000


class MS(IntFlag):
    """Flags of mount(2)."""

    MS_RDONLY = 0x1
    MS_NOSUID = 0x2
    MS_NODEV = 0x4
    MS_NOEXEC = 0x8
    MS_REMOUNT = 0x20
    MS_BIND = 0x1000
    MS_REC = 0x4000
    MS_PRIVATE = 0x40000


class MOUNT_ATTR(IntFlag):
    """Flags of mount_setattr(2)."""

    MOUNT_ATTR_RDONLY = 0x1
    MOUNT_ATTR_NODEV = 0x4


class MNT(IntFlag):
    """Flags of umount2(2)."""

    MNT_DETACH = 0x2


class PR(IntEnum):
    """Operations of prctl(2)."""

    PR_SET_PDEATHSIG = 1
    PR_SET_DUMPABLE = 4
    PR_CAPBSET_DROP = 24


def _call(name: str, *args: object, shown: tuple[object, ...] | None = None) -> int:
    """Call libc's function `name`. --explain shows the arguments as `shown` where strace prints them differently."""
    function = partial(_libc.syscall, NUMBERS[name]) if name in NUMBERS else getattr(_libc, name)
    result = int(function(*(os.fsencode(a) if isinstance(a, str) else a for a in args)))
    error = ctypes.get_errno() if result == -1 else 0
    shown = args if shown is None else shown
    explain.call(name, shown, result, error)
    if error:
        raise OSError(error, f"{name}({', '.join(map(explain.show, shown))}): {os.strerror(error)}")
    return result


def clone(flags: CLONE, cgroup: int | None = None) -> int:
    """Like fork(2), but the child starts in new namespaces: clone3(2), Linux 5.3.

    The child also starts in a `cgroup` of version 2, if the descriptor of one is given (Linux 5.7).

    Returns 0 in the child, its PID in the parent. The child gets no new stack, so it goes on here with a copy of all
    memory. As os.fork does, we tell Python before and after: else locks that other threads hold would stay locked.
    """
    if cgroup is not None:
        flags |= CLONE.CLONE_INTO_CGROUP
    exit_signal = 0 if flags & CLONE.CLONE_PARENT else signal.SIGCHLD  # with CLONE_PARENT, it is the caller's own
    # struct clone_args. Zero: pidfd, child_tid, parent_tid; stack, stack_size, tls, set_tid, set_tid_size.
    arguments = struct.pack("=11Q", flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup or 0)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_libc.syscall(ctypes.c_long(NUMBERS["clone3"]), arguments, ctypes.c_size_t(len(arguments))))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno() if pid < 0 else 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    shown = f"flags={explain.show(flags)}, exit_signal={'SIGCHLD' if exit_signal else 0}, stack=NULL, stack_size=0"
    shown += "" if cgroup is None else f", cgroup={cgroup}"
    explain.call("clone3", [explain.Raw(f"{{{shown}}}"), len(arguments)], pid, error)
    if error:
        raise OSError(error, f"clone3({explain.show(flags)}): {os.strerror(error)}")
    return pid


def unshare(flags: CLONE) -> None:
    """unshare(2): move the caller itself to new namespaces."""
    _call("unshare", flags)


def setns(process: int, flags: CLONE) -> None:
    """setns(2): move the caller into namespaces of a process, given by its pidfd (Linux 5.8)."""
    _call("setns", process, flags)


def mount(source: str | None, target: str, kind: str | None, flags: MS, data: str | None = None) -> None:
    """mount(2). `kind` is the file system's type."""
    _call("mount", source, target, kind, flags, data)


def umount(target: str, flags: MNT) -> None:
    """umount2(2)."""
    _call("umount2", target, flags)


def open_tree(path: str) -> int:
    """Copy the mount at `path` and those below it; attach the copy nowhere. Returns its descriptor: open_tree(2)."""
    flags = 0x1 | 0x80000 | 0x8000  # the names in the next line, in their order
    shown = (explain.Raw("AT_FDCWD"), path, explain.Raw("OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE"))
    return _call("open_tree", AT_FDCWD, path, flags, shown=shown)


def mount_setattr(mount: int, attributes: MOUNT_ATTR) -> None:
    """Set flags of the mount of a descriptor, and of the mounts below it: mount_setattr(2), Linux 5.12."""
    flags = 0x1000 | 0x8000  # AT_EMPTY_PATH|AT_RECURSIVE
    wanted = explain.Raw(f"{{attr_set={explain.show(attributes)}, attr_clr=0, propagation=0, userns_fd=0}}")
    shown = (mount, "", explain.Raw("AT_EMPTY_PATH|AT_RECURSIVE"), wanted, 32)
    _call("mount_setattr", mount, "", flags, struct.pack("4Q", attributes, 0, 0, 0), 32, shown=shown)


def move_mount(mount: int, path: str) -> None:
    """Attach the mount of a descriptor at `path`: move_mount(2)."""
    shown = (mount, "", explain.Raw("AT_FDCWD"), path, explain.Raw("MOVE_MOUNT_F_EMPTY_PATH"))
    _call("move_mount", mount, "", AT_FDCWD, path, 0x4, shown=shown)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2): make `new_root` the root of the mount namespace, and mount the old root on `put_old`."""
    _call("pivot_root", new_root, put_old)


def open_inside(folder: Path, path: str) -> int:
    """Open a file for reading as if `folder` were the root directory, for links and `..` too: openat2(2)."""
    top = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        how = explain.Raw("{flags=O_RDONLY|O_NONBLOCK|O_CLOEXEC, resolve=RESOLVE_IN_ROOT}")
        packed = struct.pack("3Q", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, 0, 0x10)
        return _call("openat2", top, path, packed, len(packed), shown=(top, path, how, len(packed)))
    finally:
        os.close(top)


def chdir(path: str) -> None:
    """chdir(2)."""
    told("chdir", [path], os.chdir, path)


def mknod(path: str, major: int, minor: int) -> None:
    """Make a character device that everybody may read and write: mknod(2)."""
    device = f"makedev({major:#x}, {minor:#x})".replace("0x0", "0")
    shown = [path, explain.Raw("S_IFCHR|0666"), explain.Raw(device)]
    told("mknod", shown, os.mknod, path, stat.S_IFCHR | 0o666, os.makedev(major, minor))


def symlink(target: str, path: str) -> None:
    """symlink(2)."""
    told("symlink", [target, path], os.symlink, target, path)


def set_ids(uid: int, gid: int, groups: list[int]) -> None:
    """Become another user: setgroups(2), setresgid(2), setresuid(2). The user is last: only root may do the rest."""
    told("setgroups", [len(groups), groups], os.setgroups, groups)
    told("setresgid", [gid] * 3, os.setresgid, gid, gid, gid)
    told("setresuid", [uid] * 3, os.setresuid, uid, uid, uid)


def bounding_set() -> list[int]:
    """Return the capabilities that this process could still get, by number: PR_CAPBSET_READ in prctl(2)."""
    answers = [_libc.prctl(23, number, 0, 0, 0) for number in range(64)]  # -1: this kernel has no such capability
    return [number for number, answer in enumerate(answers) if answer == 1]


CAPABILITY_HEADER = struct.pack("=Ii", 0x20080522, 0)  # version 3, this process


def capget() -> set[int]:
    """Return the permitted capabilities of this process, by number: capget(2)."""
    data = ctypes.create_string_buffer(24)
    _libc.capget(CAPABILITY_HEADER, data)
    _, low, _, _, high, _ = struct.unpack("=6I", data)  # effective, permitted, inheritable, 32 bits of each at a time
    return {number for number in range(64) if (high << 32 | low) >> number & 1}


def capset(kept: dict[int, str]) -> None:
    """Keep these capabilities (number: name) and no others: capset(2). The kernel takes them as two 32-bit words."""
    mask = sum(1 << number for number in kept)
    words = [(mask >> shift & 0xFFFFFFFF) for shift in (0, 32)]  # for each: effective, permitted, inheritable
    data = struct.pack("=6I", *(value for word in words for value in (word, word, 0)))
    names = "|".join(f"1<<{name}" for name in kept.values())
    shown = (
        explain.Raw("{version=_LINUX_CAPABILITY_VERSION_3, pid=0}"),
        explain.Raw(f"{{effective={names}, permitted={names}, inheritable=0}}"),
    )
    _call("capset", CAPABILITY_HEADER, data, shown=shown)


def sethostname(name: str) -> None:
    """sethostname(2), for the UTS namespace of the caller."""
    _call("sethostname", name, len(name))


def prctl(operation: PR, argument: int, name: str) -> None:
    """prctl(2), for operations that take one number. strace prints its `name` instead."""
    _call("prctl", operation, argument, 0, 0, 0, shown=(explain.Raw(operation.name), explain.Raw(name)))


def close_range(first: int, last: int) -> None:
    """Close every descriptor from `first` to `last`, both included: close_range(2), Linux 5.9."""
    _call("close_range", ctypes.c_uint(first), ctypes.c_uint(last), 0, shown=(first, last, 0))


def told(name: str, shown: Sequence[object], function: Callable[..., object], *args: object) -> None:
    """Make a system call that Python has. --explain shows it under the kernel's `name`, also if it fails."""
    try:
        function(*args)
    except OSError as error:
        explain.call(name, shown, -1, error.errno or 0)
        raise OSError(error.errno, f"{name}({', '.join(map(explain.show, shown))}): {error.strerror}") from None
    explain.call(name, shown)


def mkdir(path: str | os.PathLike[str], mode: int = 0o777) -> None:
    """mkdir(2)."""
    told("mkdir", [path, explain.Raw(f"0{mode:o}")], os.mkdir, path, mode)


def rmdir(path: str | os.PathLike[str]) -> None:
    """rmdir(2)."""
    told("rmdir", [path], os.rmdir, path)


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """rename(2)."""
    told("rename", [source, target], os.rename, source, target)


def read_file(path: str | os.PathLike[str]) -> str:
    """Return a file's text, or "" if it cannot be read. Bytes that are not UTF-8 are kept, as in os.fsdecode."""
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""


def write_file(path: str | os.PathLike[str], text: str) -> None:
    """Write to a file of the kernel (in /proc or /sys) with one write(2). The file must exist: none is created."""
    explain.line(f"echo {text} > {os.fspath(path)}")
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        os.close(fd)


def lock(directory: Path, shared: bool = False, wait: bool = True) -> int:
    """Lock a directory: flock(2). Returns a descriptor: the lock ends when it is closed, or when its process dies.

    Raises BlockingIOError if another process holds the lock and `wait` is false.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(fd)
        raise
    return fd


@contextmanager
def locked(directory: Path, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a directory's lock as long as the `with` block runs."""
    held = lock(directory, shared, wait)
    try:
        yield
    finally:
        os.close(held)
