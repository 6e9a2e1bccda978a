"""The process that stays with a container, and its log.

In the foreground that is the runtime itself. With -d it is this file, run as a program of its own: the runtime has
started the container, and becomes this program by execve(2). So it is still the container's parent, and only the parent
learns the exit code; the locks are still held, as their descriptors stay open; but Typer, Rich and all the rest are
gone from memory. That is why this file imports little, and nothing but the standard library.
"""

import os
import select
import sys
import time

TYPE_CHECKING = False  # typing itself would cost a megabyte; mypy takes this variable for true
if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

CHUNK = 65536  # bytes
TICK = 200  # milliseconds: see child.py
STREAMS = {1: b"stdout", 2: b"stderr"}  # as Kubernetes calls them in its logs


class Log:
    """All that a container has written, one line for each of its lines: TIME STREAM F TEXT.

    P instead of F: a part of a line, whose end was not written yet. Containers' logs in Kubernetes look the same.
    """

    def __init__(self, directory: "str | Path") -> None:
        self.file = os.open(f"{directory}/log", os.O_WRONLY | os.O_APPEND)
        self.latest = 0  # nanoseconds since 1970: time never goes back in a log, even if the clock is set back

    def write(self, stream: int, data: bytes) -> None:
        """Add what was written to 1 or 2. On a full disk it is lost: a container must not stand still for its log."""
        self.latest = max(self.latest, time.time_ns())
        seconds, rest = divmod(self.latest, 10**9)
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09}Z".encode()
        *whole, part = data.split(b"\n")
        lines = b"".join(b"%s %s F %s\n" % (stamp, STREAMS[stream], line) for line in whole)
        if part:
            lines += b"%s %s P %s\n" % (stamp, STREAMS[stream], part)
        try:
            if (written := os.write(self.file, lines)) < len(lines):  # the disk is full: no half line may stay
                surplus = written - (lines.rfind(b"\n", 0, written) + 1)
                os.ftruncate(self.file, os.fstat(self.file).st_size - surplus)
        except OSError:
            pass


def pipes(detached: bool) -> tuple[dict[int, int], list[int]]:
    """Pipes for a container's output: their reading ends, each with where it goes on to; and its ends for 1 and 2.

    One pipe for both if both go to one place: with two, nobody could tell what was written first.
    """
    if not detached and os.path.sameopenfile(1, 2):
        source, output = os.pipe()
        return {source: 1}, [output, os.dup(output)]
    (source, output), (second, errors) = os.pipe(), os.pipe()
    return {source: 1, second: 2}, [output, errors]


def relay(log: Log, sources: dict[int, int], ended: int) -> None:
    """Read from pipes into the log, and on to the streams that `sources` names, until nobody can write to them.

    `ended` is its pidfd. By the time that this tells of the end, all that the container's processes wrote is in the
    pipes: the kernel kills the others before PID 1 is dead to its parent (pid_namespaces(7)).
    """
    poll = select.poll()
    for fd in (ended, *sources):
        poll.register(fd, select.POLLIN)
    alive = True
    while sources:
        ready = [fd for fd, _ in poll.poll(TICK if alive else 0)]
        if not alive and not ready:
            break  # somebody outside holds a pipe open, but there is nothing in it
        for fd in ready:
            if fd == ended:
                alive = False
                poll.unregister(ended)
            elif not pass_on(log, fd, sources[fd]):
                poll.unregister(fd)
                os.close(fd)
                del sources[fd]


def pass_on(log: Log, source: int, stream: int) -> bool:
    """One piece from a pipe to the log and to our own `stream`, 1 or 2. False when there will be no more."""
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
        return False  # nobody reads it any more: so the command is told, by SIGPIPE
    return True


def turn_into_monitor(directory: "Path", sources: dict[int, int], ended: int) -> "NoReturn":
    """Become this file as a program of its own. The descriptors that the runtime has opened stay open.

    Those that the caller has left open are closed: otherwise a lock or a pipe of the caller's would be held as long as
    the container runs. A flag tells them apart: what came to us through exec has no close-on-exec, what Python opens
    has it.
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
    """Stay until the container has ended; then load our room of the runtime again, to note that and clean up."""
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
