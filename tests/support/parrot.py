"""The parrot: a runtime that repeats recorded answers. It must score nothing, because tests use new values each time.

As a plugin of pytest (`-p tests.support.parrot`) this file records what a real runtime answers in each test (RECORD
names the directory), or tells the parrot which test runs (REPLAY names the records, and where the outcomes go). As a
program it is the parrot: it gives that test's recorded answer to the most similar command line.
Tests may run a runtime as another user and with another Python: so the program needs no library.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import os
import sys
import termios
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

RECORD, REPLAY, TEST = "PARROT_RECORD", "PARROT_REPLAY", "PARROT_TEST"
Answer = dict[str, Any]
OUTCOMES = "outcomes"


def file_of(directory: str, test: str) -> Path:
    """Return the file with the answers of a test."""
    return Path(directory, hashlib.sha256(test.encode()).hexdigest())


# ---- the program -----------------------------------------------------------------------------------------------------


def likeness(one: list[str], other: list[str]) -> float:
    first, second = (" ".join(words)[:2000] for words in (one, other))
    return 1.0 if first == second else 0.99 * difflib.SequenceMatcher(None, first, second).ratio()


def choose(directory: str, test: str, words: list[str]) -> Answer:
    """Return the answer to the most similar words. Each answer is given once, as long as unused ones are left."""
    place = file_of(directory, test)
    answers: list[Answer] = json.loads(place.read_text()) if place.exists() else []
    order = sorted(range(len(answers)), key=lambda n: -likeness(words, answers[n]["words"]))
    for number in order:
        try:
            os.close(os.open(f"{place}-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return answers[number]
    return answers[order[0]] if order else {"code": 0, "out": "", "err": ""}


def parrot() -> int:
    answer = choose(os.environ[REPLAY], os.environ[TEST], sys.argv[1:])
    before = termios.tcgetattr(0) if os.isatty(0) else None
    if before:
        tty.setraw(0)  # what a terminal has shown is shown again, byte for byte
    for stream, number in (("out", 1), ("err", 2)):
        data = base64.b64decode(answer[stream])
        while data:
            data = data[os.write(number, data) :]
    if before:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
    return int(answer["code"])


# ---- the plugin ------------------------------------------------------------------------------------------------------

asking = ""  # the test that is run
heard: list[Answer] = []


def pytest_configure(config: pytest.Config) -> None:
    import tests.support.runtime as runtime
    import tests.support.terminal as terminal

    package = config.option.runtime.split()[-1]
    if RECORD in os.environ:
        listen(runtime.Started, terminal.Terminal, package)
    real_popen = runtime.Runtime.popen
    real_init = terminal.Terminal.__init__

    def popen(self: runtime.Runtime, words: Any, *, env: Any = None, **more: Any) -> runtime.Started:
        return real_popen(self, words, env={**(env or {}), **told()}, **more)

    def init(self: terminal.Terminal, words: Any, *, env: Any, **more: Any) -> None:
        real_init(self, words, env={**env, **told()}, **more)

    if REPLAY in os.environ:
        runtime.Runtime.popen = popen  # type: ignore[method-assign]
        terminal.Terminal.__init__ = init  # type: ignore[method-assign]


def told() -> dict[str, str]:
    return {REPLAY: os.environ[REPLAY], TEST: asking}


def listen(started: Any, terminal: Any, package: str) -> None:
    """Record the output of each process that a test starts."""
    started_init, line, end, wait = started.__init__, started.line, started.end, started.wait
    terminal_init, read, terminal_end = terminal.__init__, terminal._read, terminal.end

    def note(words: Any) -> Answer:
        texts = [os.fsdecode(word) for word in words]
        at = texts.index(package) + 1 if package in texts else 0
        answer: Answer = {"words": texts[at:], "code": 0, "out": b"", "err": b""}
        if at:
            heard.append(answer)
        return answer

    def new_started(self: Any, words: Any, **more: Any) -> None:
        self.answer = note(words)
        started_init(self, words, **more)

    def new_line(self: Any) -> str:
        text: str = line(self)
        self.answer["out"] += f"{text}\n".encode()
        return text

    def new_end(self: Any, input: bytes | None = None) -> Any:
        result = end(self, input)
        self.answer["out"] += result.out
        self.answer |= {"err": result.err, "code": result.code}
        return result

    def new_wait(self: Any, *arguments: Any, **more: Any) -> int:
        code: int = wait(self, *arguments, **more)
        self.answer["code"] = code if code >= 0 else 128 - code
        return code

    def new_terminal(self: Any, words: Any, **more: Any) -> None:
        self.answer = note(words)
        terminal_init(self, words, **more)

    def new_read(self: Any, *arguments: Any) -> bool:
        had = len(self.seen)
        more: bool = read(self, *arguments)
        self.answer["out"] += self.seen[had:]
        return more

    def new_terminal_end(self: Any) -> int:
        self.answer["code"] = terminal_end(self)
        return int(self.answer["code"])

    started.__init__, started.line, started.end, started.wait = new_started, new_line, new_end, new_wait
    terminal.__init__, terminal._read, terminal.end = new_terminal, new_read, new_terminal_end


def pytest_runtest_logstart(nodeid: str) -> None:
    global asking
    asking = nodeid
    heard.clear()


def pytest_runtest_logfinish(nodeid: str) -> None:
    if heard and RECORD in os.environ:
        texts = [
            {**each, "out": base64.b64encode(each["out"]).decode(), "err": base64.b64encode(each["err"]).decode()}
            for each in heard
        ]
        place = file_of(os.environ[RECORD], nodeid)
        place.write_text(json.dumps(texts))
        place.chmod(0o644)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """pytest calls this once for each phase of a test; with workers, in the controller."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(os.environ.get(RECORD) or os.environ[REPLAY], OUTCOMES).open("a") as file:
            file.write(json.dumps([report.nodeid, report.outcome]) + "\n")


if __name__ == "__main__":
    sys.exit(parrot())
