"""A step's rooms: which files they are, and how they are emptied for a student to fill.

A room is a file that a step brings. Emptied, it keeps its text outside of functions, and of each function the
decorators, the signature and the docstring.
"""

import ast
import difflib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tools import chain

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Step 1 has no predecessor: what its chapter is about is to be written, the command line and the foundations are given.
ROOMS_OF_STEP_1 = ("container.py", "init.py", "namespaces.py", "terminal.py")
# Foundations, the command line of a feature, and the image that is made of this machine's busybox: no chapter is about
# them.
GIVEN = ("lib/", "commands/", "images/default.py")


def steps() -> list[Path]:
    """The folders of the nine steps."""
    return chain.find_steps(Path(__file__).resolve().parents[2])


def of(step: int) -> list[str]:
    """The files of a step that a student writes, by their path inside the step."""
    if step == 1:
        return list(ROOMS_OF_STEP_1)
    before, now = (chain.contents(steps()[number - 1]) for number in (step - 1, step))
    new = sorted(name for name in now.keys() - before.keys() if name.endswith(".py"))
    return [name for name in new if not name.startswith(GIVEN)]


def module(file: str) -> str:
    """The name of a file's module inside the package: `cgroups/v2.py` is cgroups.v2, `cgroups/__init__.py` cgroups."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def parsed(source: str) -> ast.Module:
    """The syntax of a module, to be read only."""
    return ast.parse(source)


def functions(source: str) -> Iterator[tuple[str, Function]]:
    """The functions of a module and the methods of its classes, each with its name as people write it: Child.wait.

    Not those that have nothing but a docstring, in a Protocol: there is nothing to write.
    """
    for node in parsed(source).body:
        for inner, prefix in (
            [(n, f"{node.name}.") for n in node.body] if isinstance(node, ast.ClassDef) else [(node, "")]
        ):
            if isinstance(inner, Function) and body_of(inner):
                yield prefix + inner.name, inner


def body_of(function: Function) -> list[ast.stmt]:
    """What a function does: its statements without the docstring."""
    return function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body


def emptied(file: str, source: str) -> str:
    """A room with the body of every function taken out."""
    lines = source.splitlines(keepends=True)
    for name, function in reversed(list(functions(source))):  # from the last one, so that line numbers stay true
        body = body_of(function)
        first = body[0].lineno - 1
        if isinstance(body[0], Function | ast.ClassDef) and body[0].decorator_list:
            first = body[0].decorator_list[0].lineno - 1
        while lines[first - 1].strip() == "" or lines[first - 1].lstrip().startswith("#"):
            first -= 1  # comments and blank lines before the first statement are part of the body
        indent = " " * body[0].col_offset
        lines[first : function.end_lineno] = [
            f'{indent}raise NotImplementedError("{module(file)}.{name}() is yours to write")\n'
        ]
    return "".join(lines)


def marked(step: int, old: str, new: str) -> str:
    """A file of the step before, with a comment line at each place where step `step` changes something."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    marks: list[tuple[int, str]] = []
    for kind, first, last, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        lines = max(last - first, end - start)
        if kind != "equal" and any(line.strip() for line in (*before[first:last], *after[start:end])):
            what = "come in" if kind == "insert" else "change"
            marks.append((first, f"# step {step}: {lines} lines {what} here" if lines > 1 else one_line(step, kind)))
    for place, text in reversed(marks):
        place = outside_of_strings(old, place)
        following = next((line for line in before[place:] if line.strip()), "")
        before.insert(place, " " * (len(following) - len(following.lstrip())) + text + "\n")
    return "".join(before)


def one_line(step: int, kind: str) -> str:
    """The same for a single line."""
    return f"# step {step}: 1 line {'comes in' if kind == 'insert' else 'changes'} here"


def outside_of_strings(source: str, place: int) -> int:
    """Where a comment meant for `place` (lines before it) can stand: not in a text of several lines, but before it."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING and token.start[0] <= place < token.end[0]:
            return token.start[0] - 1
    return place
