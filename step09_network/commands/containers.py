"""Containers on record: `ps`, `logs`, `stop`, `kill`, `rm`, `inspect`, `wait`, `stats`."""

import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from .. import network
from ..lib.errors import ContainerError
from ..lib.output import ago, each, in_units, print_table, rich_table
from ..records import logs, state, stats

app = typer.Typer()
Containers = Annotated[list[str], typer.Argument(metavar="CONTAINER...", help="Names or ids, or beginnings of these.")]
AContainer = Annotated[str, typer.Argument(metavar="CONTAINER", help="Its name or id, or the beginning of that.")]
STATUSES = ("created", "running", "exited")


@app.command()
def ps(
    every: Annotated[bool, typer.Option("-a", "--all", help="Also those that have ended.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print ids alone.")] = False,
    filters: Annotated[
        list[str] | None, typer.Option("-f", "--filter", metavar="KEY=VALUE", help="name=PART or status=STATUS.")
    ] = None,
) -> None:
    """List the containers."""
    chosen = [parse_filter(text) for text in filters or []]
    every = every or any(key == "status" for key, _ in chosen)
    found = [one for one in state.listing(every) if matches(one, chosen)]
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
            ", ".join(network.published(one.id)) if one.running else "",
            one.name,
        ]
        for one in found
    ]
    print_table(["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"], rows)


def parse_filter(text: str) -> tuple[str, str]:
    """What a --filter asks for."""
    key, _, value = text.partition("=")
    if key not in ("name", "status") or not value:
        raise ContainerError(f"--filter {text!r}: name=PART or status=STATUS")
    if key == "status" and value not in STATUSES:
        raise ContainerError(f"--filter {text!r}: the status is one of {', '.join(STATUSES)}")
    return key, value


def matches(one: state.Container, filters: list[tuple[str, str]]) -> bool:
    """Whether a container is asked for: of several parts of names one must fit, and of several statuses."""
    parts = [value for key, value in filters if key == "name"]
    statuses = [value for key, value in filters if key == "status"]
    return (not parts or any(part in one.name for part in parts)) and (not statuses or one.status in statuses)


def status_line(one: state.Container) -> str:
    """The STATUS column."""
    if one.running:
        return f"Up {ago(one.state['started'])}"
    if one.status == "exited":
        return f"Exited ({one.state['exit_code']}) {ago(one.state['finished'])} ago"
    return "Created"


@app.command("logs")
def logs_(
    reference: AContainer,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the container ends.")] = False,
    tail: Annotated[str, typer.Option("-n", "--tail", metavar="N", help="Only the last N lines.")] = "all",
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="When each line was written.")] = False,
) -> None:
    """Show what a container has written."""
    if tail != "all" and not re.fullmatch(r"\d{1,18}", tail, re.ASCII):
        raise ContainerError(f"--tail {tail!r}: a number of lines, or all")
    one = state.get(reference)
    pieces = logs.read(one, None if tail == "all" else int(tail), follow)
    for data in logs.stamped(one, pieces) if timestamps else (data for _, data in pieces):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@app.command()
def stop(
    references: Containers,
    patience: Annotated[
        int, typer.Option("-t", "--time", metavar="SECONDS", min=0, max=10**6, help="How long before it is killed.")
    ] = 10,
) -> int:
    """Ask containers to end (SIGTERM), and kill those that do not."""
    return each_container(references, lambda one: state.stop(one, patience))


@app.command()
def kill(
    references: Containers,
    name: Annotated[str, typer.Option("-s", "--signal", help="Another signal: a name or number.")] = "KILL",
) -> int:
    """Send a signal to containers."""
    number = parse_signal(name)
    return each_container(references, lambda one: state.send_signal(one, number))


@app.command()
def rm(
    references: Containers,
    force: Annotated[bool, typer.Option("-f", "--force", help="Also those that run: they are killed.")] = False,
    _: Annotated[
        bool, typer.Option("-v", "--volumes", help="As in Docker; named volumes stay, others are none.")
    ] = False,
) -> int:
    """Remove containers, with their logs and layers."""
    return each_container(references, lambda one: state.remove(one, force))


@app.command()
def inspect(references: Containers) -> int:
    """Show all that is on record of containers, as JSON."""
    found: list[object] = []
    failed = each(references, lambda reference: found.append(state.get(reference).described()))
    print(json.dumps(found, indent=4))
    return failed


@app.command("wait")
def wait_(references: Containers) -> int:
    """Wait until containers have ended; print their exit codes."""
    return each(references, lambda reference: print(state.wait(state.get(reference)), flush=True))


@app.command("stats")
def stats_(
    references: Annotated[list[str] | None, typer.Argument(metavar="[CONTAINER]...", help="[default: all]")] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="One look only.")] = False,
) -> int:
    """Show what running containers use, again and again."""
    failed = each(references or [], check_container)
    before: dict[str, stats.Sample] = {}
    with live_table() as show:
        while True:
            running = [one for one in state.listing(False) if not references or one.is_one_of(references)]
            now = {one.id: stats.take(one) for one in running}
            if before or not running:
                show(STATS, [stats_row(one, before.get(one.id), now[one.id]) for one in running])
            if not running or (before and no_stream):
                return failed
            before = now
            time.sleep(1)


def check_container(reference: str) -> None:
    """Raise ContainerError if there is no such container."""
    state.get(reference)


STATS = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "PIDS"]


def stats_row(one: state.Container, before: stats.Sample | None, now: stats.Sample) -> list[str]:
    """What `stats` prints of one container; -- for what nobody counts here."""
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
    """A table that is shown again in its own place on a terminal, and below the last one in a pipe."""
    if not sys.stdout.isatty():
        yield print_table
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield lambda titles, rows: live.update(rich_table(titles, rows), refresh=True)


def each_container(references: list[str], action: Callable[[state.Container], None]) -> int:
    """Do something with each container, and print the word by which it was called."""

    def act(reference: str) -> None:
        action(state.get(reference))
        print(reference, flush=True)

    return each(references, act)


def parse_signal(text: str) -> int:
    """A signal's number, from a name with or without SIG, or a number."""
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    numbers = {each.name: each.value for each in signal.Signals} | {str(n): n for n in signal.valid_signals()}
    number = numbers.get(text, numbers.get(name))
    if number is None:
        raise ContainerError(f"--signal {text!r}: a name such as TERM, or a number up to {max(signal.valid_signals())}")
    return number
