"""A runtime that repeats what the real one has answered in the same tests, word for word, scores nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import parrot, session
from tools.labs import tasks

ALL = os.environ.get("MYDOCKER_TEST_LABS") == "all"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the tests are not run by root")


@pytest.mark.skipif(not ALL, reason="takes some minutes: MYDOCKER_TEST_LABS=all")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("step", range(1, 10))
def test_no_task_of_a_step_is_passed_by_heart(step: int, tmp_path: Path) -> None:
    passes_by_heart(step, tasks.load(step), tmp_path)


@pytest.mark.skipif(ALL, reason="a part of the test above")
def test_no_task_is_passed_by_heart(tmp_path: Path) -> None:
    passes_by_heart(1, [task for task in tasks.load(1) if task.name in ("arguments", "exit")], tmp_path)


def passes_by_heart(step: int, wanted: list[tasks.Task], tmp_path: Path) -> None:
    """Two runs of the tasks' tests: by the real runtime, which passes all; by the parrot, which passes none."""
    (package,) = (path.name for path in session.REPOSITORY.glob(f"step{step:02}_*"))
    for name, mode in (("heard", 0o1777), (package, 0o755), ("sessions", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / package / "__init__.py").touch()  # a package that has none would stand behind the real one
    shutil.copy(parrot.__file__, tmp_path / package / "__main__.py")
    real = outcomes(step, wanted, session.REPOSITORY, package, parrot.RECORD, tmp_path)
    assert [task.name for task in wanted if "failed" in ends(task, real)] == [], "the real runtime fails none"
    assert any("passed" in ends(task, real) for task in wanted)
    (tmp_path / "heard" / parrot.OUTCOMES).unlink()
    repeated = outcomes(step, wanted, tmp_path, package, parrot.REPLAY, tmp_path)
    assert repeated.keys() == real.keys()
    by_heart = [task.name for task in wanted if ends(task, repeated) - {"skipped"} == {"passed"}]
    assert by_heart == [], f"of step {step}, these are passed by heart"


def outcomes(
    step: int, wanted: list[tasks.Task], directory: Path, package: str, mode: str, tmp_path: Path
) -> dict[str, set[str]]:
    """What became of each test: passed, failed, skipped; of its parts, too, if they differ."""
    folder = session.REPOSITORY / f"tests/step{step:02}"
    words = ["-p", "tests.support.parrot", "-p", "no:cacheprovider", "-q", "-n", "2" if ALL else "0", "--reruns"]
    words.append("1" if mode == parrot.RECORD else "0")
    words += ["--rootdir", str(session.REPOSITORY), "-c", str(session.REPOSITORY / "pyproject.toml")]
    words += ["--runtime", f"python -m {package}", "--step", str(step), "--timeout", "120"]
    environment = {**os.environ, mode: str(tmp_path / "heard"), "TMPDIR": str(tmp_path / "sessions")}
    for name in [name for name in environment if name.startswith(("PYTEST_", session.VARIABLE))]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *(f"{folder}/{test}" for task in wanted for test in task.all_tests)],
        cwd=directory,
        env={**environment, "PYTHONPATH": str(session.REPOSITORY)},
        capture_output=True,
        text=True,
    )
    lines = tmp_path / "heard" / parrot.OUTCOMES
    assert done.returncode in (0, 1) and lines.exists(), done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for test, outcome in map(json.loads, lines.read_text().splitlines()):
        found.setdefault(test, set()).add(outcome)
    return found


def ends(task: tasks.Task, found: dict[str, set[str]]) -> set[str]:
    """How its tests ended, on all runtimes that they concern: failed, skipped, or passed in all parts."""
    of_task = [ends for test, ends in found.items() if test.partition("[")[0].rpartition("/")[2] in task.all_tests]
    assert of_task, f"no test of {task.name} was run"
    return {next((bad for bad in ("failed", "skipped") if bad in parts), "passed") for parts in of_task}
