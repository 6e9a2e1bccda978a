"""Which cgroups a process is in, as the host sees it: one tree for each controller (version 1), or one tree (2)."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.support import host
from tests.support.runtime import Result, Runtime, Word

CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


@cache
def trees() -> dict[str, Path]:
    """Return where each controller of version 1 is mounted and, under the name "", where version 2 is mounted."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        for name in {"cgroup": options.split(","), "cgroup2": [""]}.get(kind, []):
            found.setdefault(name, Path(before.split()[4]))
    return found


@cache
def version(controller: str = "memory") -> int:
    return 1 if controller in trees() else 2


def directories(pid: int) -> dict[str, Path]:
    """Return, for each of our controllers, the cgroup's directory that this process is in."""
    found: dict[str, Path] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        found |= {name: trees()[name] / path.lstrip("/") for name in names.split(",") if name in trees()}
    return {controller: found[controller if version(controller) == 1 else ""] for controller in CONTROLLERS}


class Held:
    """A container that runs until it is told to end. It can be examined as soon as it is `ready`."""

    init: host.Process
    directories: dict[str, Path]

    def __init__(self, runtime: Runtime, *options: Word, **more: Any) -> None:
        script = "echo ready; cat >/dev/null"
        self.started = runtime.start("sh", "-c", script, options=["-i", *options], stdin=subprocess.PIPE, **more)

    def ready(self) -> "Held":
        said = self.started.line()
        assert said == "ready", (said, self.started.end())
        found = [process for process in host.contained() if process.inner_pids() == [1]]
        (self.init,) = [process for process in found if process.parent == self.started.pid] or found
        self.directories = directories(self.init.pid)
        return self

    def read(self, one: str, two: str) -> str:
        """Return the text of a file of its cgroup: `one` is the file's name in version 1, `two` in version 2."""
        controller = one.partition(".")[0]
        return (self.directories[controller] / (one if version(controller) == 1 else two)).read_text().strip()

    def end(self) -> Result:
        return self.started.end(b"")


@contextmanager
def held(runtime: Runtime, *options: Word, **more: Any) -> Iterator[Held]:
    """Start such a container, and check at the end that it exits with 0."""
    container = Held(runtime, *options, **more).ready()
    try:
        yield container
    finally:
        result = container.end()
    assert result == Result(0, b"", b"")


EVERY_LIMIT = "-m 64m --cpus 1 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 50".split()


def eat(megabytes: int) -> tuple[str, ...]:
    """Return a command that allocates so much memory at once, and frees it."""
    return ("dd", "if=/dev/zero", "of=/dev/null", f"bs={megabytes}M", "count=1")


def complaints(runtime: Runtime, result: Result) -> list[str]:
    """Return the lines on standard error that the runtime itself has written."""
    return [line for line in result.err.decode().splitlines() if line.startswith(f"{runtime.name}: ")]


def assert_said_why(runtime: Runtime, result: Result) -> None:
    """Check that the runtime explains the exit code 137 in one line. (Podman does not explain it.)"""
    if runtime.podman:
        (runtime.directory / "oom").unlink()  # its conmon writes this file wherever it was started
        return
    (line,) = complaints(runtime, result)
    assert "memory limit" in line
