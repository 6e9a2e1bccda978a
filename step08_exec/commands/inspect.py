"""Show what is known of containers: `inspect` and `stats`."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from .. import records
from ..cli import app
from ..lib.errors import ContainerError, NotFoundError
from ..lib.output import each, in_units, print_table, rich_table
from ..records import stats
from ..records.record import Record
from ..records.view import view, view_image
from .containers import Containers


@app.command()
def inspect(references: Containers) -> int:
    """Show all that is known of containers or images, as JSON."""
    found: list[object] = []
    failed = each(references, lambda reference: found.append(described(reference)))
    print(json.dumps(found, indent=4))
    return failed


def described(reference: str) -> object:
    """Return what is known of the container, or else of the image, that has this name or id."""
    try:
        return view(records.get(reference))
    except NotFoundError as no_container:
        try:
            return view_image(reference)
        except ContainerError:
            raise no_container from None


@app.command("stats")
def stats_(
    references: Annotated[list[str] | None, typer.Argument(metavar="[CONTAINER]...", help="[default: all]")] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Show the numbers once.")] = False,
) -> int:
    """Show what running containers use, again and again."""
    wanted: set[str] = set()
    failed = each(references or [], lambda reference: wanted.add(records.get(reference).id))
    before: dict[str, stats.Sample] = {}
    with live_table() as show:
        while True:
            running = [one for one in records.listing(False) if not references or one.id in wanted]
            now = {one.id: stats.take(one) for one in running}
            if before or not running:
                show(STATS, [stats_row(one, before.get(one.id), now[one.id]) for one in running])
            if not running or (before and no_stream):
                return failed
            before = now
            time.sleep(1)


STATS = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "PIDS"]


def stats_row(one: Record, before: stats.Sample | None, now: stats.Sample) -> list[str]:
    """Return the row of one container. A value is "--" if no cgroup controller counts it."""
    cpu = stats.cpu_percent(before, now)
    used = "--" if now.memory is None else in_units(now.memory)
    return [
        one.id,
        one.name,
        "--" if cpu is None else f"{cpu:.2f}%",
        f"{used} / {in_units(now.limit)}",
        "--" if now.memory is None else f"{100 * now.memory / now.limit:.2f}%",
        "--" if now.pids is None else str(now.pids),
    ]


@contextmanager
def live_table() -> Iterator[Callable[[list[str], list[list[str]]], None]]:
    """Yield a function that shows a table. On a terminal each table replaces the one before; in a pipe it follows."""
    if not sys.stdout.isatty():
        yield print_table
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield lambda titles, rows: live.update(rich_table(titles, rows), refresh=True)
