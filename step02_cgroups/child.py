"""One way to have another process do something: start it, let it wait for "go", hear what comes of it, end it.

parent                              child
start() ──── clone3(2) ───────────► waits, while the parent prepares what must be done from outside
go()    ──── "go" ────────────────► what(channel)
hear()  ◄─── "0 TEXT" ───────────── news, with a descriptor if it has one to hand over
        ◄─── "CODE REASON" ──────── it has failed, and ends
        ◄─── end of file ────────── it became the command: exec closes the channel (close-on-exec)
"""

import os
import select
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from . import namespaces
from .lib import explain, linux
from .lib.errors import ContainerError, exit_code, sentence
from .lib.linux import CLONE

LONGEST = 65536  # bytes of a message
# Milliseconds. Python runs signal handlers between system calls: if a signal comes just before a call that blocks, its
# handler waits until that call ends. So where we wait for long, each poll(2) ends after this.
TICK = 200
NO_NEW_NAMESPACES = CLONE(0)


@dataclass(frozen=True)
class Child:
    """A child process as its parent holds it. A pidfd, unlike a PID, can never come to mean another process."""

    pid: int
    pidfd: int
    channel: socket.socket

    def go(self) -> None:
        """Let the child begin."""
        with suppress(BrokenPipeError):  # it is dead: if it left a reason, hear() finds it
            self.channel.send(b"go")

    def hear(self) -> tuple[str, list[int]] | None:
        """Wait for news: a text and descriptors; None when it has become the command, or has died.

        Raises ContainerError with the reason if it failed.
        """
        try:
            message, descriptors, _, _ = socket.recv_fds(self.channel, LONGEST, 1)
        except ConnectionResetError as error:  # it has ended before it read all that we sent; its last words come next
            message, descriptors, _, _ = socket.recv_fds(self.channel, LONGEST, 1)
            if not message:
                raise ConnectionResetError(error.errno, "the process was killed before it had begun") from None
        if not message:
            return None
        code, _, text = os.fsdecode(message).partition(" ")
        if code != "0":
            raise ContainerError(text, int(code))
        return text, list(descriptors)

    def runs_command(self) -> bool:
        """Whether the channel has ended without news: then exec has closed it."""
        try:
            return self.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except (BlockingIOError, ConnectionResetError):
            return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal. With the PID 1 of a PID namespace the kernel kills all others in it: pid_namespaces(7)."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self) -> int:
        """Wait for its end. Returns the exit code as a shell tells it: 128 + the signal that killed it."""
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        while not ended.poll(TICK):
            pass
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert result is not None  # only WNOHANG returns None
        return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status

    def close(self) -> None:
        """Kill it, if it still lives, and reap it, as its parent must."""
        self.kill()
        with suppress(ChildProcessError):  # already waited for
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.channel.close()


def start(
    what: Callable[[socket.socket], object], flags: CLONE = NO_NEW_NAMESPACES, who: str = "", cgroup: int | None = None
) -> Child:
    """Start a child that does `what` when it is told to go, in the new namespaces that `flags` ask for.

    It is born in `cgroup`, a descriptor, if one is given. --explain tells of it and what it does under the name `who`;
    of a child without a name it tells nothing.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with its, signals_blocked(), namespaces.refusal_explained():
            pid = linux.clone(flags, cgroup) if who else os.fork()
            if pid == 0:
                ours.close()  # or the child would never see it end
                explain.i_am(who)
                do(what, its)
            if flags & CLONE.CLONE_NEWUSER:
                namespaces.map_caller_to_root(pid)
        child = Child(pid, os.pidfd_open(pid), ours)
    except BaseException:  # a signal perhaps, which had to wait until here
        ours.close()  # then the child ends, and lets go of the locks that it has inherited
        raise
    return child


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Let signals wait. A child that is born here keeps them blocked: a Ctrl-C is its parent's, which hears it too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def do(what: Callable[[socket.socket], object], channel: socket.socket) -> NoReturn:
    """The child's side: wait for "go", do it, report how it went, and end."""
    try:
        if channel.recv(16) == b"go":  # else end of file: the parent died before it was ready
            channel.send(os.fsencode(f"0 {what(channel)}"))
    except BaseException as error:
        channel.send(os.fsencode(f"{exit_code(error)} {sentence(error)}"))
    finally:
        os._exit(125)


@contextmanager
def guarded(undo: Callable[[], object], needs: int) -> Iterator[None]:
    """Have `undo` done at the end by a process of its own, the guard, even if the runtime is killed with SIGKILL.

    The guard waits for its channel to end: the kernel closes our side of it, however we die. `undo` may use the
    standard streams and the descriptor that it `needs`.
    """

    def watch(channel: socket.socket) -> None:
        os.setsid()  # out of reach of what is sent to the runtime's process group
        close_all_but([channel.fileno(), needs])
        channel.recv(1)
        undo()

    with closing(start(watch)) as guard:
        guard.go()
        try:
            yield
        finally:
            guard.channel.close()
            guard.wait()


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor above the standard streams, except these."""
    first = 3
    for fd in sorted(keep):
        if first < fd:
            linux.close_range(first, fd - 1)
        first = max(first, fd + 1)
    linux.close_range(first, 2**32 - 1)
