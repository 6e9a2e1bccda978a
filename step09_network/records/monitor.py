"""The monitor: the process that stays with a container and writes its log.

In the foreground the runtime itself is the monitor. With -d the monitor is this file, run as a program: the runtime
starts the container, then becomes this program by execve(2). So it is still the container's parent, and only the parent
learns the exit code. It still holds the locks, as their descriptors stay open. But Typer, Rich and the other modules
are no longer in memory. That is why this file imports little, and only from the standard library.
"""

import os
import select
import sys
import time

TYPE_CHECKING = False  # to import typing would cost a megabyte; for mypy this name is true
if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

CHUNK = 65536  # bytes
TICK = 200  # milliseconds: see child.py
STREAMS = {1: b"stdout", 2: b"stderr"}  # as Kubernetes calls them in its logs


class Log:
    """The log of all that a container writes. For each line of output it has a line: TIME STREAM F TEXT.

    With P instead of F, TEXT is a part of a line, and the end is not written yet. Kubernetes uses the same format.
    """

    def __init__(self, directory: "str | Path") -> None:
        self.file = os.open(f"{directory}/log", os.O_WRONLY | os.O_APPEND)
        self.latest = 0  # nanoseconds since 1970: time never goes back in a log, even if the clock is set back

    def write(self, stream: int, data: bytes) -> None:
        """Add output of stream 1 or 2. On a full disk it is lost: a container must not have to wait for its log."""
        self.latest = max(self.latest, time.time_ns())
        seconds, rest = divmod(self.latest, 10**9)
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09}Z".encode()
        *whole, part = data.split(b"\n")
        lines = b"".join(b"%s %s F %s\n" % (stamp, STREAMS[stream], line) for line in whole)
        if part:
            lines += b"%s %s P %s\n" % (stamp, STREAMS[stream], part)
        try:
            if (written := os.write(self.file, lines)) < len(lines):  # the disk is full: remove the half line
                surplus = written - (lines.rfind(b"\n", 0, written) + 1)
                os.ftruncate(self.file, os.fstat(self.file).st_size - surplus)
        except OSError:
            pass


def pipes(detached: bool) -> tuple[dict[int, int], list[int]]:
    """Make pipes for a container's output. Returns for each reading end our stream, and the writing ends for 1 and 2.

    If our 1 and 2 are the same file, there is one pipe for both: with two, the order of the output would be lost.
    """
    if not detached and os.path.sameopenfile(1, 2):
        source, output = os.pipe()
        return {source: 1}, [output, os.dup(output)]
    (source, output), (second, errors) = os.pipe(), os.pipe()
    return {source: 1, second: 2}, [output, errors]


def relay(log: Log, sources: dict[int, int], ended: int) -> None:
    """Copy from the pipes in `sources` to the log and to our stream for each pipe, until nobody can write to them.

    `ended` is the pidfd of PID 1. When it is readable, all output is in the pipes: the kernel kills the container's
    other processes before it reports the end of PID 1 to the parent (pid_namespaces(7)).
    """
    poll = select.poll()
    for fd in (ended, *sources):
        poll.register(fd, select.POLLIN)
    alive = True
    while sources:
        ready = [fd for fd, _ in poll.poll(TICK if alive else 0)]
        if not alive and not ready:
            break  # a process outside holds a pipe open, but the pipe is empty
        for fd in ready:
            if fd == ended:
                alive = False
                poll.unregister(ended)
            elif not pass_on(log, fd, sources[fd]):
                poll.unregister(fd)
                os.close(fd)
                del sources[fd]


def pass_on(log: Log, source: int, stream: int) -> bool:
    """Copy one piece from a pipe to the log and to our `stream`, 1 or 2. Returns False if there will be no more."""
    data = os.read(source, CHUNK)
    if not data:
        return False
    log.write(stream, data)
    try:
        while data:
            try:
                data = data[os.write(stream, data) :]
            except BlockingIOError:
                select.select([], [stream], [])
    except OSError:
        return False  # nobody reads our output: the pipe is closed, and the command gets SIGPIPE
    return True


def turn_into_monitor(directory: "Path", sources: dict[int, int], ended: int) -> "NoReturn":
    """Execute this file as a program in place of the runtime. The descriptors that the runtime has opened stay open.

    Descriptors that the caller has left open are closed: otherwise we would hold a lock or a pipe of the caller as long
    as the container runs. The flag close-on-exec tells them apart: a descriptor that came through exec does not have
    it, a descriptor that Python opens has it.
    """
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.chdir("/")
    for name in os.listdir("/proc/self/fd"):
        if (fd := int(name)) > 2 and os.path.exists(f"/proc/self/fd/{fd}"):
            os.set_inheritable(fd, not os.get_inheritable(fd))
    package = str(__package__).split(".")[0]
    words = [str(directory), *map(str, sources), str(ended), package, ":".join(map(os.path.abspath, sys.path))]
    os.execv(sys.executable, [sys.executable, "-I", "-S", os.path.abspath(__file__), *words])


def main(directory: str, output: str, errors: str, ended: str, package: str, path: str) -> None:
    """Stay until the container has ended. Then import what we need of the runtime, record the end and clean up."""
    relay(Log(directory), {int(output): 1, int(errors): 2}, int(ended))
    result = os.waitid(os.P_PIDFD, int(ended), os.WEXITED)
    assert result is not None
    code = result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status
    sys.path[:] = path.split(":")
    from importlib import import_module
    from pathlib import Path

    import_module(f"{package}.records.record").finish(Path(directory), code)


if __name__ == "__main__":
    main(*sys.argv[1:])
