"""What a step's lab is worth: reads `tests/stepNN/tasks.toml`. tests/README.md tells how such a file is written."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
# Of each key: the type of its value, and whether it may be left out.
KEYS: dict[str, tuple[type, bool]] = {
    "name": (str, False),
    "title": (str, False),
    "topic": (str, False),
    "points": (int, False),
    "tests": (list, False),
    "unlisted": (list, True),
    "starter": (str, True),
    "message": (str, True),
    "hints": (dict, False),
}
HINTS: dict[str, tuple[type, bool]] = {"read": (str, False), "call": (str, False), "compare": (list, False)}


class BadTasks(Exception):
    """One line: which file, which task, what is wrong."""


@dataclass(frozen=True)
class Hints:
    """The three stages of `make hint`."""

    read: str  # where to read: a section of the chapter, man pages
    call: str  # what to call, in which order
    compare: tuple[str, ...]  # the words after `run`: options, `--`, the command; the image is put in between


@dataclass(frozen=True)
class Task:
    """One line of a student's table: a group of tests, and the points for all of them together."""

    name: str
    title: str
    topic: str  # the room that it belongs to
    points: int
    tests: tuple[str, ...]  # "test_overlay.py::test_a", in the step's folder
    hints: Hints
    unlisted: tuple[str, ...] = ()  # count likewise; a student's output only says how many failed
    starter: str = "fails"  # what the generated starter does: "fails" or "passes"
    message: str = ""  # the wording that a test wants, where one is graded

    @property
    def all_tests(self) -> tuple[str, ...]:
        return (*self.tests, *self.unlisted)


def path(step: int) -> Path:
    return REPOSITORY / f"tests/step{step:02}/tasks.toml"


def load(step: int) -> list[Task]:
    """The tasks of a step, in the order of the file. Raises BadTasks."""
    return read(path(step))


def read(file: Path) -> list[Task]:
    """The tasks of any such file."""
    try:
        content = tomllib.loads(file.read_text())
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise BadTasks(f"{file}: {error}") from None
    entries = content.get("task")
    if content.keys() != {"task"} or not isinstance(entries, list):
        raise BadTasks(f"{file}: it has [[task]] entries and nothing else")
    tasks = [task(entry, f"{file}: task {number}") for number, entry in enumerate(entries, start=1)]
    if total := sum(one.points for one in tasks) - 100:
        raise BadTasks(f"{file}: all tasks together are worth {100 + total} points, not 100")
    return tasks


def task(entry: Any, where: str) -> Task:
    """One entry. `where` begins what is said if it is wrong."""
    if not isinstance(entry, dict):
        raise BadTasks(f"{where}: not a table")
    if isinstance(entry.get("name"), str):
        where += f" ({entry['name']})"
    check_keys(entry, KEYS, where)
    check_keys(entry["hints"], HINTS, f"{where}: hints")
    for key in ("tests", "unlisted"):
        check_words(entry.get(key, []), f"{where}: {key}")
    check_words(entry["hints"]["compare"], f"{where}: hints: compare")
    if not 1 <= entry["points"] <= 100:
        raise BadTasks(f"{where}: points are a whole number from 1 to 100")
    if not entry["tests"]:
        raise BadTasks(f"{where}: tests: name at least one")
    if entry.get("starter", "fails") not in ("fails", "passes"):
        raise BadTasks(f"{where}: starter is 'fails' or 'passes'")
    hints = Hints(entry["hints"]["read"], entry["hints"]["call"], tuple(entry["hints"]["compare"]))
    listed, unlisted = tuple(entry["tests"]), tuple(entry.get("unlisted", []))
    return Task(**{**entry, "tests": listed, "unlisted": unlisted, "hints": hints})


def check_keys(entry: dict[str, Any], known: dict[str, tuple[type, bool]], where: str) -> None:
    """Every key is known, of the right type and not empty; none is missing."""
    if odd := entry.keys() - known.keys():
        raise BadTasks(f"{where}: unknown key {min(odd)!r}; known are {', '.join(known)}")
    for key, (kind, may_be_missing) in known.items():
        if key not in entry:
            if may_be_missing:
                continue
            raise BadTasks(f"{where}: {key} is missing")
        if type(entry[key]) is not kind or entry[key] == "":
            raise BadTasks(f"{where}: {key} must be {KINDS[kind]}")


KINDS = {str: "a text that is not empty", int: "a whole number", list: "a list", dict: "a table"}


def check_words(words: list[Any], where: str) -> None:
    if not all(isinstance(word, str) for word in words):
        raise BadTasks(f"{where}: a list of texts is wanted")
