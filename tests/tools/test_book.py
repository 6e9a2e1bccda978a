"""tools/book.py: the Markdown it prepares, from a tiny course; with MYDOCKER_TEST_BOOK=all the website, in a browser.

The browser is Debian's Chromium, led by Playwright: tools/setup.sh book-test installs both. It reads the website from
the disk, as a reader without the Internet does.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tools import book

REPOSITORY = Path(__file__).resolve().parents[2]
COURSE = {
    "README.md": "# Course\n\n**English** | [中文](README.zh.md)\n\n[1](step01_one/README.md)\n[license](LICENSE)\n"
    "![demo](tools/demo.svg) [by itself](tools/demo.svg)\n",
    "README.zh.md": "# 课程\n\n[English](README.md) | **中文**\n\n[怎样修改](CONTRIBUTING.md)\n",
    "CONTRIBUTING.md": "# Changes\n\n[nowhere](no/such.md) and [the book](https://example.org/a.md)\n",
    "LICENSE": "do as you like\n",
    "tools/demo.svg": "<svg/>\n",
    "step01_one/README.md": "# One\n\n**English** | [中文](README.zh.md)\n\n"
    "Next: [two](../step02_two/README.md#the-end).\n",
    "step01_one/README.zh.md": "# 一\n\n[English](README.md) | **中文**\n\n"
    "容器有\n自己的根。下一步是[二](../step02_two/README.zh.md)。\n",
    "step01_one/a.py": "print(1)\n",
    "step02_two/README.md": "# Two\n\n```python file=jail.py\nx = '[no](link)'\n```\n\n- item\n\n"
    "  ```console cgroup=2\n  # ls\n  ```\n\n```mermaid\nA-->B\n```\n\n## The end\n",
    "step02_two/a.py": "print(2)\n",
    "step02_two/b.py": "print('new')\n",
}


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[tuple[Path, book.Book]]:
    for name, text in COURSE.items():
        file = tmp_path / "course" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    yield tmp_path / "pages", book.prepare(tmp_path / "course", tmp_path / "pages")


def test_links_lead_to_pages(pages: tuple[Path, book.Book]) -> None:
    folder, made = pages
    index = (folder / "en/index.md").read_text()
    assert "[1](/step01_one/index.md)" in index
    assert '<a href="source/LICENSE.html">license</a>' in index
    assert "do as you like" in (folder / "en/source/LICENSE.md").read_text()
    assert "![demo](/tools/demo.svg) [by itself](/tools/demo.svg)" in index
    assert (folder / "en/tools/demo.svg").exists()
    assert "[two](/step02_two/index.md#the-end)" in (folder / "en/step01_one/index.md").read_text()
    assert made.missing == ["CONTRIBUTING.md: no/such.md"]
    assert "nowhere and [the book](https://example.org/a.md)" in (folder / "en/CONTRIBUTING.md").read_text()


def test_editions_link_to_each_other(pages: tuple[Path, book.Book]) -> None:
    """What is not translated is linked to in English."""
    folder, _ = pages
    english, chinese = ((folder / code / "step01_one/index.md").read_text() for code in ("en", "zh_CN"))
    assert '<a href="../zh/step01_one/index.html">中文</a> · [The code of step 1](changes.md)' in english
    assert '<a href="../../step01_one/index.html">English</a> · [第 1 步的代码](changes.md)' in chinese
    assert '<a href="../../step02_two/index.html">二</a>' in chinese
    assert '<a href="../CONTRIBUTING.html">怎样修改</a>' in (folder / "zh_CN/index.md").read_text()
    assert "中文" not in (folder / "en/step02_two/index.md").read_text()
    assert not (folder / "zh_CN/step02_two").exists()
    assert "**English**" not in english


def test_chinese_lines_are_joined(pages: tuple[Path, book.Book]) -> None:
    assert "容器有自己的根" in (pages[0] / "zh_CN/step01_one/index.md").read_text()


def test_code(pages: tuple[Path, book.Book]) -> None:
    """A file's name and a kind of machine become titles, a diagram is left to Mermaid, code stays as it is."""
    text = (pages[0] / "en/step02_two/index.md").read_text()
    assert "```{code-block} python\n:caption: jail.py\n\nx = '[no](link)'\n```\n" in text
    assert "  ```{code-block} console\n  :caption: on a machine with cgroup version 2\n\n  # ls\n  ```\n" in text
    assert '<pre class="mermaid">\nA--&gt;B\n</pre>' in text


def test_what_changes(pages: tuple[Path, book.Book]) -> None:
    text = (pages[0] / "en/step02_two/changes.md").read_text()
    assert "# What changes in step 2\n" in text
    assert "## `b.py` (new)\n\n``````python\nprint('new')\n``````" in text
    assert "## `a.py` (changed)\n\n``````diff\n" in text
    assert "-print(1)\n+print(2)\n" in text
    assert "README" not in text.replace("without README.md, the chapter itself", "")
    assert "## `a.py`\n\n``````python\nprint(1)\n" in (pages[0] / "en/step01_one/changes.md").read_text()


def test_order_of_pages(pages: tuple[Path, book.Book]) -> None:
    """Previous and next lead from chapter to chapter."""
    assert "step01_one/index\nstep02_two/index\n" in (pages[0] / "en/index.md").read_text()


def test_the_course(tmp_path: Path) -> None:
    """The real one: every chapter has its page, and no link of a chapter leads nowhere."""
    made = book.prepare(REPOSITORY, tmp_path)
    for step in made.steps:
        assert (tmp_path / "en" / step.name / "index.md").exists()
        assert (tmp_path / "en" / step.name / "changes.md").exists()
    assert [link for link in made.missing if link.startswith("step")] == []


# --- the website, in a browser ---

in_full = pytest.mark.skipif(os.environ.get("MYDOCKER_TEST_BOOK") != "all", reason="only with MYDOCKER_TEST_BOOK=all")
CHROMIUM = Path("/usr/bin/chromium")
PHONE, DESKTOP = (390, 844), (1280, 900)
# What one page tells of itself.
LOOK = """() => {
    const wanted = node => { const url = new URL(node.href); return [url.href.split("#")[0], url.hash.slice(1)]; };
    const text = document.querySelector("article").cloneNode(true);
    for (const code of text.querySelectorAll("pre, code")) code.remove();
    return {
        title: document.title,
        links: [...document.querySelectorAll("a[href]")].map(wanted),
        ids: [...document.querySelectorAll("[id]")].map(node => node.id),
        images: [...document.images].filter(image => !image.naturalWidth).map(image => image.src),
        undrawn: [...document.querySelectorAll("pre.mermaid")].filter(
            node => !node.querySelector("svg")?.getBoundingClientRect().height || /syntax error/i.test(node.textContent)
        ).length,
        diagrams: document.querySelectorAll("pre.mermaid svg").length,
        raw: text.textContent.match(/```|\\*\\*|\\]\\(|<\\/?(details|summary)/g) || [],
        folded: document.querySelectorAll("details:not([open]) > summary").length,
        code_in_folds: document.querySelectorAll("details .highlight").length,
        wide: document.documentElement.scrollWidth - innerWidth,
    };
}"""


@pytest.fixture(scope="module")
def website(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("sphinx", "furo", "myst_parser", "jieba"):
        pytest.importorskip(module)
    if not book.MERMAID.exists():
        pytest.skip("Mermaid is not here: tools/setup.sh book-test")
    folder = tmp_path_factory.mktemp("book")
    book.prepare(REPOSITORY, folder / "source")
    book.build(folder / "source", folder / "html")
    return folder / "html"


class Browser:
    """A browser, and what it has complained of or asked for since it was last looked at."""

    def __init__(self, chromium: Any, size: tuple[int, int] = DESKTOP, **options: str) -> None:
        self.complaints: list[str] = []
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        self.page = context.new_page()
        self.page.on("console", self.said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self.not_loaded)
        self.page.on("request", self.asked_for)

    def said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def not_loaded(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # not one that the browser gave up to go to the next page
            self.complaints.append(f"not loaded: {request.url}")

    def asked_for(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"from elsewhere: {request.url}")

    def look(self, file: Path) -> dict[str, Any]:
        self.complaints.clear()
        self.page.goto(file.as_uri())
        if 'class="mermaid"' in file.read_text():
            self.page.wait_for_selector("pre.mermaid svg")
            self.page.wait_for_timeout(500)
        seen: dict[str, Any] = self.page.evaluate(LOOK)
        return seen


@pytest.fixture
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("chromium is not here: tools/setup.sh book-test")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@in_full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_page(website: Path, chromium: Any, size: tuple[int, int]) -> None:
    browser = Browser(chromium, size)
    files = sorted(website.rglob("*.html"))
    seen, wrong = {}, []
    for file in files:
        name = str(file.relative_to(website))
        page = browser.look(file)
        seen[file.as_uri()] = page
        wrong += [f"{name}: {complaint}" for complaint in browser.complaints]
        wrong += [f"{name}: image not shown: {image}" for image in page["images"]]
        wrong += [f"{name}: Markdown not rendered: {page['raw']}"] if page["raw"] else []
        wrong += [f"{name}: {page['undrawn']} diagrams not drawn"] if page["undrawn"] else []
        wrong += [f"{name}: {page['wide']} pixels too wide"] if page["wide"] > 0 else []
    for uri, page in seen.items():
        name = uri.removeprefix(website.as_uri())
        for target, anchor in page["links"]:
            if target.startswith(("http:", "https:")):
                continue
            if target not in seen:
                if not (target.endswith(".svg") and Path(unquote(urlsplit(target).path)).exists()):
                    wrong.append(f"{name}: link to {target}, which is not there")
            elif anchor and unquote(anchor) not in seen[target]["ids"]:
                wrong.append(f"{name}: link to {target}#{anchor}: no such anchor")
    assert not wrong, "\n".join(wrong)
    chapters = {
        website / folder / readme.parent.name / "index.html": readme.read_text()
        for folder, name in (("", "README.md"), ("zh", "README.zh.md"))
        for readme in REPOSITORY.glob(f"step[0-9][0-9]_*/{name}")
    }
    for file, text in chapters.items():
        page = seen[file.as_uri()]
        assert page["folded"] == text.count("<details>"), file
        assert page["diagrams"] == text.count("```mermaid"), file
    assert sum(page["code_in_folds"] for page in seen.values()) > 50


@in_full
def test_search(website: Path, chromium: Any) -> None:
    """In Chinese also by words that the text has, but not one after the other."""
    browser = Browser(chromium)
    for folder, words, found in [
        ("", "pivot_root", "Step 3"),
        ("", "capability bounding", "Step 3"),
        ("zh", "cgroup", "第 2 步"),
        ("zh", "命名空间", "第 1 步"),
        ("zh", "镜像挂载容器", "第 3 步"),
    ]:
        browser.page.goto((website / folder / "index.html").as_uri())
        browser.page.fill("input[name=q]", words)
        browser.page.press("input[name=q]", "Enter")
        browser.page.click(f"#search-results li a:has-text('{found}') >> nth=0")
        browser.page.wait_for_selector(f"h1:has-text('{found}')")
        assert browser.complaints == [], words


@in_full
def test_dark(website: Path, chromium: Any) -> None:
    """As the system is set, or by the button; the diagrams are drawn anew."""
    browser = Browser(chromium, color_scheme="dark")
    browser.look(website / "step01_namespaces" / "index.html")
    colour = """() => [getComputedStyle(document.body).backgroundColor,
        document.querySelector("pre.mermaid style").textContent]"""
    dark = browser.page.evaluate(colour)
    browser.page.click(".theme-toggle-content button, .theme-toggle >> visible=true")
    browser.page.wait_for_timeout(1000)
    light = browser.page.evaluate(colour)
    assert dark[0] != light[0]
    assert re.sub(r"#mermaid-\d+", "", dark[1]) != re.sub(r"#mermaid-\d+", "", light[1])
    assert browser.complaints == []


@in_full
def test_previous_and_next(website: Path, chromium: Any) -> None:
    browser = Browser(chromium)
    browser.look(website / "step03_rootfs_chroot" / "index.html")
    browser.page.click("a.next-page")
    assert browser.page.title().startswith("Step 4")
    browser.page.click("a.prev-page")
    browser.page.click("text=What changes in step 3 >> nth=0")
    assert browser.page.title().startswith("What changes in step 3")
    browser.page.click("text=Back to the chapter")
    browser.page.click("article >> text=中文")
    assert browser.page.title().startswith("第 3 步")
    browser.page.click(".languages >> text=English")
    assert browser.page.title().startswith("Step 3")
