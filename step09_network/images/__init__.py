"""What a container's root is made from: an image, or a directory of the host."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..lib import linux, store
from ..lib.errors import ContainerError
from . import catalog


@dataclass(frozen=True)
class Root:
    """A root file system. `id` is the image's id, or "" for a directory of the host."""

    id: str
    path: Path


@contextmanager
def used(reference: str) -> Iterator[Root]:
    """Yield the root for an image's name or id, or for `./DIR` or `/DIR`. A lock protects the image from removal."""
    if reference.startswith(("/", "./", "../")) or reference in (".", ".."):
        yield Root("", directory(reference))
        return
    with linux.locked(store.folder("images")):
        if reference in ("busybox", "busybox:latest") and "busybox:latest" not in catalog.names():
            make_default()
        image = catalog.find(reference)
        held = linux.lock(catalog.directory(image), shared=True)
    try:
        yield Root(image, catalog.directory(image) / "rootfs")
    finally:
        os.close(held)


def make_default() -> None:
    """Make the image `busybox`. The caller holds the lock of `images`."""
    from . import default

    with store.owned("tmp", catalog.new_id()) as work:
        default.make(work / "rootfs")
        size = sum(file.lstat().st_size for file in (work / "rootfs").rglob("*") if not file.is_dir())
        catalog.add(work, "busybox:latest", size)


def directory(path: str) -> Path:
    """Return the path of a directory that can be a root file system. Raises ContainerError if it cannot be one."""
    root = Path(path).resolve()
    if not root.is_dir():
        raise ContainerError(f"{path}: {'not a directory' if root.exists() else 'no such directory'}")
    if store.folder("images").resolve().is_relative_to(root):
        raise ContainerError(f"{path} contains the image store itself: give a directory that does not")
    return root
