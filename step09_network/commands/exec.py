"""`exec`."""

import os
from dataclasses import replace
from typing import Annotated

import typer

from .. import environment, exec, records
from ..cli import WORDS_AS_TYPED, VariableFiles, Variables, app
from ..lib import explain
from ..lib.errors import ContainerError
from .containers import AContainer


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
    if interactive and tty and not os.isatty(0):
        raise ContainerError("-it needs a terminal as standard input, and this is none: leave out -t")
    environment.check_workdir(workdir)
    variables = environment.parse(env_file or [], env or [])
    record = records.get(reference)
    own = exec.config_of(record)
    config = replace(
        own,
        command=command,
        interactive=interactive,
        tty=tty,
        workdir=workdir or own.workdir,
        user=user or own.user,
        env=own.env | variables,
    )
    return exec.run(record, config)
