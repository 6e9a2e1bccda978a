"""Check a chapter: the transcripts in a `README.md` are typed again and compared, and its code must be
in the files of that step.

    python tests/support/chapters.py step03_rootfs_chroot/README.md             compare, and show what differs
    python tests/support/chapters.py --update step03_rootfs_chroot/README.md    write what really happened into the file

`--update` keeps lines with `…` that are still true, and writes ids as `…`. The first word after the ``` of a block says
how it is checked:

`console`   A line that begins with a prompt is typed: `$ ` or `# ` on the host (as root either way); `> ` goes on with
            the line before. The lines up to the next prompt must appear, standard error included. `…` in a line stands
            for any text; a line that is only `…` stands for any number of lines.
            All blocks of a chapter are typed into one bash, in a copy of the repository. `python` is one that has our
            dependencies, and /var/lib/mydocker is empty. The bash has a terminal of 100 columns, as a reader has. So
            `run -it` works: if it opens a shell, the next lines go to that shell, and must begin with its own prompt:
            `/ # `, `~ # `, `root@box:/# ` … until `exit`. A line `^C` or `^D` presses that key.
    `console terminal=2`   typed into a second terminal, to look from the host at what runs in the first.
    `console cgroup=2`     only where the machine has this version of cgroups (1: also beside version 2).
`python`    These lines are in one of the step's files, one after another, perhaps with more indentation.
            A line `…` or `# …` stands for any number of lines.
    `python file=NAME`     the reader's own program: it is written to that file, and a later console block runs it.
`diff`      Its lines with + and - are in the output of `make diff`, in this order; the other lines are in the step.

Others (`text`, `mermaid`, `sh` …) are free. Transcripts need root: a mount namespace hides the machine's own
/var/lib/mydocker.
"""

import argparse
import ast
import fcntl
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ANYTHING = "…"
PROMPT = re.compile(r"(?:[/~]\S* |\S+@\S+|(?:ba)?sh-[\d.]+)?[#$] ")
MORE = re.compile("> ")
KEYS = {"^C": b"\x03", "^D": b"\x04"}
ROWS, COLUMNS = 50, 100
PATIENCE = 60.0  # seconds for one command
PAUSE = 0.3  # seconds of silence after which what looks like a prompt is one; and before a key is pressed
CHANCE = re.compile(r"/tmp/chapter-\w+/repository|\b[0-9a-f]{12}\b")  # other at each run
READY = "\x1e"  # bash's own prompt while it works for us: a character that no program prints


# ---- the text --------------------------------------------------------------------------------------------------------


@dataclass
class Block:
    """One ```-block. `lines` are without the fences; `first` is the number of its first line in the file, from 1."""

    kind: str
    options: dict[str, str]
    first: int
    lines: list[str]
    indent: str = ""


@dataclass
class Entry:
    """One command of a console block: `typed` is the command with its continuation lines, `expected` its output."""

    prompt: str
    typed: list[str]
    expected: list[str] = field(default_factory=list)


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    block, fence = None, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if block is None:
            if opening := re.match(r"( *)(`{3,})\s*(\w*)\s*(.*)", line):
                indent, fence, kind, rest = opening.groups()
                block = Block(kind, dict(re.findall(r"(\w+)=(\S+)", rest)), number + 1, [], indent)
        elif line.strip() == fence:
            found.append(block)
            block = None
        else:
            block.lines.append(line.removeprefix(block.indent))
    return found


def entries(block: Block) -> list[Entry]:
    found: list[Entry] = []
    for line in block.lines:
        if prompt := PROMPT.match(line):
            found.append(Entry(prompt[0], [line[prompt.end() :]]))
        elif not found:
            raise Stuck("a console block begins with a command: `$ …` or `# …`")
        elif line.startswith("> ") and not found[-1].expected:
            found[-1].typed.append(line[2:])
        else:
            found[-1].expected.append(line)
    return found


# ---- expected and got ------------------------------------------------------------------------------------------------


def same(expected: str, got: str) -> bool:
    """Whether a line is as expected. `…` in `expected` stands for any text."""
    pattern = ".*".join(map(re.escape, expected.rstrip().split(ANYTHING)))
    return re.fullmatch(pattern, got.rstrip()) is not None


def align(expected: list[str], got: list[str]) -> list[tuple[str, str]]:
    """Return the shortest difference: each line is marked ` ` (as expected; shown as the chapter writes it), `-` (did
    not appear), `+` (appeared, but was not expected) or `…` (appeared where any text may)."""
    # cost[i][j]: how many lines differ between expected[i:] and got[j:]
    cost = [[0] * (len(got) + 1) for _ in range(len(expected) + 1)]
    for i in range(len(expected), -1, -1):
        for j in range(len(got), -1, -1):
            ways = []
            if i < len(expected):
                wild = expected[i].strip() == ANYTHING
                ways.append(cost[i + 1][j] + (not wild))
                if j < len(got) and wild:
                    ways.append(cost[i][j + 1])
                elif j < len(got) and same(expected[i], got[j]):
                    ways.append(cost[i + 1][j + 1])
            if j < len(got):
                ways.append(cost[i][j + 1] + 1)
            cost[i][j] = min(ways, default=0)
    way, i, j = [], 0, 0
    while i < len(expected) or j < len(got):
        wild = i < len(expected) and expected[i].strip() == ANYTHING
        if wild and j < len(got) and cost[i][j] == cost[i][j + 1]:
            way.append((ANYTHING, got[j]))
            j += 1
        elif wild and cost[i][j] == cost[i + 1][j]:
            way.append((" ", expected[i]))
            i += 1
        elif i < len(expected) and j < len(got) and not wild and same(expected[i], got[j]):
            way.append((" ", expected[i]))
            i, j = i + 1, j + 1
        elif i < len(expected) and cost[i][j] == cost[i + 1][j] + 1:
            way.append(("-", expected[i]))
            i += 1
        else:
            way.append(("+", got[j]))
            j += 1
    return way


# ---- the terminal ----------------------------------------------------------------------------------------------------


def screen(data: str) -> str:
    """Return what a terminal shows after this output: without overwritten text and colours (console_codes(4))."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for code in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|\x1b[()].|\x1b[^\[]|[^\x1b]", data, re.DOTALL):
        line = lines[row]
        if code == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append([])
        elif code == "\r":
            column = 0
        elif code == "\b":
            column = max(0, column - 1)
        elif code[0] == "\x1b":
            count = int(re.sub(r"\D", "", code) or 0)
            if code.endswith("K"):
                del line[0 if count == 2 else column :]
            elif code.endswith("J"):
                del line[column:], lines[row + 1 :]
            elif code.endswith("A"):
                row = max(0, row - (count or 1))
            elif code.endswith("C"):
                column += count or 1
            elif code.endswith("D"):
                column = max(0, column - (count or 1))
        elif code >= " " or code == "\t":
            text = code if code != "\t" else " " * (8 - column % 8)
            line += " " * (column - len(line))
            line[column : column + len(text)] = text
            column += len(text)
    return "\n".join("".join(line).rstrip() if line is not lines[-1] else "".join(line) for line in lines)


class Stuck(Exception):
    """The chapter cannot go on; the message says why."""


class Terminal:
    """A bash at a terminal. Its own prompt says that it is ready. For a shell inside it, we look for a usual prompt."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self.inner = ""  # the prompt of the shell within, "" while bash itself waits for a command
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        words = ["setsid", "--ctty", *command]
        self.bash = subprocess.Popen(words, cwd=directory, env=environment, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.until_prompt()

    def type(self, lines: list[str], keys: list[str]) -> list[str]:
        """Type a command, and press these keys while it runs. Returns the lines that appear."""
        within, data = self.inner, ""
        for number, line in enumerate(lines):
            if number and within:
                data += self.until_prompt(MORE)
            os.write(self.master, f"{line}\r".encode())
        for key in keys:
            time.sleep(PAUSE)
            os.write(self.master, KEYS[key])
        data += self.until_prompt()
        shown = screen(data.removesuffix(READY)).split("\n")
        if within:
            del shown[: len(lines)]  # it has echoed what was typed
        self.inner = "" if data.endswith(READY) else shown[-1]
        if self.inner or shown[-1:] == [""]:
            del shown[-1]
        if keys and shown[-1:] == [""]:
            del shown[-1]  # bash's new line after the ^C that would be seen
        return [line for line in shown if line not in KEYS]

    def until_prompt(self, looks: re.Pattern[str] = PROMPT) -> str:
        """Return all output up to the next prompt."""
        data, deadline = b"", time.monotonic() + PATIENCE
        while not data.endswith(READY.encode()):
            last = screen(data[-1000:].decode(errors="replace")).rpartition("\n")[2]
            prompt = looks.fullmatch(last) is not None
            if select.select([self.master], [], [], PAUSE if prompt else 1)[0]:
                try:
                    data += os.read(self.master, 65536)
                except OSError:  # EIO: nobody has the other end open
                    raise Stuck(f"the terminal's bash has ended:\n{screen(data.decode(errors='replace'))}") from None
            elif prompt:
                break
            if time.monotonic() > deadline:
                said = screen(data[-5000:].decode(errors="replace"))
                raise Stuck(f"no prompt after {PATIENCE:.0f} seconds; the terminal shows:\n{said}")
        return data.decode(errors="replace")

    def close(self) -> None:
        """Close the window: the programs in it get SIGHUP. A bash that does not end is killed."""
        os.close(self.master)
        try:
            self.bash.wait(5)
        except subprocess.TimeoutExpired:
            self.bash.kill()
            self.bash.wait()


class Reader:
    """A reader who works through a chapter, with a copy of the repository, an empty image store, 1 or 2 terminals."""

    # Our /var/lib/mydocker is empty and nobody else's; what is put there goes with the mount namespace. To make the
    # directory without making it on the host, /var/lib is first covered with a layer of memory.
    SETUP = """
        mount -t tmpfs chapter "$1" && mkdir "$1/upper" "$1/work" "$1/state" &&
        mount -t overlay -o "lowerdir=/var/lib,upperdir=$1/upper,workdir=$1/work" chapter /var/lib &&
        mkdir -p /var/lib/mydocker && mount --bind "$1/state" /var/lib/mydocker && shift && exec "$@"
    """

    def __init__(self, place: Path, repository: Path) -> None:
        self.home = place / "home"
        self.directory = place / "repository"
        self.mounts = place / "mounts"
        self.terminals: dict[str, Terminal] = {}
        for path in (self.home, self.mounts, place / "bin"):
            path.mkdir()
        (place / "prompt").write_text(f"PS1={READY} PS2= HISTFILE=\n")
        self.bash = ["bash", "--rcfile", str(place / "prompt"), "--noprofile", "--noediting", "-i"]
        unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
        shutil.copytree(repository, self.directory, symlinks=True, ignore=unwanted)
        search = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
        if not Path(sys.executable).with_name("python").exists():  # Debian's is called python3
            (place / "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            (place / "bin/python").chmod(0o755)
            search = f"{place / 'bin'}:{search}"
        self.environment = {
            "PATH": search,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "PAGER": "cat",
        }

    def terminal(self, name: str) -> Terminal:
        if name not in self.terminals:
            if self.terminals:  # into the namespace of the first, so that both have the same /var/lib/mydocker
                first = next(iter(self.terminals.values())).bash.pid
                into = ["nsenter", f"--mount=/proc/{first}/ns/mnt", "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh"]
                command = [*into, str(self.directory), *self.bash]
            else:
                private = ["unshare", "--mount", "--propagation", "private"]
                command = [*private, "sh", "-c", self.SETUP, "sh", str(self.mounts), *self.bash]
            self.terminals[name] = Terminal(command, self.directory, self.environment)
        return self.terminals[name]

    def close(self) -> None:
        for terminal in reversed(self.terminals.values()):
            terminal.close()


# ---- the three kinds of blocks ---------------------------------------------------------------------------------------


def transcript(block: Block, reader: Reader) -> list[tuple[str, str]]:
    """Type a console block again. Returns how its output differs from the written one, in the form of `align`."""
    terminal = reader.terminal(block.options.get("terminal", "1"))
    way: list[tuple[str, str]] = []
    for entry in entries(block):
        prompt = terminal.inner or (entry.prompt if entry.prompt in ("$ ", "# ") else "# ")
        keys = [line for line in entry.expected if line in KEYS]
        got = terminal.type(entry.typed, keys)
        if same(entry.prompt, prompt):
            way.append((" ", entry.prompt + entry.typed[0]))
        else:
            way += [("-", entry.prompt + entry.typed[0]), ("+", prompt + entry.typed[0])]
        way += [(" ", f"> {line}") for line in entry.typed[1:]]
        way += [(" ", key) for key in keys]
        way += align([line for line in entry.expected if line not in KEYS], got)
    return way


def machine_has(cgroup: str | None) -> bool:
    """Whether this machine has the cgroup version that a block asks for (`cgroup=1`, `cgroup=2`; None: any)."""
    kinds = {line.partition(" - ")[2].split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    return cgroup is None or cgroup == ("1" if "cgroup" in kinds else "2")


def code_missing(block: Block, step: Path) -> str:
    """Return which part of a python block is not in the step's files, or "" if all of it is."""
    wanted = textwrap.dedent("\n".join(block.lines)).rstrip().split("\n")
    best, missing = 0, ""
    for file in sorted(step.rglob("*.py")):
        source = file.read_text().split("\n")
        for start in range(len(source)):
            reached = follow(wanted, source, start)
            if reached == len(wanted):
                return ""
            if reached > best:
                best, missing = reached, f"{file.name} goes on differently after line {start + 1}; wanted: "
    near = f" ({missing}{wanted[best].strip()!r})" if missing else ""
    return f"this does not stand in {step.name}{near}"


def follow(wanted: list[str], source: list[str], start: int) -> int:
    """Return how many lines of `wanted` are found from `source[start]` on."""
    indent = source[start][: len(source[start]) - len(source[start].lstrip())]
    at, skipping = start, False
    for number, line in enumerate(wanted):
        if line.strip() in (ANYTHING, f"# {ANYTHING}"):
            skipping = True
            continue
        text = (indent + line).rstrip()
        here = next((i for i in range(at, len(source)) if source[i].rstrip() == text), -1) if skipping else at
        if not 0 <= here < len(source) or source[here].rstrip() != text:
            return number
        at, skipping = here + 1, False
    return len(wanted)


def change_missing(block: Block, step: Path) -> str:
    """Return which part of a diff block is not in this step's change, or "" if all of it is."""
    number = int(step.name[4:6])
    chain = [sys.executable, str(REPOSITORY / "tools/chain.py"), "--root", str(step.parent), "diff", str(number)]
    real = iter(subprocess.run(chain, capture_output=True, text=True, check=True).stdout.splitlines())
    sources = {line.rstrip() for file in step.rglob("*.py") for line in file.read_text().splitlines()}
    for line in block.lines:
        if line.startswith(("+++", "---", "@@", "diff ")) or line.strip() in (ANYTHING, ""):
            continue
        if line[0] in "+-":
            if line not in real:  # an iterator: looks on from where the last one was found
                return f"{line!r} is not in the change that {step.name} makes, or not in this place"
        elif line[1:].rstrip() not in sources:
            return f"{line!r} does not stand in {step.name}"
    return ""


# ---- what the reader is told -----------------------------------------------------------------------------------------


def words(text: str) -> int:
    """Count the words of a chapter's main text: without blocks, and without parts that fold (<details>)."""
    main = re.sub(r"<details>.*?</details>", "", outside_blocks(text), flags=re.DOTALL)
    return sum(1 for word in main.split() if re.search(r"\w", word))


def outside_blocks(text: str) -> str:
    lines: list[str | None] = list(text.splitlines())
    for block in blocks(text):
        for number in range(block.first - 2, min(block.first + len(block.lines), len(lines))):
            lines[number] = None
    return "\n".join(line for line in lines if line is not None)


def defined(step: Path) -> set[tuple[str, str]]:
    """Return each function, method and class of a step: its file, and its name after those of its outer scopes."""

    def within(node: ast.AST, outer: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            name = outer
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{outer}.{child.name}".removeprefix(".")
                yield name
            yield from within(child, name)

    files = {file.relative_to(step).as_posix(): file for file in step.rglob("*.py")}
    return {(path, name) for path, file in files.items() for name in within(ast.parse(file.read_text()), "")}


def unnamed(chapter: Path) -> list[str]:
    """Return what is new in this step, but not in its chapter, neither between backticks nor in a block of code."""
    step = chapter.parent
    before = step.parent.glob(f"step{int(step.name[4:6]) - 1:02}_*")  # none before the first
    new = defined(step).difference(*map(defined, before))
    text = chapter.read_text()
    ours = [block for block in blocks(text) if block.kind not in ("console", "sh") and "file" not in block.options]
    code = [line for block in ours for line in block.lines]
    told = set(re.findall(r"\w+", "\n".join(code + re.findall(r"`[^`]+`", outside_blocks(text)))))
    last = {(path, name): name.rpartition(".")[2] for path, name in new}
    return sorted(f"{path}: {name}" for (path, name), word in last.items() if word not in told and word[:2] != "__")


# ---- a whole chapter -------------------------------------------------------------------------------------------------


def code(chapter: Path) -> Iterator[str]:
    """Yield what is wrong with the code that the chapter quotes."""
    for block in blocks(chapter.read_text()):
        missing = ""
        if block.kind == "python" and "file" not in block.options:
            missing = code_missing(block, chapter.parent)
        elif block.kind == "diff":
            missing = change_missing(block, chapter.parent)
        if missing:
            shown = "\n".join(f"    {line}" for line in block.lines)
            yield f"{chapter}:{block.first}: {missing}:\n{shown}"


def transcripts(chapter: Path, *, repository: Path = REPOSITORY, update: bool = False) -> Iterator[str]:
    """Yield what is wrong with the chapter's transcripts. With `update`, correct the chapter."""
    text = chapter.read_text()
    lines = text.splitlines()
    replaced: list[tuple[Block, list[str]]] = []
    with tempfile.TemporaryDirectory(prefix="chapter-", ignore_cleanup_errors=True) as place:
        reader = Reader(Path(place), repository)
        try:
            for block in blocks(text):
                if block.kind == "python" and "file" in block.options:
                    (reader.directory / block.options["file"]).write_text("\n".join(block.lines) + "\n")
                if block.kind != "console" or not machine_has(block.options.get("cgroup")):
                    continue
                way = transcript(block, reader)
                new = [CHANCE.sub(ANYTHING, line) if mark == "+" else line for mark, line in way if mark in " +"]
                replaced.append((block, new))
                if any(mark in "-+" for mark, _ in way):
                    shown = "\n".join(f"  {mark} {line}".rstrip() for mark, line in way if mark != ANYTHING)
                    yield f"{chapter}:{block.first}: expected (-) and got (+):\n{shown}"
        except Stuck as stuck:
            yield f"{chapter}:{block.first}: {stuck}"
            return
        finally:
            reader.close()
    if update:
        for block, new in reversed(replaced):
            end = block.first - 1 + len(block.lines)
            lines[block.first - 1 : end] = [(block.indent + line).rstrip() for line in new]
        chapter.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Type a chapter's transcripts again, and look its code up.")
    parser.add_argument("chapters", nargs="+", type=Path, metavar="README.md")
    parser.add_argument("--update", action="store_true", help="write what came into the chapter")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("chapters: run me as root")
    wrong = 0
    for chapter in map(Path.resolve, args.chapters):
        complaints = [*code(chapter), *transcripts(chapter, update=args.update)]
        print(*complaints, f"{chapter}: {len(complaints) or 'nothing'} wrong", sep="\n\n")
        wrong += len(complaints)
    return 1 if wrong and not args.update else 0


if __name__ == "__main__":
    sys.exit(main())
