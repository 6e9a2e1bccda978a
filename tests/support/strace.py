"""strace(1): it shows what a runtime really asks of the kernel, and it can make a system call fail."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.runtime import Missing


@dataclass(frozen=True)
class Call:
    """One system call as strace prints it. `arguments` and `result` are text; if it never ended, the result is `?`."""

    pid: int
    name: str
    arguments: str
    result: str

    @property
    def path(self) -> str:
        """The first file in its arguments, given by a descriptor or by a path; empty if there is none."""
        found = re.match(r"\d+<([^>]*)>", self.arguments) or re.search(r'"((?:[^"\\]|\\.)*)"', self.arguments)
        return found[1] if found else ""


def program() -> str:
    found = shutil.which("strace")
    if not found:
        raise Missing("strace is not installed")
    return found


def recording(trace: Path) -> tuple[str, ...]:
    """Return the words before a command: with them, strace writes all of its system calls to a file, in full."""
    return (program(), "-f", "-y", "-v", "-s", "65535", "-o", str(trace))


def calls(trace: Path) -> Iterator[Call]:
    """Yield the calls of a recording, in the order in which they ended."""
    begun: dict[str, str] = {}  # by process: a call during which another process made one is in two pieces
    for line in trace.read_text(errors="surrogateescape").splitlines():
        pid, text = line.split(maxsplit=1)
        if text.startswith("<... "):
            text = begun.pop(pid) + text.partition(" resumed>")[2]
        elif text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>")
            continue
        if call := re.fullmatch(r"(\w+)\((.*)\)\s+= (.*)", text):
            name, arguments, result = call.groups()
            yield Call(int(pid), name, arguments.removesuffix("<unfinished ...>").rstrip(), result)


def after(trace: Path, since: str) -> Iterator[Call]:
    """Yield the calls of a process from its first call `since` until it executes a program, and those of the children
    that it has started in that time."""
    inside = set[int]()
    for call in calls(trace):
        if call.pid in inside:
            yield call
            if call.name == "execve" and call.result == "0":
                inside.remove(call.pid)
            elif re.match("clone|v?fork", call.name) and call.result.isdecimal():
                inside.add(int(call.result))
        elif call.name == since:
            inside.add(call.pid)


def opened_to_write(trace: Path, since: str) -> Iterator[str]:
    """Yield the files that were opened for writing, or should have been, after a process called `since`."""
    for call in after(trace, since):
        if call.name in ("open", "openat", "openat2", "creat") and "O_RDONLY" not in call.arguments:
            real = re.fullmatch(r"\d+<(.*)>", call.result)
            yield real[1] if real else call.path


@dataclass(frozen=True)
class Point:
    """A moment of a run: the `count`th call of this name in the runtime or, if `inside`, in the child that it clones.

    strace counts the calls of each process, but makes that call fail in all processes. If the runtime has made as many
    calls of this name, a call of the child is found by its `path`; `count` then counts the calls with this path.
    """

    call: Call
    count: int
    inside: bool = False
    path: str = ""

    def sabotage(self, fault: str) -> list[str]:
        """Return the words before a command: this call fails (`error=ENOSPC`) or its process dies (`signal=KILL`)."""
        words = [program(), "--quiet=all", "-o", "/dev/null", "-e", f"trace={self.call.name}"]
        if self.inside:
            words.append("-f")
        if self.path:
            words += ["-P", self.path]
        return [*words, f"--inject={self.call.name}:{fault}:when={self.count}"]

    def __str__(self) -> str:
        where = "the child" if self.inside else "the runtime"
        return f"call {self.count} in {where}: {self.call.name}({self.call.arguments}) = {self.call.result}"


def points(trace: Path) -> list[Point]:
    """Return the moments of a recorded run in which something could fail: in the runtime after all modules are
    loaded, and in the child that it clones, until the child executes the command."""
    made = list(calls(trace))
    runtime = [call for call in made if call.pid == made[0].pid]
    cloned = [n for n, call in enumerate(runtime) if re.match("clone|v?fork", call.name) and call.result.isdecimal()]
    start = runtime[: cloned[0]] if cloned else []
    loaded = max((n for n, call in enumerate(start) if call.path.endswith((".py", ".pyc", ".so"))), default=0)
    child = [call for call in made if cloned and call.pid == int(runtime[cloned[0]].result)]
    executed = [n for n, call in enumerate(child) if call.name == "execve" and call.result == "0"]

    found, counts, on_path = [], Counter[str](), Counter[tuple[str, str]]()
    for number, call in enumerate(runtime):
        counts[call.name] += 1
        on_path[call.name, call.path] += 1
        if number > loaded:
            found.append(Point(call, counts[call.name]))
    before, before_on_path = counts.copy(), on_path.copy()
    counts.clear()
    on_path.clear()
    for call in child[: executed[0] + 1 if executed else None]:
        counts[call.name] += 1
        on_path[call.name, call.path] += 1
        # By its path if it has one: else the first write(2) of the runtime would fail too, which may be its complaint.
        if call.path.startswith("/") and on_path[call.name, call.path] > before_on_path[call.name, call.path]:
            found.append(Point(call, on_path[call.name, call.path], inside=True, path=call.path))
        elif counts[call.name] > before[call.name]:
            found.append(Point(call, counts[call.name], inside=True))
    return found
