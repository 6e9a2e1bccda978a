"""The process that stays with a container, and its log.

In the foreground that is the runtime itself. With -d it is this file, run as a program of its own: the runtime has
started the container, and becomes it by execve(2). So it is still the container's parent, who alone can learn its exit
code; the locks go on being held, as their descriptors stay open; but Typer, Rich and all the rest are gone from
memory. Hence only the standard library is imported here, and of that little.
"""

import os
import select
import struct
import sys
import time

TYPE_CHECKING = False  # typing itself would cost a megabyte; mypy takes this variable for true
if TYPE_CHECKING:
    from typing import NoReturn

CHUNK = 65536  # bytes
TICK = 200  # milliseconds: see terminal.py
STEP = 10_000_000  # nanoseconds: times are not noted more often, or they would take more room than the log
TIME = struct.Struct("=QQ")  # where in the log a piece begins, and when it was written: nanoseconds since 1970


class Log:
    """All that a container has written, as it wrote it: `log`, which cat(1) can show; when is in `log.times`."""

    def __init__(self, directory: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.data, self.times = (os.open(f"{directory}/{name}", flags, 0o600) for name in ("log", "log.times"))
        self.size = 0  # bytes
        self.stamped = 0  # when the last time was noted, nanoseconds since 1970

    def write(self, data: bytes) -> None:
        """Add to the log. On a full disk it is lost: a container must not stand still for its log."""
        try:
            if (now := time.time_ns()) - self.stamped > STEP:
                os.write(self.times, TIME.pack(self.size, now))
                self.stamped = now
            while data:
                written = os.write(self.data, data)
                self.size, data = self.size + written, data[written:]
        except OSError:
            pass


def pipes(together: bool) -> tuple[dict[int, int], list[int]]:
    """Pipes for a container's output: their reading ends, each with where it goes on to; and its ends for 1 and 2.

    One pipe for both where both go to one place: from two, nobody could tell what was written first.
    """
    together = together or os.path.sameopenfile(1, 2)
    (source, output), (second, errors) = os.pipe(), (-1, -1) if together else os.pipe()
    if together:
        return {source: 1}, [output, os.dup(output)]
    return {source: 1, second: 2}, [output, errors]


def relay(log: Log, targets: dict[int, int], ended: int) -> None:
    """Read from pipes into the log, and on into the `targets` that they have, until the container has ended.

    `ended` is its pidfd. By the time that this tells of the end, all that the container's processes wrote is in the
    pipes: the kernel kills the others before PID 1 is dead to its parent (pid_namespaces(7)).
    """
    poll = select.poll()
    for fd in (ended, *targets):
        poll.register(fd, select.POLLIN)
    alive = True
    while alive or targets:
        ready = [fd for fd, _ in poll.poll(TICK if alive else 0)]
        if not alive and not ready:
            break  # somebody outside holds a pipe open, but there is nothing in it
        for fd in ready:
            if fd == ended:
                alive = False
                poll.unregister(ended)
            elif not pass_on(log, fd, targets[fd]):
                poll.unregister(fd)
                os.close(fd)
                del targets[fd]


def pass_on(log: Log, source: int, target: int) -> bool:
    """One piece from a pipe to the log and to `target` (-1: nowhere else). False when there will be no more."""
    data = os.read(source, CHUNK)
    if not data:
        return False
    log.write(data)
    try:
        while data and target != -1:
            try:
                data = data[os.write(target, data) :]
            except BlockingIOError:
                select.select([], [target], [])
    except OSError:
        return False  # nobody reads it any more: so the command is told, by SIGPIPE
    return True


def become(directory: str, source: int, ended: int, dropped: set[int]) -> "NoReturn":
    """Become this file as a program of its own. Our descriptors stay open, but for those to be dropped.

    The caller's do not: what he has locked or piped would else be held as long as the container runs. Which are his?
    Those that came to us by exec, so that they can be inherited; what Python opens is close-on-exec.
    """
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.chdir("/")
    for name in os.listdir("/proc/self/fd"):
        if (fd := int(name)) > 2 and os.path.exists(f"/proc/self/fd/{fd}"):
            os.set_inheritable(fd, not os.get_inheritable(fd) and fd not in dropped)
    path = ":".join(map(os.path.abspath, sys.path))
    words = [
        "-I",
        "-S",
        os.path.abspath(__file__),
        directory,
        str(source),
        str(ended),
        str(__package__).split(".")[0],
        path,
    ]
    os.execv(sys.executable, [sys.executable, *words])


def main(directory: str, source: str, ended: str, package: str, path: str) -> None:
    """Stay until the container has ended; then load the runtime again to clean up."""
    relay(Log(directory), {int(source): -1}, int(ended))
    result = os.waitid(os.P_PIDFD, int(ended), os.WEXITED)
    assert result is not None
    code = result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status
    sys.path[:] = path.split(":")
    __import__(f"{package}.container")
    sys.modules[f"{package}.container"].finish(directory, code)


if __name__ == "__main__":
    main(*sys.argv[1:])
