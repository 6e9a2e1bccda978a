"""tools/labs/doctor.py, put into situations: what it says of a step is compared with what the step really does there.

A share is run always. With MYDOCKER_TEST_LABS=all: every situation, on every step, and inside Podman.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import oracle, rootless, session
from tests.support.runtime import HOST_ENVIRONMENT, Missing

DOCTOR = session.REPOSITORY / "tools/labs/doctor.py"
STEPS = {int(path.name[4:6]): path.name for path in session.REPOSITORY.glob("step[0-9][0-9]_*")}
EVERYTHING = os.environ.get("MYDOCKER_TEST_LABS") == "all"
CHOSEN = sorted(STEPS) if EVERYTHING else [1, 2, 3, 4, 9]
LIMITS = "-m 64m --cpus 0.5 --pids-limit 20 --cpuset-cpus".split()
PROCESSOR = str(min(os.sched_getaffinity(0)))
UNSHARE = {"x86_64": 272, "aarch64": 97, "riscv64": 97}.get(os.uname().machine, 97)
SETNS = {"x86_64": 308, "aarch64": 268, "riscv64": 268}.get(os.uname().machine, 268)
CLONE3, PIDFD_OPEN, MOUNT_SETATTR = 435, 434, 442
EPERM, ENOSYS = 1, 38

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the tests are not run by root")
in_full = pytest.mark.skipif(not EVERYTHING, reason="only with MYDOCKER_TEST_LABS=all")

# Sets a filter for itself and what it becomes: one system call is answered with an error. seccomp(2)
FILTER = """
import ctypes, os, struct, sys
number, error, *command = sys.argv[1:]
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, int(number)), (0x06, 0, 0, 0x50000 | int(error)), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
libc = ctypes.CDLL(None, use_errno=True)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code)))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0):
    sys.exit("no filter: " + os.strerror(ctypes.get_errno()))
os.execvp(command[0], command)
"""


def filtered(number: int, error: int) -> tuple[str, ...]:
    """The words before a command to which a system call is refused."""
    return ("python3", "-I", "-c", FILTER, str(number), str(error))


def mounted(script: str) -> tuple[str, ...]:
    """The words before a command that has mounts of its own; $STORE is its store, $LOWER an empty directory."""
    return ("unshare", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh")


@dataclass
class Ward:
    """Somewhere to be ill: the doctor and the steps are run there, by root or by a user."""

    place: Path  # whose `tools` has the doctor, as the user may not read the repository
    store: Path
    environment: dict[str, str]
    python: str
    user: bool

    def run(self, prefix: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
        drop = ("setpriv", "--reuid=61000", "--regid=61000", "--clear-groups", "--inh-caps=-all") if self.user else ()
        command = [*prefix, *drop, self.python, *words]
        return subprocess.run(
            command, env=self.environment, cwd=self.place, capture_output=True, text=True, timeout=100
        )

    def told(self, prefix: tuple[str, ...] = ()) -> dict[int, str]:
        """What the doctor says of each step: runs here, runs in part …, does not run here …"""
        done = self.run(prefix, str(self.place / "tools/labs/doctor.py"))
        told = {int(number): text for number, text in re.findall(r"^  (\d)  \w+ +(.*)$", done.stdout, re.MULTILINE)}
        assert [*told] == [*range(1, 10)], f"no verdicts: {done.stdout}{done.stderr}"
        assert not done.stderr
        assert done.returncode == (0 if {*told.values()} == {"runs here"} else 1)
        return told

    def step(self, prefix: tuple[str, ...], number: int, *options: str) -> str:
        """Run a container of a step. "" if that works, else what was said."""
        image = ["busybox"] if number >= 3 else []
        if number >= 5:
            options = (*options, "-v", f"{self.place}:/mnt:ro")
        if number >= 7:
            options = (*options, "--rm")
        done = self.run(prefix, "-m", STEPS[number], "run", *options, *image, "true")
        return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr}"

    def truth(self, prefix: tuple[str, ...], number: int) -> tuple[str, str]:
        """What goes wrong with a plain run, and with one that has all of this step's features."""
        plain = self.step(prefix, number)
        if number == 2:
            return plain, self.step(prefix, number, *LIMITS, PROCESSOR)
        if number == 8:
            return plain, plain or self.joined(prefix)
        if number == 9:
            full = self.step(prefix, number, "--network", "bridge")
            self.run(prefix, "-m", STEPS[9], "network", "rm", "bridge")
            return plain, full
        return plain, plain

    def joined(self, prefix: tuple[str, ...]) -> str:
        """What goes wrong with `exec`."""
        started = self.run(prefix, "-m", STEPS[8], "run", "-d", "busybox", "sleep", "60")
        done = self.run(prefix, "-m", STEPS[8], "exec", started.stdout.strip(), "true")
        self.run(prefix, "-m", STEPS[8], "rm", "-f", started.stdout.strip())
        return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr}"

    def compare(self, prefix: tuple[str, ...]) -> dict[int, str]:
        """Hold what the doctor says against what happens."""
        told = self.told(prefix)
        for number in CHOSEN:
            plain, full = self.truth(prefix, number)
            expected = "does not run here" if plain else "runs in part" if full else "runs here"
            assert told[number].startswith(expected), f"step {number}: {told[number]!r}; but: {plain or full or 'works'}"
        return told


@pytest.fixture(params=["root", "user"])
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ward]:
    yield made(tmp_path, request.param == "user")


def made(tmp_path: Path, user: bool) -> Ward:
    place = tmp_path / "state" / "place"
    shutil.copytree(DOCTOR.parent, place / "tools/labs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(session.REPOSITORY / "pyproject.toml", place)
    store, lower = tmp_path / "state" / "store", tmp_path / "state" / "lower"
    for path in (store.parent, store, lower):
        path.mkdir(exist_ok=True)
        if user:
            os.chown(path, rootless.USER, rootless.USER)
    python, path, packages = sys.executable, "", session.REPOSITORY
    if user:
        try:
            python, path = rootless.interpreter()
        except Missing as missing:
            pytest.skip(str(missing))
        packages = rootless.packages(packages)
    environment = {
        **HOST_ENVIRONMENT,
        "HOME": str(tmp_path),
        "PYTHONPATH": ":".join(filter(None, [str(packages), path])),
        "MYDOCKER_ROOT": str(store),
        "STORE": str(store),
        "LOWER": str(lower),
    }
    return Ward(place, store, environment, python, user)


# ---- situations ------------------------------------------------------------------------------------------------------

READ_ONLY_SETTINGS = mounted("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")
ON_OVERLAY = mounted("""
    mount -t tmpfs none "$LOWER" && mkdir "$LOWER/l" "$LOWER/u" "$LOWER/w"
    mount -t overlay -o "lowerdir=$LOWER/l,upperdir=$LOWER/u,workdir=$LOWER/w" overlay "$STORE" && chmod 777 "$STORE"
""")
SITUATIONS = {
    "as it is": ((), set()),
    "/proc/sys read-only": (READ_ONLY_SETTINGS, {9}),
    "clone3 refused": (filtered(CLONE3, EPERM), {*range(1, 10)}),
    "unshare refused": (filtered(UNSHARE, EPERM), {*range(2, 10)}),
    "store on overlay": (ON_OVERLAY, {*range(4, 10)}),
}
MORE = {
    "clone3 hidden": (filtered(CLONE3, ENOSYS), {*range(1, 10)}),
    "pidfd_open refused": (filtered(PIDFD_OPEN, EPERM), {*range(1, 10)}),
    "mount_setattr hidden": (filtered(MOUNT_SETATTR, ENOSYS), {*range(5, 10)}),
    "setns refused": (filtered(SETNS, EPERM), {8}),
    "store read-only": (mounted('mount --bind "$STORE" "$STORE"; mount -o remount,bind,ro "$STORE"'), {*range(3, 10)}),
    "store noexec": (mounted('mount -t tmpfs -o noexec,mode=777 none "$STORE"'), {3}),
    "part of /proc covered": (mounted("mount -t tmpfs none /proc/fs"), set()),
    "no /sys": (mounted("umount -l /sys"), set()),
}


@pytest.mark.parametrize(
    "situation", [*SITUATIONS, *(pytest.param(name, marks=in_full) for name in MORE)], ids=lambda name: name
)
def test_what_it_says_is_what_happens(ward: Ward, situation: str) -> None:
    prefix, stopped = (SITUATIONS | MORE)[situation]
    told = ward.compare(prefix)
    for number in stopped:
        assert told[number].startswith("does not run here"), told


@pytest.mark.parametrize(
    "kind", ["user", *(pytest.param(kind, marks=in_full) for kind in ("pid", "net", "mnt", "cgroup"))]
)
def test_no_namespaces_allowed(tmp_path: Path, kind: str) -> None:
    """Inside a user namespace with such a limit, as a user there who is not root."""
    ward = made(tmp_path, user=False)
    told = ward.compare(rootless.limited(kind))
    assert told[2].startswith("does not run here") and f"user.max_{kind}_namespaces=15000" in told[2]
