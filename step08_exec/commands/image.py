"""Images: `import`, `images`, `rmi`, `commit`."""

from pathlib import Path
from typing import Annotated

import typer

from .. import commit, images
from ..lib.errors import ContainerError
from ..lib.output import ago, each, in_units, print_table, progress_bar

app = typer.Typer()


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
