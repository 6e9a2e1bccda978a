"""From start to end: signals reach the command, and whatever ends the runtime ends the container."""

import os
import re
import signal
import time

import pytest

from tests.support import host
from tests.support.fresh import Fresh
from tests.support.runtime import PATIENCE, Runtime

SLEEPER = ("sh", "-c", "echo ready; while :; do sleep 0.1; done")


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_are_forwarded(runtime: Runtime, name: str, fresh: Fresh) -> None:
    code = fresh.number(1, 100)
    started = runtime.start(
        "sh", "-c", f"trap 'echo got {name}; exit {code}' {name}; echo ready; while :; do sleep 0.1; done"
    )
    assert started.line() == "ready"
    runtime.settle()
    started.send_signal(signal.Signals[f"SIG{name}"])
    result = started.end()
    assert (result.code, result.text) == (code, f"got {name}")


@pytest.mark.ours_alone("Podman passes it on even so")
def test_what_the_caller_ignores_is_not_forwarded(runtime: Runtime, fresh: Fresh) -> None:
    """With `nohup` a container outlives the terminal that it was started at."""
    code = fresh.number(1, 100)
    script = f"trap 'exit 101' HUP; echo ready; sleep 0.3; exit {code}"
    started = runtime.start("sh", "-c", script, under=("env", "--ignore-signal=HUP"))
    assert started.line() == "ready"
    started.send_signal(signal.SIGHUP)
    assert started.end().code == code


def test_a_signal_without_a_handler_does_not_reach_process_1(runtime: Runtime) -> None:
    """pid_namespaces(7): as with `docker run`, what ignores SIGTERM has to be killed."""
    started = runtime.start(*SLEEPER)
    assert started.line() == "ready"
    runtime.settle()
    started.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert started.poll() is None


def test_the_end_of_process_1_ends_all(runtime: Runtime, fresh: Fresh) -> None:
    code = fresh.number(1, 124)
    started = runtime.start("sh", "-c", f"sleep 60 & (sleep 60 &) ; exit {code}")
    assert started.end().code == code
    host.wait_until(lambda: not host.contained(), "all of the container's processes are gone")


@pytest.mark.ours_alone("a container of Podman's outlives `podman run`")
@pytest.mark.parametrize("what", ["the runtime", "its job", "all that bears its name"])
def test_the_container_dies_with_the_runtime(runtime: Runtime, what: str) -> None:
    """SIGKILL by PID, to the process group as `kill -9 %1` does it, to all of one name as `pkill -9 -f` does it."""
    started = runtime.start("sh", "-c", "sleep 60 & echo ready; wait", process_group=0)
    assert started.line() == "ready"
    inside = host.contained()
    assert len(inside) == 2
    if what == "the runtime":
        started.kill()
    elif what == "its job":
        os.killpg(started.pid, signal.SIGKILL)
    else:
        for process in {*host.descendants()} - {*inside}:
            process.signal(signal.SIGKILL)
    host.wait_until(lambda: not host.descendants(), "the container died with its runtime", 1)
    runtime.sweep()


@pytest.mark.ours_alone("a container of Podman's outlives `podman run`")
@pytest.mark.as_root("others have no second user to become")
def test_a_command_that_has_changed_its_user_dies_with_the_runtime_too(runtime: Runtime) -> None:
    """prctl(2): the kernel forgets PR_SET_PDEATHSIG when the user changes. So who else watches must not be told to end,
    as by `pkill -f`, nor be killed with the job."""
    script = "import os, time; os.setuid(1000); print('ready', flush=True); time.sleep(60)"
    started = runtime.start("python3", "-c", script, process_group=0)
    assert started.line() == "ready"
    for process in host.descendants():
        process.signal(signal.SIGTERM)
    os.killpg(started.pid, signal.SIGKILL)
    host.wait_until(lambda: not host.descendants(), "the container died with its runtime", 1)
    runtime.sweep()


@pytest.mark.long
@pytest.mark.ours_alone("a container of Podman's outlives `podman run`")
def test_the_runtime_killed_at_any_moment(runtime: Runtime) -> None:
    """Kills spread over the time that one run takes: whatever had been begun by then, nothing of it stays."""
    whole = duration(runtime)
    for moment in range(24):
        started = runtime.start(*SLEEPER)
        time.sleep(whole * (0.4 + moment / 30))  # at first there is only Python starting up
        started.kill()
        started.wait()
    host.wait_until(lambda: not host.descendants(), "all that the killed runtimes had begun is gone")
    runtime.sweep()


@pytest.mark.long
@pytest.mark.ours_alone("a start of Podman's cannot be interrupted")
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_told_to_end_at_any_moment(runtime: Runtime, name: str) -> None:
    """By Ctrl-C, say, which goes to all processes of the job. The runtime ends, or its command gets the signal."""
    number = signal.Signals[f"SIG{name}"]
    whole = duration(runtime)
    for moment in range(6):
        script = f"trap 'exit 9' {name}; while :; do sleep 0.05; done"
        started = runtime.start("sh", "-c", script, process_group=0)
        time.sleep(whole * (0.5 + moment / 8))
        while started.poll() is None:  # process 1 does not notice before it has set its trap
            os.killpg(started.pid, number)
            time.sleep(0.1)
        result = started.end()
        if b"KeyboardInterrupt" in result.err and b"__main__.py" not in result.err:
            continue  # Python itself was still starting: not a line of ours had run
        assert (result.code, result.err) in ((9, b""), (128 + number, b""))


def duration(runtime: Runtime) -> float:
    """How long one run takes just now, in seconds: the best of three, since any one may have been held up."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        assert runtime.run("true").code == 0
        times.append(time.monotonic() - began)
    return min(times)


@pytest.mark.long
@pytest.mark.ours_alone("a measure of our own")
@pytest.mark.as_root("as root is as good")
def test_fifty_at_once(runtime: Runtime) -> None:
    started = [runtime.start("sh", "-c", "echo $HOSTNAME") for _ in range(50)]
    results = [each.end() for each in started]
    assert [result.code for result in results] == [0] * 50
    assert len({result.out for result in results}) == 50
    assert all(re.fullmatch(rb"[0-9a-f]{12}\n", result.out) for result in results)


@pytest.mark.ours_alone("Podman then looks for a container that is gone")
def test_a_stopped_runtime_goes_on(runtime: Runtime, fresh: Fresh) -> None:
    code = fresh.number(1, 124)
    started = runtime.start("sh", "-c", f"echo ready; sleep 0.2; exit {code}")
    assert started.line() == "ready"
    started.send_signal(signal.SIGSTOP)
    time.sleep(0.4)
    started.send_signal(signal.SIGCONT)
    assert started.wait(PATIENCE) == code
