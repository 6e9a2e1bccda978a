"""Variables for a command: -e and --env-file, as in Docker (environ(7))."""

import codecs
import os
from pathlib import Path

from .lib.errors import ContainerError


def parse(files: list[Path], settings: list[str]) -> dict[str, str]:
    """The variables that the lines of `files` and the `settings` of -e say; what comes later counts.

    `K=V` says it all; `K` alone takes the value that K has for the caller, if it has one.
    """
    lines = [line for file in files for line in lines_of(file)]
    variables = {}
    for text in [*lines, *settings]:
        name, given, value = text.partition("=")
        if not name or any(character.isspace() for character in name) or "\0" in text:
            raise ContainerError(f"-e or --env-file: {text!r}: NAME=VALUE, or NAME alone, and no white space in NAME")
        if given or name in os.environ:
            variables[name] = value if given else os.environ[name]
    return variables


def lines_of(file: Path) -> list[str]:
    """The settings in a file: one on a line; not those that are empty or begin with #."""
    try:
        text = os.fsdecode(file.read_bytes().removeprefix(codecs.BOM_UTF8))  # which Windows puts before a text
    except OSError as error:
        raise ContainerError(f"--env-file {str(file)!r}: {error.strerror}") from None
    lines = [line.removesuffix("\r").lstrip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def check_workdir(workdir: str) -> None:
    """A working directory is a path inside the container, or none."""
    if workdir and not workdir.startswith("/"):
        raise ContainerError(f"-w {workdir!r}: a path inside the container, beginning with /")
