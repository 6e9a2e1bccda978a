"""Make sure that each step is the step before plus one feature, and nothing else.

    python3 tools/chain.py diff 3     what chapter 3 changes
    python3 tools/chain.py carry 1    takes an edit made in step 1 forward, through every later step
    python3 tools/chain.py check      does every step stand alone, and leave its predecessor as it was?

It needs nothing but Python and git, so that it runs before anything is installed.
"""

import argparse
import ast
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

# The limits of a chapter, in lines of Python: altered or removed in the files of the step before, added to them, and in
# new files. Step 6 brings images, step 9 networks.
ALTERED, ADDED, NEW = 25, {6: 181}, {6: 930, 9: 1075}
ADDED_OF_OTHERS, NEW_OF_OTHERS = 150, 650
CHAPTERS = ("README.md", "README.zh.md")  # each tells of its own step
# Lines of a whole step that are not blank.
SIZES = {1: 778, 2: 1174, 3: 1650, 4: 1850, 5: 2100, 6: 2941, 7: 3564, 8: 4095, 9: 5257}
# compression.zstd came with Python 3.14; an older Python does not list it.
STANDARD_LIBRARY = sys.stdlib_module_names | {"compression"}


def git(where: Path, *args: str, ok: range = range(1)) -> subprocess.CompletedProcess[bytes]:
    """Run git in a directory. An exit code that is not in `ok` ends the program with git's error message."""
    done = subprocess.run(["git", *args], cwd=where, capture_output=True)
    if done.returncode not in ok:
        sys.exit(f"chain: git {args[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done


def find_steps(root: Path) -> list[Path]:
    """Return the steps that exist, in order. They must be 1, 2, 3 … without a gap."""
    # On a branch without a step, git leaves a folder with only its __pycache__.
    steps = sorted(path for path in root.glob("step[0-9][0-9]_*") if path.is_dir() and contents(path))
    for number, step in enumerate(steps, start=1):
        if step.name[4:6] != f"{number:02}":
            sys.exit(f"chain: {step.name} stands where step {number:02} should: a number is missing or used twice")
    return steps or sys.exit(f"chain: there are no steps (step01_…) in {root}")


def is_code(name: str) -> bool:
    """Return whether this file is part of the chain. Chapters, and what Python and editors leave, are not."""
    parts = PurePosixPath(name).parts
    return name not in CHAPTERS and not any(part == "__pycache__" or part.startswith(".") for part in parts)


def contents(step: Path) -> dict[str, bytes]:
    """Return the step's files as they are now, by their path inside the step."""
    names = {path.relative_to(step).as_posix(): path for path in sorted(step.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if is_code(name)}


# --- diff ---


@dataclass(frozen=True)
class Change:
    """How one file differs from the step before."""

    kind: str  # new, changed or removed
    name: str
    added: int  # lines
    removed: int
    filled: int  # lines of the whole file that are not blank


def git_diff(old: Path, new: Path, name: str, option: str) -> str:
    """Return one file's change between two steps, as git-diff(1) prints it without the user's configuration."""
    sides = [f"{step.name}/{name}" if (step / name).exists() else os.devnull for step in (old, new)]
    fixed = ("--no-index", "--no-ext-diff", "--no-textconv", "--no-prefix", "--minimal")
    return git(new.parent, "diff", *fixed, option, "--", *sides, ok=range(2)).stdout.decode(errors="replace")


def filled(content: bytes) -> int:
    """Return how many lines are not blank."""
    return sum(1 for line in content.splitlines() if line.strip())


def changes(old: Path, new: Path) -> list[Change]:
    """Return every file that differs: first new files, then changed files, then removed files."""
    before, after = contents(old), contents(new)
    found = []
    for name in before.keys() | after.keys():
        if before.get(name) != after.get(name):
            kind = "new" if name not in before else "changed" if name in after else "removed"
            counts = re.match(r"(\d+)\t(\d+)", git_diff(old, new, name, "--numstat"))  # none if empty or binary
            added, removed = map(int, counts.groups()) if counts else (0, 0)
            found.append(Change(kind, name, added, removed, filled(after.get(name, b""))))
    return sorted(found, key=lambda change: (change.kind != "new", change.kind, change.name))


def costs(number: int, found: list[Change]) -> dict[str, tuple[int, int]]:
    """Return how many lines of Python a step alters, adds and brings new, with limits. A changed line is altered."""
    code = [change for change in found if change.name.endswith(".py")]
    altered = sum(change.removed for change in code)
    added = sum(max(0, change.added - change.removed) for change in code if change.kind == "changed")
    new = sum(change.filled for change in code if change.kind == "new")
    return {
        "altered": (altered, ALTERED),
        "added": (added, ADDED.get(number, ADDED_OF_OTHERS)),
        "new": (new, NEW.get(number, NEW_OF_OTHERS)),
    }


def room(name: str) -> str:
    """Return the room that a file belongs to: its folder, or the file itself."""
    first, *rest = PurePosixPath(name).parts
    return f"{first}/" if rest else first.removesuffix(".py")


def diff(steps: list[Path], number: int, summary_only: bool) -> int:
    """Show what a chapter changes: first a summary, then line by line."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `diff 3 | head` is no error
    new = steps[number - 1]
    if number == 1:
        print(f"{new.name} is the start of the chain; there is nothing before it. Its files, to be read whole:\n")
        for name, content in contents(new).items():
            print(f"  {name:<28}{len(content.splitlines()):>6} lines")
        return 0
    old = steps[number - 2]
    found = changes(old, new)
    print(f"{new.name} against {old.name} (without the chapter itself)\n")
    before, after = ({room(name) for name in contents(step)} for step in (old, new))
    touched = {room(change.name) for change in found} & before
    print(f"  new rooms: {' '.join(sorted(after - before)) or 'none'}")
    print(f"  changed:   {' '.join(sorted(touched)) or 'none'}")
    print(f"  as before: {' '.join(sorted(after & before - touched)) or 'none'}\n")
    for change in found:
        print(f"  {change.kind:<9}{change.name:<28}{f'+{change.added}':>6}{f'-{change.removed}':>6}")
    spent = (f"{lines} of {limit} {what}" for what, (lines, limit) in costs(number, found).items())
    print(f"\n  budget, in lines: {', '.join(spent)}")
    colour = "always" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "never"
    for change in [] if summary_only else found:
        print("\n" + git_diff(old, new, change.name, f"--color={colour}"), end="")
    return 0


# --- carry ---


def committed(commit: str, step: Path) -> dict[str, bytes]:
    """Return the step's files as they were in a commit, by their path inside the step."""
    archive = git(step.parent, "archive", "--format=tar", commit, "--", step.name, ok=range(256))
    if archive.returncode:
        sys.exit(f"chain: {step.name} is not in {commit}, so its edits cannot be told: commit it before you carry")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        files = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in files.items() if file and is_code(name)}


def merge(old: Path, new: Path, name: str, base: bytes) -> str:
    """Repeat in `new` the edit that the file in `old` got since `base`: git-merge-file(1). Returns what is wrong."""
    with tempfile.NamedTemporaryFile() as before:
        before.write(base)
        before.flush()
        labels = ["-L", new.name, "-L", f"{old.name} before the edit", "-L", old.name]
        files = [f"{new.name}/{name}", before.name, f"{old.name}/{name}"]
        conflicts = git(new.parent, "merge-file", "--diff3", *labels, *files, ok=range(256)).returncode
    if conflicts > 127:  # git's own failure, before it has written anything
        return "git cannot merge this kind of file; left as it was"
    return f"{conflicts} marked by <<<<<<<" if conflicts else ""


def carry_over(old: Path, new: Path, before: dict[str, bytes]) -> bool:
    """Carry what changed in `old` since `before` into `new`, file by file. Returns whether there was no conflict.

    After a conflict the other files are still done: the next run starts from `new` and does not look at `old` again.
    """
    after, ours = contents(old), contents(new)
    clean = True
    for name in sorted(before.keys() | after.keys()):
        base, edited, mine = before.get(name), after.get(name), ours.get(name)
        target = new / name
        if edited in (base, mine):
            continue  # not edited, or there already
        done, wrong = "copied", ""
        if mine == base:  # the same in both steps, or new: what happened there happens here
            if edited is None:
                target.unlink()
                done = "removed"
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(old / name, target)
        elif edited is None:
            wrong = f"removed in {old.name}, but it is another here; left as it was"
        elif mine is None:
            wrong = f"edited in {old.name}, but there is none here; left as it was"
        else:
            done, wrong = "merged", merge(old, new, name, base or b"")
        print(f"  {'CONFLICT' if wrong else done:<9} {new.name}/{name}{wrong and ': '}{wrong}")
        clean = clean and not wrong
    return clean


def carry(steps: list[Path], revision: str) -> int:
    """Carry the edits made in the first of these steps since `revision` forward, one step at a time, to the last."""
    for step in steps:
        for name, content in contents(step).items():
            if re.search(rb"^<{7} ", content, re.MULTILINE):
                sys.exit(f"chain: {step.name}/{name} still has conflict markers (<<<<<<<); resolve them first")
    if len(steps) == 1:
        print(f"{steps[0].name} is the last step: there is nothing to carry on to")
        return 0
    # Read every step's old content before anything is written. We print the commit's id, so that the user can go on
    # after a conflict even if somebody commits in between.
    commit = git(steps[0].parent, "rev-parse", "--verify", "--short", revision + "^{commit}").stdout.decode().strip()
    before = [committed(commit, step) for step in steps[:-1]]
    if before[0] == contents(steps[0]):
        print(f"{steps[0].name} is as in {revision}: nothing to carry (if the edit is committed, use --base HEAD~1)")
        return 0
    for (old, new), base in zip(pairwise(steps), before, strict=True):
        print(f"{old.name} -> {new.name}")
        if not carry_over(old, new, base):
            print(f"\nStopped; later steps are untouched. Put right what is in CONFLICT in {new.name}, then go on with")
            print(f"    python3 tools/chain.py carry {int(new.name[4:6])} --base {commit}")
            return 1
    print("\nCarried to the last step. Now: python3 tools/chain.py check")
    return 0


# --- check ---


def dependencies(root: Path) -> set[str]:
    """Return the modules of pyproject.toml's runtime dependencies. Each of them has the name of its package."""
    requirements = tomllib.loads((root / "pyproject.toml").read_text())["project"].get("dependencies", [])
    return {re.split(r"[^\w.-]", text.strip())[0].lower().replace("-", "_") for text in requirements}


def foreign_imports(name: str, source: bytes, allowed: frozenset[str]) -> Iterator[str]:
    """Yield a finding for each import in a file, at any place, that leads out of the step."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        yield f"{name}:{error.lineno}: does not parse: {error.msg}"
        return
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level >= len(PurePosixPath(name).parts):
                yield f"{name}:{node.lineno}: this relative import leads out of the step"
            continue
        for alias in node.names:
            target = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
            words = target.split(".")
            if not any(".".join(words[:end]) in allowed for end in range(1, len(words) + 1)):
                yield f"{name}:{node.lineno}: {target} is not in the step, standard library or declared dependencies"


def check(steps: list[Path], root: Path) -> int:
    """Print a table of all steps, then a line for each broken rule. Returns 1 if there is one, else 0."""
    known = STANDARD_LIBRARY | dependencies(root)
    findings: list[str] = []
    print(f"{'step':<22}{'lines':>10}{'altered':>8}{'added':>8}{'new':>10}  new rooms")
    for number, step in enumerate(steps, start=1):
        sources = {name: content for name, content in contents(step).items() if name.endswith(".py")}
        size, limit = sum(map(filled, sources.values())), SIZES.get(number, 0)
        row = f"{step.name:<22}{f'{size}/{limit}':>10}"
        if size > limit:
            findings.append(f"{step.name}: {size} lines; {limit} are allowed: look for a simpler design")
        if number > 1:
            old = steps[number - 2]
            found = changes(old, step)
            spent = costs(number, found)
            new = {room(name) for name in contents(step)} - {room(name) for name in contents(old)}
            row += "".join(
                f"{f'{lines}/{most}':>{width}}" for (lines, most), width in zip(spent.values(), (8, 8, 10), strict=True)
            )
            row += f"  {' '.join(sorted(new))}"
            findings += [f"{step.name}/{c.name}: dropped, but {old.name} has it" for c in found if c.kind == "removed"]
            for what, (lines, most) in spent.items():
                if lines > most:
                    findings.append(f"{step.name}: {lines} lines {what} against {old.name}; {most} are allowed")
        print(row.rstrip())
        for name, content in sources.items():
            findings += foreign_imports(f"{step.name}/{name}", content, known | {step.name})
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


def main() -> int:
    """Read the command line. The exit code is 1 for a conflict, a finding or an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--root", type=Path, default=here, metavar="DIR", help="where the steps are (default: here)")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("diff", help="show what a chapter changes")
    command.add_argument("step", type=int)
    command.add_argument("--stat", action="store_true", help="the summary alone")
    command = commands.add_parser("carry", help="take a step's edit forward through all later steps")
    command.add_argument("step", type=int)
    command.add_argument("--base", default="HEAD", metavar="REV", help="the commit before the edit (default: HEAD)")
    commands.add_parser("check", help="does every step stand alone and keep to its budget?")
    args = parser.parse_args()
    steps = find_steps(args.root)
    if args.command == "check":
        return check(steps, args.root)
    if not 1 <= args.step <= len(steps):
        sys.exit(f"chain: there is no step {args.step}; the steps here are 1 to {len(steps)}")
    return diff(steps, args.step, args.stat) if args.command == "diff" else carry(steps[args.step - 1 :], args.base)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:  # no git, no pyproject.toml, a folder that may not be read
        sys.exit(f"chain: {error}")
