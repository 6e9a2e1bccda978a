"""`volume ls` and `volume rm`."""

from typing import Annotated

import typer

from .. import volumes
from ..cli import app
from ..lib.output import each, print_table

volume = typer.Typer(help="List and remove volumes.", rich_markup_mode=None)
app.add_typer(volume, name="volume")


@volume.command("ls")
def list_volumes(
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print names alone.")] = False,
) -> None:
    """List the volumes."""
    names = volumes.listing()
    if quiet:
        print(*names, sep="\n", end="\n" if names else "")
    else:
        print_table(["DRIVER", "VOLUME NAME"], [["local", name] for name in names])


@volume.command("rm")
def remove_volumes(
    names: Annotated[list[str], typer.Argument(metavar="VOLUME...", help="Names of volumes.")],
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not fail if there is none.")] = False,
) -> int:
    """Remove volumes, and all that is in them."""

    def remove(name: str) -> None:
        volumes.remove(name)
        print(name)

    return each(names, remove, force)
