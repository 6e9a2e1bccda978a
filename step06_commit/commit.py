"""A container becomes an image: its root file system as it is at one moment, copied, or packed into an archive.

Nothing is asked of the container. Its layer is mounted a second time, by a process with a mount namespace of its own,
and read-only: upper over lower, both as lower layers. So the kernel itself applies what was deleted, and neither
volumes nor /proc, /sys and /dev are there to be left out, only the empty directories on which they are mounted.
"""

import mmap
import os
import struct
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from . import cgroups, images, init, linux, overlay, pack, store, worker
from .errors import ContainerError, complain
from .images import Progress
from .linux import CLONE


def to_image(reference: str, name: str, progress: Progress) -> tuple[str, int]:
    """Make an image called `name` from a container. Returns its id, and the bytes in its files."""
    name = images.parse(name)
    container = find(reference)
    with store.owned("tmp", images.new_id()) as work:
        size = read(container, lambda root, report: images.copy_directory(root, work / "rootfs", report), progress)
        with linux.locked(store.folder("images")):
            return images.add(work, name, size), size


def to_archive(reference: str, file: Path, progress: Progress) -> int:
    """Write a container's root as a tar archive, compressed as `file`'s name says. Returns the archive's bytes.

    The file is there when it is whole, and not before.
    """
    compress = pack.compressor(file)
    container = find(reference)
    with pack.appearing(file) as target:
        read(container, lambda root, report: pack.pack(root, target, compress, report), progress)
        return os.fstat(target.fileno()).st_size


def find(reference: str) -> str:
    """The id of a running container that is given by the beginning of it."""
    running = store.living("containers")
    matching = [container for container in running if reference and container.startswith(reference)]
    if len(matching) == 1:
        return matching[0]
    what = "several containers begin so" if matching else "no such container"
    raise ContainerError(f"{reference!r}: {what}; running are: {', '.join(running) or 'none'}")


def read(container: str, use: Callable[[Path, Progress], int], progress: Progress) -> int:
    """Have a process `use` the container's root, while the container stands still. Returns what that returns.

    The container may end even so, where nothing holds it or somebody kills it. Its layer then waits for us.
    """
    layer = store.folder("containers") / container
    done = mmap.mmap(-1, 8)  # bytes so far: memory that both processes share

    def work() -> int:
        linux.unshare(CLONE.CLONE_NEWNS)
        init.own_mounts()
        root = overlay.mount_read_only(layer)
        return use(root, lambda size, _: struct.pack_into("=q", done, 0, size))

    with ExitStack() as cleanup:
        try:
            cleanup.enter_context(linux.locked(layer, shared=True, wait=False))
        except (BlockingIOError, FileNotFoundError):
            raise ContainerError(f"{container}: it has just ended, and its files are gone") from None
        if not cleanup.enter_context(cgroups.frozen(container)):
            complain(
                "there is no cgroup freezer to pause the container with: what it writes meanwhile may be half there"
            )
        return worker.run(work, lambda: progress(struct.unpack_from("=q", done)[0], None))
