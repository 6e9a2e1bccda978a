"""Which Python runs the steps: each that is installed here is tried, those too old are told so, and so is setup.sh."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import rootless, session
from tests.support.runtime import HOST_ENVIRONMENT

STEPS = sorted(path.parent.name for path in session.REPOSITORY.glob("step[0-9][0-9]_*/__main__.py"))
SETUP = session.REPOSITORY / "tools/setup.sh"
OLDEST = (3, 11)
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
ours = pytest.mark.skipif("config.option.runtime", reason="about our own steps")
in_full = pytest.mark.skipif(os.environ.get("MYDOCKER_TEST_LABS") != "all", reason="only with MYDOCKER_TEST_LABS=all")


def version(python: Path) -> tuple[int, ...]:
    """The version of an interpreter; () if it does not start, as one of pyenv's that is not chosen here."""
    try:
        done = subprocess.run([python, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.fullmatch(r"Python (\d+)\.(\d+)\.\S+\n", done.stdout)
    return tuple(map(int, found.groups())) if found and done.returncode == 0 else ()


def interpreters() -> dict[tuple[int, ...], Path]:
    """One interpreter of each version from 3.6 on, from PATH or from pyenv."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(":") if "shims" not in folder]
    places = [*folders, *sorted(PYENV.glob("versions/*/bin"))]
    names = [place / f"python3.{minor}" for minor in range(6, 30) for place in places]
    found = {version(path): path for path in reversed(names) if path.exists()}
    return {which: found[which] for which in sorted(found) if which}


PYTHONS = [
    pytest.param(path, id=".".join(map(str, which))) for which, path in interpreters().items() if which >= OLDEST
]
OLD = [pytest.param(path, id=".".join(map(str, which))) for which, path in interpreters().items() if which < OLDEST]


def run(python: Path, step: str, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run a step with some Python. PYTHONPATH is `path` and the repository's."""
    environment = HOST_ENVIRONMENT | {"PYTHONPATH": f"{session.REPOSITORY}:{path}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"MYDOCKER_ROOT": str(session.worker() / "state-of-pythons"), "HOME": "/root"}
    command = [str(python), "-S", "-m", step, "run", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 * session.SLOWNESS)


def one_line(done: subprocess.CompletedProcess[str], begins: str) -> str:
    """What was said, which has to be one line."""
    assert done.returncode == 125 and done.stdout == ""
    assert done.stderr.startswith(begins) and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@ours
@pytest.mark.skipif(os.geteuid() != 0, reason="with a copy of what we import, made by root")
@pytest.mark.parametrize("python", PYTHONS)
def test_the_steps_run(python: Path) -> None:
    assert run(python, STEPS[0], "true", path=rootless.libraries()).stderr == ""
    modest = ["--rm", "--network", "none"] if len(STEPS) == 9 else []
    done = run(python, STEPS[-1], *modest, "busybox", "echo", "hi", path=rootless.libraries())
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr


@ours
@pytest.mark.parametrize("python", OLD)
def test_an_old_python_is_told_so(python: Path) -> None:
    for step in (STEPS[0], STEPS[-1]):
        said = one_line(run(python, step, "true"), f"{step}: Python 3.")
        assert "too old" in said and "3.11 or newer" in said


@ours
def test_an_old_python_can_read_that(tmp_path: Path) -> None:
    """Also where none is installed."""
    for step in STEPS:
        ast.parse((session.REPOSITORY / step / "__main__.py").read_text(), feature_version=(3, 6))
    pretend = "import runpy, sys; sys.version_info = (3, 10, 1, 'final', 0)"
    script = f"{pretend}; runpy.run_module(sys.argv[1], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script, STEPS[0]],
        env=HOST_ENVIRONMENT | {"PYTHONPATH": str(session.REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert "Python 3.10.1 is too old" in one_line(done, f"{STEPS[0]}: ")


@ours
def test_a_missing_package_is_told(tmp_path: Path) -> None:
    for step in (STEPS[0], STEPS[-1]):
        said = one_line(run(Path(sys.executable), step, "true"), f"{step}: this Python has no typer")
        assert "pip install 'typer" in said and "make run" in said


@ours
def test_an_old_package_is_told(tmp_path: Path) -> None:
    (tmp_path / "state/typer.py").write_text("class Typer: pass\n")
    done = run(Path(sys.executable), STEPS[0], "true", path=str(tmp_path / "state"))
    assert "no typer, or one too old" in one_line(done, f"{STEPS[0]}: ")


@ours
def test_a_fault_of_ours_is_not_called_a_missing_package(tmp_path: Path) -> None:
    shutil.copytree(session.REPOSITORY / STEPS[0], tmp_path / "state/my_step01")
    (tmp_path / "state/my_step01/program.py").unlink()
    command = [sys.executable, "-m", "my_step01", "run", "true"]
    done = subprocess.run(command, cwd=tmp_path / "state", capture_output=True, text=True)
    assert "Traceback" in done.stderr and "program" in done.stderr


# ---- tools/setup.sh --------------------------------------------------------------------------------------------------


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A folder with what setup.sh reads, and a `bin` with all the programs that it may find: no apt-get."""
    place = tmp_path / "state/course"
    (place / "tools").mkdir(parents=True)
    (place / "bin").mkdir()
    for name in ("tools/setup.sh", "tools/constraints.txt", "pyproject.toml", "README.md"):
        shutil.copy(session.REPOSITORY / name, place / name)
    for name in "bash cat chmod dirname env find grep id mktemp mkdir readlink rm sh tail touch".split():
        (place / "bin" / name).symlink_to(str(shutil.which(name)))
    return place


def set_up(course: Path, python: str, *under: str) -> tuple[int, list[str]]:
    """Run setup.sh with that Python: the exit code, and the lines that it prints of its own."""
    environment = {"PATH": str(course / "bin"), "HOME": str(course), "PYTHON": python, "LANG": "C.UTF-8"}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    script = (course / "tools/setup.sh").read_text().replace("PATH=$PATH:/usr/sbin:/sbin", "")
    (course / "tools/setup.sh").write_text(script)  # there may be an apt-get in /sbin
    command: list[str] = [*under, str(course / "bin/bash"), str(course / "tools/setup.sh"), "run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110 * session.SLOWNESS)
    return done.returncode, [line for line in done.stderr.splitlines() if line.startswith("setup: ")]


def faked(course: Path, script: str) -> str:
    """A Python that is none."""
    path = course / "bin/faked"
    path.write_text(f'#!/bin/sh\nreal={sys.executable}\n{script}\nexec "$real" "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_setup_without_python(course: Path) -> None:
    code, [said] = set_up(course, "python3.99")
    assert code == 1 and "there is no python3.99" in said and "apt-get install" in said


def test_setup_with_an_old_python(course: Path) -> None:
    old = faked(course, 'case "$*" in *version_info*) exit 1 ;; --version) echo Python 3.10.1; exit ;; esac')
    code, [said] = set_up(course, old)
    assert code == 1 and "Python 3.10.1 is too old" in said and "make PYTHON=" in said


@pytest.mark.parametrize("python", OLD[-1:])
def test_setup_with_a_real_old_python(course: Path, python: Path) -> None:
    code, [said] = set_up(course, str(python))
    assert code == 1 and "is too old" in said and "make PYTHON=" in said


def test_setup_without_venv(course: Path) -> None:
    bare = faked(course, 'case "$*" in *ensurepip*|"-m pip"*) exit 1 ;; esac')
    code, said = set_up(course, bare)
    assert code == 1 and "cannot make a virtual environment" in said[-1] and "python3-venv" in said[-1]


def test_setup_does_not_empty_what_a_link_leads_to(course: Path) -> None:
    """As in a second working tree that borrows the first one's."""
    (course / "others/bin").mkdir(parents=True)
    (course / "others/bin/python").symlink_to(sys.executable)
    (course / ".venv").symlink_to("others")
    code, said = set_up(course, sys.executable)
    assert code == 1 and ".venv is a link" in said[-1]
    assert (course / "others/bin/python").exists()


@in_full
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take the network away")
def test_setup_without_a_network(course: Path) -> None:
    code, said = set_up(course, sys.executable, str(shutil.which("unshare")), "--net")
    assert code == 1 and "reaches no package index" in said[-1] and "https_proxy" in said[-1]
