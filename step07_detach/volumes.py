"""Volumes: directories and files of the host that a container sees as its own, and that outlive it (mount(2), bind).

A mount is picked up while the host's files can still be seen, and put down when they are gone:

    open_tree(2)       a copy of the mount at SRC, which is nowhere yet, held by a descriptor
    mount_setattr(2)   its flags, for all that is mounted below it too
    pivot_root …       now every path, whatever links it leads through, ends inside the container
    move_mount(2)      the copy appears at DST

So nobody has to check where a symbolic link in DST leads, and no change of it can come between check and use.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .lib import linux, store
from .lib.errors import ContainerError, NotFoundError, sentence
from .lib.linux import MOUNT_ATTR
from .records import using

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}", re.ASCII)  # as Docker
MODES = {"ro", "rw", "z", "Z"}  # z and Z are for SELinux: accepted, as in Docker, and without effect


@dataclass(frozen=True)
class Volume:
    """One -v: `source` is an absolute path of the host or a volume's name, `target` a path in the container."""

    source: str
    target: str
    read_only: bool

    @property
    def named(self) -> bool:
        """Whether the source is a volume of the store."""
        return not self.source.startswith("/")

    @property
    def path(self) -> Path:
        """Where on the host its files are."""
        return directory(self.source) / "data" if self.named else Path(self.source)


def parse(specifications: list[str]) -> list[Volume]:
    """What `-v SRC:DST[:ro]` means, those nearer to the root first. Raises ContainerError for what means nothing."""
    volumes = [parse_one(text) for text in specifications]
    targets = [volume.target for volume in volumes]
    if twice := next((target for target in targets if targets.count(target) > 1), None):
        raise ContainerError(f"-v: two volumes at {twice}, and only one can be seen there")
    return sorted(volumes, key=lambda volume: len(Path(volume.target).parts))


def parse_one(text: str) -> Volume:
    """One specification."""
    source, target, *mode = text.split(":") if ":" in text else (text, "")
    modes = ":".join(mode).split(",") if mode else []
    if not MODES.issuperset(modes) or {"ro", "rw"}.issubset(modes):
        raise ContainerError(f"-v {text!r}: the mode is ro or rw, not {text.split(':', 2)[2]!r}")
    if not source or not target:
        raise ContainerError(f"-v {text!r}: give SRC:DST, a path or volume's name here and a path in the container")
    if not target.startswith("/"):
        raise ContainerError(f"-v {text!r}: {target!r} has to be a path inside the container, beginning with /")
    target = f"/{os.path.normpath(target).lstrip('/')}"
    if target == "/":
        raise ContainerError(f"-v {text!r}: / would hide all of the container's files; take a directory below it")
    if not may_be_covered(target):
        raise ContainerError(f"-v {text!r}: /{Path(target).parts[1]} is the runtime's to furnish; take another place")
    if "/" in source or source in (".", ".."):
        source = os.path.abspath(source)
    elif not NAME.fullmatch(source):
        raise ContainerError(f"-v {text!r}: {source!r} is no volume's name (letters, digits, _.-); a path has a /")
    return Volume(source, target, read_only="ro" in modes)


def may_be_covered(target: str) -> bool:
    """Whether a volume may lie at this path: not at what makes it a container. In /dev it may, but not upon it."""
    return target not in ("/", "/dev") and Path(target).parts[1] not in ("proc", "sys")


# ---- outside ----


@contextmanager
def held(volumes: list[Volume], image: Path) -> Iterator[None]:
    """Have every source ready: made if missing, a named one locked, so that it cannot be removed meanwhile."""
    with ExitStack() as locks:
        for volume in volumes:
            if volume.named:
                locks.callback(os.close, hold(volume, image))
            else:
                make_source(volume.path)
        yield


def make_source(path: Path) -> None:
    """Make a missing directory of the host's, as Docker does. Raises ContainerError if there is no way to read it."""
    try:
        if not os.path.lexists(path):
            path.mkdir(parents=True, exist_ok=True)  # another container may want the same one, this instant
        kind = path.stat().st_mode
    except OSError as error:
        raise ContainerError(f"-v: {sentence(error)}") from None
    if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
        raise ContainerError(f"-v: {path} is neither a directory nor a regular file")
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(kind) else 0)):
        raise ContainerError(f"-v: {path}: you may not read it, so the container could not either")


def hold(volume: Volume, image: Path) -> int:
    """Lock a volume of the store, made and filled at its first use. Returns the lock's descriptor."""
    folder = directory(volume.source)
    with linux.locked(folder.parent):
        if not folder.exists():
            with store.owned("tmp", os.urandom(6).hex()) as work:
                (work / "data").mkdir()
                (work / "data").chmod(0o755)  # whatever the umask: the container's users must get in
                fill(work / "data", volume.target, image)
                linux.rename(work, folder)
        return linux.lock(folder, shared=True)


def fill(data: Path, target: str, image: Path) -> None:
    """Fill a new volume with what the image has at the mount point, as Docker does."""
    from .images import copy, pack

    def read(pipe: IO[bytes]) -> None:
        # The image may have a symbolic link there. So this process makes the image its root directory, then reads.
        linux.told("chroot", [image], os.chroot, image)
        linux.chdir("/")
        if os.path.isdir(target):
            pack.pack(Path(target), pipe)
        else:
            pipe.write(pack.END)

    copy.copy(data, read)


def directory(name: str) -> Path:
    """Where a volume is kept. The lock is on this directory; what the container sees lies inside, out of its reach."""
    return store.folder("volumes") / name


def listing() -> list[str]:
    """The names of all volumes."""
    return sorted(path.name for path in store.folder("volumes").iterdir())


def remove(name: str) -> None:
    """Remove a volume and all that is in it. Raises ContainerError if there is none, or a container uses it."""
    with linux.locked(store.folder("volumes")):
        if not NAME.fullmatch(name) or not directory(name).exists():
            raise NotFoundError(f"{name}: no such volume; there are: {', '.join(listing()) or 'none'}")
        try:
            lock = linux.lock(directory(name), wait=False)
        except BlockingIOError:
            raise ContainerError(f"{name}: in use by a running container: stop that first") from None
        if users := using(f"volume:{name}"):
            os.close(lock)
            raise ContainerError(f"{name}: in use by {', '.join(users)}, though not running: rm that first")
        with store.owned("tmp", os.urandom(6).hex()) as work:
            linux.rename(directory(name), work / name)
        os.close(lock)


# ---- inside ----


def pick_up(volumes: list[Volume]) -> list[int]:
    """Copy the mounts of all sources, one descriptor for each: to be called while the host's files can be seen."""
    return [pick_up_one(volume) for volume in volumes]


def pick_up_one(volume: Volume) -> int:
    """Copy one mount, with what is mounted below it. A device file in it opens nothing."""
    picked = linux.open_tree(str(volume.path))
    read_only = MOUNT_ATTR.MOUNT_ATTR_RDONLY if volume.read_only else MOUNT_ATTR(0)
    linux.mount_setattr(picked, MOUNT_ATTR.MOUNT_ATTR_NODEV | read_only)
    return picked


def put_down(volumes: list[Volume], picked: list[int]) -> None:
    """Attach the copies: to be called when no path leads to the host any more."""
    paths = os.open("/proc/self/fd", os.O_PATH)  # where descriptors are, told by /proc even when a volume lies upon it
    for volume, mount in zip(volumes, picked, strict=True):
        is_directory = stat.S_ISDIR(os.fstat(mount).st_mode)
        try:
            real = make_target(volume.target, is_directory)
            if os.path.isdir(real) != is_directory:
                kinds = ("directory", "file") if is_directory else ("file", "directory")
                raise ContainerError(f"-v: {volume.source} is a {kinds[0]}, {volume.target} in the image a {kinds[1]}")
            linux.move_mount(mount, real)
        except OSError as error:
            raise ContainerError(f"-v: nothing can be mounted at {volume.target}: {error.strerror}") from None
        where = os.readlink(str(mount), dir_fd=paths)
        if not may_be_covered(where):  # another container has put a link there since we looked
            raise ContainerError(f"-v: {volume.target} has come to lead to {where}, which is not to be covered")
        os.close(mount)
    os.close(paths)


def make_target(target: str, is_directory: bool) -> str:
    """Where `target` really is, links followed; made in the container's layer if it is missing."""
    real = os.path.realpath(target)
    if not may_be_covered(real):
        raise ContainerError(f"-v: {target} leads to {real} in this image, which is not to be covered")
    folder = Path(real) if is_directory else Path(real).parent
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        linux.mkdir(missing, 0o755)
    if not is_directory and not os.path.exists(real):
        with suppress(FileExistsError):
            os.close(os.open(real, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    return real
