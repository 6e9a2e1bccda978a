"""Draw what `--explain` has printed as a timeline: a column for each process, and each line in its place.

    python -m step01_namespaces run --explain --hostname box hostname 2> run.txt
    python tools/timeline.py run.txt > run.html

A click on a line opens its man page; with the mouse on it, you see the whole line. Nothing is loaded from elsewhere.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated

import typer

MAN = "https://man7.org/linux/man-pages"
LETTER, LINE, GAP = 7.3, 16, 8  # pixels: a letter's width, a line's height, between two rows
COLUMN, MARGIN = 46, 24  # letters that fit into a column; pixels around
TALLEST = 3  # lines of one row
STYLE = """
  svg { color-scheme: light dark; }
  .page { fill: #ffffff; } .life { stroke: #b6c2cf; stroke-width: 2; } .runs { stroke: #2da44e; stroke-width: 6; }
  .who { fill: #0b5394; } .name { fill: #ffffff; font-weight: bold; } .box { fill: #f3f6f9; stroke: #d0d7de; }
  .failed { fill: #ffebe9; stroke: #cf222e; } text { fill: #1f2328; font: 12px ui-monospace, monospace; }
  .call { fill: #0b5394; font-weight: bold; } .note { font-style: italic; }
  .arrow { stroke: #57606a; fill: none; } .waits { stroke-dasharray: 5 4; } #head { fill: #57606a; }
  a { text-decoration: none; } a:hover .box { stroke: #0b5394; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } .life { stroke: #3d444d; } .box { fill: #161b22; stroke: #30363d; }
    .failed { fill: #3c1618; stroke: #f85149; } text { fill: #e6edf3; } .call { fill: #79c0ff; }
    .who { fill: #1f6feb; } .name { fill: #ffffff; } .arrow { stroke: #9198a1; } #head { fill: #9198a1; }
  }
"""
ARROW = """
<defs><marker id="arrow" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="8" markerHeight="8" orient="auto">
<path id="head" d="M0 0L10 5L0 10z"/></marker></defs>"""


@dataclass(frozen=True)
class Event:
    """One line of --explain. `child` is the process that it starts, if it is clone3(2) or clone(2)."""

    who: str
    text: str
    child: str = ""

    @property
    def name(self) -> str:
        """The system call, or the first word of a command."""
        return re.split(r"[( ]", self.text, maxsplit=1)[0]

    @property
    def failed(self) -> bool:
        return re.search(r"\) = -1 E[A-Z]+", self.text) is not None


# --- what the lines tell ---


def read(lines: Iterable[str]) -> list[Event]:
    """Return the lines of --explain. The container's own output may be between them."""
    found = [match.groups() for line in lines if (match := re.match(r"\[([a-z]+)\] (\S.*)", line))]
    names = [who for who, _ in found]
    return [Event(who, text, child_of(names, at) if is_clone(text) else "") for at, (who, text) in enumerate(found)]


def is_clone(text: str) -> bool:
    return re.match(r"clone3?\(.*\) = \d+$", text) is not None


def child_of(names: list[str], at: int) -> str:
    """Return the process that line `at` starts: the next new name, else the next name of another process."""
    later = [who for who in names[at + 1 :] if who != names[at]]
    return next((who for who in later if who not in names[:at]), later[0] if later else "")


def manual(text: str) -> str:
    """Return the address of the man page that a line belongs to, or nothing."""
    page = ""
    if match := re.match(r"(\w+)\(", text):
        page = f"man2/{match[1]}.2"
    elif match := re.match(r"(?:nsenter \S+ )?ip (?:-\S+ )*(link|addr|route)", text):
        page = f"man8/ip-{match[1].replace('addr', 'address')}.8"
    elif "nft " in text:
        page = "man8/nft.8"
    elif match := re.search(r"> (/\S+)", text):
        page = page_of_file(match[1])
    return f"{MAN}/{page}.html" if page else ""


def page_of_file(path: str) -> str:
    if "/cgroup/" in path:
        return "man7/cgroups.7"
    return "man7/user_namespaces.7" if re.search(r"/([ug]id_map|setgroups)$", path) else "man5/proc.5"


# --- drawing ---


def shorten(text: str) -> list[str]:
    """Cut a line into parts that fit into a column, with … for the rest. Success, `= 0`, is left out."""
    text = re.sub(r"\) = 0$", ")", text)
    room = COLUMN - len(re.split(r"\W", text, maxsplit=1)[0]) - len('("",')
    text = re.sub(r'"([^"]+)"', lambda match: f'"{cut(match[1], room)}"', text)
    lines = [""]
    for piece in re.findall(r"[^ ,|]*[ ,|]+|[^ ,|]+", text):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > COLUMN:
            lines.append("")
        lines[-1] += piece
    lines = [cut(line.rstrip(), COLUMN) for line in lines]
    if len(lines) > TALLEST:
        lines = [*lines[: TALLEST - 1], lines[TALLEST - 1][: COLUMN - 2].rstrip() + " …"]
        if error := re.search(r" = -1 E[A-Z]+", text):  # what went wrong must be seen
            lines[-1] = lines[-1][: COLUMN - 2 - len(error[0])].rstrip(" …") + " …" + error[0]
    return lines


def cut(text: str, most: int) -> str:
    """Leave out the middle of a text that is longer than `most`. Of a path, both ends are interesting."""
    return text if len(text) <= most else text[: most // 5] + "…" + text[-(most - most // 5 - 1) :]


class Picture:
    """The picture as it grows from top to bottom: `y` is where the next row comes."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.width = COLUMN * LETTER + 2 * GAP  # of a column
        self.y = MARGIN
        self.parts: list[str] = []
        self.born: dict[str, float] = {}
        self.runs: dict[str, float] = {}  # since when a process is the container's command

    def left(self, who: str) -> float:
        return MARGIN + self.names.index(who) * (self.width + 2 * MARGIN)

    def middle(self, who: str) -> float:
        return self.left(who) + self.width / 2

    def head(self, who: str, y: float) -> None:
        """Draw the name of a process where it begins."""
        self.born[who] = y
        self.parts.append(
            f'<rect class="who" x="{self.middle(who) - 50:.0f}" y="{y:.0f}" width="100" height="24" rx="12"/>'
            f'<text class="name" x="{self.middle(who):.0f}" y="{y + 16:.0f}" text-anchor="middle">{escape(who)}</text>'
        )

    def row(self, event: Event) -> float:
        """Draw a line of --explain as a box. Returns the height of its middle."""
        lines = shorten(event.text)
        x, height = self.left(event.who), len(lines) * LINE + GAP
        title = f"<title>{escape(event.text)}</title>"
        box = f'<rect class="{"failed box" if event.failed else "box"}" x="{x:.0f}" y="{self.y}" rx="4"'
        box += f' width="{self.width:.0f}" height="{height}"/>'
        words = escape(lines[0]).replace(event.name, f'<tspan class="call">{event.name}</tspan>', 1)
        texts = [f'<text x="{x + GAP:.0f}" y="{self.y + LINE}">{words}</text>']
        for number, line in enumerate(lines[1:], start=2):
            texts.append(f'<text x="{x + GAP:.0f}" y="{self.y + number * LINE}">{escape(line)}</text>')
        drawn = title + box + "".join(texts)
        page = manual(event.text)
        # A picture alone is XML, where a link has no target; in a new tab, so that the timeline stays.
        self.parts.append(f'<a href="{page}" target="_blank">{drawn}</a>' if page else f"<g>{drawn}</g>")
        middle = self.y + height / 2
        self.y += height + GAP
        return middle

    def arrow(self, start: float, end: float, y: float, note: str, kind: str = "") -> None:
        self.parts.append(
            f'<path class="arrow {kind}" d="M{start:.0f} {y:.0f}H{end:.0f}" marker-end="url(#arrow)"/>'
            f'<text class="note" x="{(start + end) / 2:.0f}" y="{y - 5:.0f}" text-anchor="middle">{escape(note)}</text>'
        )

    def lives(self) -> Iterator[str]:
        """Return a line for each process from its beginning on. It is thick where the container's command runs."""
        for who, y in self.born.items():
            yield f'<path class="life" d="M{self.middle(who):.0f} {y:.0f}V{self.y}"/>'
        for who, y in self.runs.items():
            yield f'<path class="runs" d="M{self.middle(who):.0f} {y:.0f}V{self.y}"/>'

    def finish(self) -> str:
        width, height = 2 * MARGIN + len(self.names) * (self.width + 2 * MARGIN) - 2 * MARGIN, self.y + MARGIN
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}">',
            f"<style>{STYLE}</style>{ARROW}",
            f'<rect class="page" width="{width:.0f}" height="{height}" rx="8"/>',
            *self.lives(),
            *self.parts,
            "</svg>\n",
        ])  # fmt: skip


def draw(events: list[Event]) -> str:
    """Return the timeline as SVG. A child waits for its parent's "go", so this is drawn at its first line."""
    picture = Picture(list(dict.fromkeys(event.who for event in events)))
    parents: dict[str, str] = {}  # of children that have started and wait for "go"
    for event in events:
        if event.who in parents:
            told(picture, parents.pop(event.who), event.who)
        elif event.who not in picture.born:
            picture.head(event.who, picture.y)
            picture.y += 24 + 2 * GAP
        middle = picture.row(event)
        if event.child:
            parents[event.child] = event.who
            started(picture, event.who, event.child, middle)
        if match := re.match(r'execve\("(?:[^"]*/)?([^"]+)"', event.text):
            becomes(picture, event.who, match[1])
    return picture.finish()


def started(picture: Picture, parent: str, child: str, y: float) -> None:
    to_the_right = picture.names.index(child) > picture.names.index(parent)
    start = picture.left(parent) + (picture.width if to_the_right else 0)
    if child in picture.born:  # another one of the same name
        picture.arrow(start, picture.middle(child), y, "starts it")
        return
    picture.head(child, y - 12)
    picture.arrow(start, picture.middle(child) - 50, y, "starts it")
    picture.y = max(picture.y, int(y) + 12 + GAP)


def told(picture: Picture, parent: str, child: str) -> None:
    picture.y += LINE
    picture.arrow(picture.middle(parent), picture.middle(child), picture.y, "go", "waits")
    picture.y += 2 * GAP


def becomes(picture: Picture, who: str, command: str) -> None:
    picture.runs[who] = picture.y - GAP
    x, y = picture.middle(who) + 2 * GAP, picture.y + LINE
    picture.parts.append(f'<text class="note" x="{x:.0f}" y="{y}">{escape(command)} runs</text>')
    picture.y += 4 * GAP


def page(title: str, picture: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font-family: system-ui, sans-serif; margin: 1rem; overflow-x: auto; }}
</style>
<h1>{escape(title)}</h1>
<p>A column for each process, from top to bottom as it happened. Point at a line to see all of it; it leads to its man
page. Green: from here on the process is the container's command.</p>
{picture}</html>
"""


def main(
    file: Annotated[Path | None, typer.Argument(help="What --explain has printed. Without it, standard input.")] = None,
    svg: Annotated[bool, typer.Option("--svg", help="Print the picture alone, not a page.")] = False,
) -> None:
    """Draw what --explain has printed as a timeline, and print it as one HTML page."""
    try:
        text = file.read_text(errors="replace") if file else sys.stdin.buffer.read().decode(errors="replace")
    except OSError as error:
        sys.exit(f"timeline: {file}: {error.strerror}")
    events = read(re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]", "", text).splitlines())
    if not events:
        sys.exit(
            "timeline: no line of --explain here; they begin with [runtime] or [init], on standard error (2> run.txt)"
        )
    picture = draw(events)
    print(picture if svg else page(file.name if file else "Timeline", picture), end="")


if __name__ == "__main__":
    typer.run(main)
