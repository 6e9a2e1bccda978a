"""`SANDBOX=vm`: the tests and a runtime that nobody trusts, in a virtual machine of their own (tests/vm/machine.py).

Inside, the runtime is root beside the tests. What that is good for, and what not:

- The machine has a copy of the submission, the programs in /usr, the tests and Python. It has no other file of the
  host, no network, and a disk that goes with it. It can write to nothing outside.
- What it says is counted only if it is signed (recorder.py). The key is in the memory of pytest's process. There are no
  workers, as others could write into the pipes between these and pytest. No process, root or not, may look into another
  one there (Yama's ptrace_scope=3, which nobody can lower), and root cannot read or change the kernel
  (lockdown=confidentiality).
- The tests lie on a read-only share, and so does Python's library. But root may mount something over them, or replace
  a program in /usr. A test that then loads or starts it can be deceived. Whoever writes such a thing leaves it in the
  files that were handed in.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.vm import machine

from .grade import CannotGrade, Hear, pytest_words
from .tasks import REPOSITORY

LIMIT = {True: 300.0, False: 1500.0}  # seconds, with and without KVM
SLOWNESS = {True: 1.5, False: 5.0}
MOST_OUTPUT = 32 << 20  # bytes
HOME, SUBMISSION, KEY = "/grader", "/submission", "/run/lab-key"  # paths inside
SYSTEM = """
    /etc/passwd /etc/group /etc/nsswitch.conf /etc/hosts /etc/host.conf /etc/protocols /etc/services /etc/login.defs
    /etc/ld.so.cache /etc/ld.so.conf /etc/mke2fs.conf /etc/os-release
""".split()


class TooMuch(Exception):
    """The machine prints without end."""


def run_inside(
    step: int, command: str, directory: Path, tests: list[str], key: bytes, limit: float | None, hear: Hear
) -> str:
    """Run the tests in a machine, and pass on what they print. Returns what ended them early; empty if nothing."""
    began = time.monotonic()
    try:
        kvm = machine.kvm_works()
        with copied(directory) as copy:
            _, *words = pytest_words(step, command, Path(SUBMISSION), Path(KEY), tests, 0, SLOWNESS[kvm])
            words.insert(0, f"{HOME}/.venv/bin/{Path(sys.executable).name}")
            variables = [f"MYDOCKER_TEST_SLOWNESS={SLOWNESS[kvm]}", f"PYTHONPATH={HOME}", "PYTHONSAFEPATH=1"]
            variables.append("PYTHONDONTWRITEBYTECODE=1")
            left = (limit or LIMIT[kvm]) - (time.monotonic() - began)
            with contextlib.redirect_stderr(io.StringIO()):  # the end of the kernel's log, which the runtime can write
                code = machine.run(words, variables, left, guest=guest(copy, key), kvm=kvm, hear=bounded(hear))
    except TooMuch:
        return "the machine printed too much"
    except machine.MachineError as error:
        if str(error).startswith("the virtual machine ended"):
            return "the machine was ended from inside"
        raise CannotGrade(f"the virtual machine: {error}") from None
    return "time is up" if code == 124 else ""


def bounded(hear: Hear) -> Hear:
    """`hear`, for so much and no more."""
    room = MOST_OUTPUT

    def take(chunk: bytes) -> None:
        nonlocal room
        room -= len(chunk)
        if room < 0:
            raise TooMuch
        hear(chunk)

    return take


@contextlib.contextmanager
def copied(directory: Path) -> Iterator[Path]:
    """A copy of a submission: what the machine sees, whatever happens to the original meanwhile.

    Links stay links: inside, they lead to the machine's files. What is no file, directory or link is left out. Python
    is compiled, as the machine cannot do so on a read-only share and would do it again at each start."""
    with tempfile.TemporaryDirectory(prefix="mydocker-lab-") as place:
        copy = Path(place, "submission")
        shutil.copytree(directory, copy, symlinks=True, ignore=odd)
        for path in [copy, *copy.rglob("*")]:
            if not path.is_symlink():  # the unprivileged user must reach it
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
        with contextlib.suppress(subprocess.TimeoutExpired):
            compiler = [sys.executable, "-I", "-m", "compileall", "-qq", str(copy)]
            subprocess.run(compiler, capture_output=True, check=False, timeout=60)
        yield copy


def odd(directory: str, names: list[str]) -> set[str]:
    """What is not copied: sockets, pipes, devices; histories, virtual environments."""
    kept = [name for name in names if name not in (".git", ".venv", "__pycache__")]
    paths = {name: Path(directory, name) for name in kept}
    plain = {name for name, path in paths.items() if path.is_symlink() or path.is_file() or path.is_dir()}
    return {*names} - plain


def guest(copy: Path, key: bytes) -> machine.Guest:
    """What the machine has of the host."""
    if not Path("/bin").is_symlink():
        raise CannotGrade("the sandbox needs a system whose /bin is in /usr: Debian 12, Ubuntu 22.04 or newer")
    directories = {"/usr": Path("/usr"), f"{HOME}/.venv": Path(sys.prefix).resolve(), SUBMISSION: copy}
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        directories[sys.base_prefix] = Path(sys.base_prefix)
    directories |= {f"{HOME}/{name}": REPOSITORY / name for name in ("tests", "tools")}
    files = {name: Path(name).read_bytes() for name in SYSTEM if Path(name).exists()}
    files |= {f"{HOME}/pyproject.toml": (REPOSITORY / "pyproject.toml").read_bytes(), KEY: key}
    links = {
        f"/{name}": os.readlink(f"/{name}")
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
        if Path(f"/{name}").is_symlink()
    }
    links |= {str(path): os.readlink(path) for path in Path("/etc/alternatives").glob("*") if path.is_symlink()}
    return machine.Guest(directories, files, links, HOME)
