"""Standard input, output and error: pipes and files of the caller's, passed through unharmed."""

import os
import random
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.support.runtime import PATIENCE, Runtime

BINARY = random.Random(1).randbytes(4_000_000)


def test_input_needs_i(runtime: Runtime) -> None:
    assert runtime.run("cat", input=b"hello").out == b""
    assert runtime.run("cat", options=["-i"], input=b"hello").out == b"hello"


def test_without_i_input_is_dev_null(runtime: Runtime) -> None:
    assert runtime.output("readlink", "/proc/self/fd/0", input=b"hello") == "/dev/null"


def test_binary_data_pass_both_ways(runtime: Runtime) -> None:
    result = runtime.run("cat", options=["-i"], input=BINARY)
    assert (result.code, len(result.out)) == (0, len(BINARY))
    assert result.out == BINARY


def test_errors_stay_apart_from_output(runtime: Runtime) -> None:
    result = runtime.run("sh", "-c", "echo out; echo err >&2")
    assert (result.out, result.err) == (b"out\n", b"err\n")


def test_output_goes_on_while_input_is_open(runtime: Runtime) -> None:
    started = runtime.start("sh", "-c", "while read word; do echo got $word; done", options=["-i"], stdin=PIPE)
    assert started.stdin
    for word in ("one", "two"):
        started.stdin.write(word.encode() + b"\n")
        started.stdin.flush()
        assert started.line() == f"got {word}"
    assert started.end().code == 0


def test_the_end_does_not_wait_for_input(runtime: Runtime) -> None:
    started = runtime.start("sh", "-c", "exit 4", options=["-i"], stdin=PIPE)
    assert started.wait(PATIENCE) == 4


@pytest.mark.ours_alone("Podman takes ten seconds to notice")
@pytest.mark.parametrize("options", [[], ["-t"]], ids=["", "-t"])
def test_the_reader_of_output_may_go_early(runtime: Runtime, options: list[str]) -> None:
    """`run yes | head -1` ends, and so does what runs inside."""
    started = runtime.start("yes", options=options)
    assert started.line() == "y"
    assert started.stdout
    started.stdout.close()
    started.stdout = None
    assert started.end().code != 0


def test_output_to_a_full_pipe_waits(runtime: Runtime) -> None:
    started = runtime.start("sh", "-c", "head -c 300000 /dev/zero; echo written >&2")
    assert started.stderr and started.stdout
    os.set_blocking(started.stderr.fileno(), False)
    assert len(started.stdout.read(300_000)) == 300_000
    assert started.end().code == 0


@pytest.mark.ours_alone("Podman copies, and cannot append or truncate as the caller asked")
def test_output_to_a_file_is_the_callers_file(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    with (tmp_path / "log").open("ab") as log:
        assert runtime.run("sh", "-c", "echo out; echo err >&2", stdout=log, stderr=log).code == 0
    assert (tmp_path / "log").read_text() == "before\nout\nerr\n"


# No descriptor of the runtime's own may take the place of a closed one and be mistaken for it.
@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_input_or_errors_closed_by_the_caller(runtime: Runtime, closed: str) -> None:
    result = runtime.run("sh", "-c", "cat; echo hello; exit 6", under=closing(closed))
    assert (result.code, result.out) == (6, b"hello\n")


@pytest.mark.ours_alone("Podman never ends")
def test_no_input_to_pass_on(runtime: Runtime) -> None:
    result = runtime.run("sh", "-c", "cat; echo hello; exit 6", options=["-i"], under=closing("<&-"))
    assert (result.code, result.out) == (6, b"hello\n")


@pytest.mark.ours_alone("Podman exits with 126")
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("options", [[], ["-i"]], ids=["", "-i"])
def test_output_closed_by_the_caller(runtime: Runtime, closed: str, options: list[str]) -> None:
    result = runtime.run("sh", "-c", "echo hello; exit 6", options=options, under=closing(closed))
    assert (result.code, result.out, result.err) == (6, b"", b"")


@pytest.mark.ours_alone("Podman exits with 126")
def test_a_refusal_with_nowhere_to_tell_it(runtime: Runtime) -> None:
    result = runtime.run("no-such-program", under=closing("<&- >&- 2>&-"))
    assert result.code == 127


def closing(redirection: str) -> tuple[str, ...]:
    return ("sh", "-c", f'exec "$@" {redirection}', "sh")
