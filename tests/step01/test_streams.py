"""Standard input, output and error: pipes and files of the caller's, passed through unharmed."""

import os
import signal
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.support.fresh import Fresh
from tests.support.runtime import PATIENCE, Runtime


def test_input_needs_i(runtime: Runtime, fresh: Fresh) -> None:
    typed = fresh.word().encode()
    assert runtime.run("cat", input=typed).out == b""
    assert runtime.run("cat", options=["-i"], input=typed).out == typed


def test_without_i_input_is_dev_null(runtime: Runtime) -> None:
    assert runtime.output("readlink", "/proc/self/fd/0", input=b"hello") == "/dev/null"


def test_binary_data_pass_both_ways(runtime: Runtime, fresh: Fresh) -> None:
    binary = fresh.bytes(4_000_000)
    result = runtime.run("cat", options=["-i"], input=binary)
    assert (result.code, len(result.out)) == (0, len(binary))
    assert result.out == binary


def test_errors_stay_apart_from_output(runtime: Runtime, fresh: Fresh) -> None:
    out, err = fresh.word(), fresh.word()
    result = runtime.run("sh", "-c", f"echo {out}; echo {err} >&2")
    assert (result.out, result.err) == (f"{out}\n".encode(), f"{err}\n".encode())


def test_output_goes_on_while_input_is_open(runtime: Runtime, fresh: Fresh) -> None:
    started = runtime.start("sh", "-c", "while read word; do echo got $word; done", options=["-i"], stdin=PIPE)
    assert started.stdin
    for word in (fresh.word(), fresh.word()):
        started.stdin.write(word.encode() + b"\n")
        started.stdin.flush()
        assert started.line() == f"got {word}"
    assert started.end().code == 0


def test_the_end_does_not_wait_for_input(runtime: Runtime, fresh: Fresh) -> None:
    code = fresh.number(1, 124)
    started = runtime.start("sh", "-c", f"exit {code}", options=["-i"], stdin=PIPE)
    assert started.wait(PATIENCE) == code


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
def test_output_to_a_file_is_the_callers_file(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    out, err = fresh.word(), fresh.word()
    (tmp_path / "log").write_text("before\n")
    with (tmp_path / "log").open("ab") as log:
        assert runtime.run("sh", "-c", f"echo {out}; echo {err} >&2", stdout=log, stderr=log).code == 0
    assert (tmp_path / "log").read_text() == f"before\n{out}\n{err}\n"


# No descriptor of the runtime's own may take the place of a closed one and be mistaken for it.
@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_input_or_errors_closed_by_the_caller(runtime: Runtime, closed: str, fresh: Fresh) -> None:
    word = fresh.word()
    result = runtime.run("sh", "-c", f"cat; echo {word}; exit 6", under=closing(closed))
    assert (result.code, result.out) == (6, f"{word}\n".encode())


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


@pytest.mark.ours_alone("Podman does not look")
def test_help_that_nobody_reads(runtime: Runtime) -> None:
    """`--help | head -1`: no word about it, and the code of a program that SIGPIPE has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    result = runtime.popen([*runtime.command, "--help"], stdout=writing).end()
    os.close(writing)
    assert (result.code, result.err) == (128 + signal.SIGPIPE, b"")


def closing(redirection: str) -> tuple[str, ...]:
    return ("sh", "-c", f'exec "$@" {redirection}', "sh")
