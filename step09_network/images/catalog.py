"""The images in the store. `images/<id>/rootfs` holds the files of an image, `images/names.json` the id for each name:
so finding an image by its name takes the same time however many images there are.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..lib import linux, store
from ..lib.errors import ContainerError, NotFoundError
from ..records import everything, using

# As in Docker (distribution/reference): path components of lower case words, then a tag.
WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REFERENCE = re.compile(rf"({WORD}(?:/{WORD})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?", re.ASCII)
ID = re.compile(r"[0-9a-f]{1,12}", re.ASCII)


@dataclass(frozen=True)
class Image:
    """An image as `images` lists it."""

    id: str
    names: list[str]  # empty if newer images have taken them
    created: float  # seconds since 1970
    size: int  # of its files, in bytes


def parse(reference: str) -> str:
    """Return a name with its tag; the default tag is `latest`. Raises ContainerError for a name that Docker refuses."""
    match = REFERENCE.fullmatch(reference)
    if not match or len(match[1]) > 255:
        raise ContainerError(f"{reference!r} is no image name: use name[:tag], in lower case, such as debian:12")
    return f"{match[1]}:{match[2] or 'latest'}"


def find(reference: str) -> str:
    """Return an image's id, given its name, its id or the beginning of its id. Raises ContainerError if not found."""
    known = names()
    if REFERENCE.fullmatch(reference) and (image := known.get(parse(reference))):
        return image
    if ID.fullmatch(reference):
        ids = [folder.name for folder in store.folder("images").glob(f"{reference}*/")]
        if image := store.only_one(reference, ids, "images"):
            return image
    parse(reference)
    there = ", ".join(sorted(known)) or "there is none yet"
    raise NotFoundError(f"{reference}: no such image: import it, or take one that is there: {there}")


def listing() -> list[Image]:
    """Return all images, the newest first."""
    known = names()
    found = []
    for folder in store.folder("images").glob("[0-9a-f]*/"):
        if facts := store.read_json(folder / "image.json"):  # else it has just been removed
            own = [name for name, image in known.items() if image == folder.name]
            found.append(Image(folder.name, own, facts["created"], facts["size"]))
    return sorted(found, key=lambda image: image.created, reverse=True)


def make(name: str, fill: Callable[[Path], int]) -> tuple[str, int]:
    """Make an image; `fill` writes the files into its root directory. Returns the image's id and its size in bytes."""
    name = parse(name)
    with store.owned("tmp", new_id()) as work:
        root = work / "rootfs"
        root.mkdir()
        root.chmod(0o755)  # whatever the umask: the container's users must get in
        size = fill(root)
        with linux.locked(store.folder("images")):
            return add(work, name, size), size


def add(work: Path, name: str, size: int) -> str:
    """Move a finished image into the store and give it its name. An image that had this name loses it.

    The caller holds the lock of `images`.
    """
    store.write_json(work / "image.json", {"created": time.time(), "size": size})
    linux.rename(work, directory(work.name))
    try:
        write_names(names() | {name: work.name})
    except OSError:
        linux.rename(directory(work.name), work)  # move it back: the caller removes it
        raise
    return work.name


def remove(reference: str) -> list[str]:
    """Remove an image's name; with its last name, or given its id, the image too. Returns a line for each action.

    What killed containers have left in the store is removed first: it may use the image.
    """
    with linux.locked(store.folder("layers")):
        store.sweep(store.folder("layers"))
    everything()  # this also repairs the records of killed containers
    with linux.locked(store.folder("images")):
        image = find(reference)
        by_name = ID.fullmatch(reference) is None or f"{reference}:latest" in names()
        gone = [parse(reference)] if by_name else [name for name, owner in names().items() if owner == image]
        left = {name: owner for name, owner in names().items() if name not in gone}
        report = [f"Untagged: {name}" for name in gone]
        if image in left.values():
            write_names(left)
            return report
        try:
            held = linux.lock(directory(image), wait=False)
        except BlockingIOError:
            raise ContainerError(f"{reference}: in use by a running container: stop that first") from None
        if users := using(f"image:{image}"):
            os.close(held)
            raise ContainerError(f"{reference}: in use by {', '.join(users)}, though not running: rm that first")
        write_names(left)
        with store.owned("tmp", new_id()) as work:
            linux.rename(directory(image), work / image)
        os.close(held)
    return [*report, f"Deleted: {image}"]


def new_id() -> str:
    """Return a new id for an image: 12 random hexadecimal digits."""
    return os.urandom(6).hex()


def directory(image: str) -> Path:
    """Return the directory of an image."""
    return store.folder("images") / image


def names() -> dict[str, str]:
    """Return the id that each name means."""
    known: dict[str, str] = store.read_json(store.folder("images") / "names.json")
    return known


def write_names(known: dict[str, str]) -> None:
    """Replace the names of all images. The caller holds the lock of `images`."""
    store.write_json(store.folder("images") / "names.json", known)
