"""How a test is run on every runtime that it concerns, and how the host is held to be as it was.

The folder of a test says which step brings what it tests: `step04/`. A test that takes the fixture `runtime` runs on
that step and on later ones found in the repository, as root and as an unprivileged user, and on Podman, which keeps the
test itself honest. Marks tell what is different for a test: see MARKS.
"""

import os
import re
import shlex
import signal
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support import host, image, oracle, own_host, rootless, session, store, strace, watchdog
from tests.support.fresh import Fresh
from tests.support.runtime import HOST_ENVIRONMENT, Missing, Runtime

MARKS = [
    "step(first, until=9): not the step of the folder; until: the last that behaves so (not Podman then)",
    "ours_alone(reason): Podman does it differently, or cannot be asked",
    "as_root(reason): not for an unprivileged user",
    "as_user(reason): only for an unprivileged user",
    "every_step: on every step, whichever are chosen for other tests",
    "long: takes long: in the whole suite only on the last step, as a user only on the first; with --step only with -k",
    "same(*files): what is tested is in these files: a step that has them byte for byte as the first needs no run",
    "v2: also run in the virtual machine, which has cgroup v2 alone",
]
OWN_HOST = pytest.StashKey[own_host.OwnHost]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("runtimes")
    group.addoption("--step", type=int, metavar="N", help="only what concerns step N")
    group.addoption(
        "--every-step", action="store_true", help="all tests on every step (or on that of --step), not a choice"
    )
    group.addoption("--first-step", action="store_true", help="each test on no other step than the one that brings it")
    group.addoption("--runtime", metavar="COMMAND", help="test this command, taken to have the features of --step N")
    group.addoption("--runtime-in", metavar="DIR", type=Path, help="where it is (default: here)")


def pytest_configure(config: pytest.Config) -> None:
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    if config.option.runtime and not config.option.step:
        raise pytest.UsageError("--runtime COMMAND needs --step N: which step's features does it have?")
    if not hasattr(config, "workerinput"):  # the controller; its workers inherit the directory
        for killed in session.begin():
            own_host.sweep(killed)
    host.adopt_orphans()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:  # nohup(1), or `&` in a script: a runtime would ignore it, too
            signal.signal(number, lambda *_: None)  # which ends with exec, see execve(2)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many a test waits for somebody."""
    return (os.cpu_count() or 1) + 1


def pytest_sessionstart(session: pytest.Session) -> None:
    """In a worker, or where there are none. By now it is connected with the controller, on the machine's network."""
    if os.geteuid() == 0 and not (session.config.getoption("tx") and not hasattr(session.config, "workerinput")):
        session.config.stash[OWN_HOST] = own_host.OwnHost(session.config.option.runtime_in or Path.cwd())


def pytest_unconfigure(config: pytest.Config) -> None:
    if OWN_HOST in config.stash:
        config.stash[OWN_HOST].leave()
    if not hasattr(config, "workerinput") and session.VARIABLE in os.environ:
        own_host.sweep(session.directory().name)
        session.end()


# ---- which runtimes a test is run on ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    step: int
    package: str = ""  # of this repository
    command: str = ""  # or anybody's, of --runtime
    rootless: bool = False

    def __str__(self) -> str:
        name = self.package.partition("_")[0] or ("given" if self.command else "podman")
        return f"{name}-rootless" if self.rootless else name

    @property
    def podman(self) -> bool:
        return not self.package and not self.command


def candidates(config: pytest.Config) -> list[Candidate]:
    if config.option.runtime:
        steps = [Candidate(config.option.step, command=config.option.runtime)]
    else:
        found = sorted(path.parent.name for path in session.REPOSITORY.glob("step[0-9][0-9]_*/__main__.py"))
        steps = [Candidate(int(name[4:6]), name) for name in found]
    users = [Candidate(step.step, step.package, step.command, rootless=True) for step in steps]
    return [*steps, *users, Candidate(9)]


def brought(test: pytest.Item) -> tuple[int, int]:
    """The step that brings what is tested, as its mark says, else its folder, and the last that has it. 0: none."""
    if mark := test.get_closest_marker("step"):
        return mark.args[0], mark.kwargs.get("until", 9)
    folder = re.fullmatch(r"step(\d\d)", test.path.parent.name)
    return int(folder[1]) if folder else 0, 9


def concerns(candidate: Candidate, test: pytest.Item, config: pytest.Config) -> bool:
    """Whether this runtime is one of those that the test's marks, and --step, ask for.

    What holds for a step holds for every later one, whose files are mostly the same byte for byte. To run it on each
    takes long. So the whole suite runs a test on the last step as root, three of four also on the step that brings
    them, every second one on one of the two as a user, every fourth one on Podman, and one in sixty-four on a step
    between. --step N, for who works on a step, takes less than a minute: as root what N brings, but for what takes
    long, and some of the earlier tests; and every fourth as a user and on Podman. What -k names runs as all three. All
    run with --every-step, and where somebody's own runtime is tested.
    """
    first, until = brought(test)
    step, share = config.option.step, zlib.crc32(test.name.encode())  # the same at each run, and alike for all steps
    long = bool(test.get_closest_marker("long"))
    every = bool(config.option.every_step or config.option.runtime or test.get_closest_marker("every_step"))
    named = every or bool(step and config.option.keyword)
    of_users = bool(test.get_closest_marker("as_user")) or os.geteuid() != 0  # root runs both
    assert first, "a test that takes `runtime` stands in a step's folder, or has @pytest.mark.step(N)"
    if test.get_closest_marker("as_root" if candidate.rootless else "as_user"):
        return False
    if candidate.podman:  # asked only about what the step brings, since the steps after it say the same
        some = named or share >> 10 & 3 == 3
        asked = step in (None, first) and until == 9 and not config.option.runtime
        return asked and some and not test.get_closest_marker("ours_alone")
    if not first <= candidate.step <= until or step not in (None, candidate.step):
        return False
    if config.option.first_step or every:
        return every or candidate.step == first
    if step == first:
        return named or (not long and (not candidate.rootless or of_users or share >> 9 & 3 == 3))
    if step is not None:
        some = step == until < 9 or (not long and share % (2 * step) == 0)
        return some and (not candidate.rootless or of_users)
    last = min(until, newest_step())
    if (mark := test.get_closest_marker("same")) and unchanged(first, last, mark.args):
        return candidate.step == first
    if long:
        return candidate.step == (first if candidate.rootless else last)
    if candidate.rootless and not test.get_closest_marker("as_user"):
        return (of_users or bool(share >> 9 & 1)) and candidate.step == (first, last)[share >> 8 & 1]
    if candidate.step in (first, last):
        return candidate.step == last or share >> 12 & 3 != 3
    between = range(first + 1, last)
    return share >> 16 & 0x3F == 0 and candidate.step == between[share % len(between)]


def unchanged(first: int, last: int, files: tuple[str, ...]) -> bool:
    """Whether all steps have these files as the first has them."""
    folders = [path.parent for path in session.REPOSITORY.glob("step[0-9][0-9]_*/__main__.py")]
    concerned = [folder for folder in folders if first <= int(folder.name[4:6]) <= last]

    def one_version(name: str) -> bool:
        paths = [folder / name for folder in concerned]
        return all(path.exists() for path in paths) and len({path.read_bytes() for path in paths}) == 1

    return all(map(one_version, files))


@cache
def newest_step() -> int:
    return max(int(path.parent.name[4:6]) for path in session.REPOSITORY.glob("step[0-9][0-9]_*/__main__.py"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runtime" in metafunc.fixturenames:
        chosen = [one for one in candidates(metafunc.config) if concerns(one, metafunc.definition, metafunc.config)]
        metafunc.parametrize("runtime", chosen, ids=str, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --step N: only tests that say which step they concern, and concern this one.

    The tests of the tools come first: a chapter takes long, and at the end one worker would wait for the other."""
    keep: list[pytest.Item] = []
    drop: list[pytest.Item] = []
    for item in items:
        first, until = brought(item)
        callspec = getattr(item, "callspec", None)
        unasked = callspec and not isinstance(callspec.params.get("runtime", Candidate(0)), Candidate)
        concerned = 0 < first <= (config.option.step or 0) <= until
        (drop if unasked or (config.option.step is not None and not concerned) else keep).append(item)
    config.hook.pytest_deselected(items=drop)
    items[:] = sorted(keep, key=lambda item: item.path.parent.name != "tools")


# ---- no test hangs ---------------------------------------------------------------------------------------------------


def limit(item: pytest.Item) -> float:
    """The seconds that pytest-timeout gives a call; a test's set-up and its end have as much."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0] if mark else item.config.getoption("timeout") or item.config.getini("timeout"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with watchdog.over(f"the set-up of {item.nodeid}", limit(item)):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with watchdog.over(item.nodeid, limit(item)):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with watchdog.over(f"the end of {item.nodeid}", limit(item)):
        yield


# ---- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of the test's own, as pytest's, but within reach of the unprivileged user: below are

    `here`, where the runtime is started; `tmp`, its TMPDIR; `state`, for a MYDOCKER_ROOT of the test's own."""
    callspec = getattr(request.node, "callspec", None)
    candidate = callspec.params.get("runtime") if callspec else None
    place = Path(tempfile.mkdtemp(prefix="test-", dir=session.worker()))
    place.chmod(0o755)
    for path in (place, *(place / name for name in ("here", "tmp", "state"))):
        path.mkdir(exist_ok=True)
        if candidate and candidate.rootless and (user := rootless.user()):
            os.chown(path, user, user)
    yield place
    session.remove(place)


@pytest.fixture
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    try:
        made = build(request.param, tmp_path, request.config)
    except Missing as missing:
        pytest.skip(str(missing))
    yield made
    if not made.stop() and not made.podman:  # the next test begins with a new store
        session.remove(state_root(request.param))
        (session.worker() / f"image-of-{request.param}").unlink(missing_ok=True)


def build(candidate: Candidate, tmp_path: Path, config: pytest.Config) -> Runtime:
    if candidate.podman:
        return oracle.podman(tmp_path / "here")
    if not candidate.rootless and os.geteuid() != 0:
        raise Missing("the tests are not run by root")
    python, path, place = sys.executable, os.environ.get("PYTHONPATH", ""), session.REPOSITORY
    if candidate.command:
        place = config.option.runtime_in or config.invocation_params.dir
    program = program_of(candidate.command, place)
    if candidate.rootless and rootless.user() is not None:
        python, path = rootless.interpreter()
        place = rootless.packages(place)
        program = program and rootless.program(program)
    command: tuple[str, ...] = (python, "-m", candidate.package)
    if candidate.command:
        first, *rest = shlex.split(candidate.command)
        command = (python if re.fullmatch(r"python[\d.]*", first) else str(program or first), *rest)
    environment = {
        **HOST_ENVIRONMENT,
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": ":".join(filter(None, [str(place), path])),  # an empty entry would mean the current directory
        "MYDOCKER_ROOT": str(state_root(candidate)),
    }
    made = Runtime(
        candidate.package or Path(command[-1]).name,
        candidate.step,
        command,
        environment,
        tmp_path / "here",
        user=rootless.user() if candidate.rootless else None,
        rootless=candidate.rootless,
    )
    if made.step >= 3:
        root = state_root(candidate) / "root"  # of steps 3 to 5
        made.image = "test" if made.step >= 6 else str(root)
        if made.step < 6:
            if not root.exists():
                store.unpacked(made, image.tar(), root)
        elif not (has_image := session.worker() / f"image-of-{candidate}").exists():
            imported = made.call("import", str(image.tar()), "test")
            assert imported.code == 0, f"the test image cannot be imported: {imported.err!r}"
            has_image.touch()
    return made


def program_of(command: str, place: Path) -> Path | None:
    """The file that a command such as `./mydocker` begins with; None for one that is looked for in PATH."""
    first, *_ = shlex.split(command) or [""]
    return (place / first).resolve() if "/" in first else None


def state_root(candidate: Candidate) -> Path:
    """Where this worker's runtime of this kind keeps its images."""
    place = session.worker() / f"state-of-{candidate}"
    if not place.exists():
        place.mkdir()
        if candidate.rootless and (user := rootless.user()):
            os.chown(place, user, user)
    return place


@pytest.fixture
def fresh() -> Fresh:
    """Words and numbers that nobody can know before: for what a test compares."""
    return Fresh()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Where strace writes to."""
    try:
        strace.program()
    except Missing as missing:
        pytest.skip(str(missing))
    return tmp_path / "state" / "trace"


@pytest.fixture(autouse=True)
def host_is_as_it_was(tmp_path: Path) -> Iterator[None]:
    """After every test: no process, cgroup, mount, link, address, rule or temporary file more or less than before."""
    files = [tmp_path / "here", tmp_path / "tmp"]
    before = host.state(files)
    yield
    if left := host.leaks(before, files):
        host.clear(left)
        pytest.fail("\n  ".join(["the host is not as it was:", *map(str, left)]), pytrace=False)


# ---- what was skipped or tried again, and why ------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tell_skips(terminalreporter)
    tell_reruns(terminalreporter)
    if watchdog.told().exists():
        terminalreporter.section("hung")
        terminalreporter.write(watchdog.told().read_text())


def tell_reruns(terminalreporter: pytest.TerminalReporter) -> None:
    """A fault that comes by chance is a fault: none shall be hidden by the second try."""
    tries: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("rerun"):
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message if crash else report.longreprtext
        tries.setdefault(report.nodeid, []).append(f"{report.when}: {' '.join(said.split())[:300]}")
    if tries:
        terminalreporter.section("tried again, and what went wrong the first time")
        for test, failures in tries.items():
            terminalreporter.line(f"{len(failures)} × {test}: {failures[0]}")


def tell_skips(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("not tested here")
        for reason, number in reasons.most_common():
            terminalreporter.line(f"{number:5} × {reason}")
