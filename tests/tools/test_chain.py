"""tools/chain.py, on tiny chains in temporary git repositories; and its check on the real steps."""

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = str(REPOSITORY / "tools" / "chain.py")
NAMES = ("step01_one", "step02_two", "step03_three", "step04_four")

# Neither the caller's git configuration, nor the repository of a git hook that these tests run in, may play a part.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") and name != "NO_COLOR"}
ENVIRONMENT |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
for role in ("AUTHOR", "COMMITTER"):
    ENVIRONMENT |= {f"GIT_{role}_NAME": "Somebody", f"GIT_{role}_EMAIL": "somebody@example.org"}

SIZES = {1: 778, 2: 1174, 3: 1650, 4: 1850}  # as in the tool
PYPROJECT = '[project]\nname = "x"\ndependencies = ["typer>=0.16", "backports.zstd; python_version < \'3.14\'"]\n'
# Twenty lines that differ, so that a merge can tell them apart: `line(3, "edited")` changes the third.
LINES = [f"value_{number} = {number}\n" for number in range(1, 21)]
BASE = "".join(LINES)


def line(number: int, text: str, source: str = BASE) -> str:
    """`source` with one of its lines replaced."""
    lines = source.splitlines(keepends=True)
    lines[number - 1] = f"{text}\n"
    return "".join(lines)


class Chain:
    """A chain of its own in a directory, and the tool run on it."""

    def __init__(self, root: Path, steps: int = 4) -> None:
        self.root = root
        self.write("pyproject.toml", PYPROJECT)
        for name in NAMES[:steps]:
            self.write(f"{name}/a.py", BASE)
            self.write(f"{name}/README.md", f"# {name}\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def write_from(self, first: int, name: str, text: str) -> None:
        """Give a file to step `first` and to every later one."""
        for step in NAMES[first - 1 :]:
            if (self.root / step).exists():
                self.write(f"{step}/{name}", text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def git(self, *args: str) -> None:
        subprocess.run(["git", *args], cwd=self.root, env=ENVIRONMENT, check=True, capture_output=True)

    def commit(self) -> None:
        if not (self.root / ".git").exists():
            self.git("init", "-q")
            self.git("config", "gc.auto", "0")  # nothing may go on in the background
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "as it is")

    def run(self, *args: str, code: int = 0) -> str:
        """Run the tool; returns what it printed, both streams."""
        command = [sys.executable, PROGRAM, "--root", str(self.root), *args]
        done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == code, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


# --- diff ---


def test_diff_shows_the_summary_then_the_lines(chain: Chain) -> None:
    chain.write_from(2, "b.py", "new = 1\nmodule = 2\n")
    chain.write_from(2, "a.py", line(3, "value_3 = 33\nmore = 1"))
    chain.write("step02_two/__pycache__/a.cpython-311.pyc", "not code")
    output = chain.run("diff", "2")
    summary, _, lines = output.partition("diff --git")
    table = [row.split() for row in summary.splitlines()]
    assert ["new", "b.py", "+2", "-0"] in table
    assert ["changed", "a.py", "+2", "-1"] in table
    assert "new rooms: b\n" in summary and "changed:   a\n" in summary
    assert "budget, in lines: 1 of 25 altered, 1 of 150 added, 2 of 650 new" in summary
    assert "\n-value_3 = 3\n+value_3 = 33\n+more = 1\n" in lines
    assert "\n--- step01_one/a.py\n+++ step02_two/a.py\n" in lines
    assert "\n--- /dev/null\n+++ step02_two/b.py\n" in lines
    assert "+new = 1" in lines
    assert "# step02" not in output, "the chapters are no part of it"
    assert "__pycache__" not in output
    assert "\x1b" not in output
    assert chain.run("diff", "02", "--stat") == summary.rstrip("\n") + "\n"


def test_diff_names_what_was_removed(chain: Chain) -> None:
    chain.write("step01_one/gone.py", "x = 1\n")
    output = chain.run("diff", "2")
    assert ["removed", "gone.py", "+0", "-1"] in [row.split() for row in output.splitlines()]
    assert "+++ /dev/null" in output


def test_diff_of_the_first_step_lists_it(chain: Chain) -> None:
    output = chain.run("diff", "1")
    assert "start of the chain" in output
    assert ["a.py", "20", "lines"] in [row.split() for row in output.splitlines()]
    assert "README" not in output


@pytest.mark.parametrize(("extra", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_diff_is_coloured_on_a_terminal(chain: Chain, extra: dict[str, str], coloured: bool) -> None:
    chain.write_from(2, "a.py", line(3, "value_3 = 33"))
    ours, theirs = pty.openpty()
    command = [sys.executable, PROGRAM, "--root", str(chain.root), "diff", "2"]
    subprocess.run(command, env=ENVIRONMENT | extra, stdout=theirs, check=True)
    os.close(theirs)
    output = ""
    with contextlib.suppress(OSError), os.fdopen(ours) as terminal:  # its end is an error, EIO
        for row in terminal:
            output += row
    assert "value_3 = 33" in output
    assert ("\x1b[" in output) is coloured


@pytest.mark.parametrize("number", ["0", "5"])
@pytest.mark.parametrize("command", ["diff", "carry"])
def test_a_step_that_is_not_there(chain: Chain, command: str, number: str) -> None:
    assert chain.run(command, number, code=1) == f"chain: there is no step {number}; the steps here are 1 to 4\n"


def test_steps_must_be_without_a_gap(chain: Chain) -> None:
    (chain.root / "step03_three").rename(chain.root / "step05_three")
    assert "step04_four stands where step 03 should" in chain.run("check", code=1)


def test_no_steps_at_all(tmp_path: Path) -> None:
    (tmp_path / "step01_one" / "__pycache__").mkdir(parents=True)
    assert "there are no steps" in Chain(tmp_path, steps=0).run("check", code=1)


# --- carry ---


def test_carry_copies_what_is_the_same_everywhere(chain: Chain) -> None:
    chain.commit()
    edited = line(5, "value_5 = 'edited'")
    chain.write("step01_one/a.py", edited)
    chain.write("step01_one/README.md", "# a better chapter\n")
    chain.run("carry", "1")
    for step in NAMES:
        assert chain.read(f"{step}/a.py") == edited
    assert chain.read("step02_two/README.md") == "# step02_two\n", "chapters are not carried"


def test_carry_from_the_middle_leaves_earlier_steps_alone(chain: Chain) -> None:
    chain.commit()
    chain.write("step03_three/a.py", line(5, "value_5 = 'edited'"))
    chain.run("carry", "03")
    assert chain.read("step04_four/a.py") == line(5, "value_5 = 'edited'")
    assert chain.read("step01_one/a.py") == chain.read("step02_two/a.py") == BASE


def test_carry_through_a_step_that_changed_lines_nearby(chain: Chain) -> None:
    own = line(8, "value_8 = 'of step 2'")
    chain.write_from(2, "a.py", own)
    chain.write_from(4, "a.py", line(3, "value_3 = 'of step 4'", own))
    chain.commit()
    chain.write("step01_one/a.py", line(6, "value_6 = 'edited'\nadded = 1"))
    chain.run("carry", "1")
    assert chain.read("step02_two/a.py") == line(6, "value_6 = 'edited'\nadded = 1", own)
    assert chain.read("step03_three/a.py") == chain.read("step02_two/a.py")
    assert chain.read("step04_four/a.py") == line(3, "value_3 = 'of step 4'", chain.read("step02_two/a.py"))


def test_each_step_is_compared_with_its_own_past(chain: Chain) -> None:
    """What step 2 added or changed long ago is no edit, even where step 3 has changed the same lines since."""
    for number in (2, 3, 4):
        chain.write_from(number, "a.py", line(8, f"value_8 = 'of step {number}'"))
        chain.write_from(number, "b.py", f"b = {number}\n")
    chain.commit()
    chain.write("step01_one/a.py", line(2, "value_2 = 'edited'"))
    chain.run("carry", "1")
    for number, step in enumerate(NAMES[1:], start=2):
        own = line(8, f"value_8 = 'of step {number}'")
        assert chain.read(f"{step}/a.py") == line(2, "value_2 = 'edited'", own)
        assert chain.read(f"{step}/b.py") == f"b = {number}\n"


def test_carry_twice_changes_nothing_more(chain: Chain) -> None:
    chain.write_from(3, "a.py", line(8, "value_8 = 'of step 3'"))
    chain.commit()
    chain.write("step01_one/a.py", line(2, "value_2 = 'edited'"))
    chain.run("carry", "1")
    first = [chain.read(f"{step}/a.py") for step in NAMES]
    chain.run("carry", "1")
    assert [chain.read(f"{step}/a.py") for step in NAMES] == first


def test_carry_a_new_file(chain: Chain) -> None:
    chain.commit()
    chain.write("step02_two/net/b.py", "b = 1\n")
    chain.write("step02_two/net/__init__.py", "")
    (chain.root / "step02_two/net/b.py").chmod(0o755)
    chain.run("carry", "2")
    for step in NAMES[1:]:
        assert chain.read(f"{step}/net/b.py") == "b = 1\n"
        assert (chain.root / step / "net/b.py").stat().st_mode & 0o777 == 0o755
        assert chain.read(f"{step}/net/__init__.py") == ""
    assert not (chain.root / "step01_one/net").exists()


def test_carry_a_new_file_that_a_later_step_has_otherwise(chain: Chain) -> None:
    chain.write_from(3, "b.py", "b = 3\n")
    chain.commit()
    chain.write("step01_one/b.py", "b = 1\n")
    assert "CONFLICT  step03_three/b.py" in chain.run("carry", "1", code=1)
    assert chain.read("step02_two/b.py") == "b = 1\n"
    assert "b = 3\n" in chain.read("step03_three/b.py")
    assert "b = 1\n" in chain.read("step03_three/b.py")


def test_carry_a_removed_file(chain: Chain) -> None:
    chain.write_from(1, "b.py", "b = 1\n")
    chain.commit()
    (chain.root / "step02_two/b.py").unlink()
    chain.run("carry", "2")
    assert [(chain.root / step / "b.py").exists() for step in NAMES] == [True, False, False, False]


def test_what_was_done_by_hand_already_is_no_conflict(chain: Chain) -> None:
    chain.write_from(1, "b.py", "b = 1\n")
    chain.commit()
    for step in NAMES[:2]:
        (chain.root / step / "b.py").unlink()
        chain.write(f"{step}/c.py", "c = 1\n")
    chain.run("carry", "1")
    assert not (chain.root / "step04_four/b.py").exists()
    assert chain.read("step04_four/c.py") == "c = 1\n"


def test_a_removed_file_that_a_later_step_changed_is_kept_until_a_person_decides(chain: Chain) -> None:
    chain.write_from(1, "b.py", "b = 1\n")
    chain.write_from(3, "b.py", "b = 3\n")
    chain.commit()
    (chain.root / "step01_one/b.py").unlink()
    assert "CONFLICT  step03_three/b.py: removed in step02_two" in chain.run("carry", "1", code=1)
    assert not (chain.root / "step02_two/b.py").exists()
    assert chain.read("step03_three/b.py") == chain.read("step04_four/b.py") == "b = 3\n"
    (chain.root / "step03_three/b.py").unlink()
    chain.run("carry", "3")
    assert not (chain.root / "step04_four/b.py").exists()


def test_an_edit_of_a_file_that_a_later_step_lacks(chain: Chain) -> None:
    (chain.root / "step02_two/a.py").unlink()
    chain.write("step02_two/c.py", "c = 1\n")
    chain.commit()
    chain.write("step01_one/a.py", line(1, "value_1 = 'edited'"))
    assert "CONFLICT  step02_two/a.py: edited in step01_one" in chain.run("carry", "1", code=1)
    assert chain.read("step03_three/a.py") == BASE


def test_a_file_that_cannot_be_merged_is_left_as_it_was(chain: Chain) -> None:
    chain.write_from(1, "data", "\0 one\n")
    chain.write_from(2, "data", "\0 two\n")
    chain.commit()
    chain.write("step01_one/data", "\0 edited\n")
    assert "CONFLICT  step02_two/data: git cannot merge" in chain.run("carry", "1", code=1)
    assert chain.read("step02_two/data") == "\0 two\n"


def conflict(chain: Chain) -> str:
    """Steps 1 and 2 in conflict about line 8 of a.py; b.py to be carried beside it. Returns what the tool said."""
    chain.write_from(1, "b.py", BASE)
    chain.write_from(2, "a.py", line(8, "value_8 = 'of step 2'"))
    chain.write_from(3, "a.py", line(2, "value_2 = 'of step 3'", chain.read("step02_two/a.py")))
    chain.commit()
    chain.write("step01_one/a.py", line(8, "value_8 = 'edited'"))
    chain.write("step01_one/b.py", line(1, "value_1 = 'edited'"))
    return chain.run("carry", "1", code=1)


RESOLVED = line(8, "value_8 = 'edited, of step 2'")
RESOLVED_3 = line(2, "value_2 = 'of step 3'", RESOLVED)


def test_a_conflict_stops_and_says_how_to_go_on(chain: Chain) -> None:
    output = conflict(chain)
    assert "CONFLICT  step02_two/a.py" in output
    assert "python3 tools/chain.py carry 2 --base " in output
    marked = chain.read("step02_two/a.py")
    assert "<<<<<<< step02_two\nvalue_8 = 'of step 2'\n||||||| step01_one before the edit\nvalue_8 = 8\n" in marked
    assert "=======\nvalue_8 = 'edited'\n>>>>>>> step01_one\n" in marked
    assert chain.read("step02_two/b.py") == line(1, "value_1 = 'edited'"), "the step's other files are done"
    assert chain.read("step03_three/b.py") == BASE, "later steps are not"
    for number in ("1", "2"):
        assert "step02_two/a.py still has conflict markers" in chain.run("carry", number, code=1)
    assert chain.read("step02_two/a.py") == marked
    assert "step02_two/a.py:8: does not parse" in chain.run("check", code=1)


def test_going_on_after_a_conflict(chain: Chain) -> None:
    conflict(chain)
    chain.write("step02_two/a.py", RESOLVED)
    chain.run("carry", "2")
    assert chain.read("step03_three/a.py") == chain.read("step04_four/a.py") == RESOLVED_3
    assert chain.read("step03_three/b.py") == chain.read("step04_four/b.py") == line(1, "value_1 = 'edited'")


def test_going_on_as_told_is_right_even_after_a_commit(chain: Chain) -> None:
    command = conflict(chain).split("tools/chain.py ")[1].split()
    chain.write("step02_two/a.py", RESOLVED)
    chain.commit()
    chain.run(*command)
    assert chain.read("step03_three/a.py") == chain.read("step04_four/a.py") == RESOLVED_3
    assert chain.read("step04_four/b.py") == line(1, "value_1 = 'edited'")


def test_an_edit_that_is_committed_already(chain: Chain) -> None:
    chain.write_from(3, "a.py", line(8, "value_8 = 'of step 3'"))
    chain.commit()
    chain.write("step01_one/a.py", line(2, "value_2 = 'edited'"))
    chain.commit()
    assert "step01_one is as in HEAD: nothing to carry" in chain.run("carry", "1")
    assert chain.read("step02_two/a.py") == BASE
    chain.run("carry", "1", "--base", "HEAD~1")
    assert chain.read("step02_two/a.py") == line(2, "value_2 = 'edited'")
    assert chain.read("step04_four/a.py") == line(2, "value_2 = 'edited'", line(8, "value_8 = 'of step 3'"))


def test_edits_elsewhere_that_are_not_committed_are_kept(chain: Chain) -> None:
    chain.write_from(1, "b.py", BASE)
    chain.commit()
    chain.write("step01_one/a.py", line(2, "value_2 = 'edited'"))
    chain.write("step03_three/a.py", line(9, "value_9 = 'being written'"))
    chain.write("step03_three/b.py", line(9, "value_9 = 'being written'"))
    chain.write("step03_three/c.py", "c = 'being written'\n")
    chain.run("carry", "1")
    assert chain.read("step02_two/a.py") == line(2, "value_2 = 'edited'")
    assert chain.read("step02_two/b.py") == BASE
    assert not (chain.root / "step02_two/c.py").exists()
    for step in NAMES[2:]:
        assert chain.read(f"{step}/a.py") == line(2, "value_2 = 'edited'", line(9, "value_9 = 'being written'"))
        assert chain.read(f"{step}/b.py") == line(9, "value_9 = 'being written'")
        assert chain.read(f"{step}/c.py") == "c = 'being written'\n"


def test_a_step_that_was_never_committed_is_refused_before_anything_is_written(chain: Chain) -> None:
    (chain.root / "step03_three").rename(chain.root / "later")
    (chain.root / "step04_four").rename(chain.root / "last")
    chain.commit()
    (chain.root / "later").rename(chain.root / "step03_three")
    chain.write("step01_one/a.py", line(2, "value_2 = 'edited'"))
    (chain.root / "last").rename(chain.root / "step04_four")
    assert "step03_three is not in " in chain.run("carry", "1", code=1)
    assert chain.read("step02_two/a.py") == BASE
    (chain.root / "step04_four").rename(chain.root / "last")
    chain.run("carry", "1")  # the last step's own edits go nowhere, so it need not be known
    assert chain.read("step03_three/a.py") == line(2, "value_2 = 'edited'")


def test_carry_from_the_last_step(chain: Chain) -> None:
    chain.commit()
    assert "step04_four is the last step" in chain.run("carry", "4")


def test_carry_needs_a_commit_that_exists(chain: Chain) -> None:
    chain.commit()
    assert "chain: git rev-parse: " in chain.run("carry", "1", "--base", "nonsense", code=1)


# --- check ---


def test_check_of_a_good_chain(chain: Chain) -> None:
    chain.write_from(2, "b.py", '"""Doc."""\n\n# comment\nimport os, json\nfrom compression import zstd\n')
    chain.write_from(2, "a.py", line(3, "value_3 = 33\nmore = 1"))
    chain.write_from(3, "net/deep.py", "import typer.main\nfrom typer import Option\nfrom backports import zstd\n")
    chain.write_from(3, "c.py", "from . import b\nfrom .b import os\n")
    chain.write_from(3, "net/__init__.py", "from .. import b\nfrom ..b import os\n")
    chain.write("step04_four/own.py", "from step04_four import b\n")
    rows = [row.split() for row in chain.run("check").splitlines()]
    assert rows == [
        ["step", "lines", "altered", "added", "new", "new", "rooms"],
        ["step01_one", f"20/{SIZES[1]}"],
        ["step02_two", f"25/{SIZES[2]}", "1/25", "1/150", "4/650", "b"],
        ["step03_three", f"32/{SIZES[3]}", "0/25", "0/150", "7/650", "c", "net/"],
        ["step04_four", f"33/{SIZES[4]}", "0/25", "0/150", "1/650", "own"],
    ]


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import requests", "requests is not in the step"),
        ("import os, requests.api", "requests.api is not in the step"),
        ("from requests import get", "requests.get is not in the step"),
        ("def late():\n    import requests", "requests is not in the step"),
        ("import step01_one.a", "step01_one.a is not in the step"),
        ("from step01_one import a", "step01_one.a is not in the step"),
        ("import tests.runtime", "tests.runtime is not in the step"),
        ("from tools import chain", "tools.chain is not in the step"),
        ("import backports", "backports is not in the step"),
        ("import click", "click is not in the step"),
        ("from .. import step01_one", "this relative import leads out of the step"),
        ("from ..step01_one.a import x", "this relative import leads out of the step"),
        ("def broken(:", "does not parse"),
    ],
)
def test_check_finds_a_foreign_import(chain: Chain, source: str, finding: str) -> None:
    chain.write("step02_two/b.py", f"\n{source}\n")
    chain.write_from(3, "b.py", "\n")
    found = [row for row in chain.run("check", code=1).splitlines() if row.startswith("step02_two/b.py:")]
    assert len(found) == 1
    assert found[0].split(": ", 1)[1].startswith(finding)
    assert found[0].split(":")[1] == ("3" if "late" in source else "2")


def test_check_finds_a_relative_import_that_leads_out_of_a_folder_inside(chain: Chain) -> None:
    chain.write("step04_four/net/b.py", "from ..a import x\nfrom ...step01_one import a\n")
    assert "step04_four/net/b.py:2: this relative import" in chain.run("check", code=1)


def test_check_finds_a_dropped_file(chain: Chain) -> None:
    chain.write("step01_one/b.py", "\n")
    chain.write("step02_two/b.py", "\n")
    (chain.root / "step04_four/README.md").unlink()
    output = chain.run("check", code=1)
    assert output.splitlines()[-1] == "step03_three/b.py: dropped, but step02_two has it"
    assert output.count("dropped") == 1


@pytest.mark.parametrize(("changed", "code"), [(25, 0), (26, 1)])
def test_check_holds_a_step_to_its_budget(chain: Chain, changed: int, code: int) -> None:
    """A changed line counts once, a removed one too; files that are no code are free."""
    source = "".join(f"a_{number} = {number}\n" for number in range(40))
    chain.write_from(1, "a.py", source)
    chain.write_from(1, "b.py", source)
    chain.write_from(1, "notes.txt", source)
    lines = source.splitlines(keepends=True)
    chain.write_from(3, "a.py", "".join(["new = 1\n"] * 30 + lines[20:]))
    chain.write_from(3, "b.py", "".join(f"b_{line}" for line in lines[: changed - 20]) + "".join(lines[changed - 20 :]))
    chain.write_from(3, "notes.txt", "other\n")
    output = chain.run("check", code=code)
    finding = f"step03_three: {changed} lines altered against step02_two; 25 are allowed"
    assert (finding in output.splitlines()) == bool(code)
    assert f"{changed}/25" in output


def test_check_tells_every_finding(chain: Chain) -> None:
    chain.write("step01_one/b.py", "import requests\nimport numpy\n")
    output = chain.run("check", code=1)
    assert "step01_one/b.py:1: requests" in output
    assert "step01_one/b.py:2: numpy" in output
    assert "step02_two/b.py: dropped" in output


@pytest.mark.parametrize(("lines", "code"), [(150, 0), (151, 1)])
def test_check_holds_a_step_to_what_it_may_add(chain: Chain, lines: int, code: int) -> None:
    chain.write_from(3, "a.py", BASE + "more = 1\n" * lines)
    output = chain.run("check", code=code)
    assert ("step03_three: 151 lines added against step02_two; 150 are allowed" in output) == bool(code)


@pytest.mark.parametrize(("lines", "code"), [(650, 0), (651, 1)])
def test_check_holds_a_step_to_what_it_may_bring(chain: Chain, lines: int, code: int) -> None:
    chain.write_from(2, "b.py", "b = 1\n\n" * lines)
    output = chain.run("check", code=code)
    assert ("step02_two: 651 lines new against step01_one; 650 are allowed" in output) == bool(code)


@pytest.mark.parametrize(("more", "code"), [(0, 0), (1, 1)])
def test_check_holds_a_step_to_its_size(chain: Chain, more: int, code: int) -> None:
    size = SIZES[1]
    chain.write_from(1, "b.py", "b = 1\n" * (size - 20 + more))
    output = chain.run("check", code=code)
    assert (f"step01_one: {size + 1} lines; {size} are allowed" in output) == bool(code)


def test_check_without_a_pyproject(chain: Chain) -> None:
    (chain.root / "pyproject.toml").unlink()
    assert "pyproject.toml" in chain.run("check", code=1)


def test_the_real_steps() -> None:
    done = subprocess.run([sys.executable, PROGRAM, "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
