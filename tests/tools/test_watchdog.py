"""A run of the suite ends, whatever a test does: shown with tests that hang, run by a pytest of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import session

HANGING = """
import signal, subprocess, time
import pytest

SPIN = ["sh", "-c", "trap '' TERM INT HUP; while :; do :; done"]

def test_one_that_waits():
    subprocess.run(SPIN)

def test_one_that_hears_no_alarm():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    subprocess.run(SPIN)

@pytest.fixture
def slow_end():
    yield
    subprocess.run(SPIN)

def test_one_that_hangs_at_its_end(slow_end):
    pass

def test_one_that_leaves_a_spinner():
    subprocess.Popen(SPIN)

def test_one_that_nothing_ends():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        time.sleep(1)

def test_another():
    pass
"""


def test_a_run_ends_whatever_its_tests_do(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    words = "-q -n 2 -p tests.conftest -p no:cacheprovider --reruns 1 --timeout 1 --tb=line --rootdir".split()
    environment = {**os.environ, "MYDOCKER_TEST_SLOWNESS": "0.05", "TMPDIR": str(tmp_path / "state")}
    for name in [name for name in environment if name.startswith(("PYTEST_", session.VARIABLE))]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(tmp_path), "-o", "timeout_func_only=true", str(tmp_path)],
        cwd=session.REPOSITORY,
        env={**environment, "PYTHONPATH": str(session.REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    for name in ("one_that_waits", "one_that_hears_no_alarm", "one_that_nothing_ends"):
        assert re.search(rf"^FAILED .*::test_{name}", said, re.MULTILINE), said
    for name in ("one_that_hangs_at_its_end", "one_that_leaves_a_spinner"):
        assert re.search(rf"^ERROR .*::test_{name}", said, re.MULTILINE), said
    assert "the end of test_hanging.py::test_one_that_hangs_at_its_end hung; killed: " in said
    assert "still hung; its worker was ended here" in said and "in test_one_that_nothing_ends" in said
    assert "tried again, and what went wrong the first time" in said
    assert "1 × test_hanging.py::test_one_that_waits: call: " in said
    assert "::test_another" not in said, said
