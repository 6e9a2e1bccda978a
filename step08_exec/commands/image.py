"""Images: `import`, `images`, `rmi`, `commit`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated

import typer

from .. import images
from ..cli import app
from ..images import catalog
from ..lib.errors import ContainerError
from ..lib.output import ago, each, in_units, print_table


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="A directory, a tar archive (plain, gz, bz2, xz, zst), or - for standard input.")
    ],
    name: Annotated[str, typer.Argument(help="What to call the image: name[:tag].")],
) -> None:
    """Make an image from a directory or a tar archive: of plain files, or of an image saved by 'docker save'."""
    from ..images import layers  # here and not above: it imports a lot

    if os.path.isdir(source):
        with progress_bar("importing"):
            image, _ = catalog.make(name, partial(layers.from_directory, images.directory(source)))
    else:
        with open(0 if source == "-" else source, "rb") as file, progress_bar("importing", file) as show:
            image, _ = catalog.make(name, partial(layers.from_archive, file.fileno(), show))
    print(image)


@app.command("images")
def list_images(
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the ids.")] = False,
) -> None:
    """List the images."""
    found = catalog.listing()
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
def rmi(
    references: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Names or ids.")],
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not fail if there is none.")] = False,
) -> int:
    """Remove images."""
    return each(references, lambda reference: print(*catalog.remove(reference), sep="\n"), force)


@app.command("commit")
def commit_(
    reference: Annotated[str, typer.Argument(metavar="CONTAINER", help="The container's id, or its first digits.")],
    name: Annotated[str | None, typer.Argument(metavar="[IMAGE]", help="What to call the image: name[:tag].")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="FILE", help="Write a .tar, .tar.gz or .tar.zst: the files; with IMAGE, an image."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the image's id.")] = False,
) -> None:
    """Make an image or an archive from a container's files. 'docker load' can read an archive made with IMAGE."""
    from .. import commit

    with progress_bar("committing"):
        if output is not None:
            size = commit.to_archive(reference, output, None if name is None else catalog.parse(name))
            report = str(output) if quiet else f"{output} {in_units(size)}"
        elif name is not None:
            made, size = commit.to_image(reference, name)
            report = made if quiet else f"{catalog.parse(name)} {made} {in_units(size)}"
        else:
            raise ContainerError("commit CONTAINER IMAGE makes an image, commit CONTAINER -o FILE an archive: give one")
    print(report)


@contextmanager
def progress_bar(title: str, file: IO[bytes] | None = None) -> Iterator[Callable[[], None]]:
    """Show a progress bar inside the `with` block, if standard error is a terminal.

    Yields a function that updates the bar: it shows how much of `file` has been read, by any process.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    total = os.fstat(file.fileno()).st_size if file and file.seekable() else None
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(title, total=total)
        yield lambda: bars.update(bar, completed=os.lseek(file.fileno(), 0, os.SEEK_CUR)) if file and total else None
