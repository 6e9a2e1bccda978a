"""No test hangs the run. pytest-timeout raises an error in a test that takes too long; this ends what that does not.

It looks at each phase of a test by itself (its set-up, its call, its end, and again where it is tried again). What has
not ended some time after pytest-timeout should have ended it has all of its processes killed: most waits are for one of
them. If it then still does not end, the worker goes: pytest-xdist names the test and starts another worker.
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
    """Watch over what is done in here. Its name can be read from outside, in the session's directory."""
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
    """What the session tells at its end: what a worker prints while it tests is lost with it."""
    return session.directory() / "hung"
