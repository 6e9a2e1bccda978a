"""`run -d`: a process of its own runs the container, and outlives the command."""

import os
import signal
import socket

from . import container
from .child import start
from .config import Config
from .lib import store
from .lib.errors import ContainerError


def run_in_background(config: Config) -> None:
    """Start that process. Returns when the container's command runs; raises ContainerError if it does not."""

    def stay(caller: socket.socket) -> None:
        os.setsid()  # out of reach of the caller's Ctrl-C, and of the end of the caller's session
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.environ["MYDOCKER_ROOT"] = str(store.root())  # a relative path means nothing where the monitor goes
        container.run(config, caller)

    child = start(stay, who="monitor")
    child.go()
    if not child.hear():
        raise ContainerError("the process that should stay with the container was killed")
