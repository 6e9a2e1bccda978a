"""The child's half: what the container's PID 1 does from clone to exec.

It begins as a copy of the runtime. Its namespaces are new, but still show all files of the host. It ends when exec
turns it into the user's command. If any line before that fails, child.py reports the reason to the runtime.
"""

import os
import signal
import socket
from pathlib import Path
from typing import NoReturn

from . import capabilities, namespaces, network, overlay, program, rootfs, terminal, users, volumes
from .cgroups import Cgroup
from .child import close_all_but
from .config import Config
from .lib import explain, linux
from .lib.errors import ContainerError
from .lib.linux import CLONE, PR


def main(config: Config, directory: Path, cgroup: Cgroup, ends: list[int], channel: socket.socket) -> NoReturn:
    """Become the container's command."""
    cgroup.enter()
    with namespaces.refusal_explained():
        linux.unshare(CLONE.CLONE_NEWCGROUP)  # after enter(): our cgroup of this moment becomes the new root
    for standard, end in enumerate(ends, start=1):
        os.dup2(end, standard)
    forget_the_caller(channel)
    set_up(config, directory, channel)
    become(config, make_workdir=True)


def become(config: Config, make_workdir: bool) -> NoReturn:
    """Become the command, in namespaces that are set up already."""
    user = users.find(config.user)
    enter(config.workdir, make_workdir)
    env = environment(config, user.home)
    program.refuse_ourselves(program.find(config.command[0], env["PATH"]))  # while we may still read it
    drop_privileges(user, config.tty)
    linux.prctl(PR.PR_SET_PDEATHSIG, signal.SIGKILL, "SIGKILL")  # die with the runtime even if the guard was killed
    program.execute(config.command, env)


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
    picked = volumes.pick_up(config.volumes)
    if config.network != "host":
        network.allow_users()
    rootfs.enter(overlay.mount(directory))
    volumes.put_down(config.volumes, picked)
    if config.network != "host":
        namespaces.bring_up_loopback()
    linux.sethostname(config.hostname)
    rootfs.name_host(config.hostname)
    connect_streams(config, channel)
    if config.tty:
        rootfs.bind_file(os.ttyname(0), "/dev/console")
    if channel.recv(16) != b"go":  # the second "go": now the network is there
        os._exit(125)


def connect_streams(config: Config, channel: socket.socket) -> None:
    """Give the command its standard streams: a terminal, or the caller's. Without -i, standard input is /dev/null."""
    if config.tty:
        master = terminal.open_terminal()
        socket.send_fds(channel, [b"0 terminal"], [master])
    elif not config.interactive:
        null = os.open("/dev/null", os.O_RDONLY | os.O_NONBLOCK)  # a running container may have put a FIFO there
        if os.fstat(null).st_rdev != os.makedev(1, 3):  # or a link, say to /proc/self/exe: still the host's Python
            null, _ = os.pipe()  # empty like /dev/null, once exec has closed the other end
        os.dup2(null, 0)


def enter(workdir: str, make: bool) -> None:
    """Begin in the working directory. With `make`, make it first if the image does not have it."""
    try:
        for folder in (*reversed(Path(workdir).parents), Path(workdir)):
            if make and not folder.exists():
                linux.mkdir(folder)
        linux.chdir(workdir)
    except OSError as error:
        raise ContainerError(f"the working directory: {error.strerror}", 126) from None


def drop_privileges(user: users.User, tty: bool) -> None:
    """Keep only the capabilities that a container may have, then become the user. What needs more is done before."""
    for standard in (0, 1, 2):
        # Then the user can open /dev/stdout too. But change only the terminal and pipes, never a file of the caller.
        if user.uid and (tty or os.readlink(f"/proc/self/fd/{standard}").startswith("pipe:")):
            os.fchown(standard, user.uid, -1)
    capabilities.drop()
    if not namespaces.ROOTLESS:  # else there is no other user
        linux.set_ids(user.uid, user.gid, [user.gid, *user.groups])


def environment(config: Config, home: str) -> dict[str, str]:
    """Return a new environment for the command. The host's may hold passwords, and paths that do not exist here."""
    env = {"PATH": program.PATH, "HOSTNAME": config.hostname, "HOME": home}
    return env | ({"TERM": "xterm"} if config.tty else {}) | config.env
