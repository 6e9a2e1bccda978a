"""A writable layer over a read-only image: overlayfs (kernel: filesystems/overlayfs.rst; overlay in mount(8)).

    merged    what the container sees, and where it writes
      │
    upper     the container's own: each file that it has written, and a mark for each that it has deleted
    lower     the image, which is never written to

The first write to a file of the image copies the whole file up. Until then the layer needs no space, however large
the image is. All of it lies in one directory of the store, which is removed with the container.
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
    except PermissionError as error:  # vfat, exfat: they have no links, and cannot hold a layer
        raise refusal(error, directory) from None
    for name in ("upper", "work", "merged"):  # work: the kernel prepares files there, then renames them into upper
        (directory / name).mkdir()
    # The container's `/` gets the owner and mode of upper.
    shutil.copystat(image, directory / "upper")
    with suppress(PermissionError):  # without root the caller owns all files
        os.chown(directory / "upper", image.stat().st_uid, image.stat().st_gid)


def mount(directory: Path) -> Path:
    """Mount the container's layer over its image. Call this inside the mount namespace. Returns the mount point.

    Raises ContainerError if the store's file system cannot be an upper layer.
    """
    # Commas and colons have a meaning in the options. The store's path may contain some; these relative names do not.
    linux.chdir(str(directory))
    try:
        options = f"lowerdir=lower,upperdir=upper,workdir=work{attributes()}"
        linux.mount("overlay", "merged", "overlay", MS.MS_NODEV, options)
    except OSError as error:
        raise refusal(error, directory) from None
    return directory / "merged"


def attributes() -> str:
    """Return the option for the kernel's marks. They are extended attributes: trusted.overlay.* (option ""), which only
    the real root may set, or user.overlay.* (userxattr). We try one: we may be root in a user namespace only.

    Raises OSError if files have no such attributes here: the mount would work, but removing a directory would fail.
    """
    try:
        os.setxattr("work", "trusted.overlay.try", b"")
        return ""
    except PermissionError:
        os.setxattr("work", "user.overlay.try", b"")
        return ",userxattr"


def refusal(error: OSError, directory: Path) -> ContainerError:
    """Return the error that says why no layer can be mounted here, and what to do."""
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
    """Return the type of the file system of `path`: mountinfo in proc(5)."""
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, details = line.partition(" - ")
        if fields.split()[2] == name:
            return details.split()[0]
    return "a file system"
