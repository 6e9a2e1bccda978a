"""strace(1): the witness of what a runtime really asked of the kernel, and the saboteur that makes a call fail."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.runtime import Missing


@dataclass(frozen=True)
class Call:
    """One system call as strace prints it: `arguments` and `result` are text; of one that never ended, `?`."""

    pid: int
    name: str
    arguments: str
    result: str

    @property
    def path(self) -> str:
        """The file that it names first, by a descriptor or by its path; empty if it names none."""
        found = re.match(r"\d+<([^>]*)>", self.arguments) or re.search(r'"((?:[^"\\]|\\.)*)"', self.arguments)
        return found[1] if found else ""


def program() -> str:
    found = shutil.which("strace")
    if not found:
        raise Missing("strace is not installed")
    return found


def recording(trace: Path) -> tuple[str, ...]:
    """The words before a command that have all of its system calls written to a file, in full."""
    return (program(), "-f", "-y", "-v", "-s", "65535", "-o", str(trace))


def calls(trace: Path) -> Iterator[Call]:
    """The calls of a recording, in the order in which they ended."""
    begun: dict[str, str] = {}  # by process: a call during which another process made one is in two pieces
    for line in trace.read_text(errors="surrogateescape").splitlines():
        pid, text = line.split(maxsplit=1)
        if text.startswith("<... "):
            text = begun.pop(pid) + text.partition(" resumed>")[2]
        elif text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>")
        if call := re.fullmatch(r"(\w+)\((.*)\)\s+= (.*)", text):
            name, arguments, result = call.groups()
            yield Call(int(pid), name, arguments.removesuffix("<unfinished ...>").rstrip(), result)
