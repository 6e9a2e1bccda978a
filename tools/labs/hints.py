"""`make hint`: where to read; the next time, what to call; from then on, the reference's system calls beside yours."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from itertools import groupby
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.support import explain, strace
from tests.support.runtime import Missing

from .errors import LabError
from .grade import load
from .tasks import REPOSITORY, Task

FILE = ".hints.json"
PATIENCE = 30  # seconds for one run
AROUND = 4  # lines that are shown before and after a difference
# Lines of the reference that strace has in the same words: not messages to the kernel about networks, nor how each one
# keeps its store; nor close_range, which helpers call too, with numbers of their own.
SEEN = re.compile(r"echo |ip link set lo up|(?!close_range)\w+\(")
OWN_STORE = re.compile(r'(mkdir|rmdir|rename|symlink)\("STORE')
IN_VAIN = re.compile(r" = -1 E(EXIST|NOENT)\b")  # it was there already, or nothing was: no difference in what is done
# What is done in a directory of cgroups. In which order those are gone through does not matter.
GROUP = re.compile(r'(?:mkdir|rmdir)\("(/sys/fs/cgroup/[^"]*)"|echo .* > (/sys/fs/cgroup/.*)/')
MOST = 40  # lines of the table
NARROWEST = 120  # columns of the table where its width is our choice: in a pipe
Side = list[str]  # what one runtime asked of the kernel, in order


class NoHint(LabError):
    """One line: why there is none, and what to do."""


def find(step: int, name: str) -> Task:
    tasks = load(step)
    for task in tasks:
        if task.name == name:
            return task
    raise NoHint(f"step {step} has no task {name!r}; it has: {', '.join(task.name for task in tasks)}")


def next_stage(directory: Path | None, step: int, task: str) -> int:
    """1, 2 or 3: one more than the last time. Kept in the student's folder, or else in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = directory / FILE if directory else cache / "mydocker-lab/hints.json"
    reached: dict[str, int] = {}
    with suppress(OSError, ValueError):
        reached = json.loads(file.read_text())
    key = f"{step:02} {task}"
    stage = min(3, int(reached.get(key, 0)) + 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**reached, key: stage}, indent=1) + "\n")
    return stage


def hint(step: int, name: str, command: str, directory: Path | None) -> None:
    """Print the next hint for a task. Raises NoHint."""
    task, console = find(step, name), Console()
    if not console.is_terminal:
        console = Console(width=max(NARROWEST, console.width))
    if task.message:
        console.print(f"the test wants this wording: {task.message}", markup=False, highlight=False)
    stage = next_stage(directory, step, name)
    if stage < 3:
        text = task.hints.read if stage == 1 else task.hints.call
        console.print(f"hint {stage} of 3, {task.title}: {text}", markup=False, highlight=False)
        return
    if not command:
        raise NoHint("hint 3 looks at your runtime: the same again with RUNTIME='python -m my_runtime'")
    compare(step, task, command, directory or Path.cwd(), console)


# ---- the third: both runtimes do the same, and are watched -----------------------------------------------------------


def compare(step: int, task: Task, command: str, directory: Path, console: Console) -> None:
    words = list(task.hints.compare)
    cut = words.index("--") if "--" in words else len(words)
    options, inside = words[:cut], words[cut + 1 :]
    with tempfile.TemporaryDirectory(prefix="mydocker-lab-") as place:
        reference = [sys.executable, "-m", package(step)]
        root = image(Path(place, "reference"), step)
        explained = run_of(step, reference, options, inside, root, Path(place, "reference"), REPOSITORY)
        expected = told(explained.stderr, place)
        first, *rest = shlex.split(command)
        if re.fullmatch(r"python[\d.]*", first):
            first = sys.executable
        elif "/" in first:
            first = str((directory / first).resolve())
        actual, done = watched(step, [first, *rest], options, inside, root, Path(place), directory)
    shown = shlex.join(["run", *options, *(["IMAGE"] if root else []), *inside])
    console.print(f"hint 3 of 3, {task.title}: the system calls of `{shown}`", markup=False, highlight=False)
    side_by_side(expected, actual, console)
    console.print(f"the reference: {said(explained)}", markup=False, highlight=False)
    console.print(f"yours: {said(done)}", markup=False, highlight=False)


def package(step: int) -> str:
    for found in REPOSITORY.glob(f"step{step:02}_*/__main__.py"):
        return found.parent.name
    raise NoHint(f"the reference of step {step} is not here")


def image(store: Path, step: int) -> str:
    """The root file system that both run in, made by the reference of step 3; empty before there are any."""
    if step < 3:
        return ""
    making = [sys.executable, "-m", package(3), "run", "busybox", "true"]
    done = run(making, store, REPOSITORY)
    if done.returncode != 0:
        raise NoHint(f"the reference does not run here: {last_line(done.stderr)} (make doctor tells more)")
    return str(store / "images/busybox")


def run_of(
    step: int, runtime: list[str], options: list[str], inside: list[str], root: str, store: Path, directory: Path
) -> subprocess.CompletedProcess[str]:
    """The reference, which explains what it does."""
    named = with_image(step, runtime, root, store, directory)
    return run([*runtime, "run", "--explain", *modest(step, options), *options, *named, *inside], store, directory)


def watched(
    step: int, runtime: list[str], options: list[str], inside: list[str], root: str, place: Path, directory: Path
) -> tuple[Side, subprocess.CompletedProcess[str]]:
    """What strace(1) sees of the student's, up to the command; and how it ended."""
    store, trace = place / "store", place / "trace"
    named = with_image(step, runtime, root, store, directory)
    try:
        under = strace.recording(trace)
    except Missing:
        raise NoHint("hint 3 needs strace: apt-get install strace") from None
    words = [*under, *runtime, "run", *modest(step, options), *options, *named, *inside]
    try:
        done = run(words, store, directory)
    except FileNotFoundError:
        raise NoHint(f"there is no {runtime[0]}") from None
    if not trace.exists():
        raise NoHint("strace may not watch programs here")
    found: list[tuple[str, str]] = []
    _, *calls = strace.calls(trace)  # the first starts the runtime
    command = re.compile(rf'"(?:[^"]*/)?{re.escape(inside[0])}", ')
    for call in calls:
        text = plain(explain.told(call), str(place))
        if call.name == "execve":  # not of a helper, nor of the runtime itself once more
            if call.result == "0" and command.match(call.arguments):
                found.append((str(call.pid), text))
                break
        elif call.name != "close_range" and (explain.owed(call, str(store)) or also_shown(call)):
            found.append((str(call.pid), text))
    return outside_first(found), done


def also_shown(call: strace.Call) -> bool:
    """What a runtime in another language does, or the reference in later steps, beyond what is always looked at."""
    new = call.name.startswith("clone") and "CLONE_NEW" in call.arguments
    return new or (call.name == "write" and call.path.startswith("/proc/sys/"))


def with_image(step: int, runtime: list[str], root: str, store: Path, directory: Path) -> list[str]:
    """The word for the image: a directory, from step 6 on a name under which it is imported."""
    if not root or step < 6:
        return [root] if root else []
    done = run([*runtime, "import", root, "hint"], store, directory)
    if done.returncode != 0:
        raise NoHint(f"`import` fails, which comes first: {last_line(done.stderr)}")
    return ["hint"]


def modest(step: int, options: Sequence[str]) -> list[str]:
    """As in the tests: nothing is left on record, and there is no network that nobody asked for."""
    removed = ["--rm"] if step >= 7 and "--rm" not in options else []
    return [*removed, *(["--network", "none"] if step >= 9 and "--network" not in options else [])]


def run(words: list[str], store: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    store.mkdir(exist_ok=True)
    environment = {**os.environ, "MYDOCKER_ROOT": str(store), "PYTHONPATH": str(directory)}
    try:
        return subprocess.run(
            words,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise NoHint(f"not done within {PATIENCE} seconds: {shlex.join(words[-6:])}") from None


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def said(done: subprocess.CompletedProcess[str]) -> str:
    """How a run ended, and what it said beside --explain's lines."""
    lines = [line for line in done.stderr.splitlines(keepends=True) if not explain.LINE.fullmatch(line)]
    errors = f", {''.join(lines).strip()}" if lines else ""
    return f"exit code {done.returncode}{errors}"


# ---- both orders -----------------------------------------------------------------------------------------------------


def told(errors: str, place: str) -> Side:
    """The lines of --explain up to the command, without who tells them."""
    found: list[tuple[str, str]] = []
    for line in map(explain.LINE.fullmatch, errors.splitlines(keepends=True)):
        text = plain(line[2], place) if line else ""
        if SEEN.match(text) and not OWN_STORE.match(text):
            found.append((line[1] if line else "", text))
            if text.startswith("execve("):
                break
    return outside_first(found)


def outside_first(found: list[tuple[str, str]]) -> Side:
    """The calls in order: of all others, then of the process that executes the command, since both work at once."""
    found = [(who, text) for who, text in found if not IN_VAIN.search(text)]
    last, text = found[-1] if found else ("", "")
    if not text.startswith("execve("):
        return by_group([text for _, text in found])
    others = by_group([text for who, text in found if who != last])
    return others + by_group([text for who, text in found if who == last])


def by_group(calls: Side) -> Side:
    """Where several directories of cgroups are worked on in a row: one after the other, by their names."""
    found: Side = []
    for _, some in groupby(calls, lambda call: bool(GROUP.match(call))):
        found += sorted(some, key=group)  # of all others that is "": they stay as they are
    return found


def group(call: str) -> str:
    """The directory of cgroups that a call is about."""
    found = GROUP.match(call)
    return found[1] or found[2] if found else ""


def plain(text: str, place: str) -> str:
    """What differs between any two runs looks alike: our temporary directory, ids, numbers of processes."""
    text = text.replace(f"{place}/reference", "STORE").replace(f"{place}/store", "STORE").replace(place, "TMP")
    text = re.sub(r"\bveth[0-9a-f]+", "vethID", re.sub(r"\b[0-9a-f]{12,64}\b", "ID", text))
    text = re.sub(r"/proc/\d+/", "/proc/PID/", text)
    return re.sub(r" = \d{2,}$", " = PID", text)


def gist(line: str) -> str:
    """By what two lines are held to be the same step: the call and, of a file or a mount, which."""
    name, _, rest = line.partition("(")
    if not rest:  # echo … > file, ip …
        return re.sub(r"^echo .* > ", "write ", line)
    if name == "mount":
        _, target, kind, *_ = [*rest.split(", "), "", ""]
        return f"mount {target if kind == 'NULL' else kind}"
    return " ".join([name, *re.findall(r'"([^"]*)"', rest)[:1]])


def side_by_side(expected: Side, actual: Side, console: Console) -> None:
    """Both lists from a little before the first difference on, and what that is."""
    matcher = SequenceMatcher(None, list(map(gist, expected)), list(map(gist, actual)), autojunk=False)
    steps = [step for step in matcher.get_opcodes() if step[0] != "equal"]
    if not steps:
        console.print("the same calls: the difference is in their arguments, or in what is said at the end")
    table = Table(box=box.SIMPLE, expand=True)
    for heading in ("the reference", "yours"):
        table.add_column(heading, ratio=1, overflow="fold")
    start = max(0, steps[0][1] - AROUND) if steps else 0
    rows = 0
    for kind, first, last, other_first, other_last in matcher.get_opcodes():
        for number in range(max(last - first, other_last - other_first)):
            left = cut(expected[first + number], console) if first + number < last else ""
            right = cut(actual[other_first + number], console) if other_first + number < other_last else ""
            if (first + number >= start or kind != "equal") and rows < MOST:
                style = "" if kind == "equal" else "yellow"
                table.add_row(escape(left), escape(right), style=style)
                rows += 1
    if rows:
        console.print(table)
    if steps:
        console.print(
            f"the first difference: {difference(expected, actual, steps[0], console)}", markup=False, highlight=False
        )


def difference(expected: Side, actual: Side, step: tuple[str, int, int, int, int], console: Console) -> str:
    kind, first, _, other_first, _ = step
    after = f"after {cut(expected[first - 1], console)}" if first else "at the beginning"
    if kind == "insert":
        return f"{after}, yours calls {cut(actual[other_first], console)}; the reference does not"
    if kind == "delete":
        return f"{after}, the reference calls {cut(expected[first], console)}; yours does not"
    return (
        f"{after}, the reference calls {cut(expected[first], console)}; yours calls {cut(actual[other_first], console)}"
    )


def cut(line: str, console: Console) -> str:
    """Some lines have no end: the environment of a command is in its execve(2)."""
    return line if len(line) <= console.width else f"{line[: console.width - 1]}…"
