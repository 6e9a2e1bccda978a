"""What commands print."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import ContainerError, NotFoundError, complain

if TYPE_CHECKING:
    from rich.table import Table


def each(words: list[str], action: Callable[[str], None], force: bool = False) -> int:
    """Call `action` with each word, even if it fails for another word. Returns 1 if it failed for any word.

    With `force`, a NotFoundError is no failure: it is only printed.
    """
    failed = 0
    for word in words:
        try:
            action(word)
        except ContainerError as error:
            complain(str(error))
            if not (force and isinstance(error, NotFoundError)):
                failed = 1
    return failed


def print_table(titles: list[str], rows: list[list[str]]) -> None:
    """Print a table: on a terminal with Rich, in a pipe as plain columns in which nothing is cut."""
    if sys.stdout.isatty():
        from rich.console import Console  # slow to import, so only for a terminal

        Console().print(rich_table(titles, rows))
        return
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def rich_table(titles: list[str], rows: list[list[str]]) -> "Table":
    """Return a table for a terminal. All cells are plain text: Rich must not read brackets as its markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def ago(then: float) -> str:
    """Return how long ago a time (seconds since 1970) was, in the largest unit that fits, in Docker's words."""
    seconds = max(0, int(time.time() - then))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if count := seconds // length:
            return f"{count} {unit}{'s' * (count > 1)}"
    return f"{seconds} second{'s' * (seconds != 1)}"


def in_units(size: float) -> str:
    """Return a number of bytes as Docker prints it, in powers of 1000: 4.26MB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}GB"
