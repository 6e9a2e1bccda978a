"""A second way into a container: a new process, placed into the namespaces of one that runs (setns(2)).

    runtime ── clone ──► a helper: joins the container's namespaces, all but the PID namespace, which only its
       │                 children can be born into; and for these
       │                     clone(CLONE_PARENT) ──► the process to be: a child of the runtime, and not of the helper,
       │                                             so that it is the runtime that learns its exit code
       │ ◄────────────── its PID; then the helper ends
       │ cgroup
       │ go ───────────────────────────────────────► as in `run`: capabilities, user, execve

The container's own processes see it come. While it is still Python, /proc/PID/exe means the host's interpreter; whoever
could open that for writing would own the host (CVE-2019-5736, runc's). What protects us: the helper makes itself
undumpable before it joins, and its child is born so. Then the kernel lets only those look into /proc/PID who have
CAP_SYS_PTRACE where the process came from: ptrace(2), "Ptrace access mode checking". execve(2) makes it dumpable again,
but then it is the container's program: init.refuse_ourselves sees to it that it is none that leads back to us, such as
a script with the first line `#!/proc/self/exe`. A process inside could still put one in its place between that look and
execve. Then the second lock has to hold, that what is being executed cannot be written to. runc runs from a sealed copy
of itself; for our Python that would double the time of each start.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NoReturn

from . import cgroups, init, namespaces, terminal
from .config import Config
from .container import Child, kill, reap, signals_forwarded, start, wait
from .guard import guarded
from .lib import explain, linux
from .lib.errors import ContainerError, sentence
from .lib.linux import CLONE, PR
from .records import monitor, state


class NoLog(monitor.Log):
    """What comes of an exec is not in the container's log, in Docker neither."""

    def __init__(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        """Forget it."""


def run(container: state.Container, config: Config) -> int:
    """Run a command in a running container until it ends. Returns its exit code; raises ContainerError if it failed."""
    with ExitStack() as cleanup:
        process = state.running_process(container)
        cleanup.callback(os.close, process)
        sources, ends = ({}, []) if config.tty else monitor.pipes(False)
        child = cleanup.enter_context(joined(config, process, ends))
        try:
            cgroups.join(container.id, child.pid)
            cleanup.enter_context(signals_forwarded(child))
            master = start(child)
        except (ProcessLookupError, ConnectionResetError):  # it died with the container, before it had read its "go"
            raise ContainerError(f"{config.name}: it has just ended") from None
        if master is not None:
            terminal.attend(master, child.pidfd, config.interactive, NoLog())
            kill(child)  # it has ended, unless the caller's terminal went away first
        monitor.relay(NoLog(), sources, child.pidfd)
        return wait(child)


@contextmanager
def joined(config: Config, process: int, ends: list[int]) -> Iterator[Child]:
    """Have a process born into the namespaces of `process` (a pidfd), which waits for our word; at the end kill it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with its:
            helper = linux.clone(CLONE(0))
            if helper == 0:
                ours.close()
                join(config, process, its, ends)
        for end in ends:
            os.close(end)
        os.waitpid(helper, 0)
        word = b""
        with suppress(BlockingIOError):  # no word: it was killed, and its child still holds the channel open
            word = ours.recv(terminal.CHUNK, socket.MSG_DONTWAIT)
        if not word.isdigit():
            raise ContainerError(os.fsdecode(word) or "the process that should join the container was killed")
        child = Child(int(word), os.pidfd_open(int(word)), ours)
        try:
            with guarded(lambda: kill(child), needs=child.pidfd):
                yield child
        finally:
            reap(child)


def join(config: Config, process: int, channel: socket.socket, ends: list[int]) -> NoReturn:
    """The helper: join the namespaces, have a child born there, tell its PID."""
    try:
        explain.i_am("helper")
        linux.prctl(PR.PR_SET_DUMPABLE, 0, "SUID_DUMP_DISABLE")
        linux.setns(process, namespaces.flags() | CLONE.CLONE_NEWCGROUP)
        pid = linux.clone(CLONE.CLONE_PARENT)
        if pid == 0:
            init.main(config, None, channel, ends)
        channel.send(str(pid).encode())
    except ProcessLookupError:
        channel.send(os.fsencode(f"{config.name}: it has just ended"))
    except ContainerError as error:
        channel.send(os.fsencode(str(error)))
    except OSError as error:
        with suppress(OSError):
            channel.send(os.fsencode(f"it cannot be joined, perhaps it has just ended: {sentence(error)}"))
    finally:
        os._exit(0)
