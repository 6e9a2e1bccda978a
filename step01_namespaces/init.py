"""The child's half: what the container's PID 1 does from clone to exec.

It begins as a copy of the runtime, in new namespaces that still show it all of the host, and ends by becoming the
user's command. In between it may fail at any line; the runtime hears of it over the channel.
"""

import os
import signal
import socket
from typing import NoReturn

from . import namespaces, terminal
from .config import Config
from .lib import explain, linux
from .lib.errors import ContainerError, sentence
from .lib.linux import MS, PR

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(config: Config, channel: socket.socket) -> NoReturn:
    """Become the container's command, or report why not and die.

    The channel closes by itself when exec succeeds (it is close-on-exec): silence is success.
    """
    try:
        explain.i_am("init")
        if channel.recv(16) != b"go":
            os._exit(125)  # end of file: the runtime died before it was ready
        forget_the_caller(channel)
        set_up(config, channel)
        linux.prctl(PR.PR_SET_PDEATHSIG, signal.SIGKILL, "SIGKILL")  # if the guard is killed with the runtime
        execute(config.command, environment(config))
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


def set_up(config: Config, channel: socket.socket) -> None:
    """Furnish the namespaces, in the order in which each line needs those before it."""
    own_mounts()
    namespaces.bring_up_loopback()
    linux.sethostname(config.hostname)
    if config.tty:
        master = terminal.become_terminal()
        socket.send_fds(channel, [b"tty"], [master])
        os.close(master)
    elif not config.interactive:
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)


def own_mounts() -> None:
    """Mount a /proc that shows this PID namespace, seen by nobody outside: mount_namespaces(7).

    A new mount namespace is a copy whose mounts still belong to the host's peer groups where `/` is shared, and
    systemd shares it. Unless they are made private first, our /proc lands on the host's.
    """
    try:
        linux.mount(None, "/", None, MS.MS_REC | MS.MS_PRIVATE)
    except PermissionError as error:
        raise namespaces.refusal(error) from None
    linux.mount("proc", "/proc", "proc", MS.MS_NOSUID | MS.MS_NODEV | MS.MS_NOEXEC)
    terminal.mount_devpts()


def environment(config: Config) -> dict[str, str]:
    """The command's environment, made afresh: the host's may hold passwords, and paths that mean nothing here."""
    env = {"PATH": PATH, "HOSTNAME": config.hostname, "HOME": "/root"}
    return env | {"TERM": "xterm"} if config.tty else env


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
