"""`--explain` tells the truth, the whole truth, in the right order: it is held against strace(1) of the same run.

What it owes us are the calls that make a container, of the runtime and of its init until that becomes the command.
`owed` says which they are, `told` brings them to one notation. Both sides must show the same calls, with the same
arguments and results, in the same order; and a line stands where it belongs, directly after its call (or before it,
where --explain announces: BEFORE).
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import image, strace
from tests.support.explain import LINE, Event, agree, disagreements, events, explained, store, watched_run
from tests.support.runtime import Result, Runtime, Word
from tests.support.terminal import Terminal

pytestmark = pytest.mark.ours_alone("Podman has no --explain")

# ---- runs that are watched -------------------------------------------------------------------------------------------


def test_a_plain_run(runtime: Runtime, trace: Path) -> None:
    result = watched_run(runtime, trace, "sh", "-c", "echo hi; exit 3")
    assert (result.code, result.out) == (3, b"hi\n")
    names = [line.partition("(")[0] for line in explained(result)]
    assert "[runtime] clone3" in names
    assert names[-1].startswith(("[init] execve", "[runtime] rmdir", "[runtime] rename"))


def test_a_run_with_options(runtime: Runtime, trace: Path) -> None:
    options = ["-t", "--hostname", "box"]
    if runtime.step >= 2 and not runtime.rootless:
        options += ["-m", "64m", "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "50"]
    if runtime.step >= 8:
        options += ["-w", "/tmp"]
    if runtime.step >= 8 and not runtime.rootless:
        options += ["-u", "alice"]
    result = watched_run(runtime, trace, "hostname", options=options)
    assert result.out == b"box\r\n"


@pytest.mark.step(8)
def test_a_working_directory_that_is_missing(runtime: Runtime, trace: Path) -> None:
    result = watched_run(runtime, trace, "pwd", options=["-w", f"/tmp/{trace.parts[2]}/new"])
    assert result.text.endswith("/new")


@pytest.mark.step(5)
def test_a_run_with_volumes(runtime: Runtime, trace: Path) -> None:
    """One of the store, which is filled, a directory and a file of the host's."""
    source = trace.with_name('odd "name"\n')
    source.mkdir()
    (source / "file").write_text("old")
    name = trace.parts[-3]
    options = ["-v", f"{name}:/etc", "-v", f"{source}:/new/place:ro", "-v", f"{source}/file:/etc/passwd"]
    filled = ["/etc/group"] if runtime.step >= 6 else []
    words = runtime.words(["cat", *filled, "/etc/passwd"], ["--explain", *options])
    result = runtime.popen(words, under=strace.recording(trace)).end()
    assert result.code == 0 and result.text.endswith("staff:x:50:alice\nold" if filled else "old"), result.err
    found = events(trace, store(runtime))
    for pid in {event.pid for event in found}:  # the process that fills a volume need not wait either
        agree([event for event in found if event.pid == pid])
    told = sorted(explained(result))
    assert told == sorted(f"[{event.who}] {event.text}\n" for event in found if event.who)
    mounts = 6 if runtime.step >= 9 else 3  # its own /etc/hosts, hostname and resolv.conf as well
    expected = {"open_tree": mounts, "mount_setattr": mounts, "move_mount": mounts, "chroot": 2 * (runtime.step >= 6)}
    for call, times in expected.items():
        assert sum(f"] {call}(" in line for line in told) == times, told
    assert runtime.call("volume", "rm", name).code == 0


def test_a_run_at_a_terminal(runtime: Runtime, trace: Path) -> None:
    words = [*strace.recording(trace), *runtime.words(["sh"], ["-it", "--explain"])]
    terminal = Terminal(words, env=runtime.environment, cwd=runtime.directory, user=runtime.user)
    runtime.started.append(terminal)
    terminal.expect(r"execve.*[#$] ")
    terminal.send("exit 7\r")
    assert terminal.end() == 7
    agree(events(trace, store(runtime)))
    assert terminal.settings() == terminal.before


def test_a_command_that_is_not_found(runtime: Runtime, trace: Path) -> None:
    words = runtime.words(["no-such-command"], ["--explain"])
    result = runtime.popen(words, under=strace.recording(trace)).end()
    assert result.code == 127
    found = events(trace, store(runtime))
    agree(found)
    assert not any(event.text.startswith("execve") for event in found)


def test_odd_words(runtime: Runtime, trace: Path) -> None:
    """As strace writes them: escaped, in octal where there is no letter for it, with three digits before a digit."""
    odd: list[Word] = ["", 'a "b" \\c', "tab\t newline\n return\r", "\x01 \x011 \x7f", "é", b"\xff\xfe", "\v\f"]
    assert watched_run(runtime, trace, "true", *odd).code == 0


@pytest.mark.step(6)
@pytest.mark.parametrize("kind", ["archive", "directory"])
def test_an_import(runtime: Runtime, trace: Path, tmp_path: Path, kind: str) -> None:
    source = image.small_tar()
    if kind == "directory":
        source = tmp_path / "state" / "source"
        (source / "bin").mkdir(parents=True)
        (source / "bin/tool").write_text("x")
    root = {"MYDOCKER_ROOT": str(tmp_path / "state" / "store"), "MYDOCKER_EXPLAIN": "1"}
    words = [*runtime.command, "import", str(source), "new"]
    result = runtime.popen(words, env=root, under=strace.recording(trace)).end()
    assert result.code == 0, result.err
    found = events(trace, root["MYDOCKER_ROOT"])
    for pid in {event.pid for event in found}:  # the unpacking process need not wait for the runtime to tell of it
        agree([event for event in found if event.pid == pid])
    assert sorted(explained(result)) == sorted(f"[{event.who}] {event.text}\n" for event in found if event.who)
    assert any("rename(" in line for line in explained(result))
    assert any("chroot(" in line for line in explained(result))


@pytest.mark.long
@pytest.mark.step(6)
@pytest.mark.parametrize("kind", ["image", "archive"])
def test_a_commit(runtime: Runtime, trace: Path, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "state/out.tar"
    started = runtime.start("sh", "-c", "hostname; cat", options=["-i"], stdin=subprocess.PIPE)
    id = started.line()
    words = [*runtime.command, "commit", id, *(["made"] if kind == "image" else ["-o", str(archive)])]
    result = runtime.popen(words, env={"MYDOCKER_EXPLAIN": "1"}, under=strace.recording(trace)).end()
    assert started.end(b"").code == 0
    assert result.code == 0, result.err
    lines = [line for line in result.err.decode().splitlines(keepends=True) if "no cgroup freezer" not in line]
    assert all(map(LINE.fullmatch, lines)), result.err.decode()
    found = events(trace, store(runtime))
    for pid in {event.pid for event in found}:  # the process at work need not wait for the runtime to tell of it
        agree([event for event in found if event.pid == pid])
    assert sorted(lines) == sorted(f"[{event.who}] {event.text}\n" for event in found if event.who)
    assert any("mount(" in line and "upper:lower" in line for line in lines)
    assert any("rename(" in line for line in lines)
    if kind == "image":
        assert runtime.call("rmi", "made").code == 0


@pytest.mark.as_root("as root is as good")
def test_the_comparison_goes_red(runtime: Runtime, trace: Path) -> None:
    """Each line of a true account dropped, changed, told twice, told too late or by another: all are noticed."""
    assert runtime.run("true", options=["--explain"], under=strace.recording(trace)).code == 0
    true = events(trace, store(runtime))
    agree(true)
    lines = [number for number, event in enumerate(true) if event.who]
    assert len(lines) > 5
    for number in lines:
        line = true[number]
        changed = Event(line.pid, line.who, line.text.replace("=", "= 1") if "=" in line.text else f"{line.text}0")
        for wrong in ([], [changed], [line, line], [Event(line.pid + 1, line.who, line.text)]):
            assert list(disagreements([*true[:number], *wrong, *true[number + 1 :]])), line
        if number + 2 < len(true):
            assert list(disagreements([*true[:number], *true[number + 1 : number + 3], line, *true[number + 3 :]])), (
                line
            )
    for number in set(range(len(true))) - {*lines}:  # a call that nobody told of
        assert list(disagreements([*true[:number], true[number], *true[number:]])), true[number]


# ---- where it is told, and where not ---------------------------------------------------------------------------------


def alike(result: Result) -> list[str]:
    """The lines with every number and id made the same."""
    return [re.sub(r"[0-9a-f]{12}|\d+", "N", line) for line in explained(result)]


def test_only_if_asked(runtime: Runtime) -> None:
    for value in ("", "0"):
        assert runtime.run("true", env={"MYDOCKER_EXPLAIN": value}).err == b""
    by_option = runtime.run("true", options=["--explain"])
    by_variable = runtime.run("true", env={"MYDOCKER_EXPLAIN": "1"})
    assert alike(by_option) == alike(by_variable) != []


@pytest.mark.parametrize("options", [[], ["-i"], ["-t"]])
def test_the_containers_output_is_its_own(runtime: Runtime, options: list[str]) -> None:
    script = "echo out; echo error >&2"
    result = runtime.run("sh", "-c", script, options=["--explain", *options], input=b"")
    assert result.out.split() == ([b"out", b"error"] if "-t" in options else [b"out"])
    told = [line for line in result.err.splitlines() if line != b"error"]
    assert told
    assert all(line.startswith((b"[runtime] ", b"[init] ")) for line in told)


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(exec true)"])
def test_nobody_can_hear_it(runtime: Runtime, stderr: str) -> None:
    """Closed, full, or a reader that has gone: what is told can be lost, but never changes what is done."""
    words = runtime.words(["sh", "-c", "echo out; exit 3"], ["--explain"])
    result = runtime.popen(["bash", "-c", f'sleep 0.1; exec "$@" {stderr}', "bash", *words]).end()
    assert (result.code, result.out) == (3, b"out\n")


def test_no_descriptor_of_it_is_left_to_the_command(runtime: Runtime) -> None:
    listed = runtime.run("sh", "-c", "ls /proc/self/fd", options=["--explain"]).text.split()
    assert {*listed} - {"3"} == {"0", "1", "2"}, "3 is that of ls itself"
