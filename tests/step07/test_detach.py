"""Containers that outlive the command that started them: `run -d`, names, `ps`, and records that tell the truth."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import host
from tests.support.fresh import Fresh
from tests.support.runtime import Result, Runtime

OURS = pytest.mark.ours_alone("how ours looks after its containers")


def store(runtime: Runtime) -> Path:
    return Path(runtime.environment["MYDOCKER_ROOT"])


def rows(runtime: Runtime, *options: str) -> dict[str, list[str]]:
    """What `ps` shows: the cells of each line, by name."""
    lines = runtime.says("ps", *options).splitlines()
    return {line.split()[-1]: re.split(r" {2,}", line) for line in lines[1:]}


def status(runtime: Runtime, name: str) -> str:
    """The column STATUS of a container."""
    return next(cell for cell in rows(runtime, "-a")[name] if re.match("Up|Exited|Created", cell))


def monitors() -> list[host.Process]:
    """The processes that stay behind."""
    found = []
    for process in host.descendants():
        try:
            if b"monitor.py" in Path(f"/proc/{process.pid}/cmdline").read_bytes():
                found.append(process)
        except OSError:
            pass
    return found


def nothing_kept(runtime: Runtime) -> None:
    """No record, name or half-made thing is in the store."""
    left = [path for folder in ("containers", "tmp") for path in store(runtime).glob(f"{folder}/*")]
    assert left == []


# ---- run -d ----------------------------------------------------------------------------------------------------------


def test_it_goes_on_in_the_background(runtime: Runtime, fresh: Fresh) -> None:
    """`run` has printed the id, and let go of both pipes (else there would be no result); the container runs."""
    name = fresh.word()
    container = runtime.detach("sh", "-c", "echo out; echo error >&2; exec sleep 60", options=["--name", name])
    assert re.fullmatch("[0-9a-f]{12}|[0-9a-f]{64}", container)
    assert container.startswith(runtime.says("ps", "-q"))
    assert status(runtime, name).startswith("Up ")
    assert rows(runtime)[name][0] == container[:12]
    process = host.init()
    assert os.getsid(process.pid) == process.pid
    process.signal(signal.SIGKILL)
    assert runtime.says("wait", name) == "137"
    assert rows(runtime) == {}
    assert re.match(r"Exited \(137\) .* ago", status(runtime, name))
    assert runtime.call("logs", container).code == 0
    runtime.says("rm", container)
    assert rows(runtime, "-a") == {}


@pytest.mark.parametrize(("command", "code"), [("no-such-{}", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_executed(runtime: Runtime, command: str, code: int, fresh: Fresh) -> None:
    command = command.format(fresh.word())
    words = runtime.words([command], ["-d", "--name", "wrong"], keep=True)
    result = runtime.popen(words).end()
    assert result.out == b""
    assert command in runtime.refusal(result, code)
    if runtime.podman:  # which keeps a record of it
        runtime.says("rm", "wrong")
    else:
        nothing_kept(runtime)


def test_what_else_is_refused_at_once(runtime: Runtime) -> None:
    words = [*runtime.command, "run", "-d", "no-such-image", "true"]
    if not runtime.podman:  # which asks the net
        runtime.refusal(runtime.popen(words).end())
        for option in ("-t", "-i"):
            assert "-d" in runtime.refusal(runtime.popen(runtime.words(["true"], ["-d", option])).end())
    for name in ("..", ".x", "-x", "a/b", "../../a", "a b", "é"):
        runtime.refusal(runtime.popen(runtime.words(["true"], [f"--name={name}"])).end())
    assert rows(runtime, "-a") == {}


@OURS
def test_callers_whose_streams_are_closed(runtime: Runtime) -> None:
    """As under ssh and cron; and nohup's SIGHUP, ignored, does not matter to the command."""
    for number, closed in enumerate(("<&-", ">&-", "2>&-", "<&- >&- 2>&-")):
        words = runtime.words(["sleep", "60"], ["-d", "--name", f"closed{number}"], keep=True)
        runtime.kept.append(f"closed{number}")
        assert runtime.popen(["bash", "-c", f'trap "" HUP; exec "$@" {closed}', "bash", *words]).end().code == 0
    assert len(rows(runtime)) == 4
    ignored = re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{host.contained()[0].pid}/status").read_text())
    assert ignored and int(ignored[1], 16) & ~host.LIBC_OWN == 0
    words = runtime.words(["sleep", "60"], ["-d", "--name", "unread"], keep=True)
    runtime.kept.append("unread")
    runtime.popen(["bash", "-c", '"$@" | true', "bash", *words]).end()
    assert status(runtime, "unread").startswith("Up ")


@pytest.mark.ours_alone("Podman hands it on")
def test_nothing_of_the_callers_is_held(runtime: Runtime) -> None:
    """A pipe that its shell has open beside the standard ones; one may wait for its end, or for a lock on a file."""
    reader, writer = os.pipe()
    runtime.detach("sleep", "60", pass_fds=[writer])
    os.close(writer)
    os.set_blocking(reader, False)
    host.wait_until(lambda: at_its_end(reader), "nobody has the pipe open")
    os.close(reader)
    assert len(host.contained()) == 1


def at_its_end(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


@OURS
def test_explained(runtime: Runtime) -> None:
    """What is told is the same as in the foreground, up to where the container runs; then standard error is let go."""
    told = runtime.run("true", options=["--explain"]).err
    result = runtime.popen(runtime.words(["true"], ["-d", "--explain"])).end()
    assert re.fullmatch(rb"[0-9a-f]{12}\n", result.out)
    same, (start, *background) = (
        [re.sub(rb"[0-9a-f]{12}|\d+", b"N", line) for line in e.splitlines()] for e in (told, result.err)
    )
    assert start.startswith(b"[runtime] clone")
    background = [line.replace(b"[monitor]", b"[runtime]") for line in background]
    assert any(line.startswith(b"[init] execve") for line in background)
    assert background == same[: len(background)]
    host.wait_until(lambda: not host.descendants(), "it has ended")


@OURS
def test_the_store_by_a_relative_path(runtime: Runtime) -> None:
    """The process that stays behind has no working directory of the caller's."""
    env = {"MYDOCKER_ROOT": "../state/near"}
    words = [*runtime.words([], ["-d"], keep=True)[:-1], "busybox", "sh", "-c", "exit 3"]
    container = runtime.popen(words, env=env).end().text
    assert runtime.call("wait", container, env=env).text == "3"
    near = runtime.directory.parent / "state/near"
    assert (near / "containers" / container).is_dir()
    assert not Path("/containers").exists()
    assert runtime.call("rm", container, env=env).code == 0


@OURS
def test_it_costs_little(runtime: Runtime) -> None:
    """8 MB of its own memory, and none of the libraries that the command line needs."""
    runtime.detach("sleep", "60")
    host.wait_until(monitors, "the monitor is itself")
    (monitor,) = monitors()
    host.wait_until(lambda: "/log" in open_files(monitor.pid), "it is at work")
    if os.geteuid() == 0:
        share = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{monitor.pid}/smaps_rollup").read_text(), re.MULTILINE)
        assert share and int(share[1]) < 8192
    assert os.readlink(f"/proc/{monitor.pid}/cwd") == "/"
    assert open_files(monitor.pid).count("pipe:") == 2, "its ends, and not the container's"
    blocked = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{monitor.pid}/status").read_text())
    assert blocked and int(blocked[1], 16) == 0, "it can be ended"
    assert os.getsid(monitor.pid) == monitor.pid, "out of reach of its caller's terminal"


def open_files(pid: int) -> str:
    return " ".join(os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())


# ---- names and records -----------------------------------------------------------------------------------------------


def test_names(runtime: Runtime, fresh: Fresh) -> None:
    """Given or generated, they are unique as long as the record is there, whether the container runs or not."""
    name, word = f"Web_1.{fresh.word()}-b", fresh.word()
    one, two = runtime.detach("true", options=["--name", name]), runtime.detach("sleep", "60")
    assert runtime.says("wait", name) == "0"
    (generated,) = {*rows(runtime, "-a")} - {name}
    assert re.fullmatch("[a-z]+_[a-z]+", generated)
    for taken in (name, generated):
        for how in ([], ["-d"]):
            runtime.refusal(runtime.popen(runtime.words(["true"], [*how, "--name", taken])).end())
    runtime.says("rm", one)
    assert runtime.output("echo", word, options=["--name", name]) == word
    assert two.startswith(runtime.says("ps", "-aq"))


@OURS
def test_names_too_short_and_too_long(runtime: Runtime) -> None:
    for name in ("x", "x" * 129):
        assert "--name" in runtime.refusal(runtime.popen(runtime.words(["true"], ["--name", name])).end())
    assert runtime.run("true", options=["--name", "x" * 128]).code == 0


@OURS
def test_all_drawn_names_are_taken(runtime: Runtime) -> None:
    """Then one is drawn that nobody can have."""
    script = f"""
from {runtime.name}.records.new import ADJECTIVES, NOUNS, choose_name
taken = {{f"{{adjective}}_{{noun}}": "id" for adjective in ADJECTIVES for noun in NOUNS}}
print(choose_name("", taken), len(taken))
"""
    name, count = runtime.popen([runtime.command[0], "-c", script]).end().text.split()
    assert re.fullmatch(r"[a-z]+_[a-z]+_[0-9a-f]{6}", name) and int(count) > 1000


def test_a_record_stays_unless_rm_is_given(runtime: Runtime, fresh: Fresh) -> None:
    """In the foreground too."""
    word, code = fresh.word(), fresh.number(1, 124)
    script = f"echo {word}; exit {code}"
    result = runtime.popen(runtime.words(["sh", "-c", script], ["--name", "kept"], keep=True)).end()
    runtime.kept.append("kept")
    assert (result.code, result.text) == (code, word)
    assert status(runtime, "kept").startswith(f"Exited ({code}) ")
    assert runtime.says("logs", "kept") == word
    assert runtime.run("false", options=["--name", "gone"]).code == 1
    passing = runtime.detach("true", options=["--rm"])
    host.wait_until(lambda: runtime.call("logs", passing).code != 0, "its record is gone")
    assert [*rows(runtime, "-a")] == ["kept"]


@OURS
def test_in_a_pipe_nothing_is_cut(runtime: Runtime, fresh: Fresh) -> None:
    long, name = fresh.word() * 30, fresh.word() * 10
    runtime.detach("echo", long, "two words", "line\nbreak", options=["--name", name])
    (line,) = runtime.says("ps", "-a").splitlines()[1:]
    assert f"echo {long} 'two words'" in line
    assert line.endswith(name)


def test_what_a_container_that_has_ended_still_uses(runtime: Runtime, fresh: Fresh) -> None:
    """Its layer can be committed, its image and its volume not be removed."""
    word = fresh.word()
    container = runtime.detach("sh", "-c", f"echo {word} > /file", options=["-v", "held:/data"])
    runtime.says("wait", container)
    runtime.says("commit", "-q", container, "made-of-it")
    image, runtime.image = runtime.image, "made-of-it"
    assert runtime.output("cat", "/file") == word
    runtime.image = image
    runtime.says("rmi", "made-of-it")
    assert runtime.call("rmi", "test").code != 0
    assert runtime.call("volume", "rm", "held").code != 0
    runtime.says("rm", container)
    runtime.says("volume", "rm", "held")


@OURS
def test_what_is_said_of_a_container_that_has_ended(runtime: Runtime) -> None:
    """There is nothing to pause, and nothing to stop: also when the same is asked twice."""
    container = runtime.detach("true", options=["-v", "held:/data"])
    runtime.says("wait", container)
    assert runtime.call("commit", "-q", container, "made-of-it").err == b""
    runtime.says("rmi", "made-of-it")
    for words in (["rmi", "test", "test"], ["volume", "rm", "held", "held"]):
        refused = runtime.call(*words)
        assert refused.code == 1 and refused.err.count(b"though not running") == 2, refused.err


@pytest.mark.step(6, until=6)
@pytest.mark.ours_alone("the step before")
def test_step_6_forgets(runtime: Runtime) -> None:
    """A layer is gone with the command, and there is no way to leave it."""
    assert runtime.run("sh", "-c", "echo kept > /file").code == 0
    assert not [*(store(runtime) / "layers").iterdir()]
    for words in (("run", "-d", "test", "true"), ("ps",), ("logs", "x")):
        runtime.refusal(runtime.call(*words))


# ---- the truth on disk -----------------------------------------------------------------------------------------------


@OURS
@pytest.mark.parametrize("killed", ["the container", "its monitor", "both"])
def test_kill_9(runtime: Runtime, killed: str) -> None:
    container = runtime.detach("sh", "-c", "sleep 60 & wait", options=["--name", "struck"])
    host.wait_until(monitors, "the monitor is itself")
    victims = monitors() if killed != "the container" else []
    victims += [host.init()] if killed != "its monitor" else []
    for process in victims:
        process.signal(signal.SIGKILL)
    if killed == "its monitor":
        host.wait_until(lambda: not host.contained(), "the container dies with it", 1)
    assert runtime.says("wait", "struck") == "137"
    assert status(runtime, "struck").startswith("Exited (137) ")
    assert rows(runtime) == {}
    assert host.descendants() == []
    runtime.refusal(runtime.popen(runtime.words(["true"], ["--name", "struck"])).end())
    assert runtime.says("rm", "struck") == "struck"
    nothing_kept(runtime)
    assert container not in " ".join(host.cgroups())


@OURS
@pytest.mark.as_root("others have no second user to become")
def test_the_monitor_of_a_command_that_has_changed_its_user(runtime: Runtime) -> None:
    """The kernel has forgotten its PR_SET_PDEATHSIG, prctl(2). So the next command kills it."""
    script = "import os, time; os.setuid(1000); print('ready', flush=True); time.sleep(60)"
    container = runtime.detach("python3", "-c", script)
    host.wait_until(lambda: runtime.says("logs", container) == "ready", "it has changed its user")
    (monitor,) = monitors()
    monitor.signal(signal.SIGKILL)
    host.wait_until(lambda: not monitors(), "it is dead")
    assert len(host.contained()) == 1
    assert rows(runtime) == {}
    assert host.contained() == []
    assert runtime.says("wait", container) == "137"


def facts(runtime: Runtime, container: str, **changed: Any) -> dict[str, Any]:
    """The file in which the state is, with changes made to it."""
    file = store(runtime) / "containers" / container / "state.json"
    found: dict[str, Any] = json.loads(file.read_text()) | changed
    file.write_text(json.dumps(found).ljust(4096))
    return found


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with containers."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def start_ticks(pid: int) -> int:
    """When a process began: the 22nd field of proc_pid_stat(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@OURS
def test_a_damaged_record(runtime: Runtime) -> None:
    """One line says which; all other containers can be worked with."""
    damaged, whole = runtime.detach("true"), runtime.detach("true", options=["--name", "whole"])
    runtime.says("wait", damaged, whole)
    for name in ("config.json", "state.json"):
        file = store(runtime) / "containers" / damaged / name
        before = file.read_text()
        file.write_text(before[:40])
        result = runtime.call("ps", "-aq")
        assert (result.code, result.text) == (0, whole)
        assert re.fullmatch(rf"{runtime.name}: {file} is damaged .*\n", result.err.decode())
        assert runtime.call("wait", "whole").code == 0
        file.write_text(before)
    assert runtime.says("ps", "-aq").split() == [whole, damaged]


@OURS
@pytest.mark.parametrize("what", ["rebooted", "PID used again"])
def test_a_number_that_means_somebody_else(runtime: Runtime, stranger: subprocess.Popen[bytes], what: str) -> None:
    """All of ours is dead, and the PID on record is that of a process of the caller's own: it is not touched."""
    container = runtime.detach("sleep", "60", options=["--name", "late"])
    host.wait_until(monitors, "the monitor is itself")
    for process in [*monitors(), *host.contained()]:
        process.signal(signal.SIGKILL)
    host.wait_until(lambda: not monitors() and not host.contained(), "both are dead")
    if what == "rebooted":
        facts(runtime, container, pid=stranger.pid, ticks=start_ticks(stranger.pid), boot="another")
    else:
        facts(runtime, container, pid=stranger.pid)
    code = 255 if what == "rebooted" else 137
    assert runtime.call("kill", "late").code == 1
    assert rows(runtime) == {}
    assert status(runtime, "late").startswith(f"Exited ({code}) ")
    assert runtime.says("stop", "late") == "late"
    assert runtime.says("wait", "late") == str(code)
    runtime.says("rm", "-f", "late")
    assert stranger.poll() is None


@pytest.mark.long
@OURS
def test_a_start_that_is_killed_at_any_moment(runtime: Runtime) -> None:
    """The caller alone, or all that works for it: afterwards there is a true record, or none."""
    began = time.monotonic()
    runtime.says("rm", "-f", runtime.detach("sleep", "60"))
    whole = (time.monotonic() - began) / 2
    for moment in range(10):
        words = runtime.words(["sleep", "60"], ["-d", "--name", "struck"], keep=True)
        started = runtime.popen(words)
        time.sleep(whole * (0.3 + moment / 13))
        for process in host.descendants() if moment % 2 else []:
            process.signal(signal.SIGKILL)
        started.kill()
        started.wait()
        host.wait_until(settled, "what was begun is over, or runs")
        found = rows(runtime, "-a")
        assert [*found] in ([], ["struck"])
        assert bool(rows(runtime)) == bool(host.contained()), found
        if found:
            runtime.says("rm", "-f", "struck")
        nothing_kept(runtime)
    runtime.sweep()


@OURS
def test_a_monitor_that_is_killed_at_the_start(runtime: Runtime) -> None:
    """The caller does not print an id as if all were well."""
    started = runtime.popen(runtime.words(["sleep", "60"], ["-d"], keep=True))
    own: list[host.Process] = []
    while not own:
        own = [process for process in host.descendants() if process.parent == started.pid]
    own[0].signal(signal.SIGKILL)
    result = started.end()
    assert "killed" in runtime.refusal(result) and result.out == b""
    runtime.sweep()
    nothing_kept(runtime)


def settled() -> bool:
    """Whether each of our processes is a monitor or in a container."""
    known = {process.pid for process in [*monitors(), *host.contained()]}
    return all(process.pid in known for process in host.descendants())


@pytest.mark.long
@OURS
@pytest.mark.parametrize("command", ["rm", "run", "finish"])
def test_killed_in_the_middle_of_writing(runtime: Runtime, command: str) -> None:
    """At each file that is renamed or removed: the next command finds all of it, or nothing."""
    if not (strace := shutil.which("strace")):
        pytest.skip("strace is not installed")
    calls = "rename,renameat,renameat2,unlink,unlinkat,symlink,symlinkat"
    for count in range(1, 8 if command == "run" else 5):
        under = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"inject={calls}:signal=KILL:when={count}"]
        words = runtime.words(["true"], ["--name", "struck"], keep=True)
        if command == "rm":
            assert runtime.popen(words).end().code == 0
            words = [*runtime.command, "rm", "struck"]
        elif command == "finish":
            words = runtime.words(["true"], ["--name", "struck"])
        ended = runtime.popen(words, under=under).end()
        found = rows(runtime, "-a")
        assert [*found] in ([], ["struck"])
        if found:
            assert runtime.says("wait", "struck")
            runtime.says("rm", "struck")
        assert runtime.output("true", options=["--name", "struck"]) == ""
        nothing_kept(runtime)
        if ended.code == 0:
            break


@pytest.mark.long
@OURS
@pytest.mark.as_root("as root is as good")
def test_fifty_want_one_name(runtime: Runtime) -> None:
    words = runtime.words(["sleep", "60"], ["-d", "--name", "wanted"], keep=True)
    started = [runtime.popen(words) for _ in range(50)]
    results: list[Result] = [each.end() for each in started]
    assert sorted(result.code for result in results) == [0, *[125] * 49]
    (winner,) = (result.text for result in results if result.code == 0)
    runtime.kept.append(winner)
    assert runtime.says("ps", "-aq") == winner
    assert len(host.contained()) == len(monitors()) == 1
