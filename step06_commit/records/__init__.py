"""Containers on record. In this step each running container has a directory, and its runtime holds the lock of it."""

from pathlib import Path

from ..lib import store
from ..lib.errors import NotFoundError


def find(reference: str) -> Path:
    """Return a container's directory, given its id or the beginning of its id. Raises ContainerError if not found."""
    there = sorted(path.name for path in store.folder("layers").iterdir() if store.is_held(path))
    if reference and (found := store.only_one(reference, there, "containers")):
        return store.folder("layers") / found
    raise NotFoundError(f"{reference!r}: no such container; there are: {', '.join(there) or 'none'}")
