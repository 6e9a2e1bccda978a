"""What commands print."""

import sys
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
