"""What the workers of one test session share: a directory, and files that are made once for all of them."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "MYDOCKER_TEST_SESSION"
PREFIX = "mydocker-tests-"
REPOSITORY = Path(__file__).resolve().parents[2]
SLOWNESS = float(os.environ.get("MYDOCKER_TEST_SLOWNESS", "1"))  # how many times slower than usual this machine is


def begin() -> list[str]:
    """Make the session's directory, readable by all users: the rootless user works in it too.

    Remove the directories of killed sessions, and return their names."""
    top, removed = Path(tempfile.gettempdir()), []
    with _locked(top):
        for old in top.glob(f"{PREFIX}*"):
            with suppress(OSError), _locked(old, fcntl.LOCK_NB):  # whose session lives holds this lock
                remove(old)
                removed.append(old.name)
        place = Path(tempfile.mkdtemp(prefix=PREFIX))
        fcntl.flock(os.open(place, os.O_RDONLY), fcntl.LOCK_EX)  # until this process ends
    place.chmod(0o755)
    os.environ[VARIABLE] = str(place)  # the workers inherit it
    return removed


def end() -> None:
    if place := os.environ.pop(VARIABLE, None):  # none: begin() failed, and that is what must be told
        remove(Path(place))


def remove(place: Path) -> None:
    """Remove a directory and all in it, even Podman's storage, which Podman mounts on itself."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (target := line.split()[4]).startswith(f"{place}/"):
            subprocess.run(["umount", "--lazy", target], check=False)
    subprocess.run(["rm", "-rf", place], check=False)  # shutil.rmtree fails where directories are very deep


@contextmanager
def _locked(path: Path, how: int = 0) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(fd)


def directory() -> Path:
    return Path(os.environ[VARIABLE])


def worker() -> Path:
    """Return this worker's own part of the session's directory: so a path shows which worker it belongs to."""
    place = directory() / os.environ.get("PYTEST_XDIST_WORKER", "main")
    place.mkdir(exist_ok=True)
    return place


def once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the path `name`. The first worker that asks for it makes it, and the others wait."""
    place, made = directory() / name, directory() / f"{name}.made"
    lock = directory() / f"{name}.lock"
    lock.touch()
    with _locked(lock):
        if not made.exists():
            remove(place)  # half made by a worker that failed: its error should be told again, not that of the rest
            make(place)
            made.touch()
    return place
