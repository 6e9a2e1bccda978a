"""The labs' command line: `make lab`, `make grade`, `make hint` call it. `tools/lab.py --help` lists the commands."""

import os
import signal
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


@app.command()
def grade(
    step: Step,
    runtime: Annotated[str, typer.Option(help="What starts it: 'python -m my_runtime', or ./mydocker.")],
    dir: Annotated[Path, typer.Option(help="Where it is.")] = Path(),
    json: Annotated[Path | None, typer.Option(help="Write Gradescope's results.json here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    sandbox: Annotated[str, typer.Option(help="vm: grade in a virtual machine what is not trusted.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Grade again whenever a file changes.")] = False,
    limit: Annotated[float | None, typer.Option(help="Seconds for the whole run.  [default: 300]")] = None,
) -> None:
    """Tell how many of a step's 100 points a runtime has earned. Exit code 0: all that can be earned here."""
    from tools.labs import report

    complete = report.run(step, runtime, dir, json, junit, sandbox, watch, limit)
    raise typer.Exit(0 if complete else 1)


@app.command()
def hint(
    step: Step,
    task: Annotated[str, typer.Option(help="The task's name, as the grader tells it.")],
    runtime: Annotated[str, typer.Option(help="What starts your runtime: for the third hint.")] = "",
    dir: Annotated[Path | None, typer.Option(help="Where it is.  [default: here]")] = None,
) -> None:
    """Give the next hint: where to read, what to call, and then your system calls beside the reference's."""
    from tools.labs import hints

    hints.hint(step, task, runtime, dir and dir.expanduser().resolve())


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


@app.command("class")
def grade_class(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="It has a folder for each submission.")],
    step: Annotated[int, typer.Option(help="The step that they have come to.")],
    jobs: Annotated[int, typer.Option(min=1, help="How many are graded at once.")] = 2,
    sandbox: Annotated[str, typer.Option(help="vm: each in a virtual machine of its own.")] = "",
) -> None:
    """Grade a folder of submissions: a row for each in DIR/grades.csv. If begun before, go on there."""
    from tools.labs import classroom

    print(classroom.grade_all(folder.expanduser().resolve(), step, jobs, sandbox))


@app.command()
def doctor() -> None:
    """Tell what this machine can do, and which of the nine steps run here."""
    program = Path(__file__).with_name("labs") / "doctor.py"  # it also runs alone, without Typer
    os.execv(sys.executable, [sys.executable, str(program)])


def main() -> None:
    """Run what was typed. A failure is one line."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that what has begun is cleaned up
    try:
        app(prog_name="tools/lab.py")
    except LabError as error:
        sys.exit(f"lab: {error}")


if __name__ == "__main__":
    main()
