"""`make grade`: runs the tests of a step's tasks on somebody's runtime, and counts the points.

The tests run in a process of their own, which tells of each that ends (recorder.py). So what has been earned is known
at every moment, whatever happens next: a hang, a crash, the end of the time.
"""

import os
import re
import secrets
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import host, own_host, session

from . import recorder, tasks
from .errors import LabError
from .tasks import REPOSITORY, Task

LIMIT = 300.0  # seconds for a whole run
TEST_LIMIT = 30  # seconds for one test
EARLIER = 14  # functions of earlier steps that are looked at too
NOT_ROOT = "the tests are not run by root"  # conftest's words for a skip
Hear = Callable[[bytes], None]


class CannotGrade(LabError):
    """One line: why there is no result."""


@dataclass(frozen=True)
class Outcome:
    """What became of one test: it passed, failed, was skipped, or did not end."""

    test: str
    state: str  # passed, failed, skipped, open
    said: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class TaskResult:
    name: str
    title: str
    topic: str
    points: int
    passed: bool
    counted: bool  # false if none of its tests can run here: `why`
    why: str = ""
    failures: tuple[str, ...] = ()  # a sentence for each listed test that failed
    unlisted_failures: tuple[str, ...] = ()  # for the teacher
    seconds: float = 0.0

    @property
    def earned(self) -> int:
        return self.points if self.passed else 0


@dataclass(frozen=True)
class Report:
    step: int
    command: str
    tasks: list[TaskResult]
    broken: list[str] = field(default_factory=list)  # a sentence for each test of an earlier step that fails
    seconds: float = 0.0
    remark: str = ""  # what ended the run before its time
    finished: bool = True

    @property
    def score(self) -> int:
        return sum(task.earned for task in self.tasks)

    @property
    def possible(self) -> int:
        """The points of what can be graded here: less than 100 without root."""
        return sum(task.points for task in self.tasks if task.counted)


def load(step: int) -> list[Task]:
    """The tasks of a step."""
    if not 1 <= step <= 9:
        raise CannotGrade(f"there is no step {step}: 1 to 9")
    try:
        return tasks.load(step)
    except tasks.BadTasks as error:
        raise CannotGrade(str(error)) from None


# ---- what is run -----------------------------------------------------------------------------------------------------


def own_tests(step: int, chosen: list[Task]) -> list[str]:
    return [f"tests/step{step:02}/{test}" for task in chosen for test in task.all_tests]


def earlier_tests(step: int) -> list[str]:
    """Some of each earlier step, the nearest first: one listed test of as many of its tasks as there is room for."""
    share = max(1, EARLIER // max(1, step - 1))
    found = []
    for earlier in range(step - 1, 0, -1):
        if tasks.path(earlier).exists():
            found += [f"tests/step{earlier:02}/{task.tests[0]}" for task in tasks.load(earlier)[:share]]
    return found


def pytest_words(
    step: int, command: str, directory: Path, key: Path, tests: list[str], workers: int, slowness: float
) -> list[str]:
    """-P: neither the current directory nor the submission is where the tests' own modules are looked for."""
    return [
        *(sys.executable, "-P", "-m", "pytest", "-c", "pyproject.toml", "-p", "tools.labs.recorder"),
        *("--lab-key", str(key), "--runtime", command, "--runtime-in", str(directory), "--step", str(step)),
        *("-n", str(workers), "--maxschedchunk", "1", "--max-worker-restart", "4", "--reruns", "0", "-q", "--tb", "no"),
        *("--timeout", str(TEST_LIMIT * slowness), "-p", "no:cacheprovider", *tests),
    ]


def environment() -> dict[str, str]:
    """Ours, but for what a run of pytest around us has left, and what would lead to other modules."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MYDOCKER_TEST_SESS"))}
    return {**ours, "PYTHONPATH": str(REPOSITORY), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run_here(step: int, command: str, directory: Path, tests: list[str], key: bytes, limit: float, hear: Hear) -> str:
    """Run the tests on this machine, and pass on what they print. Returns what ended them early; empty if nothing."""
    host.adopt_orphans()  # so that all that they leave can be found, and ended
    with tempfile.TemporaryDirectory(prefix="mydocker-lab-") as place:
        Path(place).chmod(0o755)  # the unprivileged user's runtime is started below
        file = Path(place, "key")
        file.touch(0o600)
        file.write_bytes(key)
        words = pytest_words(step, command, directory, file, tests, workers=2, slowness=1)
        child = subprocess.Popen(
            words,
            cwd=REPOSITORY,
            env={**environment(), "TMPDIR": place},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return "" if listen(child, time.monotonic() + limit, hear) else "time is up"
        finally:
            end(child)
            for left in Path(place).glob(f"{session.PREFIX}*"):  # of a session that could not clean up
                own_host.sweep(left.name)
                session.remove(left)


def listen(child: subprocess.Popen[bytes], deadline: float, hear: Hear) -> bool:
    """Hear a process until it ends: what it has left running may hold its output open. False: time was up before."""
    assert child.stdout
    os.set_blocking(child.stdout.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            ended = child.poll() is not None
            while selector.select(0 if ended else 0.2) and (chunk := os.read(child.stdout.fileno(), 65536)):
                hear(chunk)
                if time.monotonic() > deadline:
                    return False
            if ended:
                return True
    return False


def end(child: subprocess.Popen[bytes]) -> None:
    """End the tests and all that they have left. They are asked first: they clean up what outlives a process."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(5)
    for _ in range(100):
        left = host.descendants()
        for process in left:
            process.signal(signal.SIGKILL)
        host.reap()
        if not left:
            break
        time.sleep(0.05)
    child.wait()


# ---- what was heard --------------------------------------------------------------------------------------------------


@dataclass
class Heard:
    """The events of a run, as far as it has come. What is not signed with the key is only kept to be looked at."""

    key: bytes
    planned: list[str] = field(default_factory=list)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    number: int = 0
    ended: bool = False
    rest: bytes = b""  # a line that has begun
    printed: list[str] = field(default_factory=list)  # the last lines that are no events

    def hear(self, chunk: bytes) -> bool:
        """Take in what was printed. True if there was an event."""
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        self.rest = self.rest[-100_000:]  # whatever prints without end
        taken = [self.take(line.decode(errors="replace")) for line in lines]
        return any(taken)

    def take(self, line: str) -> bool:
        event = recorder.verified(self.key, line) if recorder.MARK in line else None
        if event is None:
            if line.strip() and recorder.MARK not in line:
                self.printed = [*self.printed[-19:], line.rstrip()[:300]]
            return False
        if event["number"] <= self.number:
            return False
        self.number = event["number"]
        if "planned" in event:
            self.planned.append(event["planned"])
        elif "test" in event:
            self.events.setdefault(event["test"], []).append(event)
        self.ended = self.ended or "end" in event
        return True

    def outcomes(self) -> list[Outcome]:
        return [outcome(test, self.events.get(test, [])) for test in self.planned]

    def broken_off(self) -> str:
        """What to say of a run that has ended before all tests had; "" if they have."""
        if not self.ended:
            return "the run was ended from inside"
        return "the run broke off" if any(one.state == "open" for one in self.outcomes()) else ""


def outcome(test: str, events: list[dict[str, Any]]) -> Outcome:
    seconds = sum(event["seconds"] for event in events)
    for state in ("failed", "skipped"):
        for event in events:
            if event["outcome"] == state:
                return Outcome(test, state, event["said"], seconds)
    ended = {event["when"] for event in events} >= {"call", "teardown"}
    return Outcome(test, "passed" if ended else "open", "", seconds)


def count(step: int, command: str, chosen: list[Task], heard: Heard, seconds: float = 0, remark: str = "") -> Report:
    """What has been earned so far. A test that has not ended has not passed."""
    by_function: dict[str, list[Outcome]] = {}
    for one in heard.outcomes():
        by_function.setdefault(one.test.partition("[")[0], []).append(one)
    open_said = remark or ("was not run" if heard.ended else "not done yet")

    def of(tests: tuple[str, ...]) -> Iterator[Outcome]:
        for test in tests:
            name = f"tests/step{step:02}/{test}"
            yield from by_function.get(name) or [Outcome(name, "open")]

    def told(tests: tuple[str, ...]) -> tuple[str, ...]:
        """Of each test the first failure, and how many there are more with other values or as another user."""
        found = []
        for test in tests:
            bad = [one for one in of((test,)) if one.state in ("failed", "open")]
            more = f" (and {len(bad) - 1} more like this)" if bad[1:] else ""
            found += [f"{title(one.test)}{more}\n{one.said or open_said}" for one in bad[:1]]
        return tuple(found)

    results = []
    for task in chosen:
        outcomes = list(of(task.all_tests))
        ran = [one for one in outcomes if one.state != "skipped"]
        results.append(
            TaskResult(
                task.name,
                task.title,
                task.topic,
                task.points,
                passed=bool(ran) and all(one.state == "passed" for one in ran),
                counted=bool(ran),
                why="" if ran else why(outcomes),
                failures=told(task.tests),
                unlisted_failures=told(task.unlisted),
                seconds=round(sum(one.seconds for one in outcomes), 1),
            )
        )
    own = f"tests/step{step:02}/"
    earlier = [one for one in heard.outcomes() if not one.test.startswith(own) and one.state == "failed"]
    broken: dict[str, list[Outcome]] = {}
    for one in earlier:
        broken.setdefault(f"step {one.test[10:12].lstrip('0')}, {title(one.test.partition('[')[0])}", []).append(one)
    lines = [f"{name}{f' ({len(bad)} times)' if bad[1:] else ''}\n{bad[0].said}" for name, bad in broken.items()]
    return Report(step, command, results, lines, round(seconds, 1), remark, heard.ended)


def why(outcomes: list[Outcome]) -> str:
    reasons = {one.said for one in outcomes}
    return "needs root" if NOT_ROOT in reasons else ", ".join(sorted(reasons))


def title(test: str) -> str:
    """`tests/step04/test_overlay.py::test_a_layer_goes[given-rootless-3]` → `a layer goes (3), without root`."""
    function, _, parameters = test.rpartition("::")[2].partition("[")
    words = function.removeprefix("test_").replace("_", " ")
    given, *rest = re.split(r"(?<=given)-|(?<=rootless)-", parameters.removesuffix("]"))
    if given == "given" and rest[:1] == ["rootless"]:
        given, rest = "rootless", rest[1:]
    values = ", ".join(
        value for value in rest if value and not re.fullmatch(r"[a-z_]+\d+", value)
    )  # pytest's own names
    return words + (f" ({values})" if values else "") + (", without root" if given == "rootless" else "")


# ---- all of it -------------------------------------------------------------------------------------------------------


def grade(
    step: int,
    command: str,
    directory: Path,
    limit: float | None = None,
    sandbox: str = "",
    show: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Grade a runtime. `command` starts it, in `directory`; `show` is given what has been earned whenever a test ends.

    Raises CannotGrade if there can be no result."""
    first, *_ = shlex.split(command) or [""]
    if not first:
        raise CannotGrade("which runtime? For example: RUNTIME='python -m my_runtime'")
    if "/" in first and not os.access(directory / first, os.X_OK):
        raise CannotGrade(f"{first}: there is no such program in {directory}, or it may not be executed (chmod +x)")
    chosen = load(step)
    heard, began = Heard(secrets.token_bytes(32)), time.monotonic()

    def hear(chunk: bytes) -> None:
        if heard.hear(chunk):
            show(count(step, command, chosen, heard, time.monotonic() - began))

    tests = [*own_tests(step, chosen), *earlier_tests(step)]
    show(count(step, command, chosen, heard))
    if sandbox == "vm":
        from . import sandbox as machine

        remark = machine.run_inside(step, command, directory, tests, heard.key, limit, hear)
    else:
        remark = run_here(step, command, directory.resolve(), tests, heard.key, limit or LIMIT, hear)
    if not heard.planned:
        last = heard.printed[-1] if heard.printed else remark or "the tests printed nothing"
        raise CannotGrade(f"no test could be started: {last}")
    remark = remark or heard.broken_off()
    report = count(step, command, chosen, heard, time.monotonic() - began, remark)
    show(report)
    return report
