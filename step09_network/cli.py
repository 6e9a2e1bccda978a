"""What the user types. No system calls here: the commands check their words and hand over to container.py."""

import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from . import commit, container, environment, exec, images, namespaces, network, volumes
from .cgroups.limits import Limits, parse_size
from .config import Config
from .lib import explain
from .lib.errors import PROGRAM, ContainerError, complain, sentence
from .network import model, ports
from .network.model import MODES
from .records import logs, state, stats

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


Variables = Annotated[
    list[str] | None,
    typer.Option("-e", "--env", metavar="K=V", help="A variable for the command; K alone: with the value it has here."),
]
VariableFiles = Annotated[list[Path] | None, typer.Option("--env-file", metavar="FILE", help="Many, one on a line.")]


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
    network_name: Annotated[
        str,
        typer.Option("--network", metavar="NAME", help="A network, none or host.  [default: bridge; not root: none]"),
    ] = "none" if namespaces.ROOTLESS else "bridge",
    ip: Annotated[str, typer.Option(help="Its address there.  [default: the lowest that is free]")] = "",
    publish: Annotated[
        list[str] | None,
        typer.Option("-p", "--publish", metavar="[IP:]HOST:PORT[/udp]", help="Open a port of the host."),
    ] = None,
    env: Variables = None,
    env_file: VariableFiles = None,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Leave it running; print its id.")] = False,
    name: Annotated[str, typer.Option(help="What to call it.  [default: two words]")] = "",
    remove: Annotated[bool, typer.Option("--rm", help="Forget it, its log and its layer when it ends.")] = False,
    tell: Annotated[bool, typer.Option("--explain", help="Show each system call.")] = False,
) -> int:
    """Run a command in a new container."""
    if tell:
        explain.enable()
    check_terminal(interactive, tty)
    if detach and (interactive or tty):
        raise ContainerError(
            "-d and -t or -i: nobody stays who could hold the terminal's other end, or type; leave one out"
        )
    check_workdir(workdir)
    check_network(network_name, ip, publish or [])
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
        name=state.check_name(name) if name else "",
        env=environment.parse(env_file or [], env or []),
        network=network_name,
        ip=ip,
        ports=[ports.parse(text) for text in publish or []],
        detach=detach,
        remove=remove,
    )
    if detach:
        container.detach(config)
        print(own_id)
        return 0
    return container.run(config)


def check_workdir(workdir: str) -> None:
    """A working directory is a path inside the container, or none."""
    if workdir and not workdir.startswith("/"):
        raise ContainerError(f"-w {workdir!r}: a path inside the container, beginning with /")


def check_network(name: str, ip: str, publish: list[str]) -> None:
    """Raise ContainerError for what does not go together."""
    if namespaces.ROOTLESS and name != "none":
        raise ContainerError(f"--network {name}: only root may connect a container to the host's network; leave it out")
    if name in MODES and (ip or publish):
        raise ContainerError(f"{'-p' if publish else '--ip'} needs a network: with --network {name} there is none")


def check_terminal(interactive: bool, tty: bool) -> None:
    """Who types into a container's terminal needs one."""
    if interactive and tty and not os.isatty(0):
        raise ContainerError("-it needs a terminal as standard input, and this is none: leave out -t")


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
    state.sweep()  # who was killed uses nothing any more
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
            ", ".join(one.state.get("ports", [])) if one.running else "",
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


@app.command("exec", context_settings=WORDS_AS_TYPED)
def exec_(
    reference: AContainer,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND [ARG]...", help="The program and its arguments.")],
    interactive: Annotated[bool, typer.Option("-i", "--interactive", help="Keep standard input open.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give the command a terminal.")] = False,
    env: Variables = None,
    env_file: VariableFiles = None,
    workdir: Annotated[str, typer.Option("-w", "--workdir", help="Where it begins.  [default: the container's]")] = "",
    user: Annotated[str, typer.Option("-u", "--user", help="USER[:GROUP].  [default: the container's]")] = "",
    tell: Annotated[bool, typer.Option("--explain", help="Show each system call.")] = False,
) -> int:
    """Run a command in a running container."""
    if tell:
        explain.enable()
    check_terminal(interactive, tty)
    check_workdir(workdir)
    variables = environment.parse(env_file or [], env or [])
    found = state.get(reference)
    own = state.configuration(found)
    config = replace(
        own,
        command=command,
        interactive=interactive,
        tty=tty,
        workdir=workdir or own.workdir,
        user=user or own.user,
        env=own.env | variables,
        detach=False,
    )
    return exec.run(found, config)


network_app = typer.Typer(help="Networks for containers.", rich_markup_mode=None)
app.add_typer(network_app, name="network")
Networks = Annotated[list[str], typer.Argument(metavar="NETWORK...", help="Names of networks.")]
ANetwork = Annotated[str, typer.Argument(metavar="NETWORK", help="The network's name.")]


@network_app.command("create")
def create_network(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    subnet: Annotated[str, typer.Option(metavar="CIDR", help="Its addresses.  [default: some that nobody uses]")] = "",
    driver: Annotated[str, typer.Option("-d", "--driver", help="What it is made of.")] = "bridge",
) -> None:
    """Make a network."""
    only_root()
    print(network.create(name, subnet, driver).id)


@network_app.command("ls")
def list_networks(quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print ids alone.")] = False) -> None:
    """List the networks."""
    found = model.every()
    if quiet:
        print(*(one.id for one in found), sep="\n", end="\n" if found else "")
        return
    print_table(
        ["NETWORK ID", "NAME", "DRIVER", "SUBNET"], [[one.id, one.name, one.driver, one.subnet] for one in found]
    )


@network_app.command("inspect")
def inspect_networks(names: Networks) -> int:
    """Show all that is on record of networks, as JSON."""
    found: list[object] = []
    failed = each(names, lambda name: found.append(network.described(model.get(name))))
    print(json.dumps(found, indent=4))
    return failed


@network_app.command("rm")
def remove_networks(names: Networks) -> int:
    """Remove networks that no container is on."""
    only_root()

    def remove(name: str) -> None:
        network.remove(name)
        print(name)

    return each(names, remove)


@network_app.command("connect")
def connect(
    name: ANetwork,
    reference: AContainer,
    ip: Annotated[str, typer.Option(help="Its address there.  [default: the lowest that is free]")] = "",
) -> None:
    """Connect a running container to one more network."""
    only_root()
    found = state.get(reference)
    os.close(state.running_process(found))
    if found.config["network"] == "host":
        raise ContainerError(f"{found.name}: it runs on the host's own network, which gets no cables from us")
    with network.namespace_of(found.state["pid"]) as namespace:
        network.connect(name, found.id, found.name, namespace, ip)


@network_app.command("disconnect")
def disconnect(name: ANetwork, reference: AContainer) -> None:
    """Take a running container off a network."""
    only_root()
    found = state.get(reference)
    network.disconnect(name, found.id, found.name)


def only_root() -> None:
    """Networks are the host's."""
    if namespaces.ROOTLESS:
        raise ContainerError("networks are made on the host, which only root may do: try it with sudo")


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
    state.sweep()

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
