"""The child's half: what the container's PID 1 does from clone to exec.

It begins as a copy of the runtime, in new namespaces that still show it all of the host, and ends by becoming the
user's command. In between it may fail at any line; the runtime hears of it over the channel.
"""

import os
import signal
import socket
from pathlib import Path
from typing import NoReturn

from . import capabilities, namespaces, overlay, rootfs, terminal, users, volumes
from .config import Config
from .lib import explain, linux
from .lib.errors import ContainerError, sentence
from .lib.linux import CLONE, MS, PR

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(config: Config, directory: Path | None, channel: socket.socket, ends: list[int]) -> NoReturn:
    """Become the container's command, or report why not and die.

    The channel closes by itself when exec succeeds (it is close-on-exec): silence is success.
    """
    try:
        explain.i_am("init")
        if channel.recv(16) != b"go":
            os._exit(125)  # end of file: the runtime died before it was ready
        for standard, end in enumerate(ends, start=1):
            os.dup2(end, standard)
        forget_the_caller(channel)
        if directory is None:  # `exec`: the namespaces are a container's, furnished already
            connect(config, channel)
        else:
            set_up(config, directory, channel)
        user = users.find(config.user)
        enter(config.workdir, make=directory is not None)
        env = environment(config, user.home)
        refuse_ourselves(find_program(config.command[0], env["PATH"]))  # before we may no longer read it
        drop_privileges(user, config.tty)
        linux.prctl(PR.PR_SET_PDEATHSIG, signal.SIGKILL, "SIGKILL")  # if the guard is killed with the runtime
        execute(config.command, env)
    except ContainerError as error:
        channel.send(f"{error.code} {error}".encode(errors="surrogateescape"))
    except OSError as error:
        channel.send(f"125 {sentence(error)}".encode(errors="surrogateescape"))
    except BaseException as error:
        channel.send(f"125 init failed: {error!r}".encode(errors="surrogateescape"))
    finally:
        os._exit(125)


def forget_the_caller(channel: socket.socket) -> None:
    """Let go of what came along with the clone: descriptors, signal settings, the session, the umask.

    A descriptor that the user's shell had left open is a way out of the container (CVE-2024-21626); what the caller
    ignores (nohup, and Python itself SIGPIPE), the command would ignore too, since exec keeps that.
    """
    first = 3
    for keep in sorted([channel.fileno(), *explain.descriptor()]):
        if first < keep:
            linux.close_range(first, keep - 1)
        first = keep + 1
    linux.close_range(first, 2**32 - 1)
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)


def set_up(config: Config, directory: Path, channel: socket.socket) -> None:
    """Furnish the namespaces, in the order in which each line needs those before it."""
    linux.unshare(CLONE.CLONE_NEWCGROUP)  # only now: its root is the cgroup that we have been moved to
    own_mounts()
    picked = volumes.pick_up(config.volumes)
    rootfs.enter(overlay.mount(directory))
    volumes.put_down(config.volumes, picked)
    namespaces.bring_up_loopback()
    linux.sethostname(config.hostname)
    connect(config, channel)
    if config.tty:
        rootfs.bind_file(os.ttyname(0), "/dev/console")


def connect(config: Config, channel: socket.socket) -> None:
    """See to the standard streams that are not pipes already: a terminal, or nothing to read."""
    if config.tty:
        master = terminal.become_terminal()
        socket.send_fds(channel, [b"tty"], [master])
        os.close(master)
    elif not config.interactive:
        null = os.open("/dev/null", os.O_RDONLY | os.O_NONBLOCK)  # a running container may have put a FIFO there
        os.set_blocking(null, True)
        os.dup2(null, 0)


def own_mounts() -> None:
    """Let nobody outside see what is mounted from here on: mount_namespaces(7).

    A new mount namespace is a copy whose mounts still belong to the host's peer groups where `/` is shared, and
    systemd shares it. Unless they are made private first, our /proc lands on the host's.
    """
    try:
        linux.mount(None, "/", None, MS.MS_REC | MS.MS_PRIVATE)
    except PermissionError as error:
        raise namespaces.refusal(error) from None


def enter(workdir: str, make: bool) -> None:
    """Begin in the working directory, which is made if the image lacks it and we are to `make` it."""
    try:
        for folder in (*reversed(Path(workdir).parents), Path(workdir)):
            if make and not folder.exists():
                linux.mkdir(folder)
        linux.chdir(workdir)
    except OSError as error:
        raise ContainerError(f"-w: {error.strerror}", 126) from None


def drop_privileges(user: users.User, tty: bool) -> None:
    """Keep of root's powers what a container may have, then be the user. Everything that needs more is done by now."""
    for standard in (0, 1, 2):
        # The terminal and pipes, so that also /dev/stdout can be opened; but never a file of the caller's.
        if user.uid and (tty or os.readlink(f"/proc/self/fd/{standard}").startswith("pipe:")):
            os.fchown(standard, user.uid, -1)
    capabilities.drop()
    users.become(user)


def environment(config: Config, home: str) -> dict[str, str]:
    """The command's environment, made afresh: the host's may hold passwords, and paths that mean nothing here."""
    env = {"PATH": PATH, "HOSTNAME": config.hostname, "HOME": home}
    return env | ({"TERM": "xterm"} if config.tty else {}) | config.env


def execute(command: list[str], env: dict[str, str]) -> NoReturn:
    """Become `command`: execve(2). Raises ContainerError 127 if there is no such program, 126 if it cannot run."""
    path = find_program(command[0], env["PATH"])
    settings = [f"{name}={value}" for name, value in env.items()]
    explain.line(f"execve({', '.join(map(explain.show, (path, command, settings)))})")
    try:
        os.execve(path, command, env)
    except FileNotFoundError:
        raise ContainerError(f"{path}: the interpreter or loader that it names was not found", 127) from None
    except OSError as error:
        raise ContainerError(f"{path}: cannot be executed: {error.strerror}", 126) from None


def refuse_ourselves(path: str, depth: int = 0) -> None:
    """Raise ContainerError if to execute `path` would be to execute /proc/self/exe: the host's Python, as we still are.

    A link can lead there, and so can the first line of a script. Whoever executes it holds a descriptor of a file
    outside, which he could write to when nobody executes it any more (CVE-2019-5736, runc's). That is the second lock:
    the runtime executes it as long as the container lives, and Linux (but for 6.11 and 6.12) then refuses with ETXTBSY.
    """
    if os.path.samefile(path, "/proc/self/exe"):
        raise ContainerError(f"{path}: that is the runtime itself, a program outside the container", 126)
    with open(path, "rb") as file:
        first = file.read(256).split(b"\n")[0]
    interpreter = first[2:].split()[:1] if first.startswith(b"#!") else []
    if interpreter and os.path.isfile(interpreter[0]) and depth < 5:  # the kernel follows no further, either
        refuse_ourselves(os.fsdecode(interpreter[0]), depth + 1)


def find_program(name: str, path: str) -> str:
    """Where the program `name` is, looked up as a shell does, in the container's own PATH and root."""
    candidates = [name] if "/" in name else [f"{folder}/{name}" for folder in path.split(":") if name]
    found = [candidate for candidate in candidates if os.path.exists(candidate)]
    for candidate in found:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    if found:
        raise ContainerError(f"{found[0]}: permission denied: not an executable file", 126)
    raise ContainerError(f"{name!r}: command not found in the container", 127)
