"""What a container has written, and `logs` shows: all of it, as it was written, until its last byte."""

import fcntl
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import host
from tests.support.fresh import Fresh
from tests.support.runtime import Runtime

TALKS = ("sh", "-c", "trap 'echo two; exit' TERM; echo one; while :; do sleep 0.05; done")


def log(runtime: Runtime, *command: str) -> str:
    """A container that has ended."""
    container = runtime.detach(*command)
    runtime.says("wait", container)
    return container


# ---- nothing is lost -------------------------------------------------------------------------------------------------


def test_up_to_the_last_byte(runtime: Runtime, fresh: Fresh) -> None:
    """More than a pipe holds, every byte that there is, no newline at the end, and then death at once."""
    first = fresh.number(1, 255)
    script = f"import os; os.write(1, bytes((n + {first}) % 256 for n in range(300_000))); os._exit(3)"
    container = log(runtime, "python3", "-I", "-S", "-c", script)
    assert runtime.call("logs", container).out == bytes((n + first) % 256 for n in range(300_000))


def test_errors_apart_and_in_order(runtime: Runtime, fresh: Fresh) -> None:
    """What the command wrote to standard error, `logs` writes there too; read together, all is in the right order."""
    one, two = fresh.word(), fresh.word()
    script = (
        f"echo {one}; sleep 0.2; echo {two} >&2; sleep 0.2; printf thr; sleep 0.2; echo four >&2; sleep 0.2; echo ee"
    )
    container = log(runtime, "sh", "-c", script)
    apart = runtime.call("logs", container)
    assert (apart.out.decode(), apart.err.decode()) == (f"{one}\nthree\n", f"{two}\nfour\n")
    together = runtime.popen([*runtime.command, "logs", container], stderr=subprocess.STDOUT).end()
    assert together.out.decode() == f"{one}\n{two}\nthrfour\nee\n"


@pytest.mark.ours_alone("Podman joins nothing in the foreground: it relays each stream by itself")
def test_of_a_container_in_the_foreground(runtime: Runtime) -> None:
    """Where both streams are one file, as at a terminal, they stay in order: 2000 lines by turns."""
    for options, out, err in (([], b"out\n", b"error\n"), (["-t"], b"out\r\nerror\r\n", b"")):
        words = runtime.words(["sh", "-c", "echo out; sleep 0.05; echo error >&2; exit 4"], options, keep=True)
        result = runtime.popen(words).end()
        assert (result.code, result.out, result.err) == (4, out, err)
        container = runtime.says("ps", "-aq").split()[0]
        runtime.kept.append(container)
        logged = runtime.call("logs", container)
        assert (logged.out, logged.err) == (out, err)
        assert runtime.says("wait", container) == "4"
    script = "import os\nfor n in range(2000): os.write(1 + n % 2, b'%d\\n' % n)"
    started = runtime.start("python3", "-I", "-S", "-c", script, stderr=subprocess.STDOUT)
    assert started.end().text.split() == [str(n) for n in range(2000)]


@pytest.mark.ours_alone("where and how ours keeps its log")
def test_the_file(runtime: Runtime) -> None:
    """Each line as in Kubernetes: TIME STREAM F|P TEXT. What a killed monitor has left of a line is not shown."""
    container = log(runtime, "sh", "-c", "echo out; sleep 0.1; printf error >&2")
    file = Path(runtime.environment["MYDOCKER_ROOT"], "containers", container, "log")
    time = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    assert re.fullmatch(rb"%b stdout F out\n%b stderr P error\n" % (time, time), file.read_bytes())
    with file.open("ab") as half:
        half.write(b"2030-01-01T00:00:00.000000000Z stdout F ha")
    for options in ([], ["--tail", "9"], ["--tail", "1"]):
        result = runtime.call("logs", *options, container)
        assert (result.out, result.err) == (b"" if "1" in options else b"out\n", b"error")


@pytest.mark.ours_alone("a clock that is set back is no matter of the command line")
@pytest.mark.as_root("as root is as good")
def test_time_never_goes_back(runtime: Runtime, tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from {runtime.name}.records.monitor import Log
Path("log").touch()
log = Log(Path())
for seconds in (1000, 500, 2000):
    time.time_ns = lambda: seconds * 10**9
    log.write(1, b"line\\n")
"""
    words = [runtime.command[0], "-c", script]
    assert runtime.popen(words, cwd=tmp_path).end().code == 0
    times = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert times == [f"1970-01-01T00:{minute}.000000000Z" for minute in ("16:40", "16:40", "33:20")]


@pytest.mark.ours_alone("Podman copies what a container writes in a way of its own")
def test_to_somebody_who_does_not_block_and_reads_slowly(runtime: Runtime) -> None:
    """Whoever shares the pipe may have set O_NONBLOCK: then write(2) takes a part, or nothing for now."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    started = runtime.start("head", "-c", "300000", "/dev/zero", stdout=writer)
    os.close(writer)
    with open(reader, "rb", buffering=0) as file:
        read = 0
        while data := file.read(1000):
            read += len(data)
    assert (started.end().code, read) == (0, 300000)


@pytest.mark.as_root("others may not open a pipe of its")
def test_somebody_outside_holds_its_pipe(runtime: Runtime) -> None:
    """The container ends even so, and so does `run`."""
    started = runtime.start("sh", "-c", "echo ready; read _; echo done", options=["-i"], stdin=subprocess.PIPE)
    assert started.line() == "ready"
    with open(f"/proc/{host.init().pid}/fd/1", "wb"):
        assert started.end(b"\n").text == "done"


@pytest.mark.ours_alone("what ours does when its reader is gone")
def test_a_reader_that_has_seen_enough(runtime: Runtime) -> None:
    container = log(runtime, "seq", "100000")
    words = [*runtime.command, "logs", container]
    first = runtime.popen(["bash", "-c", '"$@" | head -n 1', "bash", *words]).end()
    assert (first.out, first.err) == (b"1\n", b"")
    assert runtime.popen(["bash", "-c", '"$@" | head -n 1; exit ${PIPESTATUS[0]}', "bash", *words]).end().code == 141


@pytest.mark.ours_alone("where ours keeps its log")
@pytest.mark.as_root("mounts a small disk")
def test_a_full_disk(runtime: Runtime, tmp_path: Path) -> None:
    """The container fills it with its log. It does not stand still, its end is noted, and no half line is shown."""
    script = """
        mount -t tmpfs -o size=12m tmpfs "$1" && export MYDOCKER_ROOT=$1 && shift && set -e
        "$@" run -d --name full $OPTIONS busybox sh -c 'seq 1000000; exit 3' >id 2>/dev/null
        "$@" wait full; "$@" logs --tail 1 full; tail -c 1 $MYDOCKER_ROOT/containers/*/log | wc -l; "$@" rm full
    """
    words = ["unshare", "-m", "bash", "-c", script, "bash", str(tmp_path / "state"), *runtime.command]
    env = {"OPTIONS": " ".join(runtime.modest[1:])}
    result = runtime.popen(words, cwd=tmp_path, env=env).end()
    code, line, newline, removed = result.text.split()
    assert (code, newline, removed) == ("3", "1", "full"), result.err
    assert int(line) < 1000000, "perhaps the beginning of a line"


# ---- which part of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", ""], ids=["a newline at the end", "none"])
def test_tail(runtime: Runtime, end: str, fresh: Fresh) -> None:
    one, three, four = fresh.word(), fresh.word(), fresh.word()
    whole = f"{one}\n\n{three}\n{four}{end}"
    container = log(runtime, "printf", whole)
    for number, part in (("0", ""), ("1", four), ("3", f"\n{three}\n{four}"), ("9", f"{one}\n\n{three}\n{four}")):
        shown = runtime.call("logs", "--tail", number, container).out.decode()
        assert shown.removesuffix("\n") == part, number
        if runtime.podman:
            break  # one question is enough, at its pace
        assert whole.endswith(shown), number
    if not runtime.podman:
        assert runtime.call("logs", "--tail", "all", container).out.decode() == whole
    for wrong in ("x", *([] if runtime.podman else ["9" * 5000])):
        runtime.refusal(runtime.call("logs", f"--tail={wrong}", container))
    runtime.refusal(runtime.call("logs", "no-such"))


def test_the_tail_of_nothing(runtime: Runtime) -> None:
    assert runtime.says("logs", "--tail", "3", log(runtime, "true")) == ""


@pytest.mark.ours_alone("where ours keeps its log")
@pytest.mark.as_root("as root is as good")
def test_the_tail_of_a_large_log(runtime: Runtime) -> None:
    """A gigabyte, of which next to nothing is read: proc_pid_io(5) counts what the shell's children read, too."""
    container = log(runtime, "true")
    file = Path(runtime.environment["MYDOCKER_ROOT"], "containers", container, "log")
    with file.open("r+b") as large:
        large.truncate(10**9)
        large.seek(0, os.SEEK_END)
        large.write(b"\n" + b"".join(b"2030-01-01T00:00:00.000000000Z stdout F %d\n" % n for n in range(20_000)))
    words = [*runtime.command, "logs", "--tail", "3", container]
    result = runtime.popen(["sh", "-c", '"$@"; grep rchar /proc/$$/io', "sh", *words]).end()
    *lines, count = result.text.splitlines()
    assert lines == ["19997", "19998", "19999"]
    assert int(count.split()[1]) < 100e6


def test_timestamps(runtime: Runtime, fresh: Fresh) -> None:
    began, words = time.time(), (fresh.word(), fresh.word(), fresh.word())
    last = "printf $2" if runtime.podman else "printf ${2%?}; sleep 0.2; printf ${2#${2%?}}"  # in parts: one line
    container = log(runtime, "sh", "-c", f"echo $0; sleep 1.1; echo $1; {last}", *words)
    times, lines = zip(
        *(line.split(" ", 1) for line in runtime.says("logs", "-t", container).splitlines()), strict=True
    )
    assert lines == words
    found = [re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)(Z|[+-]\d\d:\d\d)", each) for each in times]
    assert all(found)
    first, second, third = ([*map(str, each.groups())] for each in found if each)
    assert first[:2] < second[:2] <= third[:2]
    whole = subprocess.run(["date", "-d", times[0], "+%s"], capture_output=True, text=True, check=True).stdout
    assert began - 1 <= int(whole) <= time.time()
    assert runtime.says("logs", container).splitlines() == [*lines]


# ---- following -------------------------------------------------------------------------------------------------------


@pytest.mark.ours_alone("Podman learns of the end from its events, which are switched off here")
def test_follow(runtime: Runtime, fresh: Fresh) -> None:
    """What comes later is shown when it comes, and the end of the container is the end."""
    one, two, early = fresh.word(), fresh.word(), fresh.word()
    script = f"trap 'echo {two}; exit' TERM; echo {one}; while :; do sleep 0.05; done"
    container = runtime.detach("sh", "-c", script, options=["--rm"])
    following = runtime.popen([*runtime.command, "logs", "-f", container])
    assert following.line() == one
    runtime.says("stop", container)
    result = following.end()
    assert (result.code, result.text) == (0, two)
    ended = log(runtime, "echo", early)
    assert runtime.says("logs", "--follow", ended) == early


@pytest.mark.long
@pytest.mark.ours_alone("Podman's would end for another reason")
def test_follow_sees_what_is_written_at_the_end(runtime: Runtime) -> None:
    """Though the reader has to wait for a processor between a look at the log and the question whether it is over."""
    if not (strace := shutil.which("strace")):
        pytest.skip("strace is not installed")
    container = runtime.detach(*TALKS)
    slow = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "inject=flock:delay_enter=800000"]
    following = runtime.popen([*runtime.command, "logs", "-f", container], under=slow)
    assert following.line() == "one"
    runtime.says("stop", container)
    assert following.end().text == "two"


@pytest.mark.ours_alone("Podman's would end for another reason")
def test_follow_from_the_very_start_to_a_violent_end(runtime: Runtime) -> None:
    """Monitor and container are killed: then nobody writes any more, and nobody waits for it."""
    container = runtime.detach(*TALKS)
    following = runtime.popen([*runtime.command, "logs", "-f", "--tail", "0", "-t", container])
    again = runtime.popen([*runtime.command, "logs", "-f", container])
    assert again.line() == "one"
    for process in {*host.contained()} | {p for p in host.descendants() if "monitor.py" in arguments(p.pid)}:
        process.signal(9)
    assert (following.end().code, again.end().code) == (0, 0)
    assert runtime.says("wait", container) == "137"


def arguments(pid: int) -> str:
    """A process's command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
