"""The classroom's command line: `python tools/lab.py --help`."""

import os
import sys
from pathlib import Path

import typer

app = typer.Typer(help="Labs for the nine steps.", add_completion=False, rich_markup_mode=None)


@app.callback()
def before_each_command() -> None:
    """Labs for the nine steps."""


@app.command()
def doctor() -> None:
    """Tell what this machine can do, and which of the nine steps run here."""
    program = Path(__file__).with_name("labs") / "doctor.py"  # it also runs alone, without Typer
    os.execv(sys.executable, [sys.executable, str(program)])


if __name__ == "__main__":
    app()
