"""tools/labs/doctor.py, put into situations: what it says of a step is compared with what the step really does there.

A share is run always. With MYDOCKER_TEST_LABS=all: every situation, on every step, and inside Podman.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import outer, rootless, session
from tests.support.outer import NO_FILTER, NO_MASKS
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


# Runs several modules one after the other, whatever comes of them; the exit code is that of the last but one.
BOTH = """
import itertools, subprocess, sys
commands = [[*words] for then, words in itertools.groupby(sys.argv[1:], "then".__eq__) if not then]
codes = [subprocess.run([sys.executable, "-m", *command], stdout=subprocess.DEVNULL).returncode for command in commands]
sys.exit(codes[-2])
"""
Words = tuple[str, ...]


def filtered(number: int, error: int) -> Words:
    """The words before a command to which a system call is refused."""
    return ("python3", "-I", "-c", FILTER, str(number), str(error))


def mounted(script: str) -> Words:
    """The words before a command that has mounts of its own; $MYDOCKER_ROOT is the store, $LOWER an empty directory."""
    return ("unshare", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh")


@dataclass
class Ward:
    """Somewhere to be ill: the doctor and the steps are run there, by root or by a user."""

    place: Path  # whose `tools` has the doctor, as the user may not read the repository
    environment: dict[str, str]
    python: str
    user: bool

    def run(self, prefix: Words, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python behind a prefix that makes the situation, so in one that is made anew each time."""
        drop = ("setpriv", "--reuid=61000", "--regid=61000", "--clear-groups", "--inh-caps=-all") if self.user else ()
        return subprocess.run(
            [*prefix, *drop, self.python, *words],
            env=self.environment,
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=100 * session.SLOWNESS,
        )

    def told(self, prefix: Words = (), *options: str) -> tuple[str, dict[int, str]]:
        """What the doctor says, and of each step: runs here, runs in part …, does not run here …"""
        done = self.run(prefix, *options, str(self.place / "tools/labs/doctor.py"))
        told = {int(number): text for number, text in re.findall(r"^  (\d)  \w+ +(.*)$", done.stdout, re.MULTILINE)}
        assert [*told] == [*range(1, 10)], f"no verdicts: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        assert done.returncode == (0 if {*told.values()} == {"runs here"} else 1)
        return done.stdout, told

    def step(self, prefix: Words, number: int, *options: str) -> str:
        """Run a container of a step. "" if that works, else what was said."""
        image = ["busybox"] if number >= 3 else []
        volume = ["-v", f"{self.place}:/mnt:ro"] if number >= 5 else []
        forgotten = ["--rm"] if number >= 7 else []
        command = [STEPS[number], "run", *options, *volume, *forgotten, *image, "true"]
        after = ["network", "rm", "bridge"] if number == 9 else ["run", "--help"]
        done = self.run(prefix, "-c", BOTH, *command, "then", STEPS[number], *after)
        return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr}"

    def joined(self, prefix: Words) -> str:
        """What goes wrong with `exec`, "" if nothing."""
        step, volume = STEPS[8], f"{self.place}:/mnt:ro"
        first = [step, "run", "-d", "--name", "first", "-v", volume, "busybox", "sleep", "60"]
        second, removal = [step, "exec", "first", "true"], [step, "rm", "-f", "first"]
        done = self.run(prefix, "-c", BOTH, *first, "then", *second, "then", *removal)
        return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr}"

    def truth(self, prefix: Words, number: int) -> tuple[str, str]:
        """What really happens: as the doctor's words begin, and what was said if something went wrong."""
        features = {2: [*LIMITS, PROCESSOR], 9: ["--network", "bridge"]}.get(number, [])
        wrong = self.joined(prefix) if number == 8 else self.step(prefix, number, *features)
        if not wrong:
            return "runs here", ""
        in_part = number in (2, 9) and not self.step(prefix, number)
        return "runs in part" if in_part else "does not run here", wrong

    def compare(self, prefix: Words) -> tuple[str, dict[int, str]]:
        """Hold what the doctor says against what happens."""
        text, told = self.told(prefix)
        for number in CHOSEN:
            begins, wrong = self.truth(prefix, number)
            assert told[number].startswith(begins), f"step {number}: {told[number]!r}; but: {wrong or 'it works'}"
        return text, told


@pytest.fixture
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Ward:
    """Root's, or where the test is parametrized with `user` the user's."""
    user = getattr(request, "param", "root") == "user"
    place = tmp_path / "state" / "place"
    shutil.copytree(DOCTOR.parent, place / "tools/labs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(session.REPOSITORY / "pyproject.toml", place)
    store, lower = tmp_path / "state" / "store", tmp_path / "state" / "lower"
    for path in (store, lower):
        path.mkdir()
        if user:
            os.chown(path, rootless.USER, rootless.USER)
    python, libraries, packages = sys.executable, "", session.REPOSITORY
    if user:
        try:
            python, libraries = rootless.interpreter()
        except Missing as missing:
            pytest.skip(str(missing))
        packages = rootless.packages(packages)
    environment = {
        **HOST_ENVIRONMENT,
        "HOME": str(tmp_path),
        "PYTHONPATH": ":".join(filter(None, [str(packages), libraries])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MYDOCKER_ROOT": str(store),
        "LOWER": str(lower),
    }
    return Ward(place, environment, python, user)


# ---- situations ------------------------------------------------------------------------------------------------------

READ_ONLY_SETTINGS = mounted("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")
ON_OVERLAY = mounted("""
    mount -t tmpfs none "$LOWER" && mkdir "$LOWER/l" "$LOWER/u" "$LOWER/w"
    mount -t overlay -o "lowerdir=$LOWER/l,upperdir=$LOWER/u,workdir=$LOWER/w" overlay "$MYDOCKER_ROOT"
    chmod 777 "$MYDOCKER_ROOT"
""")
READ_ONLY_STORE = mounted('mount --bind "$MYDOCKER_ROOT" "$MYDOCKER_ROOT" && mount -o remount,bind,ro "$MYDOCKER_ROOT"')
SITUATIONS = [
    # name, the words before a command, steps that do not run there, by whom it is tried in the share
    ("as it is", (), [], "root user"),
    ("/proc/sys read-only", READ_ONLY_SETTINGS, [9], "root user"),
    ("store on overlay", ON_OVERLAY, range(4, 10), "root"),
    ("clone3 refused", filtered(CLONE3, EPERM), range(1, 10), ""),
    ("clone3 hidden", filtered(CLONE3, ENOSYS), range(1, 10), ""),
    ("unshare refused", filtered(UNSHARE, EPERM), range(2, 10), ""),
    ("pidfd_open refused", filtered(PIDFD_OPEN, EPERM), range(1, 10), ""),
    ("mount_setattr hidden", filtered(MOUNT_SETATTR, ENOSYS), range(5, 10), ""),
    ("setns refused", filtered(SETNS, EPERM), [8], ""),
    ("store read-only", READ_ONLY_STORE, range(3, 10), ""),
    ("store noexec", mounted('mount -t tmpfs -o noexec,mode=777 none "$MYDOCKER_ROOT"'), [3], ""),
    ("part of /proc covered", mounted("mount -t tmpfs none /proc/fs"), [], ""),
    ("no /sys", mounted("umount -l /sys"), [], ""),
]


@pytest.mark.parametrize(
    ("ward", "prefix", "stopped"),
    [
        pytest.param(who, prefix, stopped, id=f"{who}-{name}", marks=() if who in share else in_full)
        for name, prefix, stopped, share in SITUATIONS
        for who in ("root", "user")
    ],
    indirect=["ward"],
)
def test_what_it_says_is_what_happens(ward: Ward, prefix: Words, stopped: list[int]) -> None:
    _, told = ward.compare(prefix)
    for number in stopped:
        assert told[number].startswith("does not run here"), told


@pytest.mark.parametrize(("refused", "first"), [(CLONE3, 1), (UNSHARE, 2)])
def test_a_seccomp_filter_is_told(ward: Ward, refused: int, first: int) -> None:
    """In the share only its words: what happens there is compared above, in full."""
    text, told = ward.told(filtered(refused, EPERM))
    stopped = [number for number, verdict in told.items() if verdict.startswith("does not run here")]
    assert stopped == [*range(first, 10)]
    assert "seccomp filter refuses it" in text


@pytest.mark.parametrize(
    "kind", ["user", *(pytest.param(kind, marks=in_full) for kind in ("pid", "net", "mnt", "cgroup"))]
)
def test_no_namespaces_allowed(ward: Ward, kind: str) -> None:
    """Inside a user namespace with such a limit, as a user there who is not root."""
    _, told = ward.compare(rootless.limited(kind))
    assert told[2].startswith("does not run here")
    assert f"user.max_{kind}_namespaces=15000" in told[2]


# ---- inside Podman ---------------------------------------------------------------------------------------------------


def inside(tmp_path: Path, ward: Ward, options: Words) -> Words:
    """The words before a command that runs in Podman."""
    try:
        return outer.podman(tmp_path, ward.environment, ward.place, options)
    except Missing as missing:
        pytest.skip(str(missing))


PODMANS = [
    ("--privileged",),
    NO_FILTER,
    (*NO_FILTER, *NO_MASKS),
    (*NO_FILTER, "--cap-add", "SYS_ADMIN"),
    (*NO_FILTER, "--cap-add", "all"),
]


@pytest.mark.parametrize("options", [(), *(pytest.param(each, marks=in_full) for each in PODMANS)], ids=" ".join)
@pytest.mark.parametrize("ward", ["root", pytest.param("user", marks=in_full)], indirect=True)
def test_inside_podman(tmp_path: Path, ward: Ward, options: Words) -> None:
    text, told = ward.compare(inside(tmp_path, ward, options))
    assert "inside a container (Podman)" in text
    if not options:
        assert "podman run --" in told[1]  # privileged; or only without masks


# ---- the doctor itself -----------------------------------------------------------------------------------------------


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    script = (
        "import runpy, sys; sys.version_info = (3, 6, 9, 'final', 0); runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script, str(DOCTOR)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Python 3.6.9" in done.stderr and "3.11 or newer" in done.stderr and "Traceback" not in done.stderr


def test_an_old_python_can_read_it() -> None:
    ast.parse(DOCTOR.read_text(), feature_version=(3, 6))


def test_without_any_package(ward: Ward) -> None:
    """-I -S: nothing but the standard library. To have the rest is a matter of `make run`, and stops no step."""
    text, told = ward.told((), "-I", "-S")
    assert "typer missing" in text and "`make run` installs them" in text
    assert told[1] == "runs here"


@pytest.mark.parametrize("ward", ["root", "user"], indirect=True)
def test_nothing_is_left(ward: Ward, tmp_path: Path) -> None:
    """Nor the store, if there was none. What else there could be the watch over the host looks for."""
    store = tmp_path / "state" / "store"
    ward.environment["MYDOCKER_ROOT"] = str(store / "a/b")
    text, _ = ward.told()
    assert f"{store}/a/b on " in text
    assert not [*store.iterdir()]


@pytest.mark.parametrize("ward", ["user"], indirect=True)
def test_no_home(ward: Ward) -> None:
    del ward.environment["MYDOCKER_ROOT"], ward.environment["HOME"]
    text, told = ward.told()
    assert "no home directory" in text
    assert told[2].startswith("runs") and "set MYDOCKER_ROOT" in told[3]


def test_the_command(ward: Ward) -> None:
    """It is also one of the classroom's: with Typer, and the same words and exit code."""
    program = str(session.REPOSITORY / "tools/lab.py")
    done = ward.run(filtered(CLONE3, EPERM), program, "doctor")
    assert done.returncode == 1
    assert re.search(r"^  1  namespaces +does not run here, because ", done.stdout, re.MULTILINE)
