"""The pseudo-terminal of -t (pty(7)): the container has its slave end, the runtime has its master end.

keyboard ─► caller's terminal (raw) ─► runtime ─► master │ slave ─► the command's 0, 1, 2
screen   ◄─ caller's terminal       ◄─ runtime ◄─ master │ slave ◄─
"""

import fcntl
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from .child import TICK, guarded
from .lib import explain, linux
from .lib.linux import MS
from .namespaces import ROOTLESS

CHUNK = 65536  # bytes


def mount_devpts() -> None:
    """Give the container terminals of its own, numbered from /dev/pts/0 (kernel: filesystems/devpts.rst)."""
    # gid 5 is the group `tty` on every distribution. Without root it is not mapped, so we cannot name it.
    group = "" if ROOTLESS else ",gid=5"
    options = f"newinstance,ptmxmode=0666,mode=0620{group}"
    linux.mount("devpts", "/dev/pts", "devpts", MS.MS_NOSUID | MS.MS_NOEXEC, options)


def open_terminal() -> int:
    """Open a new terminal and make it this process's 0, 1, 2 and controlling terminal. Returns the master end.

    Job control and Ctrl-C need a controlling terminal. Only the leader of a session can get one, and only if it has
    none: that is why setsid(2) was called before.
    """
    master, slave = os.openpty()
    copy_size(slave)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    explain.call("ioctl", [slave, explain.Raw("TIOCSCTTY"), 0])
    for standard in (0, 1, 2):
        os.dup2(slave, standard)
    os.close(slave)
    return master


def copy_size(terminal: int) -> None:
    """Give `terminal` the size of the caller's terminal, if one of the standard streams is a terminal."""
    window = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
    if window is not None:
        termios.tcsetwinsize(terminal, termios.tcgetwinsize(window))


def attend(master: int, ended: int, interactive: bool) -> None:
    """Relay keys and output until the container has ended (its pidfd `ended` is readable); then close `master`.

    Returns earlier if the caller's own terminal is closed.
    """
    keyboard = raw(0) if interactive else nullcontext()
    # EIO: one of the two terminals has hung up. EPIPE: nobody reads our output.
    with suppress(OSError, termios.error), os.fdopen(master, "rb", buffering=0), size_followed(master), keyboard:
        relay(master, ended, interactive)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Put the terminal `fd` in raw mode: it passes on every key (cfmakeraw in termios(3)). Restore it at the end.

    The guard restores it even if the runtime is killed with SIGKILL: else the user's shell would show no keys.
    """
    before = termios.tcgetattr(fd)
    with guarded(lambda: termios.tcsetattr(fd, termios.TCSANOW, before), needs=fd):
        tty.setraw(fd, termios.TCSANOW)
        yield


@contextmanager
def size_followed(master: int) -> Iterator[None]:
    """Give the container's terminal the size of the caller's window, now and whenever that changes (SIGWINCH)."""

    before = signal.signal(signal.SIGWINCH, lambda *_: copy_size(master))
    copy_size(master)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def relay(master: int, ended: int, interactive: bool) -> None:
    """Carry keys in and output out until the container has ended and all its output is shown.

    Write to `master` only when it has room. If the command did not read its keys, a write would block. Then nobody
    would read the command's output, and both sides would wait for each other.
    """
    os.set_blocking(master, False)
    keys = b""
    while True:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(master, select.POLLIN | (select.POLLOUT if keys else 0))
        if interactive and not keys:
            poll.register(0, select.POLLIN)
        ready = dict(poll.poll(TICK))
        if 0 in ready and not (keys := os.read(0, CHUNK)):
            return  # end of file: the caller's terminal has hung up
        if keys and ready.get(master, 0) & select.POLLOUT:
            keys = keys[os.write(master, keys) :]
        if ready.get(master, 0) & (select.POLLIN | select.POLLHUP):
            try:
                output = os.read(master, CHUNK)
            except OSError:  # EIO: no process has the other end open; one may open it again
                if select.select([ended], [], [], TICK / 1000)[0]:
                    return
                continue
            show(output)
        elif ended in ready:
            return


def show(output: bytes) -> None:
    """Write all of `output` to standard output, even if that is non-blocking and takes only a part at a time."""
    while output:
        select.select([], [1], [])
        output = output[os.write(1, output) :]
