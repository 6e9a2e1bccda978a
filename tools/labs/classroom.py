"""`tools/lab.py class DIR`: grades every submission in a folder, and keeps one table of them, grades.csv."""

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .grade import CannotGrade, grade, load

TABLE = "grades.csv"
LEFT_OUT = {".git", ".venv", "__pycache__", ".hints.json"}


@dataclass(frozen=True)
class Submission:
    name: str
    directory: Path  # where the command is started
    command: str  # empty: no runtime was found
    fingerprint: str  # of all its files, and of the step: another one is graded again


def submissions(folder: Path, step: int) -> list[Submission]:
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return [Submission(path.name, *runtime_of(path), fingerprint(path, step)) for path in found]


def runtime_of(folder: Path) -> tuple[Path, str]:
    """Where the runtime is, and the command that starts it: in the folder itself, or in the only one below it."""
    below = [path for path in folder.iterdir() if path.is_dir() and path.name not in LEFT_OUT]
    for place in [folder, *(below if len(below) == 1 else [])]:
        if (place / ".runtime").is_file():
            return place, (place / ".runtime").read_text(errors="replace").strip()
        if (place / "my_runtime/__main__.py").is_file():
            return place, "python -m my_runtime"
        if (place / "mydocker").is_file() and os.access(place / "mydocker", os.X_OK):
            return place, "./mydocker"
    return folder, ""


def fingerprint(folder: Path, step: int) -> str:
    digest = hashlib.sha256(f"step {step}".encode())
    for path, mark, data in files(folder):
        for part in (str(path.relative_to(folder)).encode(errors="surrogateescape"), mark, data):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def files(folder: Path) -> Iterator[tuple[Path, bytes, bytes]]:
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        for name in sorted(name for name in names if name not in LEFT_OUT):
            path = Path(top, name)
            if path.is_symlink():
                yield path, b"link", os.readlink(os.fsencode(path))
            elif path.is_file():
                with suppress(OSError):
                    yield path, b"program" if os.access(path, os.X_OK) else b"file", path.read_bytes()


def one(submission: Submission, step: int, sandbox: str) -> dict[str, str]:
    """The row of one submission, whatever it does. Runs in a process of its own: so do the tests' leftovers."""
    row = {"name": submission.name, "score": "0", "fingerprint": submission.fingerprint}
    if not submission.command:
        return {**row, "remark": "no runtime found: my_runtime/, mydocker or .runtime"}
    try:
        report = grade(step, submission.command, submission.directory, sandbox=sandbox)
    except (CannotGrade, OSError, ValueError) as error:
        return {**row, "remark": str(error), "fingerprint": ""}  # the next time it is tried again
    remark = report.remark or (f"broken of earlier steps: {len(report.broken)}" if report.broken else "")
    row |= {
        "score": str(report.score),
        "of": str(report.possible),
        "seconds": f"{report.seconds:.0f}",
        "remark": remark,
    }
    return row | {task.name: str(task.earned) if task.counted else "" for task in report.tasks}


def grade_all(folder: Path, step: int, jobs: int, sandbox: str) -> Path:
    """Grade what is not in the table yet, or has changed since. Returns the table, which is written after each."""
    if not folder.is_dir():
        raise CannotGrade(f"{folder} is not a directory")
    table = folder / TABLE
    columns = ["name", "score", "of", *(task.name for task in load(step)), "seconds", "remark", "fingerprint"]
    known = read(table)
    todo, rows = [], {}
    for submission in submissions(folder, step):
        before = known.get(submission.name)
        if before and before.get("fingerprint") == submission.fingerprint:
            rows[submission.name] = before
        else:
            todo.append(submission)
    print(f"{len(todo)} to grade, {len(rows)} as before")
    # A process each: what a submission leaves running is found among the descendants of the one that has graded it.
    with ProcessPoolExecutor(jobs, max_tasks_per_child=1) as pool:
        futures = {pool.submit(one, submission, step, sandbox): submission for submission in todo}
        for future in as_completed(futures):
            row = future.result()
            rows[row["name"]] = row
            write(table, columns, rows)
            print(f"{row['name']}: {row['score']} {row.get('remark', '')}".rstrip())
    write(table, columns, rows)
    return table


def read(table: Path) -> dict[str, dict[str, str]]:
    with suppress(FileNotFoundError), table.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}
    return {}


def write(table: Path, columns: list[str], rows: dict[str, dict[str, str]]) -> None:
    """By a new file that takes the old one's place: a table is there at every moment."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**rows[name], "name": harmless(name)} for name in sorted(rows))
    new = table.with_name(f".{TABLE}.new")
    new.write_text(text.getvalue(), newline="")
    new.replace(table)


def harmless(name: str) -> str:
    """A spreadsheet would take a name that begins so for a formula."""
    return f"'{name}" if name[:1] in "=+-@" else name
