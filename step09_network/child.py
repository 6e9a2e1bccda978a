"""Run a function in a child process: start the child, let it wait for "go", hear how it went, end it.

parent                              child
start() ──── clone3(2) ───────────► waits, while the parent prepares what must be done from outside
go()    ──── "go" ────────────────► what(channel)
hear()  ◄─── "0 TEXT" ───────────── news, perhaps with a file descriptor
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

LONGEST = 65536  # bytes that a message may have
# Milliseconds. Python runs signal handlers between system calls. If a signal comes just before a call that blocks, its
# handler must wait until the call returns. So each poll(2) of a long wait returns after this time.
TICK = 200
NO_NEW_NAMESPACES = CLONE(0)


@dataclass(frozen=True)
class Child:
    """A child process, as its parent sees it. A PID may be reused for another process; a pidfd means only this one."""

    pid: int
    pidfd: int
    channel: socket.socket

    def go(self) -> None:
        """Let the child begin."""
        with suppress(BrokenPipeError):  # the child is dead: if it sent a reason, hear() finds it
            self.channel.send(b"go")

    def hear(self) -> tuple[str, list[int]] | None:
        """Wait for news. Returns a text and descriptors, or None if the child has become the command or has died.

        Raises ContainerError with the reason if the child failed.
        """
        try:
            message, descriptors, _, _ = socket.recv_fds(self.channel, LONGEST, 1)
        except ConnectionResetError:  # the child ended before it read all that we sent; its last message may follow
            message, descriptors, _, _ = socket.recv_fds(self.channel, LONGEST, 1)
        if not message:
            return None
        code, _, text = os.fsdecode(message).partition(" ")
        if code != "0":
            raise ContainerError(text, int(code))
        return text, list(descriptors)

    def runs_command(self) -> bool:
        """Whether the child has become the command: exec has closed the channel, and no news is left to read."""
        try:
            return self.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except (BlockingIOError, ConnectionResetError):
            return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal. If PID 1 of a PID namespace dies, the kernel kills all others in it: pid_namespaces(7)."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self) -> int:
        """Wait until the child ends. Returns its exit code or, as a shell does, 128 + the signal that killed it."""
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        while not ended.poll(TICK):
            pass
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert result is not None  # only WNOHANG returns None
        return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status

    def close(self) -> None:
        """Kill the child if it still runs, and reap it: a dead child stays a zombie until its parent does so."""
        self.kill()
        with suppress(ChildProcessError):  # already waited for
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.channel.close()


def start(
    what: Callable[[socket.socket], object], flags: CLONE = NO_NEW_NAMESPACES, who: str = "", cgroup: int | None = None
) -> Child:
    """Start a child that calls `what` after it is told to go. It gets the new namespaces that `flags` ask for.

    It starts in the cgroup of the descriptor `cgroup`, if that is given.
    --explain shows what it does under the name `who`, and shows nothing of a child without a name.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with its, signals_blocked(), namespaces.refusal_explained():
            pid = linux.clone(flags, cgroup) if who else os.fork()
            if pid == 0:
                ours.close()  # else the child would keep it open, and never read end of file
                explain.set_process_name(who)
                do(what, its)
            if flags & CLONE.CLONE_NEWUSER:
                namespaces.map_caller_to_root(pid)
        child = Child(pid, os.pidfd_open(pid), ours)
    except BaseException:  # perhaps a signal, which was blocked until here
        ours.close()  # then the child ends, and with it the locks that it has inherited
        raise
    return child


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block all signals. A child that starts meanwhile keeps them blocked: its parent also gets a Ctrl-C, and acts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def do(what: Callable[[socket.socket], object], channel: socket.socket) -> NoReturn:
    """Run in the child: wait for "go", call `what`, report how it went, and end."""
    try:
        if channel.recv(16) == b"go":  # else end of file: the parent died before it was ready
            channel.send(os.fsencode(f"0 {what(channel)}"))
    except BaseException as error:
        channel.send(os.fsencode(f"{exit_code(error)} {sentence(error)}"))
    finally:
        os._exit(125)


def run(work: Callable[[], int], meanwhile: Callable[[], object] = lambda: None) -> int:
    """Run `work` in a worker process, and call `meanwhile` now and then. Returns the number that `work` returns."""
    with closing(worker(work)) as child:
        while not select.select([child.channel], [], [], TICK / 1000)[0]:
            meanwhile()
        return result(child)


def worker(work: Callable[[], int]) -> Child:
    """Start a child process for `work` that confines itself first, or needs privileges that the caller does not have.

    Without root the child is root in its own user namespace. It dies with us.
    """

    def at_work(_channel: socket.socket) -> int:
        linux.prctl(linux.PR.PR_SET_PDEATHSIG, signal.SIGKILL, "SIGKILL")
        return work()

    child = start(at_work, CLONE.CLONE_NEWUSER if namespaces.ROOTLESS else NO_NEW_NAMESPACES, "worker")
    try:
        child.go()
    except OSError:
        child.close()
        raise
    return child


def result(worker: Child) -> int:
    """Wait for the number that a worker returns. Raises ContainerError with the reason if the worker fails."""
    if (news := worker.hear()) is None:
        raise ContainerError("the worker process was killed")
    return int(news[0])


@contextmanager
def guarded(undo: Callable[[], object], needs: int) -> Iterator[None]:
    """Start a second process, the guard, that calls `undo` at the end, even if the runtime is killed with SIGKILL.

    The guard waits for end of file on its channel: however we die, the kernel closes our end. `undo` may use the
    standard streams and the descriptor `needs`. All others are closed: a pipe's end that the guard kept would be open.
    """

    def watch(channel: socket.socket) -> None:
        os.setsid()  # so that signals to the runtime's process group do not reach it
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
    """Close every descriptor above the standard streams, except those in `keep`."""
    first = 3
    for fd in sorted(keep):
        if first < fd:
            linux.close_range(first, fd - 1)
        first = max(first, fd + 1)
    linux.close_range(first, 2**32 - 1)
