"""A process that sees the runtime end, however it ends, and then puts right what must not stay as it is."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def guarded(undo: Callable[[], object], needs: int) -> Iterator[None]:
    """Have `undo` done at the end by a process of its own, which waits for the runtime to let go of a pipe.

    The kernel closes that pipe even if the runtime is killed with SIGKILL and can do nothing any more. `undo` may use
    the standard streams and the descriptor that it `needs`.
    """
    watched, held = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the guard's for good
    guard = os.fork()
    if guard == 0:
        try:
            os.setsid()  # out of reach of what is sent to the runtime's group
            for fd in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, watched, needs}:
                with suppress(OSError):  # the one that the listing itself used
                    os.close(fd)
            os.read(watched, 1)
            undo()
        finally:
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(watched)
    try:
        yield
    finally:
        os.close(held)
        os.waitpid(guard, 0)
