"""An unprivileged user, and a Python that this user can run: root's own is often in a directory closed to others."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

from tests.support import image, session
from tests.support.runtime import Missing

USER = 61000  # no account has this number, and so none of its limits and files


def user() -> int | None:
    """Return the user who runs the rootless runtimes; None (we ourselves) if the tests are not run by root."""
    return USER if os.geteuid() == 0 else None


@cache
def interpreter() -> tuple[str, str]:
    """Return a Python for that user, and its PYTHONPATH: ours if the user can run it, else the system's, with a copy
    of the libraries."""
    if user() is None or _runs(sys.executable, ""):
        return sys.executable, ""
    if not _runs(image.PYTHON, libraries()):
        raise Missing(f"no Python here can both be run by an unprivileged user and import Typer (tried {image.PYTHON})")
    return image.PYTHON, libraries()


def libraries() -> str:
    """Return a directory with a copy of the libraries that we import, for any Python and any user."""
    return str(session.once("libraries", _copy_dependencies))


def packages(directory: Path) -> Path:
    """Return a copy of the steps for that user: the repository may be in a directory closed to others."""
    return session.once(f"packages-of{directory}".replace("/", "-"), lambda place: _copy_packages(directory, place))


def program(path: Path) -> Path:
    """Return a program for that user: a copy, if the program is in a directory closed to others."""
    reached = subprocess.run(["test", "-x", path], user=USER, group=USER, extra_groups=[]).returncode == 0
    if reached or not path.exists():
        return path

    def copy(place: Path) -> None:
        place.mkdir()
        shutil.copy(path, place)

    return session.once(f"program-of{path}".replace("/", "-"), copy) / path.name


def _runs(python: str, path: str) -> bool:
    probe = [python, "-c", "import typer, rich"]
    try:
        return (
            subprocess.run(probe, env={"PYTHONPATH": path}, user=USER, group=USER, cwd="/", stderr=-3).returncode == 0
        )
    except OSError:
        return False


def _copy_packages(directory: Path, place: Path) -> None:
    """Copy the steps and compile them: the user cannot write here, so each start would compile everything again."""
    place.mkdir()
    for package in directory.iterdir():
        if (package / "__main__.py").exists():
            shutil.copytree(package, place / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([image.PYTHON, "-m", "compileall", "-q", place], check=True)


def _copy_dependencies(place: Path) -> None:
    """Copy the installed distributions that the project depends on, and those that these need."""
    project = tomllib.loads((session.REPOSITORY / "pyproject.toml").read_text())["project"]
    queue, done = [*project["dependencies"], *project["optional-dependencies"]["zstd"]], set[str]()
    while queue:
        name = re.split(r"[^\w.-]", queue.pop())[0]
        if name in done:
            continue
        done.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another version of Python
        queue += [needed for needed in distribution.requires or [] if "extra ==" not in needed]
        for file in distribution.files or []:
            if not file.parts[0].startswith(".."):
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), place / file)


def prepared(script: str) -> tuple[str, ...]:
    """Return the words before a command that shall run in a user namespace, as a user who is not its root. `script` is
    run first, as its root, to prepare the namespace."""
    script += '; exec "$@"'
    return ("unshare", "--user", "--mount", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c", script)


UNPRIVILEGED = ("sh", "setpriv", "--ambient-caps=-all", "--inh-caps=-all")


def limited(kind: str) -> tuple[str, ...]:
    return (*prepared(f"echo 0 > /proc/sys/user/max_{kind}_namespaces"), *UNPRIVILEGED)
