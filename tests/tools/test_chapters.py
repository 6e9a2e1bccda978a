"""Every step's chapter, `README.md`: its transcripts are typed again, its code is looked up. See chapters.py."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support import chapters
from tests.support.session import REPOSITORY

FOUND = {int(path.parent.name[4:6]): path for path in sorted(REPOSITORY.glob("step[0-9][0-9]_*/README.md"))}
CHAPTERS = [
    pytest.param(path, id=path.parent.name, marks=pytest.mark.step(step, until=step)) for step, path in FOUND.items()
]
ours = pytest.mark.skipif("config.option.runtime", reason="the chapters are about our own steps")
typed = pytest.mark.skipif(os.geteuid() != 0, reason="a chapter's transcripts are typed by root")


@ours
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_stands_in_the_step(chapter: Path) -> None:
    complaints = list(chapters.code(chapter))
    assert not complaints, "\n\n".join(complaints)


@ours
@typed
@pytest.mark.timeout(300)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_transcripts_are_true(chapter: Path) -> None:
    complaints = list(chapters.transcripts(chapter))
    assert not complaints, "\n\n".join(complaints)


@ours
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_new_function_is_named(chapter: Path) -> None:
    """The chapter walks through it, or lists it under "Read it yourself"."""
    assert chapters.unnamed(chapter) == []


@ours
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_main_text_is_short(chapter: Path) -> None:
    """Ten minutes. What goes deeper folds."""
    assert chapters.words(chapter.read_text()) <= 2000


# ---- the check itself ------------------------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A repository of two small steps. Its chapters are written by the tests."""
    place = tmp_path / "state" / "book"
    old, new = place / "step01_one", place / "step02_two"
    for step in (old, new):
        step.mkdir(parents=True)
    (old / "main.py").write_text('def greet() -> str:\n    if True:\n        name = "you"\n\n    return name\n')
    (new / "main.py").write_text('def greet() -> str:\n    if True:\n        name = "all"\n\n    return name\n')
    (new / "more.py").write_text("class More:\n    def one(self) -> int:\n        return 1\n")
    return place


def written(book: Path, text: str, step: str = "step02_two") -> Path:
    chapter = book / step / "README.md"
    chapter.write_text(text)
    return chapter


def block(kind: str, *lines: str) -> str:
    return "\n".join([f"```{kind}", *lines, "```", ""])


def test_blocks_are_found_in_lists_and_with_longer_fences() -> None:
    text = "a\n- b\n  ```console terminal=2 cgroup=1\n  # c\n    d\n  ```\n````text\n```python\n````\n"
    first, second = chapters.blocks(text)
    assert (first.kind, first.options, first.first) == ("console", {"terminal": "2", "cgroup": "1"}, 4)
    assert first.lines == ["# c", "  d"]
    assert (second.kind, second.lines) == ("text", ["```python"])


def test_commands_are_told_from_output() -> None:
    lines = ["$ cat <<END", "> one", "> END", "> two", "/ # id -u", "0", "root@box:/# exit", "~ # ", "# x"]
    text = [(entry.prompt, entry.typed, entry.expected) for entry in chapters.entries(chapters.Block("", {}, 1, lines))]
    assert text == [
        ("$ ", ["cat <<END", "one", "END", "two"], []),
        ("/ # ", ["id -u"], ["0"]),
        ("root@box:/# ", ["exit"], []),
        ("~ # ", [""], []),
        ("# ", ["x"], []),
    ]


@pytest.mark.parametrize(
    ("expected", "got", "marks"),
    [
        (["a", "b"], ["a", "b"], "  "),
        (["a …"], ["a 1"], " "),
        (["a … c …"], ["a b c d"], " "),
        (["a … c"], ["a b d"], "-+"),
        (["a"], ["a b"], "-+"),
        (["a", "…", "z"], ["a", "b", "c", "z"], " ……  "),
        (["…", "z"], ["z"], "  "),
        (["…", "b", "…"], ["a", "b", "b", "c"], "   ………"),
        (["a", "b", "c"], ["a", "c"], " - "),
        (["a", "c"], ["a", "b", "c"], " + "),
        ([], ["a"], "+"),
        (["(.*)"], ["x"], "-+"),
    ],
)
def test_what_differs_is_told(expected: list[str], got: list[str], marks: str) -> None:
    assert sorted(mark for mark, _ in chapters.align(expected, got)) == sorted(marks)


def test_what_a_terminal_shows() -> None:
    assert chapters.screen("one\r\ntwo\x1b[1m!\x1b[0m\r\n") == "one\ntwo!\n"
    assert chapters.screen("10 %\r20 %\r\x1b[2Kdone\r\na\tb\bc") == "done\na       c"
    assert chapters.screen("bar 1\nbar 2\x1b[1A\r\x1b[Jend") == "end"


def test_code_that_stands_in_the_step(book: Path) -> None:
    whole = block("python", "def greet() -> str:", "    if True:", '        name = "all"', "", "    return name")
    gap = block("python", "def greet() -> str:", "    # …", "    return name")
    indented = block("python", "def one(self) -> int:", "    return 1")
    own = block("python file=own.py", "print('not of the step')")
    free = block("text", "anything") + block("sh", "anything")
    assert list(chapters.code(written(book, whole + gap + indented + own + free))) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["def greet() -> int:"],
        ["def greet() -> str:", "    return name"],  # a gap that is not shown
        ["def greet() -> str:", "    # …", "    return 1"],  # of another file
        ["    return name", "…", "def greet() -> str:"],  # the other way round
        ['    name = "you"'],  # of the step before
    ],
)
def test_code_that_does_not_stand_in_the_step(book: Path, lines: list[str]) -> None:
    (complaint,) = chapters.code(written(book, block("python", *lines)))
    assert "step02_two/README.md:2: this does not stand in step02_two" in complaint


def test_changes(book: Path) -> None:
    right = block("diff", " def greet() -> str:", '-        name = "you"', '+        name = "all"')
    assert list(chapters.code(written(book, right))) == []
    wrong = block("diff", '+        name = "all"', '-        name = "you"') + block("diff", " def nobody():")
    assert len(list(chapters.code(written(book, wrong)))) == 2


def test_words_are_those_of_the_main_text() -> None:
    text = "# One two\n\n- three `four`\n" + block("python", "five") + "  ```text\n  six\n  ```\n| seven | - |\n"
    folded = "<details>\n<summary>no</summary>\n\nno\n" + block("text", "</details> no") + "</details>\n"
    assert chapters.words(text + folded + "eight\n" + folded + block("sh", "no")) == 6


def test_what_is_new_has_to_be_named(book: Path) -> None:
    (book / "step02_two" / "main.py").write_text("def greet() -> None:\n    def inner() -> None: ...\n")
    (book / "step02_two" / "more.py").write_text(
        "class More:\n    def __init__(self) -> None: ...\n    def one(self) -> int:\n        return 1\n"
    )
    nothing = "inner one More\n" + block("console", "# More", "inner one") + block("python file=own.py", "inner")
    assert chapters.unnamed(written(book, nothing)) == ["main.py: greet.inner", "more.py: More", "more.py: More.one"]
    assert chapters.unnamed(written(book, "`inner` of `More.\none()`")) == []
    assert chapters.unnamed(written(book, block("python", "def inner", "class More", "def one"))) == []
    assert chapters.unnamed(written(book, "`More`", "step01_one")) == ["main.py: greet"]


@typed
def test_a_session_goes_through_the_whole_chapter(book: Path) -> None:
    text = (
        block("console", "# cd step01_one; word=one", "$ ls", "main.py")
        + block("python file=own.py", "print('mine')")
        + block("console", "$ echo $word; pwd", "one", "…/step01_one", "# python ../own.py", "mine")
        + block("console", "# echo out; echo err >&2; printf end", "out", "err", "end")
        + block("console", "# cat <<END", "> two", "> END", "two", "# tty; stty size", "…", "50 100")
        + block("console", "# ls -A /var/lib/mydocker", "# ls -A ~", "# sleep 60", "^C", "# cat", "^D")
        + block("console", "# false; echo $?", "1", "# touch /var/lib/mydocker/x here")
        + block("console terminal=2", "# ls /var/lib/mydocker", "x", "# basename $PWD; echo -$word-", "…", "--")
    )
    before = sorted(path.name for path in (book / "step01_one").iterdir())
    assert list(chapters.transcripts(written(book, text), repository=book)) == []
    assert sorted(path.name for path in (book / "step01_one").iterdir()) == before
    assert not Path("/var/lib/mydocker/x").exists()


@typed
def test_a_shell_within(book: Path) -> None:
    """Another shell at the same terminal, which echoes what is typed, as one in a container does."""
    shell = "env -i PATH=$PATH setsid --ctty --wait script --quiet --command 'sh -i' /dev/null"
    text = (
        block("console", f"# {shell}", "# echo $((6 * 7))", "42")
        + block("console terminal=2", "# echo elsewhere", "elsewhere")
        + block("console", "# for i in 1 2", "> do echo $i", "> done", "1", "2", "# exit", "# echo $PS2-", "-")
    )
    assert list(chapters.transcripts(written(book, text), repository=book)) == []


@typed
def test_what_differs_is_shown_and_put_right(book: Path) -> None:
    text = "before\n\n" + block("console", "# echo $((1 + 1)); echo b3f0c1d2e4a5; echo z", "3", "z") + "\nafter\n"
    chapter = written(book, text)
    (complaint,) = chapters.transcripts(chapter, repository=book, update=True)
    assert complaint.splitlines()[1:] == [
        "    # echo $((1 + 1)); echo b3f0c1d2e4a5; echo z",
        "  - 3",
        "  + 2",
        "  + b3f0c1d2e4a5",
        "    z",
    ]
    assert chapter.read_text() == text.replace("3\nz\n", "2\n…\nz\n")
    assert list(chapters.transcripts(chapter, repository=book)) == []


@typed
@pytest.mark.parametrize("command", ["echo so far; sleep 60", "yes so far"])
def test_a_command_that_does_not_end(book: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(chapters, "PATIENCE", 1.0)
    (complaint,) = chapters.transcripts(written(book, block("console", f"# {command}")), repository=book)
    assert "no prompt after 1 seconds" in complaint
    assert "so far" in complaint


@typed
def test_the_prompt_of_a_shell_must_be_its_own(book: Path) -> None:
    shell = "# env -i PATH=$PATH PS1='/ # ' sh -i"
    text = block("console", shell, "~ # echo here", "here", "/ # exit")
    (complaint,) = chapters.transcripts(written(book, text), repository=book)
    assert complaint.splitlines()[2:4] == ["  - ~ # echo here", "  + / # echo here"]
    assert shutil.which("script"), "util-linux is needed by the tests above"
