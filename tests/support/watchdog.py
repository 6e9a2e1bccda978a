"""No test may hang the run. pytest-timeout raises an error in a test that takes too long. If that does not help,
this module ends the test.

It watches each phase of a test by itself (set-up, call, end, and each further try). If a phase has not ended some time
after its timeout, all its processes are killed: most tests wait for one of them. If it still does not end, the worker
exits: pytest-xdist names the test and starts another worker.
"""

import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import host, session

MARGIN = 30.0 * session.SLOWNESS  # seconds, after pytest-timeout and once more after the processes were killed


@contextmanager
def over(name: str, limit: float) -> Iterator[None]:
    """Watch the `with` block. Its name can be read from outside, in the session's directory."""
    now = session.worker() / "now"
    now.write_text(f"{name}\n")
    killed: list[str] = []
    timers = [
        threading.Timer(limit + MARGIN, lambda: killed.append(kill_all(name))),
        threading.Timer(limit + 2 * MARGIN, leave, [name]),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        now.write_text("nothing\n")
    assert not killed, killed[0]


def kill_all(name: str) -> str:
    left = host.descendants()
    for process in left:
        process.signal(signal.SIGKILL)
    said = f"{name} hung; killed: {', '.join(map(str, left)) or 'nothing'}"
    with told().open("a") as file:
        file.write(f"{said}\n")
    return said


def leave(name: str) -> None:
    with told().open("a") as file:
        file.write(f"{name} still hung; its worker was ended here:\n")
        file.flush()
        faulthandler.dump_traceback(file)
    os._exit(1)


def told() -> Path:
    """Return the file that the session prints at its end: a worker's own output would be lost with the worker."""
    return session.directory() / "hung"
