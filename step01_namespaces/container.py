"""The parent's half: prepare outside what can be prepared outside, clone, say go, wait, clean up.

Everything that has to be undone is entered on one ExitStack, which undoes it in reverse order however the run ends.
"""

import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from . import init, namespaces, terminal
from .config import Config
from .guard import guarded
from .lib import linux
from .lib.errors import ContainerError

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Child:
    """The container's init as its parent holds it. A pidfd, unlike a PID, can never come to mean another process."""

    pid: int
    pidfd: int
    channel: socket.socket


def new_id() -> str:
    """A container's id: 12 hexadecimal digits, drawn at random."""
    return os.urandom(6).hex()


def run(config: Config) -> int:
    """Run the container until its command ends. Returns the runtime's exit code; raises ContainerError if it failed."""
    with ExitStack() as cleanup:
        child = cleanup.enter_context(cloned(config))
        if namespaces.ROOTLESS:
            namespaces.map_caller_to_root(child.pid)
        cleanup.enter_context(signals_forwarded(child))
        master = start(child)
        if master is not None:
            terminal.attend(master, child.pidfd, config.interactive)
            kill(child)  # it has ended, unless the caller's terminal went away first
        return wait(child)


@contextmanager
def cloned(config: Config) -> Iterator[Child]:
    """Clone the container's init, which waits for our word; at the end kill it, if it still lives, and reap it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with its:
            try:
                pid = linux.clone(namespaces.flags())
            except OSError as error:
                raise namespaces.refusal(error) from None
            if pid == 0:
                ours.close()  # or the child would never see it end
                init.main(config, its)
        child = Child(pid, os.pidfd_open(pid), ours)
        try:
            with guarded(lambda: kill(child), needs=child.pidfd):  # if we are killed, it dies with us
                yield child
        finally:
            kill(child)
            with suppress(ChildProcessError):  # already waited for
                os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
            os.close(child.pidfd)


def start(child: Child) -> int | None:
    """Say go, and wait until the command runs. Returns the master end of its terminal, if it has one.

    Raises ContainerError with the reason that init sends if it does not come as far as exec.
    """
    with suppress(BrokenPipeError):  # init is dead: if it left a reason, we read it next
        child.channel.send(b"go")
    master = None
    while True:
        message, descriptors, _, _ = socket.recv_fds(child.channel, terminal.CHUNK, 1)
        if descriptors:
            master = descriptors[0]
        elif message:
            code, reason = os.fsdecode(message).split(" ", 1)
            raise ContainerError(reason, int(code))
        else:
            return master  # end of file: exec closed init's end


@contextmanager
def signals_forwarded(child: Child) -> Iterator[None]:
    """Pass signals on to the container, once its command runs; until then undo what was begun, and end.

    What the caller ignores (nohup) stays ignored.
    """

    def forward(number: int, _frame: object) -> None:
        try:
            runs = child.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            runs = False  # neither news nor the end of the channel, so no exec yet
        if not runs:
            sys.exit(128 + number)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, number)

    wanted = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(child: Child) -> int:
    """Wait for the container's end. Returns its exit code as a shell tells it: 128 + the signal that killed it."""
    ended = select.poll()
    ended.register(child.pidfd, select.POLLIN)
    while not ended.poll(terminal.TICK):
        pass
    result = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
    assert result is not None  # only WNOHANG returns None
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def kill(child: Child) -> None:
    """Kill the container: when its PID 1 dies, the kernel kills all others in the PID namespace (pid_namespaces(7))."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
