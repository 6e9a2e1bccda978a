"""Grades this lab in Classroom 50. For teachers: copy this file into your classroom50 repository, as
CLASSROOM/autograders/ASSIGNMENT/autograder.py.

Its runner calls this once for each submission, in the student's checkout, and reads ./result.json afterwards
(https://github.com/foundation50/classroom50/wiki/Advanced-Autograding). Not tried yet: a real run in Classroom 50. What
the tests try is this file with a runner's variables set, as that page of August 2026 describes them.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STEP = "@STEP@"
RUNTIME = "@RUNTIME@"
COURSE = "@URL@"  # what git can clone; the variable NINE_STEPS names a folder to use instead
SECONDS = 1500  # for one submission


def course() -> Path:
    """The course's repository, with its Python packages installed."""
    if place := os.environ.get("NINE_STEPS"):
        return Path(place)
    clone = Path(tempfile.mkdtemp(), "course")
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", COURSE, clone], check=True)
    userns = "kernel.apparmor_restrict_unprivileged_userns=0"  # Ubuntu forbids user namespaces to ordinary users
    subprocess.run(["sudo", "sysctl", "-q", "-w", userns], check=False)
    subprocess.run(["sudo", clone / "tools/setup.sh", "test"], check=True)
    return clone


def grade(place: Path) -> tuple[float, list[dict[str, object]]]:
    """The score, and the tasks as Gradescope lists them."""
    results = Path(tempfile.mkdtemp(), "results.json")
    root = [] if os.geteuid() == 0 else ["sudo"]  # this machine is thrown away afterwards
    tool: list[str | Path] = [place / ".venv/bin/python", place / "tools/lab.py"]
    options: list[str | Path] = ["--runtime", RUNTIME, "--dir", Path.cwd(), "--json", results]
    subprocess.run([*root, *tool, "grade", STEP, *options], check=False, timeout=SECONDS)
    said = json.loads(results.read_text())
    return said["score"], [test for test in said["tests"] if "max_score" in test]  # the others are for teachers


def submitted() -> str:
    """When the graded commit was made, in UTC."""
    command = ["git", "show", "--no-patch", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"})
    return shown.stdout.strip()


score, tests = grade(course())
result = {
    "schema": "classroom50/result/v1",
    "classroom": os.environ["CLASSROOM"],
    "assignment": os.environ["ASSIGNMENT"],
    "submission": os.environ["SUBMISSION_TAG"],
    "commit": os.environ["COMMIT_URL"],
    "release": os.environ["RELEASE_URL"],
    "review": os.environ.get("REVIEW_URL") or os.environ["COMMIT_URL"],
    "datetime": submitted(),
    "score": round(score),
    "max-score": 100,
    "tests": [
        {
            "test-name": test["name"],
            "passed": test["score"] == test["max_score"],
            "score": test["score"],
            "max-score": test["max_score"],
        }
        for test in tests
    ],
}
Path("result.json").write_text(json.dumps(result, indent=2))
print(f"{result['score']} of 100 points", file=sys.stderr)
