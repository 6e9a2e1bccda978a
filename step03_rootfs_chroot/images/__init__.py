"""What a container's root is made from: an image, or a directory of the host's."""

from pathlib import Path

from ..lib import linux, store
from ..lib.errors import ContainerError


def find(reference: str) -> Path:
    """The root file system that `busybox`, `./DIR` or `/DIR` means. Makes the image if this is its first use."""
    if reference.startswith(("/", "./", "../")) or reference in (".", ".."):
        return directory(reference)
    if reference not in ("busybox", "busybox:latest"):
        raise ContainerError(f"{reference!r}: the image is busybox here, or a directory: ./{reference}")
    with linux.locked(store.folder("images")):
        image = store.folder("images") / "busybox"
        if not image.exists():
            from . import default

            default.make(image)
        return image


def directory(path: str) -> Path:
    """A directory as a root file system. Raises ContainerError for what cannot be one."""
    root = Path(path).resolve()
    if not root.is_dir():
        raise ContainerError(f"{path}: {'not a directory' if root.exists() else 'no such directory'}")
    if store.folder("images").resolve().is_relative_to(root):
        raise ContainerError(f"{path} contains the image store itself: give a directory that does not")
    return root
