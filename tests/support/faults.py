"""Make system calls fail, and check what must be true whatever has failed: see step01/test_faults.py."""

import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import image, strace
from tests.support.runtime import Result, Runtime, Word

EVERY = os.environ.get("MYDOCKER_TEST_FAULTS") == "all"
# What the kernel says when it cannot: each a reason that this call can really fail for.
REASONS = {
    "clone": "ENOMEM",
    "mkdir": "ENOSPC",
    "openat": "EMFILE",
    "read": "EIO",
    "recvfrom": "ECONNRESET",
    "recvmsg": "ECONNRESET",
    "rename": "ENOSPC",
    "sendmsg": "ENOBUFS",
    "sendto": "ENOBUFS",
    "socket": "EMFILE",
    "socketpair": "EMFILE",
    "pidfd_open": "EMFILE",
    "symlink": "ENOSPC",
    "write": "ENOSPC",
}
# These cannot fail, or only if the program that calls them is wrong.
UNFAILING = """
    brk capget close epoll_create1 exit_group futex geteuid getpid getrandom getsockname gettid lseek madvise mmap
    mprotect mremap munmap pidfd_send_signal poll rt_sigaction rt_sigprocmask rt_sigreturn setsid umask uname wait4
    waitid
""".split()
# A container in which one of these has failed is not the one that was asked for: it must not run.
ESSENTIAL = """
    capset chdir chroot clone close_range fchdir mount pivot_root prctl setgroups sethostname setresgid setresuid
    umount2 unshare
""".split()


def sample(points: list[strace.Point], size: int, seed: str) -> list[strace.Point]:
    """Choose at most `size` points, first one for each call on each file, then further ones."""
    if EVERY:
        return points
    shuffled = random.Random(seed).sample(points, len(points))
    first = {(point.call.name, point.inside, point.call.path): point for point in shuffled}
    chosen = [*first.values(), *(point for point in shuffled if point not in first.values())][:size]
    return [point for point in points if point in chosen]


def can_fail(point: strace.Point) -> bool:
    harmless = re.match(r"\d+<.*>, (TCGETS|FIONBIO|FIOCLEX)|PR_CAPBSET_READ", point.call.arguments)
    return point.call.name not in UNFAILING and not harmless


def recorded(runtime: Runtime, trace: Path, words: Sequence[Word], **more: Any) -> list[strace.Point]:
    """Return the moments of a run without a fault."""
    for under in ((), strace.recording(trace)):  # a first one, which leaves Python's compiled files in place
        assert runtime.popen(words, under=under, **more).end().code == 0
    return strace.points(trace)


def failed_well(runtime: Runtime, result: Result, when: object) -> None:
    """Check that the runtime has failed with one line, and a code of Docker's table."""
    try:
        runtime.refusal(result, result.code if result.code in (126, 127) else 125)
    except AssertionError as wrong:
        raise AssertionError(f"{when}: {wrong}") from None


def all_is_well(runtime: Runtime) -> None:
    """Check that the next run works, and has swept what a killed one left. (host_is_as_it_was checks the rest.)"""
    assert runtime.output("echo", "well") == "well"
    if runtime.step >= 3:
        store_is_whole(runtime, Path(runtime.environment["MYDOCKER_ROOT"]))
    if runtime.step >= 4:
        assert list(Path(runtime.environment["MYDOCKER_ROOT"], runtime.layers).iterdir()) == [], "no layer is left"


def store_is_whole(runtime: Runtime, root: Path) -> None:
    """Check that the next import leaves nothing half-made, and that each image of the list can be run."""
    if runtime.step < 6:  # which have no images but `busybox`
        return
    store = {"MYDOCKER_ROOT": str(root)}
    imported = runtime.call("import", str(image.small_tar()), "sweeper", env=store)
    assert imported.code == 0, imported.err.decode()
    listed = runtime.call("images", "-q", env=store).out.decode().split()
    assert sorted(listed) == sorted(path.name for path in (root / "images").iterdir() if path.is_dir())
    assert all((root / "images" / name / "rootfs").is_dir() for name in listed)
    assert runtime.call("rmi", "sweeper", env=store).code == 0
    assert list((root / "tmp").iterdir()) == []
