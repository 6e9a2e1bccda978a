"""What the user types. No system calls here: the commands check their words and hand over to container.py."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from . import commit, container, images, volumes
from .cgroups.limits import Limits, parse_size
from .config import Config
from .lib import explain
from .lib.errors import PROGRAM, ContainerError, complain, sentence

if TYPE_CHECKING:
    from rich.table import Table

WORDS_AS_TYPED = {"allow_interspersed_args": False}  # options end at the first word that is none

app = typer.Typer(
    help="Docker in nine steps: containers by hand.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def before_each_command() -> None:
    """Done first, whatever the command. (Without it Typer would take a single command for the whole program.)"""
    if os.environ.get("MYDOCKER_EXPLAIN", "0") not in ("", "0"):
        explain.enable()


@app.command(context_settings=WORDS_AS_TYPED)
def run(
    image: Annotated[str, typer.Argument(help="The image: its name[:tag] or id.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND [ARG]...]", help="The program and its arguments.  [default: sh]"),
    ] = None,
    interactive: Annotated[bool, typer.Option("-i", "--interactive", help="Keep standard input open.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give the container a terminal.")] = False,
    hostname: Annotated[str, typer.Option(help="The container's host name.  [default: its id]")] = "",
    memory: Annotated[
        str | None, typer.Option("-m", "--memory", help="Most memory: a number with b, k, m or g.")
    ] = None,
    cpus: Annotated[float | None, typer.Option(help="Most CPU time, in processors: 0.5 is half of one.")] = None,
    cpu_shares: Annotated[int | None, typer.Option(help="Weight against others when CPUs are short: 1024.")] = None,
    cpuset_cpus: Annotated[str | None, typer.Option(help="The processors to run on: 0-2,7.")] = None,
    pids_limit: Annotated[int | None, typer.Option(help="Most processes and threads.")] = None,
    workdir: Annotated[str, typer.Option("-w", "--workdir", help="Where the command begins.")] = "/",
    user: Annotated[str, typer.Option("-u", "--user", help="USER[:GROUP], names of the image or numbers.")] = "0",
    volume: Annotated[
        list[str] | None, typer.Option("-v", "--volume", metavar="SRC:DST[:ro]", help="Show a path or volume at DST.")
    ] = None,
    tell: Annotated[bool, typer.Option("--explain", help="Show each system call.")] = False,
) -> int:
    """Run a command in a new container."""
    if tell:
        explain.enable()
    if interactive and tty and not os.isatty(0):
        raise ContainerError("-it needs a terminal as standard input, and this is none: leave out -t")
    if workdir and not workdir.startswith("/"):
        raise ContainerError(f"-w {workdir!r}: a path inside the container, beginning with /")
    own_id = container.new_id()
    config = Config(
        id=own_id,
        image=image,
        command=command or ["sh"],
        hostname=check_hostname(hostname) if hostname else own_id,
        interactive=interactive,
        tty=tty,
        limits=Limits(None if memory is None else parse_size(memory), cpus, cpu_shares, cpuset_cpus, pids_limit),
        workdir=workdir or "/",
        user=user,
        volumes=volumes.parse(volume or []),
    )
    return container.run(config)


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="A directory, a tar archive (plain, gz, bz2, xz, zst), or - to read one.")
    ],
    name: Annotated[str, typer.Argument(help="What to call the image: name[:tag].")],
) -> None:
    """Make an image from a directory or a tar archive."""
    with progress_bar("importing") as progress:
        image = images.import_(source, name, progress)
    print(image)


@app.command("images")
def list_images(
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print ids alone.")] = False,
) -> None:
    """List the images."""
    found = images.listing()
    if quiet:
        print(*(image.id for image in found), sep="\n", end="\n" if found else "")
        return
    rows = [
        [*name.rsplit(":", 1), image.id, f"{ago(image.created)} ago", in_units(image.size)]
        for image in found
        for name in image.names or ["<none>:<none>"]
    ]
    print_table(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], rows)


@app.command()
def rmi(references: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Names or ids.")]) -> int:
    """Remove images."""
    return each(references, lambda reference: print(*images.remove(reference), sep="\n"))


@app.command("commit")
def commit_(
    reference: Annotated[str, typer.Argument(metavar="CONTAINER", help="The container's id, or the beginning of it.")],
    name: Annotated[str | None, typer.Argument(metavar="[IMAGE]", help="What to call the image: name[:tag].")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", metavar="FILE", help="Write an archive instead: .tar, .tar.gz or .tar.zst.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the image's id alone.")] = False,
) -> None:
    """Make an image, or an archive, of a container's files."""
    with progress_bar("committing") as progress:
        if name is not None and output is None:
            made, size = commit.to_image(reference, name, progress)
            report = made if quiet else f"{images.parse(name)} {made} {in_units(size)}"
        elif output is not None and name is None:
            size = commit.to_archive(reference, output, progress)
            report = str(output) if quiet else f"{output} {in_units(size)}"
        else:
            raise ContainerError("commit CONTAINER IMAGE makes an image, commit CONTAINER -o FILE an archive: give one")
    print(report)


volume_app = typer.Typer(help="Volumes of the store.", rich_markup_mode=None)
app.add_typer(volume_app, name="volume")


@volume_app.command("ls")
def list_volumes(
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print names alone.")] = False,
) -> None:
    """List the volumes."""
    names = volumes.listing()
    if quiet:
        print(*names, sep="\n", end="\n" if names else "")
    else:
        print_table(["DRIVER", "VOLUME NAME"], [["local", name] for name in names])


@volume_app.command("rm")
def remove_volumes(
    names: Annotated[list[str], typer.Argument(metavar="VOLUME...", help="Names of volumes.")],
) -> int:
    """Remove volumes, and all that is in them."""

    def remove(name: str) -> None:
        volumes.remove(name)
        print(name)

    return each(names, remove)


def each(words: list[str], action: Callable[[str], None]) -> int:
    """Do something for each word, also when it fails for another. Returns 1 if it failed for any."""
    failed = 0
    for word in words:
        try:
            action(word)
        except ContainerError as error:
            complain(str(error))
            failed = 1
    return failed


def print_table(titles: list[str], rows: list[list[str]]) -> None:
    """Columns: Rich's on a terminal, in a pipe plain ones in which nothing is cut."""
    if sys.stdout.isatty():
        from rich.console import Console  # slow to import, so only where it is seen

        Console().print(rich_table(titles, rows))
        return
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def rich_table(titles: list[str], rows: list[list[str]]) -> "Table":
    """Columns for a terminal. What is in them is text, brackets included, and never Rich's markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error while something long is done, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def ago(then: float) -> str:
    """How long ago a time (seconds since 1970) was, in its largest unit, as Docker words it."""
    seconds = max(0, int(time.time() - then))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if count := seconds // length:
            return f"{count} {unit}{'s' * (count > 1)}"
    return f"{seconds} second{'s' * (seconds != 1)}"


def in_units(size: float) -> str:
    """Bytes for people, in powers of 1000 as Docker prints them: 4.26MB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}GB"


def check_hostname(name: str) -> str:
    """A host name that sethostname(2) takes (64 bytes) and programs can read: hostname(7)."""
    label = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
    if len(name) > 64 or not re.fullmatch(rf"{label}(\.{label})*", name):
        raise ContainerError(f"--hostname {name!r}: at most 64 letters, digits, hyphens inside and dots between")
    return name


def main() -> NoReturn:
    """The whole program: run what was typed, turn every failure into one line and an exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a caller that ignores it would have our children reaped for us
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, unwind)
    try:
        have_standard_streams()
        code = app(sys.argv[1:] or ["--help"], prog_name=f"python -m {PROGRAM}", standalone_mode=False)
        sys.stdout.flush()
    except ContainerError as error:
        complain(str(error))
        code = error.code
    except typer.TyperException as error:
        complain(error.format_message())
        code = 125
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE  # the reader has seen enough, as in `images | head -1`
    except OSError as error:
        complain(sentence(error))
        code = 125
    except MemoryError:
        complain("there is not enough memory left to go on")
        code = 125
    os._exit(code or 0)  # sys.exit would take the interpreter apart first, which is slower than starting a container


def have_standard_streams() -> None:
    """A caller may have closed 0, 1 or 2; then the next file opened would be taken for standard input."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  Python has made them None
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def unwind(number: int, _frame: object) -> NoReturn:
    """Die of a signal only after everything begun has been undone."""
    sys.exit(128 + number)
