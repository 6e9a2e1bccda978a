"""Containers that run in the background, and processes that `exec` starts in them."""

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
    """Run a container in the background. Yields its name, and removes it at the end."""
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
    """Return what a command prints. The command must succeed."""
    result = runtime.call("exec", *options, name, *command, **more)
    assert result.code == 0, f"exit code {result.code}: {result.err.decode(errors='replace')}"
    return result.text
