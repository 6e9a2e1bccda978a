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

from . import child, images, namespaces, overlay, records
from .cgroups import freezer
from .images import Progress, pack
from .lib import linux, store
from .lib.errors import ContainerError, complain
from .lib.linux import CLONE
from .records.record import load


def to_image(reference: str, name: str, progress: Progress) -> tuple[str, int]:
    """Make an image called `name` from a container. Returns its id, and the bytes in its files."""
    name = images.parse(name)
    directory = records.find(reference)
    with store.owned("tmp", images.new_id()) as work:
        size = read(directory, lambda root, report: images.copy_directory(root, work / "rootfs", report), progress)
        with linux.locked(store.folder("images")):
            return images.add(work, name, size), size


def to_archive(reference: str, file: Path, progress: Progress) -> int:
    """Write a container's root as a tar archive, compressed as `file`'s name says. Returns the archive's bytes.

    The file is there when it is whole, and not before.
    """
    compress = pack.compressor(file)
    directory = records.find(reference)
    with pack.appearing(file) as target:
        read(directory, lambda root, report: pack.pack(root, target, compress, report), progress)
        return os.fstat(target.fileno()).st_size


def read(directory: Path, use: Callable[[Path, Progress], int], progress: Progress) -> int:
    """Have a process `use` the container's root, while the container stands still. Returns what that returns.

    The container may end even so, where nothing holds it or somebody kills it. Its layer then waits for us.
    """
    done = mmap.mmap(-1, 8)  # bytes so far: memory that both processes share

    def work() -> int:
        linux.unshare(CLONE.CLONE_NEWNS)
        namespaces.make_mounts_private()
        root = overlay.mount_read_only(directory)
        return use(root, lambda size, _: struct.pack_into("=q", done, 0, size))

    with ExitStack() as cleanup:
        try:
            cleanup.enter_context(linux.locked(directory, shared=True, wait=False))
        except (BlockingIOError, FileNotFoundError):
            raise ContainerError(f"{directory.name}: it has just ended, and its files are gone") from None
        cleanup.enter_context(linux.locked(directory / "upper", shared=True))  # who removes it holds the other one, too
        if not cleanup.enter_context(freezer.frozen(directory.name)) and load(directory).running:
            complain(
                "there is no cgroup freezer to pause the container with: what it writes meanwhile may be half there"
            )
        return child.run(work, lambda: progress(struct.unpack_from("=q", done)[0], None))
