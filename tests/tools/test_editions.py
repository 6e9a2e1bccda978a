"""The English and the Chinese edition say the same: nobody can change one of them alone without being told."""

import re
from pathlib import Path

import pytest

from tests.support.session import REPOSITORY

ENGLISH = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("step[0-9][0-9]_*/README.md"))]
FENCE = re.compile(r"^( *)(`{3,})([^\n]*)\n(.*?)^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
TRANSLATED = ("text", "mermaid")  # pictures have words in them; code and transcripts are the same in both
SWITCH = {"README.md": "**English** | [中文](README.zh.md)", "README.zh.md": "[English](README.md) | **中文**"}


def chinese(english: Path) -> Path:
    return english.with_name("README.zh.md")


def blocks(text: str) -> list[tuple[str, str]]:
    """What stands between fences: its kind, and its lines where these are not translated."""
    found = []
    for _, _, kind, content in FENCE.findall(text):
        found.append((kind, "" if kind in TRANSLATED else content))
    return found


def prose(text: str) -> str:
    """All but code, transcripts and the line that leads to the other edition."""
    return FENCE.sub("", "\n".join(line for line in text.split("\n") if line not in SWITCH.values()))


def headings(text: str) -> list[str]:
    """Their levels and numbers: `## 3.`."""
    return re.findall(r"^(#+ (?:\d+\.)?)", prose(text), re.MULTILINE)


def links(text: str) -> list[str]:
    """Where they lead, as in the English edition. Anchors are words of a heading, so they are translated."""
    targets = re.findall(r"\]\(([^)]+)\)", prose(text))
    return [re.sub(r"#.*", "#", target.replace("README.zh.md", "README.md")) for target in targets]


def folds(text: str) -> list[str]:
    return re.findall(r"</?details>|</?summary>", prose(text))


def lists(text: str) -> list[str]:
    """Items of lists and rows of tables: how deep they stand, and by what sign they begin."""
    return re.findall(r"^( *(?:[-*]|\d+\.) |\|)", prose(text), re.MULTILINE)


@pytest.fixture(params=ENGLISH, ids=lambda path: path.parent.name if path.parent != REPOSITORY else "top")
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    english: Path = request.param
    assert chinese(english).exists(), f"{english} has no Chinese edition"
    return english.read_text(), chinese(english).read_text()


def test_the_switch_stands_at_the_top(pair: tuple[str, str]) -> None:
    """Below the heading."""
    assert [text.split("\n")[2] for text in pair] == [*SWITCH.values()]


def test_same_code_and_transcripts(pair: tuple[str, str]) -> None:
    english, translated = map(blocks, pair)
    for ours, theirs in zip(english, translated, strict=False):
        assert theirs == ours
    assert len(translated) == len(english)


@pytest.mark.parametrize("what", [headings, links, folds, lists], ids=lambda what: what.__name__)
def test_same_structure(pair: tuple[str, str], what: object) -> None:
    assert callable(what)
    english, translated = map(what, pair)
    assert translated == english


def test_it_is_chinese(pair: tuple[str, str]) -> None:
    """Every paragraph of some length has been translated."""
    for paragraph in re.split(r"\n\s*\n", re.sub(r"<[^>]+>", "", prose(pair[1]))):
        words = re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "", paragraph)
        if len(words.split()) > 12:
            assert re.search("[一-鿿]", words), f"not translated: {paragraph}"
