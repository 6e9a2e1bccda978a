"""Build one website from the chapters, to be read without the Internet: `make book`.

Sphinx makes it, with the theme Furo, and MyST reads the chapters. The reasons: MyST follows CommonMark, so a page looks
here as it looks in the repository (lists, `<details>`, anchors), and the chapters need nothing that is only for the
website. Sphinx's search and Furo's pages work from files on a disk, without a server. All three are maintained.

Each edition, English and Chinese, is a website of its own, so that search finds one language. Both are in one folder
and link to each other. `prepare` writes a folder of Markdown for each; `build` calls Sphinx. Sphinx's settings are in
tools/site/conf.py.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [] if str(PROJECT) in sys.path else [str(PROJECT)]

from tools import chain  # noqa: E402

CACHE = PROJECT / ".cache" / "book"
MERMAID = PROJECT / ".cache" / "mermaid.min.js"  # draws the diagrams; tools/setup.sh book fetches it
BESIDE = ("CONTRIBUTING.md", "tools/TEACHING.md", "tests/README.md", "tests/vm/README.md")  # if they are there
LEXERS = {".py": "python", ".sh": "bash", ".toml": "toml", ".yaml": "yaml", ".json": "json", ".md": "markdown"}
SWITCH = re.compile(r"^(\*\*English\*\*|\[English\]).* \| .*\n", re.MULTILINE)  # the line below a chapter's title
FENCE = re.compile(r"^( *)(`{3,})(\w*) *(.*)\n((?:.*\n)*?)\1\2 *$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s]+)\)")
CHINESE_CHARACTER = r"[\u2e80-\u9fff\uff00-\uffef]"
BROKEN_CHINESE = re.compile(rf"(?<={CHINESE_CHARACTER})\n *(?={CHINESE_CHARACTER})")


@dataclass(frozen=True, eq=False)
class Edition:
    """One language, and the words which the website adds to the chapters in it."""

    name: str
    sphinx: str  # the language's name in Sphinx
    readme: str
    folder: str  # on the website; ends with / unless it is the root
    title: str
    chapters: str
    all_changes: str
    beside: str
    changes: str
    first: str
    lead: str
    first_lead: str
    kinds: dict[str, str]
    notes: dict[str, str]  # what the words behind ```console mean


ENGLISH = Edition(
    name="English",
    sphinx="en",
    readme="README.md",
    folder="",
    title="Docker in nine steps",
    chapters="The nine steps",
    all_changes="What changes",
    beside="More",
    changes="What changes in step {}",
    first="The code of step 1",
    lead="All that step {0} changes, as `make diff STEP={0}` shows it. New files are shown whole. What is not shown is "
    "the same as in the step before, byte for byte. [Back to the chapter](index.md).",
    first_lead="No step comes before this one, so here is all of it. [Back to the chapter](index.md).",
    kinds={"new": "new", "changed": "changed", "removed": "removed"},
    notes={
        "cgroup=1": "on a machine with cgroup version 1",
        "cgroup=2": "on a machine with cgroup version 2",
        "terminal=2": "in a second terminal",
    },
)
CHINESE = Edition(
    name="中文",
    sphinx="zh_CN",
    readme="README.zh.md",
    folder="zh/",
    title="九步写 Docker",
    chapters="九个步骤",
    all_changes="每一步的改动",
    beside="其他",
    changes="第 {} 步的改动",
    first="第 1 步的代码",
    lead="第 {0} 步的全部改动，与 `make diff STEP={0}` 显示的相同。新文件整个列出；没有列出的文件与上一步逐字节相同。"
    "[回到这一章](index.md)。",
    first_lead="前面没有别的步骤，所以这里列出全部代码。[回到这一章](index.md)。",
    kinds={"new": "新文件", "changed": "有改动", "removed": "已删除"},
    notes={
        "cgroup=1": "在使用 cgroup v1 的机器上",
        "cgroup=2": "在使用 cgroup v2 的机器上",
        "terminal=2": "在第二个终端里",
    },
)
EDITIONS = (ENGLISH, CHINESE)


@dataclass
class Book:
    """The repository. It says for each file which page of which edition the file becomes."""

    root: Path
    steps: list[Path]
    pages: dict[Edition, dict[str, str]]
    sources: set[str] = field(default_factory=set)  # files that are no chapters, but linked to
    missing: list[str] = field(default_factory=list)  # links that lead nowhere


def find_pages(root: Path, steps: list[Path], edition: Edition) -> dict[str, str]:
    """Return the page of each file of an edition, by the file's path. A README becomes the index of its folder."""
    names = [edition.readme, *(f"{step.name}/{edition.readme}" for step in steps)]
    names += BESIDE if edition is ENGLISH else ()
    paths = [PurePosixPath(name) for name in names if (root / name).is_file()]
    return {
        str(path): str(path.with_name("index") if path.name == edition.readme else path.with_suffix(""))
        for path in paths
    }


# --- a page ---


def rewrite(text: str, edition: Edition, link: Callable[[re.Match[str]], str]) -> str:
    """Return a chapter as the website needs it. `link` rewrites a link, `fence` a block of code."""
    done, end = "", 0
    for match in FENCE.finditer(text):
        done += prose(text[end : match.start()], link) + fence(match, edition)
        end = match.end()
    return done + prose(text[end:], link)


def prose(text: str, link: Callable[[re.Match[str]], str]) -> str:
    """Return text that is not code. A browser shows a line end as a space; between Chinese words there must be none."""
    return LINK.sub(link, BROKEN_CHINESE.sub("", text))


def fence(match: re.Match[str], edition: Edition) -> str:
    """Return a block of code. A diagram is drawn. The words after the language become the block's title."""
    indent, ticks, language, note, code = match.groups()
    if language == "mermaid":
        return f'{indent}<pre class="mermaid">\n{html.escape(code)}{indent}</pre>\n'
    if not note:
        return match[0]
    title = " ".join(edition.notes.get(word, word.removeprefix("file=")) for word in note.split())
    return f"{indent}{ticks}{{code-block}} {language}\n{indent}:caption: {title}\n\n{code}{indent}{ticks}"


def rewrite_link(book: Book, edition: Edition, name: str, match: re.Match[str]) -> str:
    """Return a link in a file of the repository as it must be on the page of this file."""
    image, text, target = match.groups()
    if re.match(r"#|\w+:", target):
        return match[0]
    path, mark, anchor = target.partition("#")
    aim = os.path.normpath(PurePosixPath(name).parent / path)
    if aim.endswith(CHINESE.readme) and aim not in book.pages[CHINESE]:  # not translated yet
        aim = aim.replace(CHINESE.readme, ENGLISH.readme)
    here = book.pages[edition][name]
    if aim.endswith(".svg"):  # shown here, or opened by itself
        return f"{image}[{text}](/{aim})"
    if aim in book.pages[edition]:
        return f"[{text}](/{book.pages[edition][aim]}.md{mark}{anchor})"
    for other in EDITIONS:
        if aim in book.pages[other]:
            return f'<a href="{address(edition, here, other, book.pages[other][aim])}{mark}{anchor}">{text}</a>'
    if not (book.root / aim).is_file():
        book.missing.append(f"{name}: {target}")
        return text
    book.sources.add(aim)
    return f'<a href="{address(edition, here, ENGLISH, "source/" + aim)}">{text}</a>'


def address(edition: Edition, page: str, other: Edition, target: str) -> str:
    """Return the address of a page of any edition, relative to a page of this one."""
    return os.path.relpath(f"{other.folder}{target}.html", PurePosixPath(edition.folder + page).parent)


def to_page(book: Book, edition: Edition, name: str) -> str:
    """Return the Markdown that Sphinx gets for a file of the repository."""
    page = book.pages[edition][name]
    text = SWITCH.sub("", (book.root / name).read_text())
    title, _, rest = rewrite(text, edition, partial(rewrite_link, book, edition, name)).partition("\n")
    links = [
        f'<a href="{address(edition, page, other, page)}">{other.name}</a>'
        for other in EDITIONS
        if other is not edition and page in book.pages[other].values()
    ]
    if step := re.match(r"step(\d\d)_", page):
        links.append(f"[{changes_title(edition, int(step[1]))}](changes.md)")
    return f"{title}\n\n{' · '.join(links)}\n{rest}"


# --- what a step changes ---


def changes_title(edition: Edition, number: int) -> str:
    return edition.first if number == 1 else edition.changes.format(number)


def changes_page(book: Book, edition: Edition, number: int) -> str:
    """Return a page with what `make diff` shows: new files as a whole, other files as a diff, each below its name."""
    new, old = book.steps[number - 1], book.steps[number - 2]
    command = [sys.executable, f"{PROJECT}/tools/chain.py", "--root", str(book.root), "diff", str(number), "--stat"]
    summary = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    lead = edition.first_lead if number == 1 else edition.lead.format(number)
    parts = [f"# {changes_title(edition, number)}", lead, block("text", summary)]
    if number == 1:
        parts += [
            f"## `{name}`\n\n{block(lexer(name), content.decode())}" for name, content in chain.contents(new).items()
        ]
    for change in chain.changes(old, new) if number > 1 else []:
        parts.append(f"## `{change.name}` ({edition.kinds[change.kind]})")
        if change.kind == "new":
            parts.append(block(lexer(change.name), (new / change.name).read_text()))
        else:
            parts.append(block("diff", chain.git_diff(old, new, change.name, "--no-color")))
    return "\n\n".join(parts) + "\n"


def block(language: str, code: str) -> str:
    return f"``````{language}\n{code.rstrip()}\n``````" if code.strip() else "(empty)"


def lexer(name: str) -> str:
    return LEXERS.get(PurePosixPath(name).suffix, "text")


# --- the folder of an edition ---


def contents(book: Book, edition: Edition) -> str:
    """Return the tree of pages, for the end of the first page."""
    pages = list(book.pages[edition].values())
    chapters = [page for page in pages if page.startswith("step")]
    changes = [f"{changes_title(edition, int(page[4:6]))} <{PurePosixPath(page).parent}/changes>" for page in chapters]
    parts = [
        (edition.chapters, chapters),
        (edition.all_changes, changes),
        (edition.beside, [page for page in pages if page != "index" and page not in chapters]),
    ]
    trees = [
        block("{toctree}", "\n".join([":hidden:", f":caption: {title}", "", *tree])) for title, tree in parts if tree
    ]
    return "\n\n".join(trees) + "\n"


def prepare(root: Path, into: Path) -> Book:
    """Write a folder of Markdown for each edition, `into`/en and `into`/zh_CN. Report links that lead nowhere."""
    shutil.rmtree(into, ignore_errors=True)
    steps = chain.find_steps(root)
    book = Book(root, steps, {edition: find_pages(root, steps, edition) for edition in EDITIONS})
    for edition in EDITIONS:
        pages = {page: to_page(book, edition, name) for name, page in book.pages[edition].items()}
        for number, step in enumerate(steps, start=1):
            if f"{step.name}/index" in pages:
                pages[f"{step.name}/changes"] = changes_page(book, edition, number)
        pages["index"] = pages.get("index", f"# {edition.title}\n") + "\n" + contents(book, edition)
        write(into / edition.sphinx, pages)
        for image in root.glob("*/*.svg"):
            copy = into / edition.sphinx / image.relative_to(root)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(image, copy)
    write(into / ENGLISH.sphinx, {f"source/{name}": source_page(root, name) for name in book.sources})
    return book


def source_page(root: Path, name: str) -> str:
    return f"---\norphan: true\n---\n# `{name}`\n\n{block(lexer(name), (root / name).read_text())}\n"


def write(folder: Path, pages: dict[str, str]) -> None:
    for page, text in pages.items():
        file = folder / f"{page}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


# --- Sphinx ---


def build(source: Path, into: Path) -> None:
    """Call Sphinx for each edition. A warning of Sphinx's, such as a link that leads nowhere, is an error."""
    shutil.rmtree(into, ignore_errors=True)
    for edition in EDITIONS:
        # To the template: each other edition with the way there, and the pages that it has.
        languages = [
            [other.name, os.path.relpath("/" + other.folder, "/" + edition.folder), pages_in(source / other.sphinx)]
            for other in EDITIONS
            if other is not edition
        ]
        settings = {"language": edition.sphinx, "project": edition.title, "html_title": edition.title}
        command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
        command += [f"-D{name}={value}" for name, value in settings.items()]
        command += [
            "--conf-dir",
            str(PROJECT / "tools" / "site"),
            "--doctree-dir",
            f"{source}/.doctrees/{edition.sphinx}",
        ]
        command += [str(source / edition.sphinx), str(into / edition.folder)]
        environment = {
            **os.environ,
            "BOOK_LANGUAGES": json.dumps(languages),
            "BOOK_MERMAID": str(MERMAID),
            "BOOK_CACHE": str(source),
        }
        if subprocess.run(command, env=environment).returncode:
            sys.exit("book: Sphinx is not content, for the reasons above")


def pages_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.md"))


def main() -> None:
    if not find_spec("furo") or not find_spec("myst_parser") or not MERMAID.exists():
        sys.exit("book: what makes the website is not installed. To have it: make book, or tools/setup.sh book")
    book = prepare(PROJECT, CACHE / "source")
    for link in book.missing:
        print(f"book: left out, as it leads nowhere: {link}", file=sys.stderr)
    build(CACHE / "source", CACHE / "html")
    print(f"The book: file://{CACHE}/html/index.html")


if __name__ == "__main__":
    main()
