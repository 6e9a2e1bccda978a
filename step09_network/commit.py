"""Make an image from a container: copy its root file system as it is at one moment, or pack it into an archive.

The container does nothing for this. A process with its own mount namespace mounts the container's layer a second time,
read-only, with `upper` and `lower` both as lower layers. So the kernel itself applies the deletions. Volumes, /proc,
/sys and /dev are not mounted there: the image gets only their empty mount points.
"""

import gzip
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from . import namespaces, overlay, records
from .cgroups import freezer
from .child import guarded, run
from .images import catalog, layers, settings, unpack
from .images.copy import copy
from .images.pack import pack
from .lib import linux
from .lib.errors import ContainerError, complain
from .lib.linux import CLONE, MS
from .records.record import load


def to_image(reference: str, name: str) -> tuple[str, int]:
    """Make an image called `name` from a container. Returns the image's id and the size of its files in bytes."""
    catalog.parse(name)
    with paused(records.find(reference)) as directory:

        def fill(root: Path) -> int:
            settings.write(root.parent, settings.read(directory))
            return copy(root, partial(pack_layer, directory))

        return catalog.make(name, fill)


def to_archive(reference: str, file: Path, name: str | None) -> int:
    """Write a container's root as a tar archive; the ending of `file` tells the compression. Returns its size in bytes.

    With `name`, write an image as `docker save` does; the root is its only layer.
    """
    compress = compressor(file)
    with atomic_file(file) as target, paused(records.find(reference)) as directory:

        def work() -> int:
            with compress(target) as compressed, TemporaryFile(dir=file.parent) as layer:
                pack_layer(directory, layer if name else compressed)
                if name:
                    layers.write(compressed, layer, name, settings.read(directory))
            target.flush()
            return os.fstat(target.fileno()).st_size

        return run(work)


@contextmanager
def paused(directory: Path) -> Iterator[Path]:
    """Pause the container of this directory inside the `with` block, and keep its layer.

    The container can still end, if there is no freezer or somebody kills it. Then its layer stays until we are done.
    """
    try:
        lock = linux.lock(directory, shared=True, wait=False)
    except (BlockingIOError, FileNotFoundError):
        raise ContainerError(f"{directory.name}: it has just ended, and its files are gone") from None
    try:
        # To remove a layer, a command needs the lock of its `upper` too.
        with linux.locked(directory / "upper", shared=True), freezer.frozen(directory.name) as frozen:
            if not frozen and load(directory).running:
                complain("no cgroup freezer can pause the container: a file that it writes now may be incomplete")
            yield directory
    finally:
        os.close(lock)


def pack_layer(directory: Path, target: IO[bytes]) -> None:
    """Pack a container's root: its layer over its image. Call this in a separate process: it changes the mounts.

    The kernel logs a warning that `upper` is in use twice: this mount may miss what the container writes. That is
    harmless while the container is paused.
    """
    linux.unshare(CLONE.CLONE_NEWNS)
    namespaces.make_mounts_private()
    linux.chdir(str(directory))
    options = f"lowerdir=upper:lower,index=off{overlay.attributes()}"
    linux.mount("overlay", "merged", "overlay", MS.MS_RDONLY, options)
    pack(directory / "merged", target)


# ---- the archive's file ----


def compressor(file: Path) -> Callable[[IO[bytes]], Any]:
    """Return the function that compresses, by the ending of `file`. Raises ContainerError for another ending."""
    ending = re.fullmatch(r".+\.tar(|\.gz|\.zst)", file.name, re.DOTALL)
    if not ending:
        raise ContainerError(f"-o {str(file)!r}: the name must end in .tar, .tar.gz or .tar.zst")
    if ending[1] == ".zst":
        return partial(unpack.zstd().ZstdFile, mode="wb")
    return partial(gzip.open, mode="wb", compresslevel=6) if ending[1] else nullcontext


@contextmanager
def atomic_file(file: Path) -> Iterator[IO[bytes]]:
    """Open a file to write. It gets its name at the end, when it is complete. A guard removes an incomplete file."""
    if file.is_dir() or not file.parent.is_dir():
        raise ContainerError(f"-o {str(file)!r}: give the name of a file, in a directory that exists")
    half = file.with_name(f".{os.urandom(6).hex()}.part")
    with guarded(lambda: half.unlink(missing_ok=True), needs=2), open(half, "xb") as target:
        yield target
        linux.rename(half, file)
