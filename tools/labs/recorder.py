"""What a run of the suite tells the grader: a plugin of pytest (`-p tools.labs.recorder --lab-key FILE`).

Each event is one line on standard output, written the moment it happens: what comes later, a hang or a crash, cannot
take it away. Standard output is also where others may write, the graded runtime among them. So each line is signed with
a key that only the grader and this process know (the file is removed before any test begins), and is numbered, so that
no line counts twice.
"""

import ast
import hashlib
import hmac
import json
import os
import re
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import Result, Runtime, Started
from tests.support.terminal import Terminal

MARK = "@lab@"
LONGEST = 1200  # characters of a sentence: a line is then below PIPE_BUF (pipe(7)), so it is written whole
STDOUT = os.dup(1)  # before pytest captures it
compared: list[tuple[str, object, object]] = []  # of the present test: the comparison that failed last


def sign(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def verified(key: bytes, line: str) -> Any:
    """The event in a line; None if it is not one of ours."""
    signature, _, text = line.partition(MARK)[2].strip().partition(" ")
    return json.loads(text) if text and hmac.compare_digest(signature.encode(), sign(key, text).encode()) else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("runtimes").addoption("--lab-key", type=Path, metavar="FILE", help="the grader's key")


def pytest_configure(config: pytest.Config) -> None:
    file: Path | None = config.option.lab_key
    if file and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Teller(file.read_bytes()))
        file.unlink()


class Teller:
    """Of the process that hears of all tests: pytest's own, not its workers, if it has any."""

    def __init__(self, key: bytes) -> None:
        self.key, self.number, self.planned = key, 0, False

    def tell(self, **event: object) -> None:
        self.number += 1
        text = json.dumps({"number": self.number, **event})
        os.write(STDOUT, f"\n{MARK} {sign(self.key, text)} {text}\n".encode())

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.plan([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        if not self.planned:  # each worker has the same
            self.plan(ids)

    def plan(self, tests: list[str]) -> None:
        self.planned = True
        for test in tests:
            self.tell(planned=test)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = dict(report.user_properties).get("said") or plain(report)
        skipped = isinstance(report.longrepr, tuple) and report.longrepr[2].removeprefix("Skipped: ")
        self.tell(
            test=report.nodeid,
            when=report.when,
            outcome=report.outcome,
            seconds=round(report.duration, 2),
            said=str(skipped if report.skipped else said if report.failed else "")[:LONGEST],
        )

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.tell(end=int(exitstatus))


def plain(report: pytest.TestReport) -> str:
    """Of a test whose worker died."""
    return report.longreprtext.strip().rpartition("\n")[2]


# ---- one sentence about what failed: in the worker, where the objects are --------------------------------------------


def pytest_runtest_setup() -> None:
    compared.clear()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> None:
    """pytest asks for words about a comparison that failed. We have none, and note what was compared."""
    compared.append((op, left, right))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        said = sentence(item, call).encode(errors="backslashreplace").decode()  # of bytes that are no text, too
        report.user_properties.append(("said", said))
    return report


def sentence(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """What was typed, what came out, and what the test wants."""
    runtime = getattr(item, "funcargs", {}).get("runtime")
    if not (isinstance(runtime, Runtime) and runtime.started and call.when == "call"):
        return wanted(call)
    last = runtime.started[-1]
    # What it said is told already.
    reason = re.split("; it said: |(?<='): '|(?<=line): '", wanted(call))[0]
    out = came_out(last)
    told = [f"typed: {typed(runtime, last)}", f"came out: {out}", *([] if is_in(reason, out) else [reason])]
    return "\n".join(told)


def is_in(reason: str, out: str) -> bool:
    """Whether the reason says no more than what came out: `exit code 125: my_runtime: …`."""
    code, _, message = reason.partition(": ")
    return code.startswith("exit code ") and code in out and message in out


def typed(runtime: Runtime, last: Started | Terminal) -> str:
    """The command line as a person would type it: the image's long path is IMAGE, a long script is cut."""
    words = list(map(os.fsdecode, last.args if isinstance(last.args, list | tuple) else [last.args]))
    prefix = list(runtime.command)
    for start in range(len(words) - len(prefix) + 1):
        if words[start : start + len(prefix)] == prefix:
            words[start : start + len(prefix)] = [runtime.name]
            break
    shown = ["IMAGE" if word == runtime.image else short(" ".join(without_place(word).split()), 60) for word in words]
    return shlex.join(shown)


def without_place(word: str) -> str:
    """Long paths of the test's own directory say nothing to the reader: their last part is enough."""
    return re.sub(r"/[^\s:]*/mydocker-tests-[^\s:]*/", "…/", word)


def came_out(last: Started | Terminal) -> str:
    if isinstance(last, Terminal):
        return f"on the screen: {short(last.seen.decode(errors='replace'), 200)!r}" if last.seen else "an empty screen"
    return "(it was still running)" if last.result is None else outcome(last.result)


def outcome(result: Result) -> str:
    parts = [f"exit code {result.code}"]
    for name, data in (("output", result.out), ("errors", result.err)):
        if data:
            parts.append(f"{name} {short(data.decode(errors='replace').rstrip(), 200)!r}")
    return ", ".join(parts)


def wanted(call: pytest.CallInfo[None]) -> str:
    assert call.excinfo
    head = str(call.excinfo.value).partition("\n")[0]
    if not isinstance(call.excinfo.value, AssertionError):
        lines = [line.strip() for line in str(call.excinfo.value).splitlines()]
        name = "" if call.excinfo.typename == "Failed" else f"{call.excinfo.typename}: "
        return name + short(" ".join(lines), 400)
    if compared:
        op, left, right = compared[-1]
        if op == "==":
            return f"expected: {short(repr(right), 200)}, not {short(repr(left), 200)}"
        return f"expected: {short(repr(left), 200)} {op} {short(repr(right), 200)}"
    if not head or head.startswith("assert "):
        return f"expected: {statement(call.excinfo)}"
    return short(head, 400)


def statement(excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    """What the failed `assert` says, as it is written in the test."""
    text = " ".join(str(excinfo.traceback[-1].statement).split())
    try:
        (node,) = ast.parse(text).body
    except (SyntaxError, ValueError):
        return short(text, 200)
    return short(ast.unparse(node.test) if isinstance(node, ast.Assert) else text, 200)


def short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
