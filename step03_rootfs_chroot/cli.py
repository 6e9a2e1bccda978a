"""The command line. There are no system calls here: a command checks its arguments and calls container.py."""

import os
import re
import signal
import sys
from typing import Annotated, NoReturn

import typer
from typer import TyperException  # missing before 0.26: then __main__.py says so

from . import container
from .cgroups.limits import Limits, parse_size
from .config import Config
from .lib import explain
from .lib.errors import PROGRAM, ContainerError, complain, exit_code, sentence
from .lib.words import advice, plain_switches

WORDS_AS_TYPED = {"allow_interspersed_args": False}  # options end at the first word that is not an option

app = typer.Typer(
    help="Docker in nine steps: containers by hand.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def before_each_command() -> None:
    """Typer calls this before every command. (Without it, Typer drops a command's name if there is only one.)"""
    if os.environ.get("MYDOCKER_EXPLAIN", "0") not in ("", "0"):
        explain.enable()


@app.command(context_settings=WORDS_AS_TYPED)
def run(
    image: Annotated[str, typer.Argument(help="The image, or a directory (./DIR, /DIR).")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND [ARG]...]", help="The program and its arguments.  [default: sh]"),
    ] = None,
    interactive: Annotated[bool, typer.Option("-i", "--interactive", help="Keep standard input open.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give the container a terminal.")] = False,
    hostname: Annotated[
        str, typer.Option("-h", "--hostname", help="The container's host name.  [default: its id]")
    ] = "",
    memory: Annotated[
        str | None, typer.Option("-m", "--memory", help="Memory limit: a number with b, k, m or g.")
    ] = None,
    cpus: Annotated[float | None, typer.Option(help="CPU limit, in processors: 0.5 is half of one.")] = None,
    cpu_shares: Annotated[int | None, typer.Option(help="Weight when CPUs are busy; others have 1024.")] = None,
    cpuset_cpus: Annotated[str | None, typer.Option(help="The processors to run on: 0-2,7.")] = None,
    pids_limit: Annotated[int | None, typer.Option(help="Limit on processes and threads.")] = None,
    tell: Annotated[bool, typer.Option("--explain", help="Show each system call.")] = False,
) -> int:
    """Run a command in a new container."""
    if tell:
        explain.enable()
    if interactive and tty and not os.isatty(0):
        raise ContainerError("-it needs a terminal as standard input, and this is not one: use -i alone for a pipe")
    own_id = os.urandom(6).hex()  # 12 hexadecimal digits
    config = Config(
        id=own_id,
        image=image,
        command=command or ["sh"],
        hostname=check_hostname(hostname) if hostname else own_id,
        interactive=interactive,
        tty=tty,
        limits=Limits(parse_size(memory), cpus, cpu_shares, cpuset_cpus, pids_limit),
    )
    return container.run(config)


def check_hostname(name: str) -> str:
    """Return `name` if sethostname(2) accepts it (64 bytes) and programs can use it: hostname(7)."""
    label = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
    if len(name) > 64 or not re.fullmatch(rf"{label}(\.{label})*", name):
        raise ContainerError(f"--hostname {name!r}: use at most 64 letters, digits, and hyphens or dots between them")
    return name


def main() -> NoReturn:
    """Run the command that was typed. Turn every failure into one line and an exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if the caller ignored it, the kernel would reap our children
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, unwind)
    try:
        have_standard_streams()
        code = app(plain_switches(sys.argv[1:]) or ["--help"], prog_name=f"python -m {PROGRAM}", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        complain(advice(*sys.argv[1:2]) or error.format_message())
        code = 125
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE  # the program that reads our output has ended, as in `images | head -1`
    except SystemExit as end:  # from a signal (see unwind), or from Typer: 1 means a broken pipe, too
        code = 128 + signal.SIGPIPE if end.code == 1 else int(end.code or 0)
    except (ContainerError, OSError, MemoryError) as error:
        complain(sentence(error))
        code = exit_code(error)
    os._exit(code or 0)  # sys.exit would first clean up the interpreter, which takes longer than starting a container


def have_standard_streams() -> None:
    """Open 0, 1 and 2 if the caller has closed them: else the next file that we open would get that number."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  Python sets a closed one to None
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def unwind(number: int, _frame: object) -> NoReturn:
    """End because of a signal: sys.exit undoes everything that was begun. Further signals are ignored meanwhile."""
    for other in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)
