"""What a container's root is made from: an image, or a directory of the host."""

from pathlib import Path

from ..lib import linux, store
from ..lib.errors import ContainerError


def find(reference: str) -> Path:
    """Return the root file system that `busybox`, `./DIR` or `/DIR` means. The first use of `busybox` makes it."""
    if reference.startswith(("/", "./", "../")) or reference in (".", ".."):
        return directory(reference)
    if reference not in ("busybox", "busybox:latest"):
        raise ContainerError(f"{reference!r}: the only image here is busybox; for a directory write ./{reference}")
    with linux.locked(store.folder("images")):
        image = store.folder("images") / "busybox"
        if not image.exists():
            from . import default

            default.make(image)
        return image


def directory(path: str) -> Path:
    """Return the path of a directory that can be a root file system. Raises ContainerError if it cannot be one."""
    root = Path(path).resolve()
    if not root.is_dir():
        raise ContainerError(f"{path}: {'not a directory' if root.exists() else 'no such directory'}")
    if store.folder("images").resolve().is_relative_to(root):
        raise ContainerError(f"{path} contains the image store itself: give a directory that does not")
    return root
