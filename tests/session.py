"""What the workers of one test session share: a directory, and things made once for all of them."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "MYDOCKER_TEST_SESSION"
REPOSITORY = Path(__file__).resolve().parent.parent
SLOWNESS = float(os.environ.get("MYDOCKER_TEST_SLOWNESS", "1"))  # how many times slower than usual this machine is


def begin() -> None:
    """Make the session's directory, readable by all: the rootless user works in it too."""
    place = Path(tempfile.mkdtemp(prefix="mydocker-tests-"))
    place.chmod(0o755)
    os.environ[VARIABLE] = str(place)  # the workers inherit it


def end() -> None:
    """Remove all that the session made, Podman's storage (which Podman mounts on itself) included."""
    place = Path(os.environ.pop(VARIABLE))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (target := line.split()[4]).startswith(f"{place}/"):
            subprocess.run(["umount", "--lazy", target], check=False)
    shutil.rmtree(place, ignore_errors=True)


def directory() -> Path:
    return Path(os.environ[VARIABLE])


def worker() -> Path:
    """This worker's own part of the session's directory: a path tells whose a thing is."""
    place = directory() / os.environ.get("PYTEST_XDIST_WORKER", "main")
    place.mkdir(exist_ok=True)
    return place


@contextmanager
def lock(name: str) -> Iterator[None]:
    with (directory() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The path `name`, made by the first worker that asks for it while the others wait."""
    place, made = directory() / name, directory() / f"{name}.made"
    with lock(name):
        if not made.exists():
            make(place)
            made.touch()
    return place
