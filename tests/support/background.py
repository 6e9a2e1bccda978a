"""Containers that run in the background, and what is placed into them by `exec`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.runtime import Runtime, Word

WAITING = ("tail", "-f", "/dev/null")


@contextmanager
def background(
    runtime: Runtime, *command: Word, options: Sequence[Word] = (), name: str = "", **more: Any
) -> Iterator[str]:
    """A container that runs in the background; its name. At the end it is removed."""
    name = name or f"box-{os.urandom(4).hex()}"
    words = runtime.words(command or WAITING, ["-d", "--name", name, *options])
    started = runtime.popen([word for word in words if word != "--rm"], **more).end()
    assert started.code == 0, started.err.decode()
    try:
        yield name
    finally:
        at_once = ["-t", "0"] if runtime.podman else []
        runtime.call("rm", "-f", *at_once, name)


def output(runtime: Runtime, name: str, *command: Word, options: Sequence[Word] = (), **more: Any) -> str:
    """What a command prints that must succeed."""
    result = runtime.call("exec", *options, name, *command, **more)
    assert result.code == 0, f"exit code {result.code}: {result.err.decode(errors='replace')}"
    return result.text
