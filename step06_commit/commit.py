"""A container becomes an image: its root file system as it is at one moment, copied, or packed into an archive.

The container takes no part in it. Its layer is mounted a second time, by a process with a mount namespace of its own,
and read-only: upper over lower, both as lower layers. So the kernel itself applies what was deleted, and of volumes and
of /proc, /sys and /dev there are only the empty directories on which they are mounted.
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


def to_image(reference: str, name: str) -> tuple[str, int]:
    """Make an image called `name` from a container. Returns its id, and the bytes in its files."""
    with standing_still(records.find(reference)) as directory:

        def fill(root: Path) -> int:
            settings.write(root.parent, settings.read(directory))
            return copy(root, partial(pack_layer, directory))

        return catalog.make(name, fill)


def to_archive(reference: str, file: Path, name: str | None) -> int:
    """Write a container's root as a tar archive, compressed as `file`'s name says. Returns the archive's bytes.

    With a `name` it is the archive of an image, as `docker save` writes it: the root is in it as its only layer.
    """
    compress = compressor(file)
    with appearing(file) as target, standing_still(records.find(reference)) as directory:

        def work() -> int:
            with compress(target) as compressed, TemporaryFile(dir=file.parent) as layer:
                pack_layer(directory, layer if name else compressed)
                if name:
                    layers.write(compressed, layer, name, settings.read(directory))
            target.flush()
            return os.fstat(target.fileno()).st_size

        return run(work)


@contextmanager
def standing_still(directory: Path) -> Iterator[Path]:
    """Pause the container of this directory meanwhile, and keep its layer.

    The container may end even so, where nothing can pause it or somebody kills it. Then its layer is removed after us.
    """
    try:
        lock = linux.lock(directory, shared=True, wait=False)
    except (BlockingIOError, FileNotFoundError):
        raise ContainerError(f"{directory.name}: it has just ended, and its files are gone") from None
    try:
        with freezer.frozen(directory.name) as frozen:
            if not frozen:
                complain("no cgroup freezer can pause the container: what it writes meanwhile may be half there")
            yield directory
    finally:
        os.close(lock)


def pack_layer(directory: Path, target: IO[bytes]) -> None:
    """Pack what a container's layer and its image make together: to be called in a process of its own.

    The kernel logs a warning that upper is in use twice: it would not follow what the container writes meanwhile. The
    container stands still.
    """
    linux.unshare(CLONE.CLONE_NEWNS)
    namespaces.make_mounts_private()
    linux.chdir(str(directory))
    options = f"lowerdir=upper:lower,index=off{overlay.attributes()}"
    linux.mount("overlay", "merged", "overlay", MS.MS_RDONLY, options)
    pack(directory / "merged", target)


# ---- the archive's file ----


def compressor(file: Path) -> Callable[[IO[bytes]], Any]:
    """What compresses as the name of `file` says. Raises ContainerError if it says nothing."""
    ending = re.fullmatch(r".+\.tar(|\.gz|\.zst)", file.name, re.DOTALL)
    if not ending:
        raise ContainerError(f"-o {str(file)!r}: a name that ends in .tar, .tar.gz or .tar.zst")
    if ending[1] == ".zst":
        return partial(unpack.zstd().ZstdFile, mode="wb")
    return partial(gzip.open, mode="wb", compresslevel=6) if ending[1] else nullcontext


@contextmanager
def appearing(file: Path) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name at the end, when it is whole. A guard removes what is left of a half one."""
    if file.is_dir():
        raise ContainerError(f"-o {str(file)!r}: that is a directory")
    half = file.with_name(f".{os.urandom(6).hex()}.part")
    with guarded(lambda: half.unlink(missing_ok=True)), open(half, "xb") as target:
        yield target
        linux.rename(half, file)
