"""A writable layer over a read-only image: overlayfs (kernel: filesystems/overlayfs.rst; overlay in mount(8)).

    merged    what the container sees, and where it writes
      │
    upper     its own: each file that it has written, and a mark for each that it has deleted
    lower     the image, which nobody writes to any more

The first write to a file of the image copies it up whole; until then the layer costs nothing, whatever the image's
size. All of it lies in one directory of the store, which is gone with the container.
"""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from .lib import linux, store
from .lib.errors import ContainerError
from .lib.linux import MS

UNABLE = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, errno.EREMOTE, errno.ESTALE)


def prepare(directory: Path, image: Path) -> None:
    """Make a layer for one container, in its `directory`, over the root file system of `image`."""
    try:
        (directory / "lower").symlink_to(image)
    except PermissionError as error:  # vfat, exfat: they have no links, and no layers either
        raise refusal(error, directory) from None
    for name in ("upper", "work", "merged"):  # work: where the kernel prepares what it then renames into upper
        (directory / name).mkdir()
    # The container's `/` has its owner and mode from upper.
    shutil.copystat(image, directory / "upper")
    with suppress(PermissionError):  # without root all is the caller's
        os.chown(directory / "upper", image.stat().st_uid, image.stat().st_gid)


def mount(directory: Path) -> Path:
    """Lay the container's layer over its image. Returns where: to be called inside the mount namespace.

    Raises ContainerError if the file system that the store is on cannot be an upper layer.
    """
    # In the options, commas and colons have a meaning. The store's path may hold some; these relative names hold none.
    linux.chdir(str(directory))
    try:
        options = f"lowerdir=lower,upperdir=upper,workdir=work{attributes()}"
        linux.mount("overlay", "merged", "overlay", MS.MS_NODEV, options)
    except OSError as error:
        raise refusal(error, directory) from None
    return directory / "merged"


def attributes() -> str:
    """The option that says where the kernel keeps its marks: "" for the extended attributes trusted.overlay.*, which
    only the real root may set; else user.overlay.* (userxattr). We try it: we may be root of a user namespace only.

    Raises OSError if files have no attributes here. The kernel would mount, and fail when a directory is removed.
    """
    try:
        os.setxattr("work", "trusted.overlay.try", b"")
        return ""
    except PermissionError:
        os.setxattr("work", "user.overlay.try", b"")
        return ",userxattr"


def refusal(error: OSError, directory: Path) -> ContainerError:
    """Why there is no layer to be had here, and the remedy."""
    if error.errno == errno.ENODEV:
        return ContainerError("this kernel has no overlayfs: load it (as root) with 'modprobe overlay'")
    if error.errno not in UNABLE:
        return ContainerError(f"the layer cannot be mounted: {error.strerror}")
    kind = file_system(directory)
    return ContainerError(
        f"{store.root()} is on {kind}, which cannot carry a container's layer: set MYDOCKER_ROOT to a directory "
        f"elsewhere, on ext4, xfs, btrfs or tmpfs"
    )


def file_system(path: Path) -> str:
    """The type of the file system that `path` is on: mountinfo in proc(5)."""
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, details = line.partition(" - ")
        if fields.split()[2] == name:
            return details.split()[0]
    return "a file system"
