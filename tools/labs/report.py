"""How a report is told: a table for a student, results.json for Gradescope, JUnit XML for everything else."""

import json
import os
import re
import time
import xml.etree.ElementTree as xml
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .errors import LabError
from .grade import CannotGrade, Report, TaskResult, grade

ROOM = 1 << 20  # bytes that a results file takes from the start
MOST = 3000  # characters told of one task: all of them together have room
EMPTY = re.compile(r"[\w.]+\(\) is yours to write")  # as rooms.py has it raised
STILL = "(it was still running)"  # the recorder's words: such a test has not seen what the runtime says
EDGES = "try what lies at the edges of this task yourself"


# ---- for a student ---------------------------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    table = Table("task", "topic", "points", "", title=f"step {report.step}: {report.command}", title_justify="left")
    for task in report.tasks:
        state = "[green]passed" if task.passed else "[red]failed" if task.counted else f"[yellow]{escape(task.why)}"
        points = f"{task.earned} of {task.points}" if task.counted else "not counted"
        table.add_row(escape(task.title), escape(task.topic), points, state)
    console.print(table)
    told: set[str] = set()
    for task in report.tasks:
        if task.counted and not task.passed:
            console.print(f"\n[bold]{escape(task.title)}[/bold] ({escape(task.name)})")
            for failure in lines(task):
                show_failure(failure, told, console)
    if report.broken:
        console.print("\n[bold]Broken of earlier steps[/bold]")
        for failure in broken(report):
            show_failure(failure, told, console)
    console.print(f"\n[bold]{total(report)}[/bold]")
    if report.remark:
        console.print(f"{report.remark}: what was not done by then counts as failed", highlight=False)
    console.print(f"next: {following(report)}", markup=False, highlight=False, soft_wrap=True)


def show_failure(failure: str, told: set[str], console: Console) -> None:
    """A test, and below it what was typed, what came out and what was expected. The same outcome is told once."""
    test, *rest = failure.split("\n")
    outcome = "\n".join(line for line in rest if not line.startswith("typed: "))
    known = outcome in told
    told.add(outcome)
    console.print(f"  {test}{': the same as above' if known and outcome else ''}", markup=False, highlight=False)
    for line in [] if known else rest:
        console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)


def lines(task: TaskResult) -> list[str]:
    """What failed, for the student. Unlisted tests are only counted, and what they found empty is named."""
    reasons = Counter(unwritten(failure) or EDGES for failure in task.unlisted_failures)
    return [*task.failures, *(f"{tests(number)} not shown failed: {reason}" for reason, number in reasons.items())]


def tests(number: int) -> str:
    return "1 test that is" if number == 1 else f"{number} tests that are"


def unwritten(failure: str) -> str:
    """What the starter's own line says, if a test failed by a function that is still empty."""
    found = EMPTY.search(failure)
    return found[0] if found else ""


def broken(report: Report) -> list[str]:
    """What failed of earlier steps. As long as no run gets as far, all of it fails in the same way."""
    empty = {unwritten(failure) for failure in report.broken if STILL not in failure}
    if len(report.broken) > 1 and len(empty) == 1 and "" not in empty:
        return ["The tests of earlier steps fail too, as no run gets as far yet."]
    return report.broken


def total(report: Report) -> str:
    here = " points" if report.possible == 100 else " points that can be earned here"
    return f"{report.score} of {report.possible}{here}, in {report.seconds:.0f} s"


def following(report: Report) -> str:
    """The first thing to do."""
    for task in report.tasks:
        if task.counted and not task.passed:
            return f"{task.title}. A hint: ./hint {task.name}, or make hint STEP={report.step:02} TASK={task.name}"
    if report.broken:
        return "what is broken of earlier steps"
    if report.possible < 100:
        return "the rest, as root or on another machine (make doctor tells what this one can do)"
    return f"step {report.step + 1}" if report.step < 9 else "nothing: all nine steps are done"


# ---- for programs ----------------------------------------------------------------------------------------------------


def gradescope(report: Report) -> dict[str, Any]:
    """https://gradescope-autograders.readthedocs.io/en/latest/specs/. What is unlisted is for the staff alone."""
    tests: list[dict[str, Any]] = []
    for number, task in enumerate(report.tasks, start=1):
        said = "passed" if task.passed else "\n".join(lines(task)) if task.counted else f"not counted: {task.why}"
        tests.append(
            {
                "name": f"{task.topic}: {task.title}",
                "number": str(number),
                "score": task.earned,
                "max_score": task.points if task.counted else 0,
                "status": "passed" if task.passed or not task.counted else "failed",
                "output": said[:MOST],
                "tags": [task.name],
                "visibility": "visible",
                "extra_data": {"seconds": task.seconds},
            }
        )
        if task.unlisted_failures:
            said = "\n".join(task.unlisted_failures)
            name = f"{task.topic}: {task.title}: what is unlisted"
            tests.append({"name": name, "score": 0, "max_score": 0, "output": said[:MOST], "visibility": "hidden"})
    said = "\n".join([total(report), report.remark, *(f"broken: {line}" for line in broken(report))])
    return {
        "score": report.score,
        "execution_time": round(report.seconds),
        "output": said[:MOST],
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {"step": report.step, "finished": report.finished, "remark": report.remark},
    }


def junit(report: Report) -> str:
    suite = xml.Element("testsuite", name=f"step {report.step}", tests=str(len(report.tasks)))
    for task in report.tasks:
        case = xml.SubElement(suite, "testcase", classname=task.topic, name=task.title, time=f"{task.seconds}")
        said = printable("\n".join(lines(task)))[:MOST]
        if not task.counted:
            xml.SubElement(case, "skipped", message=printable(task.why))
        elif not task.passed:
            xml.SubElement(case, "failure", message=printable(said.partition("\n")[0])).text = said
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("time", f"{report.seconds}")
    return xml.tostring(suite, encoding="unicode", xml_declaration=True)


def printable(text: str) -> str:
    """XML has no way to write most control characters, nor half of a surrogate pair."""
    return "".join(one if one in "\n\t" or one.isprintable() else "�" for one in text)


class ResultsFile:
    """A file that always holds a whole result, whatever else happens: also when the disk is full.

    Two files have their room on the disk from the start, filled up with spaces. Each new text goes into the one that
    nobody reads, and takes the other's place by rename(2). At the end the spaces go.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.spare = self.path.with_name(f".{path.name}.spare")
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, text: str, last: bool = False) -> None:
        data = text.encode(errors="replace")
        with open(self.spare, "r+b" if self.spare.exists() else "wb") as file:
            file.write(data.ljust(ROOM))
            file.flush()
            os.fsync(file.fileno())
        old = self.path.with_name(f".{self.path.name}.old")
        with suppress(FileNotFoundError):
            old.unlink()
        with suppress(FileNotFoundError):
            os.link(self.path, old)
        self.spare.replace(self.path)
        if last:
            os.truncate(self.path, len(data))
            old.unlink(missing_ok=True)
        elif old.exists():
            old.replace(self.spare)
        else:
            self.spare.write_bytes(b" " * ROOM)


def as_json(report: Report) -> str:
    return json.dumps(gradescope(report), indent=1)


# ---- make grade ------------------------------------------------------------------------------------------------------


def run(
    step: int,
    command: str,
    directory: Path,
    json_file: Path | None,
    junit_file: Path | None,
    sandbox: str,
    watch: bool,
    limit: float | None,
) -> bool:
    """Grade, and tell; with `watch` again and again. Returns whether all was earned that can be, and nothing broke."""
    directory = directory.expanduser().resolve()
    if not directory.is_dir():
        raise CannotGrade(f"{directory} is not a directory: DIR is where the runtime is")
    while True:
        seen = newest(directory)
        report = once(step, command, directory, json_file, junit_file, sandbox, limit)
        if not watch:
            return report.score == report.possible and not report.broken
        print("waiting for a file to change; Ctrl-C ends this")
        while newest(directory) == seen:
            time.sleep(1)


def once(
    step: int,
    command: str,
    directory: Path,
    json_file: Path | None,
    junit_file: Path | None,
    sandbox: str,
    limit: float | None,
) -> Report:
    console = Console()
    files = [(ResultsFile(path), tell) for path, tell in ((json_file, as_json), (junit_file, junit)) if path]

    def keep(report: Report, last: bool = False) -> None:
        for file, tell in files:
            file.write(tell(report), last)
        status.update(f"{report.score} points so far, {report.seconds:.0f} s")

    with console.status("the tests are being collected") as status:
        try:
            report = grade(step, command, directory, limit, sandbox, keep)
        except LabError as error:
            keep(Report(step, command, [], remark=str(error)), last=True)
            raise
        keep(report, last=True)
    show(report, console)
    return report


def newest(directory: Path) -> float:
    """When a file in here was changed last; what tools write there is not looked at."""
    found = 0.0
    for top, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ("__pycache__", "target")]
        for name in names:
            if not name.startswith("."):
                with suppress(OSError):
                    found = max(found, os.stat(Path(top, name)).st_mtime)
    return found
