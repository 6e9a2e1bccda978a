"""Work that a child process does, because it confines itself first, or needs powers that the caller lacks."""

import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from . import namespaces
from .lib import explain, linux
from .lib.errors import ContainerError, sentence
from .lib.linux import CLONE, PR

TENTH = 0.1  # seconds between two looks at the progress


def run(work: Callable[[], int], progress: Callable[[], None]) -> int:
    """Have a child do `work`; return the number that it returns.

    Without root the child is root in a user namespace of its own. `progress` is called every now and then meanwhile.
    Raises ContainerError with the reason if the work fails.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with its:
            try:
                pid = linux.clone(CLONE.CLONE_NEWUSER if namespaces.ROOTLESS else CLONE(0))
            except OSError as error:
                raise namespaces.refusal(error) from None
            if pid == 0:
                ours.close()
                child(work, its)
        try:
            if namespaces.ROOTLESS:
                namespaces.map_caller_to_root(pid)
            ours.send(b"go")
            ours.settimeout(TENTH)
            while True:
                try:
                    verdict, _, result = os.fsdecode(ours.recv(65536)).partition(" ")
                    break
                except TimeoutError:
                    progress()
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if verdict != "ok":
        raise ContainerError(result or "the process at work was killed")
    return int(result)


def child(work: Callable[[], int], channel: socket.socket) -> NoReturn:
    """Do the work when the parent says go, report, and end. Dies with the parent."""
    try:
        explain.i_am("worker")
        linux.prctl(PR.PR_SET_PDEATHSIG, signal.SIGKILL, "SIGKILL")
        if channel.recv(16) == b"go":
            channel.send(f"ok {work()}".encode())
    except ContainerError as error:
        channel.send(os.fsencode(f"failed {error}"))
    except OSError as error:
        channel.send(os.fsencode(f"failed {sentence(error)}"))
    except BaseException as error:
        channel.send(os.fsencode(f"failed: {error!r}"))
    finally:
        os._exit(0)
