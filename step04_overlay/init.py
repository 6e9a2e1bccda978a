"""The child's half: what the container's PID 1 does from clone to exec.

It begins as a copy of the runtime. Its namespaces are new, but still show all files of the host. It ends when exec
turns it into the user's command. If any line before that fails, child.py reports the reason to the runtime.
"""

import os
import signal
import socket
from pathlib import Path
from typing import NoReturn

from . import capabilities, namespaces, overlay, program, rootfs, terminal
from .cgroups import Cgroup
from .child import close_all_but
from .config import Config
from .lib import explain, linux
from .lib.linux import CLONE, PR


def main(config: Config, directory: Path, cgroup: Cgroup, channel: socket.socket) -> NoReturn:
    """Become the container's command."""
    cgroup.enter()
    with namespaces.refusal_explained():
        linux.unshare(CLONE.CLONE_NEWCGROUP)  # after enter(): our cgroup of this moment becomes the new root
    forget_the_caller(channel)
    set_up(config, directory, channel)
    capabilities.drop()
    linux.prctl(PR.PR_SET_PDEATHSIG, signal.SIGKILL, "SIGKILL")  # die with the runtime even if the guard was killed
    program.execute(config.command, environment(config))


def forget_the_caller(channel: socket.socket) -> None:
    """Reset what the clone has inherited: descriptors, signal settings, the session, the umask.

    A descriptor that the user's shell has left open is a way out of the container (CVE-2024-21626). Signals that the
    caller ignores (nohup), and SIGPIPE, which Python ignores, would stay ignored in the command: exec keeps that.
    """
    close_all_but([channel.fileno(), *explain.descriptor()])
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)


def set_up(config: Config, directory: Path, channel: socket.socket) -> None:
    """Set up the namespaces. The order matters: each line needs the lines before it."""
    namespaces.make_mounts_private()
    rootfs.enter(overlay.mount(directory))
    namespaces.bring_up_loopback()
    linux.sethostname(config.hostname)
    rootfs.name_host(config.hostname)
    connect_streams(config, channel)
    if config.tty:
        rootfs.bind_file(os.ttyname(0), "/dev/console")


def connect_streams(config: Config, channel: socket.socket) -> None:
    """Give the command its standard streams: a terminal, or the caller's. Without -i, standard input is /dev/null."""
    if config.tty:
        master = terminal.open_terminal()
        socket.send_fds(channel, [b"0 terminal"], [master])
    elif not config.interactive:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)


def environment(config: Config) -> dict[str, str]:
    """Return a new environment for the command. The host's may hold passwords, and paths that do not exist here."""
    env = {"PATH": program.PATH, "HOSTNAME": config.hostname, "HOME": "/root"}
    return env | {"TERM": "xterm"} if config.tty else env
