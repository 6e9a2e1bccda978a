"""Containers on record. So far that is a directory for each one that runs, which its runtime holds locked."""

from pathlib import Path

from ..lib import store
from ..lib.errors import NotFoundError


def find(reference: str) -> Path:
    """The directory of the container given by its id or the beginning of it. Raises ContainerError if there is none."""
    there = sorted(path.name for path in store.folder("layers").iterdir() if store.is_held(path))
    if reference and (found := store.only_one(reference, there, "containers")):
        return store.folder("layers") / found
    raise NotFoundError(f"{reference!r}: no such container; there are: {', '.join(there) or 'none'}")
