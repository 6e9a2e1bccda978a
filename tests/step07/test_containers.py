"""What is done with containers once they are on record: stop, kill, rm, wait; one or several."""

import fcntl
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support import host, strace
from tests.support.fresh import Fresh
from tests.support.layers import docker, loaded, tarred
from tests.support.runtime import Missing, Runtime
from tests.support.store import shell

PATIENT = ("sh", "-c", "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")


def ready(runtime: Runtime, container: str) -> None:
    host.wait_until(lambda: b"ready" in runtime.call("logs", container).out, "the command has come so far")


def ended(runtime: Runtime, container: str) -> int:
    """The exit code on record."""
    assert runtime.call("kill", container).code != 0, "it is over"
    return int(runtime.says("wait", container))


def runs(runtime: Runtime, container: str) -> bool:
    return container[:12] in runtime.says("ps", "-q").split()


# ---- stop and kill ---------------------------------------------------------------------------------------------------


def test_stop_asks(runtime: Runtime, fresh: Fresh) -> None:
    name, word, code = fresh.word(), fresh.word(), fresh.number(1, 124)
    script = f"trap 'echo {word}; exit {code}' TERM; echo ready; while :; do sleep 0.05; done"
    container = runtime.detach("sh", "-c", script, options=["--name", name])
    ready(runtime, container)
    assert runtime.says("stop", name) == name
    assert runtime.says("logs", container).split() == ["ready", word]
    assert ended(runtime, container) == code
    assert runtime.says("stop", container) == container  # it is what was wanted


def test_stop_kills_who_does_not_listen(runtime: Runtime) -> None:
    container = runtime.detach(*DEAF)
    ready(runtime, container)
    assert host.contained()
    runtime.says("stop", "-t", "1", container)
    assert ended(runtime, container) == 137
    assert not host.contained()


@pytest.mark.parametrize("word", ["SIGUSR1", "USR1", "10"])
def test_stop_by_the_image_s_signal(runtime: Runtime, tmp_path: Path, fresh: Fresh, word: str) -> None:
    """An image says how it wants to be asked: nginx by SIGQUIT, PostgreSQL by SIGINT."""
    own = loaded(runtime, tmp_path, docker([tarred(shell())], {"StopSignal": word}))
    code = fresh.number(1, 124)
    script = f"trap '' TERM; trap 'exit {code}' USR1; echo ready; while :; do sleep 0.05; done"
    container = own.detach("sh", "-c", script)
    ready(own, container)
    own.says("stop", container)
    assert ended(own, container) == code


@pytest.mark.long
@pytest.mark.ours_alone("Podman refuses it when the container is made")
@pytest.mark.parametrize("word", ["SIGNAL", 0, ["TERM"]])
def test_a_stop_signal_that_is_none(runtime: Runtime, tmp_path: Path, word: object) -> None:
    """One line. `kill` and `rm -f` are not concerned."""
    own = loaded(runtime, tmp_path, docker([tarred(shell())], {"StopSignal": word}))
    container = own.detach(*PATIENT)
    ready(own, container)
    result = own.call("stop", container)
    if word:
        assert str(word) in own.refusal(result, 1)
        own.says("kill", "-s", "TERM", container)
        own.says("wait", container)
    assert ended(own, container) == 5


def test_kill(runtime: Runtime) -> None:
    """SIGKILL unless another is named. After that it is dead, and can be removed."""
    deaf, patient = runtime.detach(*DEAF), runtime.detach(*PATIENT)
    ready(runtime, patient)
    ready(runtime, deaf)
    assert len([process for process in host.contained() if process.inner_pids() == [1]]) == 2
    runtime.says("kill", "-s", "TERM", deaf)
    assert runtime.says("kill", deaf) == deaf
    assert ended(runtime, deaf) == 137
    runtime.says("rm", deaf)
    for odd in ("NOSUCH", "99"):
        runtime.refusal(runtime.call("kill", f"--signal={odd}", patient))
    assert runs(runtime, patient)
    runtime.says("kill", "-s", "sigterm", patient)
    assert runtime.says("wait", patient) == "5"
    assert runtime.call("kill", patient).code != 0


@pytest.mark.ours_alone("each signal by all of its names is no matter of Podman's")
def test_signals_by_name_and_number(runtime: Runtime, fresh: Fresh) -> None:
    got = fresh.word()
    script = f'for s in USR1 USR2 HUP; do trap "echo {got} $s" $s; done; echo ready; while :; do sleep 0.05; done'
    container = runtime.detach("sh", "-c", script)
    ready(runtime, container)
    for word, name in (("USR1", "USR1"), ("SIGUSR2", "USR2"), (str(signal.SIGHUP.value), "HUP")):
        runtime.says("kill", "-s", word, container)
        arrived(runtime, container, f"{got} {name}")


def arrived(runtime: Runtime, container: str, name: str) -> None:
    host.wait_until(lambda: runtime.says("logs", container).endswith(name), f"it has got {name}")


@pytest.mark.as_root("as a user it takes the same way")
@pytest.mark.long
@pytest.mark.ours_alone("how ours notes an end")
@pytest.mark.parametrize("command", ["stop", "kill", "kill -s TERM", "wait", "rm"])
@pytest.mark.parametrize("then", ["goes on", "is killed"])
def test_between_the_end_and_its_record(runtime: Runtime, command: str, then: str) -> None:
    """PID 1 is dead, and its monitor (which stands still here) has not noted it: who asks now waits for the truth."""
    container = runtime.detach("sleep", "60")
    monitor = monitor_of(container)
    monitor.signal(signal.SIGSTOP)
    if command != "kill":
        host.init().signal(signal.SIGKILL)
    asking = runtime.popen([*runtime.command, *command.split(), container])
    time.sleep(0.5)
    assert asking.running()
    monitor.signal(signal.SIGCONT if then == "goes on" else signal.SIGKILL)
    result = asking.end()
    assert (result.code, result.text) == (0, "137" if command == "wait" else container), result.err
    assert container not in " ".join(host.cgroups())


@pytest.mark.as_root("as a user it takes the same way")
@pytest.mark.long
@pytest.mark.ours_alone("how ours notes an end")
@pytest.mark.parametrize("command", ["stop", "kill", "rm -f"])
def test_a_record_that_is_gone_before_its_end_is_seen(runtime: Runtime, command: str) -> None:
    """That of a container with --rm, when the command that ends it has to wait for a processor."""
    if not (strace := shutil.which("strace")):
        pytest.skip("strace is not installed")
    container = runtime.detach(*PATIENT, options=["--rm"])
    ready(runtime, container)
    slow = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "inject=pidfd_send_signal:delay_exit=1500000"]
    result = runtime.popen([*runtime.command, *command.split(), container], under=slow).end()
    assert (result.code, result.text) == (0, container), result.err


def monitor_of(container: str) -> host.Process:
    def found() -> list[host.Process]:
        return [one for one in host.descendants() if re.search(f"monitor.py .*{container}", arguments(one.pid))]

    host.wait_until(found, "the monitor is itself")
    return found()[0]


def arguments(pid: int) -> str:
    """A process's command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.mark.long
@pytest.mark.ours_alone("each signal by all of its names is no matter of Podman's")
def test_real_time_signals(runtime: Runtime) -> None:
    """RTMIN+n and RTMAX-n, as kill(1) and Docker name them; and the default of `stop` has two long names."""
    script = "import signal\nfor n in range(34, 65): signal.signal(n, lambda n, _: print(n, flush=True))\n"
    container = runtime.detach("python3", "-c", script + "print('ready', flush=True)\nwhile True: signal.pause()")
    ready(runtime, container)
    for word, number in (("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmin+30", 64), ("SIGRTMAX-1", 63), ("RTMAX", 64)):
        runtime.says("kill", "-s", word, container)
        arrived(runtime, container, str(number))
    for wrong in ("RTMIN+31", "SIGRTMIN+", "RTMIN-1"):
        runtime.refusal(runtime.call("kill", "-s", wrong, container))
    began = time.monotonic()
    runtime.says("stop", "--timeout", "0", container)
    assert time.monotonic() - began < 8


# ---- rm --------------------------------------------------------------------------------------------------------------


def test_rm(runtime: Runtime, fresh: Fresh) -> None:
    lasting = fresh.word()
    running, ended = runtime.detach("sleep", "60", options=["--name", lasting]), runtime.detach("true")
    runtime.says("wait", ended)
    assert runtime.call("rm", lasting).code != 0
    assert runs(runtime, running)
    assert runtime.says("rm", "-v", ended) == ended
    by_force = ["-f", "-t", "0"] if runtime.podman else ["-f"]
    assert runtime.says("rm", *by_force, lasting) == lasting
    assert runtime.says("ps", "-aq") == ""
    assert not host.contained()


@pytest.mark.ours_alone("strace cannot follow what Podman starts through conmon")
def test_rm_f_of_one_that_hangs_while_it_is_set_up(runtime: Runtime, fresh: Fresh) -> None:
    """As on a disk of the network that does not answer."""
    name = fresh.word()
    try:
        under = [strace.program(), "-f", "-qq", "-o", "/dev/null", "-e", "inject=pivot_root:signal=STOP"]
    except Missing as missing:
        pytest.skip(str(missing))
    started = runtime.start("true", options=["--name", name], under=under)
    host.wait_until(lambda: name in runtime.says("ps", "-a"), "it is on record")
    assert runtime.says("rm", "-f", name) == name
    assert name not in runtime.says("ps", "-a")
    assert started.end().code == 137


def test_rm_f_of_what_is_not_there(runtime: Runtime) -> None:
    """A script that cleans up does not know what there is: with -f that is no failure."""
    ended = runtime.detach("true")
    runtime.says("wait", ended)
    for words in (("rm", "-f", "no-such"), ("rmi", "-f", "no-such"), ("volume", "rm", "-f", "no-such")):
        result = runtime.call(*words)
        assert (result.code, result.out) == (0, b""), words
        if not runtime.podman:
            assert re.fullmatch(rf"{runtime.name}: .*no such .*\n", result.err.decode())
        assert runtime.call(*[word for word in words if word != "-f"]).code == 1
    if not runtime.podman:  # which is stopped by the first word that it does not know
        assert runtime.says("rm", "-f", "no-such", ended) == ended


@pytest.mark.ours_alone("how ours keeps a record")
def test_rm_leaves_nothing(runtime: Runtime) -> None:
    store = Path(runtime.environment["MYDOCKER_ROOT"])
    container = runtime.detach("sh", "-c", "echo much > /file", options=["--name", "gone"])
    runtime.says("wait", container)
    assert (store / "containers" / container / "upper/file").exists()
    runtime.says("rm", container)
    for folder in ("containers", "tmp"):
        assert not [*(store / folder).iterdir()], folder


@pytest.mark.long
@pytest.mark.ours_alone("how ours keeps a record")
def test_ten_remove_the_same(runtime: Runtime) -> None:
    """To who comes too late, that is no failure: the container is gone, as all of them want."""
    for command in (["sleep", "60"], ["true"]):
        container = runtime.detach(*command)
        removing = [runtime.popen([*runtime.command, "rm", "-f", container]) for _ in range(10)]
        results = [each.end() for each in removing]
        assert [each.code for each in results] == [0] * 10, [each.err for each in results]
        assert runtime.says("ps", "-aq") == ""


@pytest.mark.ours_alone("Podman is stopped by the first word that it does not know")
def test_several_at_once(runtime: Runtime, fresh: Fresh) -> None:
    """All that can be done is done, and each that cannot is told of in one line."""
    name = fresh.word()
    one, two = runtime.detach(*PATIENT, options=["--name", name]), runtime.detach(*PATIENT)
    ready(runtime, one)
    ready(runtime, two)
    for command, words, out in (
        ("stop", [name, "no-such", "", two[:11], f"../{name}"], f"{name}\n{two[:11]}"),
        ("wait", [name, "no-such", "", two[:11], f"../{name}"], "5\n5"),
        ("kill", [name, "no-such", two], ""),
        ("rm", [name, "no-such", "", two, f"../{name}"], f"{name}\n{two}"),
    ):
        result = runtime.call(command, *words)
        complaints = result.err.decode().splitlines()
        assert result.code == 1
        assert len(complaints) == 3, complaints
        assert all(line.startswith(f"{runtime.name}: ") for line in complaints)
        assert result.text == out
    assert runtime.says("ps", "-aq") == ""


# ---- wait ------------------------------------------------------------------------------------------------------------


def test_wait_tells_the_exit_code(runtime: Runtime, fresh: Fresh) -> None:
    """Of several, in their order, whether they have ended or not."""
    codes = [fresh.number(0, 124) for _ in range(3)]
    containers = [runtime.detach("sh", "-c", f"sleep 0.{n}; exit {code}") for n, code in enumerate(codes)]
    assert runtime.says("wait", containers[0]) == f"{codes[0]}"
    assert runtime.says("wait", *reversed(containers)).split() == [f"{code}" for code in reversed(codes)]


def test_wait(runtime: Runtime) -> None:
    """It tells the exit code of one that has ended, of one that ends now, and of one whose record goes at once."""
    ended = runtime.detach("sh", "-c", "exit 3")
    now, gone = runtime.detach(*PATIENT), runtime.detach(*PATIENT, options=["--rm"])
    ready(runtime, now)
    ready(runtime, gone)
    assert runtime.says("wait", ended) == "3"
    waiting = [runtime.popen([*runtime.command, "wait", each]) for each in (now, gone)]
    assert all(each.poll() is None for each in waiting)
    if runtime.podman:  # which looks for a container's end only now and then
        runtime.settle()
    else:
        host.wait_until(lambda: all(waits_for_a_lock(each.pid) for each in waiting), "both wait")
    runtime.says("stop", now, gone)
    assert [each.end().text for each in waiting] == ["5", "5"]
    assert runtime.call("logs", gone).code != 0


def waits_for_a_lock(pid: int) -> bool:
    return re.search(rf"-> FLOCK +ADVISORY +WRITE +{pid} ", Path("/proc/locks").read_text()) is not None


@pytest.mark.ours_alone("how ours keeps a record")
def test_nobody_waits_for_the_lock_of_one_that_has_ended(runtime: Runtime, tmp_path: Path) -> None:
    """A commit of it holds that for long: `wait` knows the exit code already. Nor may `ps` keep a commit out."""
    container = runtime.detach("sh", "-c", "exit 3")
    runtime.says("wait", container)
    directory = os.open(Path(runtime.environment["MYDOCKER_ROOT"], "containers", container), os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_SH)
    assert runtime.says("wait", container) == "3"
    os.close(directory)
    if strace := shutil.which("strace"):
        trace = tmp_path / "state/trace"
        runtime.popen([*runtime.command, "ps", "-a"], under=[strace, "-fe", "flock", "-o", str(trace)]).end()
        assert "exited with 0" in trace.read_text() and "flock(" not in trace.read_text()
