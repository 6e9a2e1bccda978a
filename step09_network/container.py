"""The parent's half: prepare what can be prepared outside, start the container's init, say go, wait, clean up.

Everything that must be undone is put on one ExitStack. However the run ends, it undoes all of it in reverse order.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial

from . import cgroups, images, init, namespaces, network, overlay, terminal, volumes
from .child import Child, guarded, start
from .config import Config
from .images import settings
from .lib import explain, store
from .lib.errors import ContainerError
from .network import files, ports
from .records import monitor, new, process, record

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def run_in_background(config: Config) -> None:
    """Start a process that runs the container and outlives us. Returns when the container's command runs."""

    def stay(caller: socket.socket) -> None:
        os.setsid()  # the caller's Ctrl-C, and the end of the caller's session, must not reach us
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.environ["MYDOCKER_ROOT"] = str(store.root())  # absolute, as the monitor changes its directory
        run(config, caller)

    child = start(stay, who="monitor")
    child.go()
    if not child.hear():
        raise ContainerError("the process that stays with the container was killed")


def run(config: Config, caller: socket.socket | None = None) -> int:
    """Run the container until its command ends. Returns the runtime's exit code; raises ContainerError if it failed."""
    with ExitStack() as cleanup:
        published = cleanup.enter_context(ports.reserved(config.ports))
        config = replace(config, ports=[*published])
        cgroup = cleanup.enter_context(cgroups.created(config.id, config.limits))
        image = cleanup.enter_context(images.used(config.image))
        config, own_settings = settings.settled(config, image.id)
        directory = cleanup.enter_context(new.recorded(config, image.id))
        settings.write(directory, own_settings)
        overlay.prepare(directory, image.path)
        cleanup.enter_context(volumes.held(config.volumes, image.path))
        config = replace(config, volumes=[*config.volumes, *files.make(directory, config)])
        sources, ends = ({}, []) if config.tty else monitor.pipes(detached=caller is not None)
        main = partial(init.main, config, directory, cgroup, ends)
        child = cleanup.enter_context(closing(start(main, namespaces.flags(config.network), "init", cgroup.birthplace)))
        for end in ends:
            os.close(end)
        if caller is None:  # the monitor has no guard: a guard would need more memory than itself
            cleanup.enter_context(guarded(child.kill, needs=child.pidfd))  # if we are killed, it is too
        record.note(directory, **process.identity(child.pid))
        namespace = cleanup.enter_context(network.namespace_of(child.pid))
        cleanup.enter_context(signals_forwarded(child))
        child.go()  # init sets up the rest while we connect the network
        cleanup.enter_context(network.connected(record.load(directory).name, config, namespace))
        ports.keep(published)
        child.go()
        master = wait_for_exec(child)
        record.note(directory, started=time.time())
        if caller is not None:  # -d: tell it that the command runs, and become the monitor
            caller.send(b"0 runs")
            for fd in (caller.detach(), child.channel.detach(), *explain.descriptor()):
                os.close(fd)
            monitor.turn_into_monitor(directory, sources, child.pidfd)
        log = monitor.Log(directory)
        monitor.relay(log, sources, child.pidfd)
        code = attend(child, master, config.interactive, partial(log.write, 1))
        record.note(directory, exit_code=code, finished=time.time())
        if config.limits.memory:
            cgroup.complain_of_memory()
        return code


def wait_for_exec(child: Child) -> int | None:
    """Wait until the child has become the command. Returns the master end of its terminal, if it has one.

    Raises ContainerError with the reason if the child fails before exec.
    """
    master = None
    while news := child.hear():
        _, [master] = news
    return master


def attend(child: Child, master: int | None, interactive: bool, log: Callable[[bytes], object]) -> int:
    """Wait until the command ends; meanwhile serve its terminal, if it has one. Returns the exit code."""
    if master is not None:
        terminal.attend(master, child.pidfd, interactive, log)
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
