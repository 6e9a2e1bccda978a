"""Variables for a command: -e and --env-file, as in Docker (environ(7))."""

import codecs
import os
from pathlib import Path

from .lib.errors import ContainerError


def parse(files: list[Path], settings: list[str]) -> dict[str, str]:
    """Return the variables from the lines of `files`, then from the `settings` of -e. The last value of a name counts.

    `K=V` gives name and value. `K` alone takes the value from the caller's environment, if K is set there.
    """
    lines = [line for file in files for line in lines_of(file)]
    variables = {}
    for text in [*lines, *settings]:
        name, given, value = text.partition("=")
        if not name or any(character.isspace() for character in name) or "\0" in text:
            raise ContainerError(f"-e or --env-file: {text!r}: use NAME=VALUE or NAME, without white space in NAME")
        if given or name in os.environ:
            variables[name] = value if given else os.environ[name]
    return variables


def lines_of(file: Path) -> list[str]:
    """Return the settings in a file, one from each line. Empty lines, and lines that begin with #, are left out."""
    try:
        text = os.fsdecode(file.read_bytes().removeprefix(codecs.BOM_UTF8))  # Windows puts it before a text
    except OSError as error:
        raise ContainerError(f"--env-file {str(file)!r}: {error.strerror}") from None
    lines = [line.removesuffix("\r").lstrip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def check_workdir(workdir: str) -> None:
    """Raise ContainerError if a working directory is given that does not begin with `/`."""
    if workdir and not workdir.startswith("/"):
        raise ContainerError(f"-w {workdir!r}: use a path inside the container, beginning with /")
