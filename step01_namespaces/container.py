"""The parent's half: prepare what can be prepared outside, start the container's init, say go, wait, clean up.

Everything that must be undone is put on one ExitStack. However the run ends, it undoes all of it in reverse order.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from . import init, namespaces, terminal
from .child import Child, guarded, start
from .config import Config

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def run(config: Config) -> int:
    """Run the container until its command ends. Returns the runtime's exit code; raises ContainerError if it failed."""
    with ExitStack() as cleanup:
        main = partial(init.main, config)
        child = cleanup.enter_context(closing(start(main, namespaces.flags(), "init")))
        cleanup.enter_context(guarded(child.kill, needs=child.pidfd))  # if we are killed, it is too
        cleanup.enter_context(signals_forwarded(child))
        child.go()
        return attend(child, wait_for_exec(child), config.interactive)


def wait_for_exec(child: Child) -> int | None:
    """Wait until the child has become the command. Returns the master end of its terminal, if it has one.

    Raises ContainerError with the reason if the child fails before exec.
    """
    master = None
    while news := child.hear():
        _, [master] = news
    return master


def attend(child: Child, master: int | None, interactive: bool) -> int:
    """Wait until the command ends; meanwhile serve its terminal, if it has one. Returns the exit code."""
    if master is not None:
        terminal.attend(master, child.pidfd, interactive)
        child.kill()  # it has ended already, unless the caller's terminal was closed first
    return child.wait()


@contextmanager
def signals_forwarded(child: Child) -> Iterator[None]:
    """Forward signals to the container once its command runs. Before that, a signal ends the runtime, which cleans up.

    A signal that the caller ignores (nohup) stays ignored.
    """

    def forward(number: int, _frame: object) -> None:
        if not child.runs_command():
            sys.exit(128 + number)
        child.kill(number)

    wanted = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    for number in wanted:
        signal.signal(number, forward)
    try:
        yield
    finally:
        for number in wanted:
            signal.signal(number, signal.SIG_IGN)  # the command has ended: nothing may disturb the clean-up
