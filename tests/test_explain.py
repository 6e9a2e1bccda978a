"""`--explain` tells the truth, the whole truth, in the right order: it is held against strace(1) of the same run.

What it owes us are the calls that make a container, of the runtime and of its init until that becomes the command.
`owed` says which they are, `told` brings them to one notation. Both sides must show the same calls, with the same
arguments and results, in the same order; and a line stands where it belongs, directly after its call (or before it,
where --explain announces: BEFORE).
"""

import difflib
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import image, strace
from tests.runtime import Missing, Result, Runtime, Word
from tests.terminal import Terminal

pytestmark = pytest.mark.ours_alone("Podman has no --explain")

COVERED = """
    clone clone3 mount umount2 pivot_root chroot chdir mkdir rmdir mknod symlink rename sethostname prctl close_range unshare
    capset setgroups setresuid setresgid setns ioctl execve write open_tree mount_setattr move_mount
""".split()
BEFORE = ("execve(", "echo ", "ip ")
LINE = re.compile(r"\[(\w+)\] (.*)\n")


# ---- what strace saw, as --explain has to tell it --------------------------------------------------------------------


def standard(call: strace.Call) -> tuple[str, str]:
    """Name and arguments of a call. C libraries differ: mkdir(2) or mkdirat(2) with AT_FDCWD, and so on."""
    here = r"AT_FDCWD(?:<[^>]*>)?, "
    if call.name in ("mkdirat", "mknodat", "symlinkat", "renameat", "renameat2"):
        return call.name.partition("at")[0], re.sub(rf"{here}|, 0$", "", call.arguments)
    if call.name == "unlinkat" and call.arguments.endswith(", AT_REMOVEDIR"):
        return "rmdir", re.sub(rf"{here}|, AT_REMOVEDIR$", "", call.arguments)
    arguments = re.sub(r"^(\d+|AT_FDCWD)<[^>]*>", r"\1", call.arguments)  # a descriptor without its path
    if call.name == "move_mount":  # it has two
        arguments = re.sub(r", AT_FDCWD<[^>]*>", ", AT_FDCWD", arguments)
    return call.name, arguments.replace(" /* MS_??? */", "")  # which strace makes of no flags at all


def told(call: strace.Call) -> str:
    """What --explain has to say of this call."""
    name, arguments = standard(call)
    if name == "write":
        return f"echo {written(call)} > {call.path}"
    if "SIOCSIFFLAGS" in arguments:
        return "ip link set lo up"
    result = re.sub(r"^(\d+)<.*>$", r"\1", call.result)
    return f"execve({arguments})" if name == "execve" else f"{name}({arguments}) = {result}"


def written(call: strace.Call) -> str:
    """What a write(2) writes."""
    data = re.fullmatch(r'\d+(?:<.*?>)?, "(.*)", \d+', call.arguments)
    return data[1].encode().decode("unicode_escape") if data else ""


def owed(call: strace.Call, store: str) -> bool:
    """Whether --explain has to tell of this call."""
    name, arguments = standard(call)
    match name:
        case "write":  # the kernel's files; not the store's, a channel, a terminal
            return re.match(r"/sys/fs/cgroup/|/proc/\d+/(uid_map|gid_map|setgroups)", call.path) is not None
        case "ioctl":
            return "SIOCSIFFLAGS" in arguments or "TIOCSCTTY" in arguments
        case "prctl":
            return re.match("PR_SET_PDEATHSIG|PR_CAPBSET_DROP|PR_SET_DUMPABLE", arguments) is not None
        case "clone":  # not fork(2) by the C library: a helper, such as gives the caller's terminal back
            return "CLONE_CHILD_SETTID" not in arguments and "CLONE_VM" not in arguments
        case "rmdir" if call.result.startswith("-1"):  # a cgroup that was not empty yet: it is tried again
            return False
        case "mkdir" | "rmdir" | "symlink" | "rename":  # not how the store keeps its files, and Python its bytecode
            return f'"{store}' not in arguments and "__pycache__" not in call.path
    return name in COVERED


@dataclass(frozen=True)
class Event:
    """A line of --explain by `who`, or a call: then `who` is empty."""

    pid: int
    who: str
    text: str


def events(trace: Path, store: str) -> list[Event]:
    """The lines of --explain, and the calls that it owes a line or that have one, as strace saw them come.

    Looked at are the runtime, and each child that it clones, until that executes the command; or until it locks itself
    up to unpack an archive, thousands of calls of no interest.
    """
    first, *calls = strace.calls(trace)
    lines = [(call, LINE.fullmatch(written(call)) if call.name == "write" else None) for call in calls]
    have_one = {(call.pid, line[2]) for call, line in lines if line}
    watched, unpacking = {first.pid}, set[int]()
    found = []
    for call, line in lines:
        if line:
            found.append(Event(call.pid, line[1], line[2]))
        elif call.pid in watched and (owed(call, store) or (call.pid, told(call)) in have_one):
            if call.pid in unpacking and call.name != "chdir":
                continue
            found.append(Event(call.pid, "", told(call)))
            if call.name in ("clone", "clone3") and call.result.isdecimal():
                watched.add(int(call.result))
            elif call.name == "execve" and call.result == "0":
                watched.remove(call.pid)
            elif call.name == "chroot":
                unpacking.add(call.pid)
    return found


def disagreements(found: Sequence[Event]) -> Iterator[str]:
    """Where --explain and strace disagree."""
    calls = [f"{event.pid} {event.text}" for event in found if not event.who]
    lines = [f"{event.pid} {event.text}" for event in found if event.who]
    yield from difflib.unified_diff(calls, lines, "what strace saw", "what --explain told", lineterm="", n=1)
    names = {(event.pid, event.who) for event in found if event.who}
    if len({pid for pid, _ in names}) != len(names):
        yield f"one process told under two names: {names}"
    if calls == lines:
        for one, other in zip(found[::2], found[1::2], strict=True):
            if one.text != other.text or bool(one.who) != one.text.startswith(BEFORE):
                yield f"not told when it was done: {one.text}"


def agree(found: Sequence[Event]) -> None:
    told_wrong = list(disagreements(found))
    assert not told_wrong, "\n".join(["--explain and strace disagree", *told_wrong])


# ---- runs that are watched -------------------------------------------------------------------------------------------


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    try:
        strace.program()
    except Missing as missing:
        pytest.skip(str(missing))
    return tmp_path / "state" / "trace"


def store(runtime: Runtime) -> str:
    return runtime.environment["MYDOCKER_ROOT"]


def explained(result: Result) -> list[str]:
    """The lines of --explain on standard error. There must be no others."""
    lines = result.err.decode().splitlines(keepends=True)
    assert all(map(LINE.fullmatch, lines)), result.err.decode()
    return lines


def watched_run(runtime: Runtime, trace: Path, *command: Word, options: Sequence[Word] = (), **more: Any) -> Result:
    result = runtime.run(*command, options=["--explain", *options], under=strace.recording(trace), **more)
    found = events(trace, store(runtime))
    agree(found)
    assert [f"[{event.who}] {event.text}\n" for event in found if event.who] == explained(result)
    return result


@pytest.mark.step(1)
def test_a_plain_run(runtime: Runtime, trace: Path) -> None:
    result = watched_run(runtime, trace, "sh", "-c", "echo hi; exit 3")
    assert (result.code, result.out) == (3, b"hi\n")
    names = [line.partition("(")[0] for line in explained(result)]
    assert "[runtime] clone3" in names
    assert names[-1].startswith(("[init] execve", "[runtime] rmdir", "[runtime] rename"))


@pytest.mark.step(1)
def test_a_run_with_options(runtime: Runtime, trace: Path) -> None:
    options = ["-t", "--hostname", "box"]
    if runtime.step >= 2 and not runtime.rootless:
        options += ["-m", "64m", "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "50"]
    if runtime.step >= 3:
        options += ["-w", "/tmp"]
    if runtime.step >= 3 and not runtime.rootless:
        options += ["-u", "alice"]
    result = watched_run(runtime, trace, "hostname", options=options)
    assert result.out == b"box\r\n"


@pytest.mark.step(3)
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
    words = runtime.words(["cat", "/etc/group", "/etc/passwd"], ["--explain", *options])
    result = runtime.popen(words, under=strace.recording(trace)).end()
    assert result.code == 0 and result.text.endswith("staff:x:50:alice\nold"), result.err
    found = events(trace, store(runtime))
    for pid in {event.pid for event in found}:  # the process that fills a volume need not wait either
        agree([event for event in found if event.pid == pid])
    told = sorted(explained(result))
    assert told == sorted(f"[{event.who}] {event.text}\n" for event in found if event.who)
    mounts = 6 if runtime.step >= 9 else 3  # its own /etc/hosts, hostname and resolv.conf as well
    for call, times in (("open_tree", mounts), ("mount_setattr", mounts), ("move_mount", mounts), ("chroot", 1)):
        assert sum(f"] {call}(" in line for line in told) == times, told
    assert runtime.call("volume", "rm", name).code == 0


@pytest.mark.step(1)
def test_a_run_at_a_terminal(runtime: Runtime, trace: Path) -> None:
    words = [*strace.recording(trace), *runtime.words(["sh"], ["-it", "--explain"])]
    terminal = Terminal(words, env=runtime.environment, cwd=runtime.directory, user=runtime.user)
    runtime.started.append(terminal)
    terminal.expect(r"execve.*[#$] ")
    terminal.send("exit 7\r")
    assert terminal.end() == 7
    agree(events(trace, store(runtime)))
    assert terminal.settings() == terminal.before


@pytest.mark.step(1)
def test_a_command_that_is_not_found(runtime: Runtime, trace: Path) -> None:
    words = runtime.words(["no-such-command"], ["--explain"])
    result = runtime.popen(words, under=strace.recording(trace)).end()
    assert result.code == 127
    found = events(trace, store(runtime))
    agree(found)
    assert not any(event.text.startswith("execve") for event in found)


@pytest.mark.step(1)
def test_odd_words(runtime: Runtime, trace: Path) -> None:
    """As strace writes them: escaped, in octal where there is no letter for it, with three digits before a digit."""
    odd: list[Word] = ["", 'a "b" \\c', "tab\t newline\n return\r", "\x01 \x011 \x7f", "é", b"\xff\xfe", "\v\f"]
    assert watched_run(runtime, trace, "true", *odd).code == 0


@pytest.mark.step(3)
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
    assert any("chroot(" in line for line in explained(result)) == (kind == "archive")


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
    assert any("rename(" in line for line in lines) == (kind == "image")
    if kind == "image":
        assert runtime.call("rmi", "made").code == 0


@pytest.mark.step(1)
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


@pytest.mark.step(1)
def test_only_if_asked(runtime: Runtime) -> None:
    for value in ("", "0"):
        assert runtime.run("true", env={"MYDOCKER_EXPLAIN": value}).err == b""
    by_option = runtime.run("true", options=["--explain"])
    by_variable = runtime.run("true", env={"MYDOCKER_EXPLAIN": "1"})
    assert alike(by_option) == alike(by_variable) != []


@pytest.mark.step(1)
@pytest.mark.parametrize("options", [[], ["-i"], ["-t"]])
def test_the_containers_output_is_its_own(runtime: Runtime, options: list[str]) -> None:
    script = "echo out; echo error >&2"
    result = runtime.run("sh", "-c", script, options=["--explain", *options], input=b"")
    assert result.out.split() == ([b"out", b"error"] if "-t" in options else [b"out"])
    told = [line for line in result.err.splitlines() if line != b"error"]
    assert told
    assert all(line.startswith((b"[runtime] ", b"[init] ")) for line in told)


@pytest.mark.step(1)
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(exec true)"])
def test_nobody_can_hear_it(runtime: Runtime, stderr: str) -> None:
    """Closed, full, or a reader that has gone: what is told can be lost, but never changes what is done."""
    words = runtime.words(["sh", "-c", "echo out; exit 3"], ["--explain"])
    result = runtime.popen(["bash", "-c", f'sleep 0.1; exec "$@" {stderr}', "bash", *words]).end()
    assert (result.code, result.out) == (3, b"out\n")


@pytest.mark.step(1)
def test_no_descriptor_of_it_is_left_to_the_command(runtime: Runtime) -> None:
    listed = runtime.run("sh", "-c", "ls /proc/self/fd", options=["--explain"]).text.split()
    assert {*listed} - {"3"} == {"0", "1", "2"}, "3 is that of ls itself"
