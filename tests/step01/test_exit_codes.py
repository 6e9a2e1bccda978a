"""The exit code tells what happened, as with Docker; and what goes wrong is told in one line."""

import re
import signal
from pathlib import Path

import pytest

from tests.support import host
from tests.support.fresh import Fresh
from tests.support.runtime import Runtime


@pytest.mark.parametrize(("low", "high"), [(0, 0), (1, 124), (125, 125), (128, 254), (255, 255)])
def test_the_commands_own(runtime: Runtime, low: int, high: int, fresh: Fresh) -> None:
    code = fresh.number(low, high)
    result = runtime.run("sh", "-c", f"exit {code}")
    assert (result.code, result.out, result.err) == (code, b"", b"")


def test_false_fails(runtime: Runtime) -> None:
    assert runtime.run("false").code == 1


def test_killed_from_outside(runtime: Runtime) -> None:
    started = runtime.start("sh", "-c", "echo ready; sleep 60")
    assert started.line() == "ready"
    host.init().signal(signal.SIGKILL)
    assert started.end().code == 128 + signal.SIGKILL


def test_killed_by_its_own_fault(runtime: Runtime) -> None:
    assert runtime.run("python3", "-c", "import ctypes; ctypes.string_at(0)").code == 128 + signal.SIGSEGV


def test_not_found(runtime: Runtime, fresh: Fresh) -> None:
    name = fresh.word()
    assert name in runtime.refusal(runtime.run(name), 127)


def test_no_such_path(runtime: Runtime, fresh: Fresh) -> None:
    path = f"/no/such/{fresh.word()}"
    assert path in runtime.refusal(runtime.run(path), 127)


@pytest.mark.step(1, until=2)  # from step 3 on, the host's files are not seen
def test_the_complaint_is_one_line_whatever_the_name(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "two\nlines").mkdir()
    runtime.refusal(runtime.run("two\nlines"), 127)
    runtime.refusal(runtime.run(f"{tmp_path}/two\nlines"), 126)


def test_the_empty_command_is_not_found(runtime: Runtime) -> None:
    runtime.refusal(runtime.run(""), 127)


def test_a_directory_cannot_be_executed(runtime: Runtime) -> None:
    assert "/tmp" in runtime.refusal(runtime.run("/tmp"), 126)


def test_a_file_without_permission_cannot_be_executed(runtime: Runtime) -> None:
    assert "/etc/passwd" in runtime.refusal(runtime.run("/etc/passwd"), 126)


@pytest.mark.step(1, until=2)
@pytest.mark.parametrize("content", [b"\x7fELF, but then nonsense", b"neither #! nor ELF\n", b""])
def test_a_file_of_unknown_format_cannot_be_executed(runtime: Runtime, tmp_path: Path, content: bytes) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(0o755)
    assert str(program) in runtime.refusal(runtime.run(str(program)), 126)


@pytest.mark.step(1, until=2)
def test_a_script_whose_interpreter_is_missing_is_not_found(runtime: Runtime, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    runtime.refusal(runtime.run(str(program)), 127)


@pytest.mark.step(3)
@pytest.mark.ours_alone("runc notices too late to say other than 1")
def test_programs_of_the_image_that_cannot_be_executed(runtime: Runtime) -> None:
    assert "nonsense" in runtime.refusal(runtime.run("nonsense"), 126)
    assert "orphan" in runtime.refusal(runtime.run("orphan"), 127)


@pytest.mark.step(1, until=2)
def test_a_command_is_needed(runtime: Runtime) -> None:
    assert re.search("COMMAND", runtime.refusal(runtime.call("run")))


@pytest.mark.parametrize("line", ["run --no-NAME true", "run --hostname", "no-such-NAME"])
def test_wrong_usage(runtime: Runtime, line: str, fresh: Fresh) -> None:
    words = line.replace("NAME", fresh.word()).split()
    wrong = next(word for word in reversed(words) if word != "true")
    assert wrong in runtime.refusal(runtime.call(*words))


def test_help_is_no_error(runtime: Runtime) -> None:
    for words in (["--help"], ["run", "--help"]):
        result = runtime.call(*words)
        assert result.code == 0 and b"run" in result.out and result.err == b""
