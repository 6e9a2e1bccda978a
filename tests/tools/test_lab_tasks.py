"""What each step is worth: the files tests/stepNN/tasks.toml fit the tests, the chapters and each other."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support import session
from tools.labs import tasks

STEPS = range(1, 10)
EVERY = pytest.mark.parametrize("step", STEPS)


@cache
def functions(file: Path) -> dict[str, ast.FunctionDef]:
    """The tests of a file."""
    found = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in found if node.name.startswith("test_")}


def chapter(step: int) -> Path:
    (found,) = session.REPOSITORY.glob(f"step{step:02}_*/README.md")
    return found


@EVERY
def test_a_step_is_worth_100_points(step: int) -> None:
    found = tasks.load(step)
    assert sum(task.points for task in found) == 100
    assert 10 <= len(found) <= 15
    assert 3 * sum(bool(task.unlisted) for task in found) >= len(found), "a share of the tests is not listed"


@EVERY
def test_names_are_words_and_unique(step: int) -> None:
    names = [task.name for task in tasks.load(step)]
    assert len({*names}) == len(names)
    assert all(re.fullmatch("[a-z]+", name) for name in names)


@EVERY
def test_every_test_exists_and_is_in_one_task(step: int) -> None:
    for task in tasks.load(step):
        assert 1 <= len(task.all_tests) <= 8, task.name
        for file, name in places(task):
            assert name in functions(tasks.path(step).parent / file), f"{task.name}: {name}"
    used = Counter(test for task in tasks.load(step) for test in task.all_tests)
    assert [test for test, times in used.items() if times > 1] == []


@EVERY
def test_hints(step: int) -> None:
    """Each names a section of the chapter, and words for `run`: options, --, the command."""
    headings = {*re.findall(r"^##+ (.*)$", chapter(step).read_text(), re.MULTILINE)}
    for task in tasks.load(step):
        named = re.findall(r'"([^"]+)"', task.hints.read)
        assert named and {*named} <= headings, f"{task.name}: {named}"
        assert task.hints.call.strip(), task.name
        options, command = split(task.hints.compare)
        assert command, task.name
        assert all(option.startswith("-") for option in options[:1]), task.name


def split(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Before and after the first `--`."""
    at = words.index("--")
    return words[:at], words[at + 1 :]


@EVERY
def test_where_a_message_is_graded_its_wording_is_stated(step: int) -> None:
    for task in tasks.load(step):
        sources = (ast.unparse(functions(tasks.path(step).parent / file)[name]) for file, name in places(task))
        looks = any(re.search(r"\brefus(al|ed)\(|assert_said_why", source) for source in sources)
        assert task.message or not looks, task.name


def places(task: tasks.Task) -> list[list[str]]:
    return [test.split("::") for test in task.all_tests]


# ---- a file that is wrong --------------------------------------------------------------------------------------------

GOOD = """
[[task]]
name = "one"
title = "One"
topic = "room"
points = 100
tests = ["test_x.py::test_y"]
[task.hints]
read = '"3. The code"'
call = "clone"
compare = ["--", "true"]
"""


def test_a_task_with_nothing_but_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "tasks.toml").write_text(GOOD)
    (found,) = tasks.read(tmp_path / "tasks.toml")
    assert (found.name, found.points, found.all_tests) == ("one", 100, ("test_x.py::test_y",))
    assert (found.unlisted, found.starter, found.message) == ((), "fails", "")
    assert found.hints == tasks.Hints('"3. The code"', "clone", ("--", "true"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "one"', "", "name is missing"),
        ("[task.hints]", "stray = 1\n[task.hints]", "unknown key 'stray'"),
        ("points = 100", "points = 99", "worth 99 points, not 100"),
        ("points = 100", 'points = "100"', "points must be a whole number"),
        ("points = 100", "points = true", "points must be a whole number"),
        ("points = 100", "points = 0", "from 1 to 100"),
        ('["test_x.py::test_y"]', "[]", "name at least one"),
        ('["test_x.py::test_y"]', "[1]", "a list of texts"),
        ('title = "One"', 'title = ""', "title must be a text that is not empty"),
        ("[task.hints]", 'starter = "maybe"\n[task.hints]', "starter is 'fails' or 'passes'"),
        ('call = "clone"', "", "hints: call is missing"),
        ('compare = ["--", "true"]', 'compare = "true"', "hints: compare must be a list"),
        ("[[task]]", "[[tasks]]", "[[task]] entries"),
        ("[[task]]", "[[task]", "tasks.toml: "),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "tasks.toml"
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(tasks.BadTasks) as failure:
        tasks.read(file)
    assert said in str(failure.value) and str(file) in str(failure.value)
    assert "\n" not in str(failure.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(tasks.BadTasks, match=r"tasks\.toml"):
        tasks.read(tmp_path / "tasks.toml")
