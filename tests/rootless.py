"""An unprivileged user, and a Python that it can run: root's own is often in a directory closed to others."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests import image, session
from tests.runtime import Missing

USER = 61000  # no account has this number, and so none of its limits and files


def user() -> int | None:
    """Who runs the rootless runtimes: nobody else if the tests are not run by root."""
    return USER if os.geteuid() == 0 else None


@cache
def interpreter() -> tuple[str, str]:
    """A Python for that user, and its PYTHONPATH: ours if it can, else the system's with a copy of what we use."""
    if user() is None or _runs(sys.executable, ""):
        return sys.executable, ""
    libraries = str(session.once("libraries", _copy_dependencies))
    if not _runs(image.PYTHON, libraries):
        raise Missing(f"no Python here can both be run by an unprivileged user and import Typer (tried {image.PYTHON})")
    return image.PYTHON, libraries


def packages(directory: Path) -> Path:
    """A copy of the steps for that user: the repository may be in a directory closed to others."""
    return session.once(f"packages-of{directory}".replace("/", "-"), lambda place: _copy_packages(directory, place))


def _runs(python: str, path: str) -> bool:
    probe = [python, "-c", "import typer, rich"]
    try:
        return (
            subprocess.run(probe, env={"PYTHONPATH": path}, user=USER, group=USER, cwd="/", stderr=-3).returncode == 0
        )
    except OSError:
        return False


def _copy_packages(directory: Path, place: Path) -> None:
    place.mkdir()
    for package in directory.iterdir():
        if (package / "__main__.py").exists():
            shutil.copytree(package, place / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    _compile(place)


def _copy_dependencies(place: Path) -> None:
    """The distributions behind `import typer, rich`, and whatever those need, as they are installed for us."""
    queue, done = ["typer", "rich", "backports.zstd", "pyroute2"], set[str]()
    while queue:
        name = queue.pop()
        try:
            files = importlib.metadata.files(name) or []
            queue += [
                re.split(r"[^\w.-]", needed)[0]
                for needed in importlib.metadata.requires(name) or []
                if "extra ==" not in needed and needed not in done
            ]
            done.update(importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if not file.parts[0].startswith("..") and file.suffix != ".pyc":
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), place / file)
    _compile(place)


def _compile(place: Path) -> None:
    """Beforehand: the user cannot write here, and would compile everything again at each start."""
    subprocess.run([image.PYTHON, "-m", "compileall", "-q", place], check=True)
