"""The labs' command line, which `make lab`, `make grade` and `make hint` call."""

import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import typer

from tools.labs.errors import LabError

app = typer.Typer(
    help="Labs: a starter for a step, grades, hints.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Step = Annotated[int, typer.Argument(metavar="STEP", help="The number of the step: 1 to 9.")]


@app.callback()
def labs() -> None:
    """Without this, Typer would take a single command for the whole program."""


@app.command()
def new(
    step: Step,
    dir: Annotated[Path | None, typer.Option(help="Where to write it.  [default: beside the repository]")] = None,
    level: Annotated[str, typer.Option(help="guided: signatures are given; open: the step before.")] = "guided",
) -> None:
    """Write the folder that a student begins a lab with."""
    from tools.labs import starter

    if level not in [*starter.Level]:
        raise LabError(f"--level {level!r}: guided or open")
    directory = (dir or starter.default_directory(step)).expanduser().absolute()
    starter.new(step, directory, starter.Level(level))
    print(f"Lab {step} is in {directory}. Begin with its README.md.")


@app.command("zip")
def pack(
    step: Step,
    out: Annotated[Path | None, typer.Argument(metavar="[OUT.zip]", help="  [default: autograder-NN.zip]")] = None,
    runtime: Annotated[str, typer.Option(help="How a submission is started.")] = "python -m my_runtime",
    sandbox: Annotated[str, typer.Option(help="vm: grade in a virtual machine.")] = "",
) -> None:
    """Pack the autograder that Gradescope wants."""
    from tools.labs import gradescope

    file = (out or Path(f"autograder-{step:02}.zip")).expanduser()
    gradescope.pack(step, file, runtime, sandbox)
    print(f"{file}: upload it to Gradescope as the assignment's autograder.")


def main() -> None:
    """Run what was typed. A failure is one line."""
    try:
        app(prog_name="tools/lab.py")
    except LabError as error:
        sys.exit(f"lab: {error}")


if __name__ == "__main__":
    main()
