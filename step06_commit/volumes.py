"""Volumes: directories and files of the host, mounted in a container, that outlive the container (mount(2), bind).

A mount is picked up while the host's files can still be seen, and put down when they are gone:

    open_tree(2)       copy the mount at SRC; the copy is attached nowhere yet, a descriptor holds it
    mount_setattr(2)   set its flags, and those of the mounts below it
    pivot_root …       now every path ends inside the container, whatever links it leads through
    move_mount(2)      attach the copy at DST

So we need not check where a symbolic link in DST leads, and nobody can change it between a check and its use.
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

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}", re.ASCII)  # as in Docker
MODES = {"ro", "rw", "z", "Z"}  # z and Z are for SELinux: accepted, as in Docker, but without effect here


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
        """The path of its files on the host."""
        return directory(self.source) / "data" if self.named else Path(self.source)


def parse(specifications: list[str]) -> list[Volume]:
    """Parse each `-v SRC:DST[:ro]`, and sort: a parent directory comes first. Raises ContainerError for a bad one."""
    volumes = [parse_one(text) for text in specifications]
    targets = [volume.target for volume in volumes]
    if twice := next((target for target in targets if targets.count(target) > 1), None):
        raise ContainerError(f"-v: two volumes at {twice}, and only one can be seen there")
    return sorted(volumes, key=lambda volume: len(Path(volume.target).parts))


def parse_one(text: str) -> Volume:
    """Parse one specification."""
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
    if not may_mount_at(target):
        raise ContainerError(f"-v {text!r}: the runtime sets up /{Path(target).parts[1]} itself; choose another path")
    if "/" in source or source in (".", ".."):
        source = os.path.abspath(source)
    elif not NAME.fullmatch(source):
        raise ContainerError(f"-v {text!r}: {source!r} is not a volume's name (letters, digits, _.-); a path has a /")
    return Volume(source, target, read_only="ro" in modes)


def may_mount_at(target: str) -> bool:
    """Whether a volume may be mounted here: not on /, not on /proc or /sys or below them, not on /dev, but below it."""
    return target not in ("/", "/dev") and Path(target).parts[1] not in ("proc", "sys")


# ---- outside ----


@contextmanager
def held(volumes: list[Volume], image: Path) -> Iterator[None]:
    """Make every source that is missing, and hold the lock of every named one, so that nobody can remove it."""
    with ExitStack() as locks:
        for volume in volumes:
            if volume.named:
                locks.callback(os.close, hold(volume, image))
            else:
                make_source(volume.path)
        yield


def make_source(path: Path) -> None:
    """Make a missing directory on the host, as Docker does. Raises ContainerError if we cannot read the source."""
    try:
        if not os.path.lexists(path):
            path.mkdir(parents=True, exist_ok=True)  # another container may make the same one at this moment
        kind = path.stat().st_mode
    except OSError as error:
        raise ContainerError(f"-v: {sentence(error)}") from None
    if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
        raise ContainerError(f"-v: {path} is neither a directory nor a regular file")
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(kind) else 0)):
        raise ContainerError(f"-v: {path}: you may not read it, so the container could not either")


def hold(volume: Volume, image: Path) -> int:
    """Lock a volume of the store. Its first use makes and fills it. Returns the lock's descriptor."""
    folder = directory(volume.source)
    with linux.locked(folder.parent):
        if not folder.exists():
            with store.owned("tmp", os.urandom(6).hex()) as work:
                (work / "data").mkdir()
                (work / "data").chmod(0o755)  # despite the umask: the container's users must get in
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
    """Return a volume's directory. It has the lock; the container sees only `data` in it, and cannot take the lock."""
    return store.folder("volumes") / name


def listing() -> list[str]:
    """Return the names of all volumes."""
    return sorted(path.name for path in store.folder("volumes").iterdir())


def remove(name: str) -> None:
    """Remove a volume and its files. Raises ContainerError if it does not exist, or if a container uses it."""
    with linux.locked(store.folder("volumes")):
        if not NAME.fullmatch(name) or not directory(name).exists():
            raise NotFoundError(f"{name}: no such volume; there are: {', '.join(listing()) or 'none'}")
        try:
            lock = linux.lock(directory(name), wait=False)
        except BlockingIOError:
            raise ContainerError(f"{name}: in use by a running container: stop that first") from None
        with store.owned("tmp", os.urandom(6).hex()) as work:
            linux.rename(directory(name), work / name)
        os.close(lock)


# ---- inside ----


def pick_up(volumes: list[Volume]) -> list[int]:
    """Copy the mounts of all sources. Returns a descriptor for each. Call this while the host's files can be seen."""
    return [pick_up_one(volume) for volume in volumes]


def pick_up_one(volume: Volume) -> int:
    """Copy one mount and the mounts below it. Device files in the copy cannot be opened (nodev)."""
    picked = linux.open_tree(str(volume.path))
    read_only = MOUNT_ATTR.MOUNT_ATTR_RDONLY if volume.read_only else MOUNT_ATTR(0)
    linux.mount_setattr(picked, MOUNT_ATTR.MOUNT_ATTR_NODEV | read_only)
    return picked


def put_down(volumes: list[Volume], picked: list[int]) -> None:
    """Attach the copies. Call this when no path leads to the host any more."""
    paths = os.open("/proc/self/fd", os.O_PATH)  # tells each descriptor's path, even if a volume hides /proc later
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
        if not may_mount_at(where):  # another container has put a link there since we looked
            raise ContainerError(f"-v: {volume.target} has changed: it leads to {where}, where no volume may be")
        os.close(mount)
    os.close(paths)


def make_target(target: str, is_directory: bool) -> str:
    """Follow the links in `target`, and return its real path. If it is missing, make it in the container's layer."""
    real = os.path.realpath(target)
    if not may_mount_at(real):
        raise ContainerError(f"-v: {target} leads to {real} in this image, where no volume may be")
    folder = Path(real) if is_directory else Path(real).parent
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        linux.mkdir(missing, 0o755)
    if not is_directory and not os.path.exists(real):
        with suppress(FileExistsError):
            os.close(os.open(real, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    return real
