"""System calls that Python lacks, by ctypes: one small function for each man page.

Each raises OSError when the kernel says no, and each is told by --explain.
"""

import ctypes
import os
import signal
from enum import IntEnum, IntFlag

from . import explain
from .errors import ContainerError

# PyDLL, unlike CDLL, keeps Python's global lock during the call. After clone(2) only the calling thread is left
# in the child: had it let go of the lock, another thread could hold it, and nobody would ever give it back.
_libc = ctypes.PyDLL(None, use_errno=True)


class CLONE(IntFlag):
    """Which namespaces are made new (namespaces(7)), in the order strace prints them."""

    CLONE_NEWNS = 0x00020000
    CLONE_NEWUTS = 0x04000000
    CLONE_NEWIPC = 0x08000000
    CLONE_NEWUSER = 0x10000000
    CLONE_NEWPID = 0x20000000
    CLONE_NEWNET = 0x40000000


class MS(IntFlag):
    """Flags of mount(2)."""

    MS_NOSUID = 0x2
    MS_NODEV = 0x4
    MS_NOEXEC = 0x8
    MS_REC = 0x4000
    MS_PRIVATE = 0x40000


class PR(IntEnum):
    """Operations of prctl(2)."""

    PR_SET_PDEATHSIG = 1


def _call(name: str, *args: object, shown: tuple[object, ...] | None = None) -> int:
    """Call libc's function `name`; tell of it (with the arguments `shown`, where strace shows them otherwise)."""
    result = int(getattr(_libc, name)(*(os.fsencode(a) if isinstance(a, str) else a for a in args)))
    error = ctypes.get_errno() if result == -1 else 0
    shown = args if shown is None else shown
    explain.call(name, shown, result, error)
    if error:
        raise OSError(error, f"{name}({', '.join(map(explain.show, shown))}): {os.strerror(error)}")
    return result


def clone(flags: CLONE) -> int:
    """Like fork(2), but the child is born in new namespaces. Returns 0 in the child, its PID in the parent.

    The child is born with all signals blocked: what it would do of a Ctrl-C is the parent's, which hears it too.

    This is clone(2) without a stack and without libc: as fork(2), it returns twice, with all memory copied. So Python
    must be told before and after, as os.fork tells it, or its locks stay as the parent's other threads held them.
    """
    number = {"x86_64": 56, "aarch64": 220, "riscv64": 220}.get(os.uname().machine)
    if number is None:
        raise ContainerError(f"clone's system call number on {os.uname().machine} is not known here")
    words = (number, flags | signal.SIGCHLD, 0, 0, 0, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_libc.syscall(*map(ctypes.c_long, words)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno() if pid < 0 else 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    shown = f"{explain.show(flags)}|SIGCHLD" if flags else "SIGCHLD"
    explain.call("clone", [explain.Raw(f"child_stack=NULL, flags={shown}")], pid, error)
    if error:
        raise OSError(error, f"clone({explain.show(flags)}): {os.strerror(error)}")
    return pid


def mount(source: str | None, target: str, kind: str | None, flags: MS, data: str | None = None) -> None:
    """mount(2). `kind` is the file system's type."""
    _call("mount", source, target, kind, flags, data)


def sethostname(name: str) -> None:
    """sethostname(2), for the UTS namespace of the caller."""
    _call("sethostname", name, len(name))


def prctl(operation: PR, argument: int, name: str) -> None:
    """prctl(2), for the operations that take one number, which strace calls by its `name`."""
    _call("prctl", operation, argument, 0, 0, 0, shown=(explain.Raw(operation.name), explain.Raw(name)))


def close_range(first: int, last: int) -> None:
    """Close every descriptor from `first` to `last`, both included: close_range(2), Linux 5.9."""
    _call("close_range", ctypes.c_uint(first), ctypes.c_uint(last), 0, shown=(first, last, 0))


def write_file(path: str | os.PathLike[str], text: str) -> None:
    """Write to a file of the kernel's (in /proc or /sys): one write(2) to a file that exists, never a new one."""
    explain.line(f"echo {text} > {os.fspath(path)}")
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
