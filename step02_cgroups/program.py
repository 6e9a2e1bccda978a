"""Find the command as a shell would, and execute it (execve(2))."""

import os
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
