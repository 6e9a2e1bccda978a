"""Find the command as a shell would, and execute it (execve(2))."""

import os
import re
from typing import NoReturn

from .lib import explain
from .lib.errors import ContainerError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def execute(command: list[str], env: dict[str, str]) -> NoReturn:
    """Become `command`. Raises ContainerError 127 if there is no such program, 126 if it cannot run."""
    path = find(command[0], env["PATH"])
    settings = [f"{name}={value}" for name, value in env.items()]
    explain.line(f"execve({', '.join(map(explain.show, (path, command, settings)))})")
    try:
        os.execve(path, command, env)
    except FileNotFoundError:
        raise ContainerError(f"{path}: the interpreter or loader that it names was not found", 127) from None
    except OSError as error:
        raise ContainerError(f"{path}: cannot be executed: {error.strerror}", 126) from None


def refuse_ourselves(path: str, depth: int = 0) -> None:
    """Raise ContainerError if `path` leads to /proc/self/exe. That is still the host's Python, before our execve(2).

    A link can lead there, and so can the first line of a script. A process that executes the host's Python can open
    this file, and write to it when nobody executes it any more (CVE-2019-5736, found in runc). There is one more
    protection: the runtime executes Python as long as the container lives, and Linux refuses to write to a file that is
    executed: ETXTBSY (6.11 and 6.12 do not).
    """
    if os.path.samefile(path, "/proc/self/exe"):
        raise ContainerError(f"{path}: that is the runtime itself, a program outside the container", 126)
    with open(path, "rb") as file:
        script = re.match(rb"#![ \t]*([^ \t\0\n]+)", file.read(256))  # the kernel ends the name there, too
    if script and os.path.isfile(script[1]) and depth < 5:  # the kernel goes no deeper, either
        refuse_ourselves(os.fsdecode(script[1]), depth + 1)


def find(name: str, path: str) -> str:
    """Return the path of the program `name`, from the container's PATH and inside its root."""
    candidates = [name] if "/" in name else [f"{folder}/{name}" for folder in path.split(":") if name]
    found = [candidate for candidate in candidates if os.path.exists(candidate)]
    for candidate in found:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    if found:
        raise ContainerError(f"{found[0]}: permission denied: not an executable file", 126)
    raise ContainerError(f"{name!r}: command not found in the container", 127)
