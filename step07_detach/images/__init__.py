"""The image store: root file systems by name. `images/<id>/rootfs` holds the files, `images/names.json` says which
name means which id, so that finding an image takes as long among a thousand as among two.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..lib import linux, store
from ..lib.errors import ContainerError, complain
from ..records import using
from . import tree

# As in Docker (distribution/reference): path components of lower case words, then a tag.
WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REFERENCE = re.compile(rf"({WORD}(?:/{WORD})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?", re.ASCII)
ID = re.compile(r"[0-9a-f]{1,12}", re.ASCII)

Progress = Callable[[int, int | None], None]  # bytes done, and of how many, if that is known


@dataclass(frozen=True)
class Root:
    """Where a container's root comes from: `id` is the image's, or none for a directory of the host's."""

    id: str
    path: Path


@dataclass(frozen=True)
class Image:
    """An image as `images` lists it: one line for each of its names, `names` empty where it has lost them."""

    id: str
    names: list[str]
    created: float  # seconds since 1970
    size: int  # bytes in its files


def parse(reference: str) -> str:
    """A name with its tag, `latest` if none is given. Raises ContainerError unless it is one that Docker takes."""
    match = REFERENCE.fullmatch(reference)
    if not match or len(match[1]) > 255:
        raise ContainerError(f"{reference!r} is no image name: name[:tag], the name in lower case, such as debian:12")
    return f"{match[1]}:{match[2] or 'latest'}"


@contextmanager
def used(reference: str) -> Iterator[Root]:
    """The root that an image's name or id means, or `./DIR` or `/DIR`. The image cannot be removed meanwhile.

    Makes the default image if this is its first use.
    """
    if reference.startswith(("/", "./", "../")) or reference in (".", ".."):
        yield Root("", local_directory(reference))
        return
    with linux.locked(store.folder("images")):
        if reference in ("busybox", "busybox:latest") and "busybox:latest" not in names():
            make_default()
        image = find(reference)
        held = linux.lock(directory(image), shared=True)
    try:
        yield Root(image, directory(image) / "rootfs")
    finally:
        os.close(held)


def local_directory(path: str) -> Path:
    """A directory as a root file system. Raises ContainerError for what cannot be one."""
    root = Path(path).resolve()
    if not root.is_dir():
        raise ContainerError(f"{path}: {'not a directory' if root.exists() else 'no such directory'}")
    if store.folder("images").resolve().is_relative_to(root):
        raise ContainerError(f"{path} contains the image store itself: give a directory that does not")
    return root


def make_default() -> None:
    """Make the image `busybox`. The caller holds the lock of `images`."""
    from . import default

    with store.owned("tmp", new_id()) as work:
        origin = default.make(work / "rootfs")
        size = sum(file.lstat().st_size for file in (work / "rootfs").rglob("*") if not file.is_dir())
        add(work, "busybox:latest", size)
    complain(f"made the image 'busybox' from {origin}")


def import_(source: str, name: str, progress: Progress) -> str:
    """Make an image from a directory, a tar archive or, for `-`, an archive on standard input. Returns its id."""
    from . import archive  # and all that it imports: not at the top, where every `run` would pay for it

    name = parse(name)
    with store.owned("tmp", new_id()) as work:
        if source == "-":
            size = archive.unpack(0, make_root(work), lambda done: progress(done, None))
        elif os.path.isdir(source):
            size = copy_directory(Path(source), work / "rootfs", progress)
        else:
            with open(source, "rb") as file:
                total = os.fstat(file.fileno()).st_size
                size = archive.unpack(file.fileno(), make_root(work), lambda done: progress(done, total))
        with linux.locked(store.folder("images")):
            return add(work, name, size)


def make_root(work: Path) -> Path:
    """An empty root directory, open to all: the container's users are not the store's owner."""
    (work / "rootfs").mkdir()
    (work / "rootfs").chmod(0o755)
    return work / "rootfs"


def copy_directory(source: Path, target: Path, progress: Progress) -> int:
    """Copy a directory as an image's root; returns the bytes of its files."""
    local_directory(str(source))
    size = 0

    def copied(count: int) -> None:
        nonlocal size
        size += count
        progress(size, None)

    tree.copy(source, target, copied)
    return size


def add(work: Path, name: str, size: int) -> str:
    """Move a finished image into the store and give it its name, taking the name from the one that had it.

    The caller holds the lock of `images`.
    """
    store.write_json(work / "image.json", {"created": time.time(), "size": size})
    linux.rename(work, directory(work.name))
    try:
        write_names(names() | {name: work.name})
    except OSError:
        linux.rename(directory(work.name), work)  # whose owner removes it
        raise
    return work.name


def listing() -> list[Image]:
    """All images, newest first."""
    named: dict[str, list[str]] = {}
    for name, image in names().items():
        named.setdefault(image, []).append(name)
    found = []
    for folder in store.folder("images").glob("[0-9a-f]*/"):
        if facts := store.read_json(folder / "image.json"):  # else it was removed this instant
            found.append(Image(folder.name, named.get(folder.name, []), facts["created"], facts["size"]))
    return sorted(found, key=lambda image: image.created, reverse=True)


def remove(reference: str) -> list[str]:
    """Take away a name; with its last name, or by its id, the image itself. Returns what was done, a line each.

    The layers of containers that were killed go as well: who removes wants room.
    """
    with linux.locked(store.folder("layers")):
        store.sweep(store.folder("layers"))
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


def find(reference: str) -> str:
    """The id of an image given by name, or by id or the beginning of one. Raises ContainerError if there is none."""
    known = names()
    if REFERENCE.fullmatch(reference) and (image := known.get(parse(reference))):
        return image
    if ID.fullmatch(reference):
        ids = [folder.name for folder in store.folder("images").glob(f"{reference}*/")]
        if image := store.only_one(reference, ids, "images"):
            return image
    parse(reference)
    there = ", ".join(sorted(known)) or "there is none yet"
    raise ContainerError(f"{reference}: no such image: import it, or take one that is there: {there}")


def new_id() -> str:
    """An image's id: 12 hexadecimal digits, drawn at random."""
    return os.urandom(6).hex()


def directory(image: str) -> Path:
    """Where an image is kept."""
    return store.folder("images") / image


def names() -> dict[str, str]:
    """Which id each name means."""
    known: dict[str, str] = store.read_json(store.folder("images") / "names.json")
    return known


def write_names(known: dict[str, str]) -> None:
    """Replace what the names mean; the caller holds the lock of `images`."""
    store.write_json(store.folder("images") / "names.json", known)
