"""Containers on record: `ps`, `logs`, `stop`, `kill`, `rm`, `wait`."""

import re
import shlex
import sys
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import Annotated

import typer

from .. import records
from ..cli import app
from ..lib.errors import ContainerError
from ..lib.output import ago, each, print_table
from ..records import ending, log
from ..records.record import Record
from . import filters

Containers = Annotated[list[str], typer.Argument(metavar="CONTAINER...", help="Names, ids, or first digits of ids.")]
AContainer = Annotated[str, typer.Argument(metavar="CONTAINER", help="Its name, its id or the first digits of its id.")]


@app.command()
def ps(
    every: Annotated[bool, typer.Option("-a", "--all", help="Also show containers that have ended.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the ids.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("-f", "--filter", metavar="KEY=VALUE", help=f"KEY: {', '.join(filters.KEYS)}.")
    ] = None,
) -> None:
    """List the containers."""
    wanted = filters.parse(only or [])
    found = [one for one in records.listing(every or "status" in wanted) if filters.fits(one, wanted)]
    if quiet:
        print(*(one.id for one in found), sep="\n", end="\n" if found else "")
        return
    rows = [
        [
            one.id,
            one.config["image"],
            shlex.join(one.config["command"]).encode("unicode_escape").decode(),
            f"{ago(one.config['created'])} ago",
            status_line(one),
            one.name,
        ]
        for one in found
    ]
    print_table(["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"], rows)


def status_line(one: Record) -> str:
    """Return the text of the STATUS column."""
    if one.running:
        return f"Up {ago(one.state['started'])}"
    if one.status == "exited":
        return f"Exited ({one.state['exit_code']}) {ago(one.state['finished'])} ago"
    return "Created"


@app.command()
def logs(
    reference: AContainer,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Show new output until the container ends.")] = False,
    tail: Annotated[str, typer.Option("-n", "--tail", metavar="N", help="Only the last N lines.")] = "all",
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="Show when each line was written.")] = False,
) -> None:
    """Show what a container has written."""
    if tail != "all" and not re.fullmatch(r"\d{1,18}", tail, re.ASCII):
        raise ContainerError(f"--tail {tail!r}: a number of lines, or all")
    outputs = {b"stdout": sys.stdout.buffer, b"stderr": sys.stderr.buffer}
    begins = dict.fromkeys(outputs, True)  # whether the next piece of a stream begins a line
    for pieces in log.read(records.get(reference), None if tail == "all" else int(tail), follow):
        for stream, group in groupby(pieces, attrgetter("stream")):
            for piece in group:
                stamp = piece.time + b" " if timestamps and begins[stream] else b""
                outputs[stream].write(stamp + piece.text)
                begins[stream] = piece.whole
            outputs[stream].flush()  # before we write to the other stream


@app.command()
def stop(
    references: Containers,
    patience: Annotated[
        int, typer.Option("-t", "--timeout", "--time", metavar="SECONDS", min=0, max=10**6, help="Then kill it.")
    ] = 10,
) -> int:
    """Ask containers to end (SIGTERM, or their image's StopSignal), and kill those that do not."""
    return each_container(references, lambda one: ending.stop(one, patience))


@app.command()
def kill(
    references: Containers,
    name: Annotated[str, typer.Option("-s", "--signal", help="The signal's name or number.")] = "KILL",
) -> int:
    """Send a signal to containers."""
    number = ending.parse_signal(name)
    return each_container(references, lambda one: ending.send_signal(one, number))


@app.command()
def rm(
    references: Containers,
    force: Annotated[bool, typer.Option("-f", "--force", help="Kill running containers first.")] = False,
    _: Annotated[
        bool, typer.Option("-v", "--volumes", help="As in Docker: named volumes stay. There are no others.")
    ] = False,
) -> int:
    """Remove containers, with their logs and layers."""
    return each_container(references, lambda one: ending.remove(one, force), force)


@app.command("wait")
def wait_(references: Containers) -> int:
    """Wait until containers have ended; print their exit codes."""
    return each(references, lambda reference: print(ending.wait(records.get(reference)), flush=True))


def each_container(references: list[str], action: Callable[[Record], None], force: bool = False) -> int:
    """Call `action` for each container, and print the name or id that the user gave."""

    def act(reference: str) -> None:
        action(records.get(reference))
        print(reference, flush=True)

    return each(references, act, force)
