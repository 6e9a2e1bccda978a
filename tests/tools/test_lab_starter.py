"""tools/lab.py new and zip: what a student begins with, and what Gradescope gets.

With MYDOCKER_TEST_LABS=all the starters are also graded, which takes an hour.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support import own_host
from tools.labs import grade, gradescope, rooms, starter, story, tasks
from tools.labs.starter import Level

REPOSITORY = Path(__file__).resolve().parents[2]
TOOL = REPOSITORY / "tools" / "lab.py"
STEPS = range(1, 10)
# What a step's tasks ask for that the step before did already: `/` has the image's mode as long as it is the image.
COMMON = {4: ["slash"]}
every_step = pytest.mark.parametrize("step", STEPS)
in_full = pytest.mark.skipif(os.environ.get("MYDOCKER_TEST_LABS") != "all", reason="only with MYDOCKER_TEST_LABS=all")


def run(*words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command, its two streams as text."""
    environment = {**os.environ, "MYDOCKER_ROOT": str(cwd / "store"), **variables}
    return subprocess.run(words, cwd=cwd, env=environment, stdin=-3, capture_output=True, text=True)


def runtime(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The runtime that lies in a directory."""
    return run(sys.executable, "-m", "my_runtime", *words, cwd=place)


def write(place: Path, files: dict[str, str]) -> Path:
    """A package as a student has it, without what lies beside it."""
    for name, text in files.items():
        path = place / "my_runtime" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


def room_by_room(step: int, solved: list[str]) -> dict[str, str]:
    """The guided package with some of its rooms as in the solution."""
    return starter.package(step, Level.GUIDED) | {name: starter.sources(step)[name] for name in solved}


# --- what is given, and what is not ---


def without_bodies(source: str) -> str:
    """A module's syntax, the body of each function reduced to its docstring."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            docstring = node.body[:1] if ast.get_docstring(node, clean=False) is not None else []
            node.body = [*docstring, *([ast.Pass()] if node.body[len(docstring) :] else [])]
    return ast.dump(tree)


def test_what_is_a_room() -> None:
    assert rooms.of(1) == ["container.py", "init.py", "namespaces.py", "terminal.py"]
    assert rooms.of(3) == ["capabilities.py", "images/__init__.py", "rootfs.py"]
    assert rooms.of(5) == ["volumes.py"]


@every_step
def test_rooms_are_emptied_and_nothing_else_is(step: int) -> None:
    solution, given = starter.sources(step), starter.package(step, Level.GUIDED)
    assert given.keys() == solution.keys()
    emptied = rooms.of(step)
    assert emptied
    for name, text in given.items():
        if name in emptied:
            assert without_bodies(text) == without_bodies(solution[name])
            found = dict(rooms.functions(text))
            assert found.keys() == dict(rooms.functions(solution[name])).keys()
            for function, node in found.items():
                (statement,) = rooms.body_of(node)
                expected = f"{rooms.module(name)}.{function}() is yours to write"
                assert ast.unparse(statement) == f"raise NotImplementedError({expected!r})"
        elif name != "__init__.py":
            assert text == solution[name]


@every_step
def test_no_comment_of_a_body_is_left(step: int) -> None:
    for name in rooms.of(step):
        source = starter.sources(step)[name]
        inside = {
            line.strip()
            for _, function in rooms.functions(source)
            for line in source.splitlines()[rooms.body_of(function)[0].lineno - 1 : function.end_lineno]
            if "#" in line and "raise NotImplementedError" not in line
        }
        assert not inside & {line.strip() for line in rooms.emptied(name, source).splitlines()}


def test_a_room_of_every_shape() -> None:
    source = '''\
"""Doc."""
LIMIT = 3  # kept


class Kind(Protocol):
    def only_a_docstring(self) -> int:
        """Nothing to write."""

    @property
    def name(self) -> str:
        # why
        return "x"


def outer(one: int,
          two: int) -> int:
    """Say it.

    # not a comment
    """

    @wraps
    def inner() -> int:
        return 1

    # at last
    return inner()
'''
    assert (
        rooms.emptied("a/__init__.py", source)
        == '''\
"""Doc."""
LIMIT = 3  # kept


class Kind(Protocol):
    def only_a_docstring(self) -> int:
        """Nothing to write."""

    @property
    def name(self) -> str:
        raise NotImplementedError("a.Kind.name() is yours to write")


def outer(one: int,
          two: int) -> int:
    """Say it.

    # not a comment
    """
    raise NotImplementedError("a.outer() is yours to write")
'''
    )


@pytest.mark.parametrize("step", STEPS[1:])
def test_open_is_the_step_before_with_marks(step: int) -> None:
    before = starter.sources(step - 1)
    given = starter.package(step, Level.OPEN)
    assert given.keys() == before.keys()
    marks = 0
    for name, text in given.items():
        if name != "__init__.py":
            lines = text.splitlines(keepends=True)
            mark = re.compile(rf" *# step {step}: \d+ lines? (changes?|comes? in) here$")
            kept = [line for line in lines if not mark.match(line)]
            assert "".join(kept) == before[name]
            assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(before[name])), "a mark is a comment"
            marks += len(lines) - len(kept)
    assert marks >= 4


def test_marks_stand_where_a_change_is() -> None:
    old = 'a = 1\n\n\ndef f():\n    """One.\n\n    Two.\n    """\n    b = 2\n    return b\n'
    new = 'a = 1\n\n\ndef f():\n    """One.\n\n    Two!\n    """\n    b = 2\n    c = 3\n    d = 4\n    return c\n'
    assert rooms.marked(4, old, new) == (
        'a = 1\n\n\ndef f():\n    # step 4: 1 line changes here\n    """One.\n\n    Two.\n    """\n'
        "    b = 2\n    # step 4: 3 lines change here\n    return b\n"
    )


@every_step
def test_every_function_to_write_is_in_the_story_once(step: int) -> None:
    order = story.order(starter.sources(step), rooms.of(step))
    named = [(file, name) for file, name, _ in order]
    wanted = [(file, name) for file in rooms.of(step) for name, _ in rooms.functions(starter.sources(step)[file])]
    assert sorted(named) == sorted(wanted)


def test_the_story_of_step_4() -> None:
    order = story.order(starter.sources(4), rooms.of(4))
    assert [name for _, name, _ in order] == ["prepare", "refusal", "file_system", "mount", "attributes"]
    assert order[0][2] == "Make a layer for one container, in its `directory`, over the root file system of `image`."


def test_what_a_function_is_given_comes_before_it() -> None:
    """As in `Limits(parse_size(memory))`: the starter asks for parse_size first."""
    names = [name for _, name, _ in story.order(starter.sources(2), rooms.of(2))]
    assert names[:3] == ["parse_size", "Limits.__post_init__", "created"]


def test_a_method_is_met_where_its_class_is_known() -> None:
    """Other things have attributes of that name: a module of Python's, a file, a parameter of another class.

    And what is done for each of several comes after what there are.
    """
    cli = """
import os
from . import config, tell, work

def run(asked: config.Config):
    tell.line(os.read, asked.read)
    work.begin([work.made(each) for each in work.every()])
"""
    work = """
class Log:
    def read(self):
        return 1

def made(each):
    return Log()

def every():
    return [1]

def begin(logs):
    return [log.read() for log in logs]
"""
    tell = "def line(*things):\n    return open(things).read()\n"
    sources = {"cli.py": cli, "config.py": "class Config: ...", "tell.py": tell, "work.py": work}
    assert [name for _, name, _ in story.order(sources, ["work.py"])] == ["every", "made", "begin", "Log.read"]


def test_the_story_of_step_7() -> None:
    """A name is looked at before anything is begun. The log is written when there is something to read."""
    names = [name for _, name, _ in story.order(starter.sources(7), rooms.of(7))]
    assert names[0] == "check_name" and names.index("check_name") < names.index("recorded") < names.index("load")
    assert names.index("recorded") < names.index("pipes") < names.index("relay") < names.index("Log.write")


# --- what a student sees ---


@every_step
def test_a_starter_starts(step: int, tmp_path: Path) -> None:
    """It tells what it is. A container ends with one line that names the function to begin with."""
    place = write(tmp_path, starter.package(step, Level.GUIDED))
    assert "Run a command in a new container" in runtime(place, "run", "--help").stdout
    done = runtime(place, "run", *(["busybox"] if step >= 3 else []), "true")
    assert (done.returncode, done.stdout) == (125, "")
    *before, last = done.stderr.splitlines()
    assert all("made the image 'busybox'" in line for line in before)
    said = re.fullmatch(r"my_runtime: (\S+)\(\) is yours to write: (\S+), line (\d+)", last)
    assert said, done.stderr
    line = (place / "my_runtime" / said[2]).read_text().splitlines()[int(said[3]) - 1]
    assert line.strip() == f'raise NotImplementedError("{said[1]}() is yours to write")'


@pytest.mark.parametrize("step", [2, 5, 9])
def test_an_open_starter_runs(step: int, tmp_path: Path) -> None:
    place = write(tmp_path, starter.package(step, Level.OPEN))
    modest = ["--rm"] if step > 7 else []
    done = runtime(place, "run", *modest, *(["busybox"] if step > 3 else []), "echo", "hi")
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr


def test_in_the_container_too_it_ends_with_one_line(tmp_path: Path) -> None:
    """What is missing is noticed in the child, which tells the parent by its channel."""
    place = write(tmp_path, room_by_room(3, ["images/__init__.py"]))
    done = runtime(place, "run", "busybox", "true")
    assert done.returncode == 125
    assert re.search(r"\nmy_runtime: rootfs\.enter\(\) is yours to write: rootfs\.py, line \d+\n$", done.stderr)


def test_no_command_is_run_in_the_root_of_the_host(tmp_path: Path) -> None:
    """Whoever writes `pass` where the container's root should be entered has a container in the host's root."""
    files = room_by_room(3, rooms.of(3))
    assert runtime(write(tmp_path, files), "run", "busybox", "echo", "hi").stdout == "hi\n"
    for name in ("enter", "name_host"):
        files["rootfs.py"] += f"\n\ndef {name}(_: object) -> None:\n    pass\n"
    done = runtime(write(tmp_path, files), "run", "busybox", "echo", "hi")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "my_runtime: the container would see the host's files, so its command was not run: rootfs.py\n"
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guided lab for step 4, as `make lab` writes it."""
    place = tmp_path_factory.mktemp("lab") / "mine"
    done = run(sys.executable, TOOL, "new", "04", "--dir", place, cwd=place.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Lab 4 is in {place}. Begin with its README.md.\n"
    return place


def test_a_lab_tells_its_task(lab: Path) -> None:
    text = (lab / "README.md").read_text()
    assert text.startswith("# Lab 4: a layer to write on\n\n**At the end of this chapter**")
    assert not re.search(r"@[A-Z]+@", text)
    assert "1. `prepare` in `overlay.py`. Make a layer" in text
    assert "5. `attributes` in `overlay.py`. Return the option" in text
    assert "python -m my_runtime run busybox true" in text
    for task in tasks.load(4):
        now = "green" if task.starter == "passes" else "red"
        assert f"| {task.name} | {task.title} | {task.topic} | {task.points} | {now} |\n" in text + "\n"
    assert "](../" not in (lab / "CHAPTER.md").read_text()
    assert "step 4 on" in (lab / "AGENTS.md").read_text().replace("\n", " ")


@every_step
@pytest.mark.parametrize("level", Level)
def test_every_lab_is_filled_in(step: int, level: Level) -> None:
    if (step, level) == (1, Level.OPEN):
        return
    files = starter.lab(step, level)
    for name, text in files.items():
        assert name.startswith("my_runtime/") or not re.search(r"@[A-Z]+@", text), name
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert any(need.startswith("typer") for need in project["dependencies"])
    assert tomllib.loads(files[".lab.toml"])["step"] == step
    assert f"grade {step} --runtime 'python -m my_runtime'" in files[".github/workflows/grade.yml"]
    assert not re.search("[Tt]ype along|be root in|```console", files["README.md"])
    for task in tasks.load(step):
        assert f"\n- {task.name}: {task.message}\n" in files["README.md"] + "\n" or not task.message
    compile(files[".github/classroom50/autograder.py"], "autograder.py", "exec")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").write_text("precious")
    done = run(sys.executable, TOOL, "new", "4", "--dir", mine, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"lab: {mine} is there already and not empty: nothing was written; choose another place\n")
    assert os.listdir(mine) == ["letter"]
    (mine / "letter").unlink()
    starter.new(4, mine, Level.OPEN)  # an empty one will do
    assert (mine / "README.md").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["new", "10"], "there is no step 10; the steps are 1 to 9"),
        (["new", "1", "--level", "open"], "step 1 has no step before it to begin with: take the level 'guided'"),
        (["new", "4", "--level", "hard"], "--level 'hard': guided or open"),
        (["new", "4", "--dir", "letter/lab"], "HERE/letter/lab/my_runtime: Not a directory"),
        (["zip", "0"], "there is no step 0; the steps are 1 to 9"),
        (["zip", "4", "no/where.zip"], "no/where.zip: No such file or directory"),
    ],
)
def test_a_refusal_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    done = run(sys.executable, TOOL, *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"lab: {said.replace('HERE', str(tmp_path))}\n")


# --- ./grade, ./hint: the course's tool is found and called ---


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course whose tool tells how it was called. As a grader it does what COURSE_DOES says."""
    place = tmp_path / "course"
    stand_in(place)
    return place


def stand_in(place: Path) -> None:
    (place / "tools").mkdir(parents=True, exist_ok=True)
    (place / ".venv/bin").mkdir(parents=True)
    (place / ".venv/bin/python").symlink_to(sys.executable)
    (place / "tools/lab.py").write_text(
        "import json, os, sys, time\n"
        "print(json.dumps(sys.argv[1:]))\n"
        "tests = [{'name': 'a', 'score': 40, 'max_score': 40}, {'name': 'b', 'score': 0, 'max_score': 60}]\n"
        "tests.append({'name': 'for teachers', 'visibility': 'hidden'})\n"
        "does = os.environ.get('COURSE_DOES')\n"
        "if does in ('grade', 'hang'):\n"
        "    open(sys.argv[sys.argv.index('--json') + 1], 'w').write(json.dumps({'score': 40, 'tests': tests}))\n"
        "if does == 'hang':\n"
        "    time.sleep(20)\n"
        "sys.exit(3 if does == 'crash' else 1)\n"
    )


@pytest.mark.parametrize(
    ("typed", "called"), [("grade --watch", "grade 4 --watch"), ("hint layer", "hint 4 --task layer")]
)
def test_the_course_is_called(typed: str, called: str, lab: Path, course: Path) -> None:
    command, word = typed.split()
    done = run(lab / command, word, cwd=course, NINE_STEPS=str(course))
    assert json.loads(done.stdout) == [*called.split(), "--runtime", "python -m my_runtime", "--dir", str(lab)]


def test_a_course_that_is_not_there(lab: Path, tmp_path: Path) -> None:
    done = run(lab / "grade", cwd=tmp_path, NINE_STEPS=str(tmp_path))
    said = f"grade: the course is not in {tmp_path}: set the variable NINE_STEPS to the folder of its repository\n"
    assert (done.returncode, done.stderr) == (1, said)


# --- Gradescope, in a directory that looks like its /autograder ---


@pytest.fixture
def autograder(tmp_path: Path) -> Path:
    """An autograder for step 4 as Gradescope unpacks it, with a stand-in for the course's tool, and a submission."""
    base = tmp_path / "autograder"
    source = base / "source"
    source.mkdir(parents=True)
    gradescope.pack(4, tmp_path / "a.zip", starter.RUNTIME, "")
    shutil.unpack_archive(tmp_path / "a.zip", source)
    lab = json.loads((source / "lab.json").read_text())
    (source / "lab.json").write_text(json.dumps({**lab, "seconds": 2}))
    stand_in(source / "course")
    (base / "submission/my_runtime").mkdir(parents=True)
    return base


def graded(base: Path, does: str) -> tuple[subprocess.CompletedProcess[str], dict[str, object]]:
    """Let Gradescope grade: it copies run_autograder to where it starts it."""
    shutil.copy(base / "source/run_autograder", base / "run_autograder")
    done = run(sys.executable, base / "run_autograder", cwd=base, AUTOGRADER=str(base), COURSE_DOES=does)
    results: dict[str, object] = json.loads((base / "results/results.json").read_text())
    return done, results


def test_a_zip_holds_tests_and_tools_and_no_solution(tmp_path: Path) -> None:
    gradescope.pack(4, tmp_path / "a.zip", "./mydocker", "vm")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        assert json.loads(archive.read("lab.json")) == {
            "step": 4,
            "runtime": "./mydocker",
            "sandbox": "vm",
            "seconds": gradescope.SECONDS,
        }
    assert {modes[name] for name in ("setup.sh", "run_autograder", "course/tools/setup.sh")} == {0o755}
    assert {"course/tests/conftest.py", "course/tools/lab.py", "course/pyproject.toml"} < modes.keys()
    assert not [name for name in modes if re.search(r"step\d\d_", name)]


def test_gradescope_gets_what_the_grader_wrote(autograder: Path) -> None:
    done, results = graded(autograder, "grade")
    assert results["score"] == 40
    called = json.loads(done.stdout)
    assert called[:4] == ["grade", "4", "--runtime", starter.RUNTIME]
    assert called[4:6] == ["--dir", str(autograder / "submission")]
    assert not called[7].startswith(str(autograder)), "a submission would look there"


def test_gradescope_finds_a_folder_that_was_handed_in(autograder: Path) -> None:
    (autograder / "submission/mine").mkdir()
    (autograder / "submission/my_runtime").rename(autograder / "submission/mine/my_runtime")
    done, results = graded(autograder, "grade")
    assert results["score"] == 40
    assert json.loads(done.stdout)[5] == str(autograder / "submission/mine")


@pytest.mark.parametrize(
    ("does", "why"),
    [("crash", "the grader ended with exit code 3"), ("nothing", "the grader wrote no results")],
)
def test_gradescope_gets_a_reason_and_no_points(does: str, why: str, autograder: Path) -> None:
    done, results = graded(autograder, does)
    assert results == {"score": 0, "output": f"Nothing could be graded: {why}.", "tests": []}
    assert done.returncode == 0


def test_gradescope_gets_what_was_earned_in_time(autograder: Path) -> None:
    done, results = graded(autograder, "hang")
    assert results["score"] == 40
    assert "the grader was not done after 2 seconds" in done.stderr


def test_gradescope_is_told_what_was_handed_in(autograder: Path) -> None:
    (autograder / "submission/my_runtime").rename(autograder / "submission/my_docker")
    (autograder / "submission/notes").touch()
    _, results = graded(autograder, "grade")
    assert results["score"] == 0
    assert "there is no folder my_runtime in what you have handed in, but: " in str(results["output"])


# --- Classroom 50, with the variables that its runner sets ---


def test_classroom_50_gets_its_result(lab: Path, course: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(lab, checkout)
    variables = {
        name: f"of {name}" for name in ("CLASSROOM", "ASSIGNMENT", "SUBMISSION_TAG", "COMMIT_URL", "RELEASE_URL")
    }
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        date = {"GIT_COMMITTER_DATE": "2026-06-01T16:32:05+0200", "GIT_DIR": str(checkout / ".git")}
        assert run(*git, *words, cwd=checkout, **date).returncode == 0
    script = checkout / ".github/classroom50/autograder.py"
    done = run(sys.executable, script, cwd=checkout, NINE_STEPS=str(course), COURSE_DOES="grade", **variables)
    assert done.returncode == 0, done.stderr
    assert json.loads((checkout / "result.json").read_text()) == {
        "schema": "classroom50/result/v1",
        "classroom": "of CLASSROOM",
        "assignment": "of ASSIGNMENT",
        "submission": "of SUBMISSION_TAG",
        "commit": "of COMMIT_URL",
        "release": "of RELEASE_URL",
        "review": "of COMMIT_URL",
        "datetime": "2026-06-01T14:32:05Z",
        "score": 40,
        "max-score": 100,
        "tests": [
            {"test-name": "a", "passed": True, "score": 40, "max-score": 40},
            {"test-name": "b", "passed": False, "score": 0, "max-score": 60},
        ],
    }


# --- in full ---


@in_full
@every_step
def test_a_starter_can_be_installed(step: int, tmp_path: Path) -> None:
    starter.new(step, tmp_path / "lab", Level.GUIDED)
    assert run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path).returncode == 0
    python = tmp_path / "venv/bin/python"
    install = (python, "-m", "pip", "install", "--quiet", "-e", tmp_path / "lab")
    done = run(*own_host.on_the_machines_network(), *install, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Run a command in a new container" in run(python, "-m", "my_runtime", "run", "--help", cwd=tmp_path).stdout


def graded_here(step: int, files: dict[str, str], place: Path) -> grade.Report:
    """What a package earns on this machine. All of it can be graded as root only."""
    if os.geteuid() != 0:
        pytest.skip("without root not every task counts")
    report = grade.grade(step, starter.RUNTIME, write(place, files))
    assert (report.possible, report.remark) == (100, "")
    return report


def passed(report: grade.Report) -> list[str]:
    return [task.name for task in report.tasks if task.passed]


@in_full
@pytest.mark.timeout(600)
def test_gradescope_grades_with_what_is_in_the_zip(tmp_path: Path) -> None:
    """The real tool and tests, without the steps, on a solution."""
    base = tmp_path / "autograder"
    gradescope.pack(4, tmp_path / "a.zip", starter.RUNTIME, "")
    shutil.unpack_archive(tmp_path / "a.zip", base / "source")
    (base / "source/course/.venv").symlink_to(sys.prefix)
    write(base / "submission", room_by_room(4, rooms.of(4)))
    _, results = graded(base, "")
    assert results["score"] == 100, results


@in_full
@pytest.mark.timeout(400)
@every_step
def test_a_starter_fails_what_it_says_and_passes_the_rest(step: int, tmp_path: Path) -> None:
    report = graded_here(step, starter.package(step, Level.GUIDED), tmp_path)
    assert passed(report) == [task.name for task in tasks.load(step) if task.starter == "passes"]


@in_full
@pytest.mark.timeout(400)
@pytest.mark.parametrize("step", STEPS[1:])
def test_the_step_before_earns_what_is_common(step: int, tmp_path: Path) -> None:
    report = graded_here(step, starter.package(step, Level.OPEN), tmp_path)
    assert passed(report) == COMMON.get(step, [])


@in_full
@pytest.mark.skipif(os.geteuid() != 0, reason="the tests are not run by root")
def test_who_cannot_remove_containers_yet_earns_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has left on record is not there in the next."""
    some = [task for task in tasks.load(7) if task.name in ("names", "record", "ps")]
    monkeypatch.setattr(grade, "load", lambda step: some)
    monkeypatch.setattr(grade, "earlier_tests", lambda step: [])
    files = room_by_room(7, [room for room in rooms.of(7) if room != "records/ending.py"])
    report = grade.grade(7, starter.RUNTIME, write(tmp_path, files))
    assert passed(report) == ["record", "ps"], report.tasks


@in_full
@pytest.mark.timeout(3000)
@every_step
def test_room_by_room_to_all_points(step: int, tmp_path: Path) -> None:
    """In the order in which a student meets the rooms. The last score is that of the solution."""
    order = list(dict.fromkeys(file for file, _, _ in story.order(starter.sources(step), rooms.of(step))))
    scores = [0]
    for number in range(1, len(order) + 1):
        report = graded_here(step, room_by_room(step, order[:number]), tmp_path / str(number))
        assert report.score >= scores[-1], f"with {order[number - 1]}: {scores}, then {report.score}"
        scores.append(report.score)
    assert scores[-1] == 100, [failure for task in report.tasks for failure in task.failures + task.unlisted_failures]
