"""Whatever goes wrong, and whenever: one line and an exit code, no traceback, no hang, nothing left on the host.

strace(1) is the saboteur. A clean run is recorded first, and what it calls is what is made to fail: so nothing has to
be kept up to date here. Of many a sample is taken, always the same; MYDOCKER_TEST_FAULTS=all tries every one.
"""

import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import host, image, strace
from tests.support.faults import (
    ESSENTIAL,
    EVERY,
    REASONS,
    all_is_well,
    can_fail,
    failed_well,
    recorded,
    sample,
    store_is_whole,
)
from tests.support.runtime import Runtime
from tests.support.terminal import Terminal

pytestmark = [
    pytest.mark.ours_alone("what breaks our runtime is of no interest in Podman"),
    pytest.mark.timeout(3600 if EVERY else 300),
]


def usual_options(runtime: Runtime) -> list[str]:
    return ["-m", "64m", "--pids-limit", "50"] if runtime.step >= 2 and not runtime.rootless else []


# ---- at any moment ---------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", ["KILL", "TERM", "INT"])
def test_the_runtime_is_struck_at_any_call(runtime: Runtime, trace: Path, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    words = runtime.words(["true"], ["-t", *usual_options(runtime)])
    moments = [point for point in recorded(runtime, trace, words) if not point.inside]
    for point in sample(moments, 4 if runtime.rootless else 8, f"{runtime.step} {name}"):
        result = runtime.popen(words, under=point.sabotage(f"signal={name}")).end()
        assert result.code in (0, 128 + number), f"{point}: exit code {result.code}"
        assert result.out + result.err == b"", point
    all_is_well(runtime)


def test_told_to_end_just_before_the_command_begins(runtime: Runtime, trace: Path) -> None:
    """The container's process 1 would not notice (pid_namespaces(7)), so the runtime undoes what it has begun."""
    words = runtime.words(["sleep", "0.5"])
    sent = [point for point in recorded(runtime, trace, words) if point.call.name == "sendto"]
    go = [point for point in sent if '"go"' in point.call.arguments][-1]
    codes = [runtime.popen(words, under=go.sabotage("signal=TERM")).end().code for _ in range(3)]
    assert 128 + signal.SIGTERM in codes, "on a busy machine it may come too late, but not always"
    all_is_well(runtime)


def test_process_1_is_killed_before_it_is_told_to_begin(runtime: Runtime, trace: Path) -> None:
    words = runtime.words(["true"])
    sent = [point for point in recorded(runtime, trace, words) if point.call.name == "sendto"]
    go = [point for point in sent if '"go"' in point.call.arguments][-1]
    started = runtime.popen(words, under=go.sabotage("delay_enter=1000000"))
    host.wait_until(lambda: bool(host.contained()), "it is there")
    for process in host.contained():
        process.signal(signal.SIGKILL)
    result = started.end()
    assert (result.code, result.out, result.err) == (137, b"", b"")


def test_killed_before_the_container_is_told_to_begin(runtime: Runtime, trace: Path) -> None:
    """Its process 1 waits for that word. Nobody else watches yet."""
    words = runtime.words(["sleep", "60"])
    moments = recorded(runtime, trace, runtime.words(["true"]))
    first = next(point for point in moments if point.call.name == "pidfd_open")
    assert runtime.popen(words, under=first.sabotage("signal=KILL")).end().code in (137, -9)
    host.wait_until(lambda: not host.descendants(), "the container's process 1 ends", 1)
    all_is_well(runtime)


def test_the_terminal_is_given_back_whenever_the_runtime_is_killed(runtime: Runtime, trace: Path) -> None:
    words = runtime.words(["true"], ["-it", *usual_options(runtime)])

    def at_a_terminal(under: Sequence[str]) -> int:
        terminal = Terminal([*under, *words], env=runtime.environment, cwd=runtime.directory, user=runtime.user)
        runtime.started.append(terminal)
        code = terminal.end()
        host.wait_until(lambda: terminal.settings() == terminal.before, f"a sane terminal after {under}")
        return code

    assert at_a_terminal(()) == at_a_terminal(strace.recording(trace)) == 0
    moments = [point for point in strace.points(trace) if not point.inside]
    for point in sample(moments, 3 if runtime.rootless else 6, f"{runtime.step}"):
        assert at_a_terminal(point.sabotage("signal=KILL")) in (0, 137), point
    all_is_well(runtime)


@pytest.mark.long
@pytest.mark.parametrize("where", ["outside", "inside", "inside, with a terminal"])
def test_any_call_fails(runtime: Runtime, trace: Path, where: str) -> None:
    words = runtime.words(["true"], [*(["-t"] if where != "inside" else []), *usual_options(runtime)])
    inside = where != "outside"
    moments = [point for point in recorded(runtime, trace, words) if point.inside == inside and can_fail(point)]
    for point in sample(moments, 6 if runtime.rootless else 14, f"{runtime.step} {where}"):
        result = runtime.popen(words, under=point.sabotage(f"error={REASONS.get(point.call.name, 'EPERM')}")).end()
        if result.code != 0 or point.call.name in ESSENTIAL:
            failed_well(runtime, result, point)
        else:
            assert result.out == b"", point
            assert result.err.count(b"\n") <= 1, point
    all_is_well(runtime)


@pytest.mark.long
@pytest.mark.step(6)
@pytest.mark.parametrize("fault", ["signal=KILL", "signal=TERM", "error"])
def test_an_import_fails_at_any_call(runtime: Runtime, trace: Path, tmp_path: Path, fault: str) -> None:
    """The image is there, whole and with its name, or it is not there."""
    archive = tmp_path / "few.tar"
    image.write(archive, [image.folder("bin"), image.file("bin/tool", b"x" * 5000), image.link("tool", "bin/tool")])
    root = tmp_path / "state" / "store"
    words, store = [*runtime.command, "import", str(archive), "new"], {"MYDOCKER_ROOT": str(root)}
    moments = recorded(runtime, trace, words, env=store)

    def listed() -> set[str]:
        return {*runtime.call("images", "-q", env=store).text.split()}

    if fault == "error":
        moments = [point for point in moments if can_fail(point)]
    elif fault == "signal=TERM":
        moments = [point for point in moments if not point.inside]
    there = listed()
    for point in sample(moments, 6 if runtime.rootless else 12, f"{runtime.step} {fault}"):
        what = f"error={REASONS.get(point.call.name, 'EPERM')}" if fault == "error" else fault
        result = runtime.popen(words, env=store, under=point.sabotage(what)).end()
        before, there = there, listed()
        if result.code == 0:
            assert {result.text} == there - before, point
        elif result.code in (137, 143):  # struck itself: perhaps while it cleaned up after its child
            assert len(there - before) <= 1, point
        else:
            failed_well(runtime, result, point)
            named = json.loads((root / "images/names.json").read_text()).values()
            assert there - before <= {*named}, point
    store_is_whole(runtime, root)


# ---- want of something -----------------------------------------------------------------------------------------------


def succeeds_or_fails_well(runtime: Runtime, when: object, *, under: Sequence[str], **more: Any) -> bool:
    """Whether it succeeded."""
    result = runtime.run("echo", "hi", under=under, **more)
    if result.code != 0:
        failed_well(runtime, result, when)
        return False
    assert (result.out, result.err) == (b"hi\n", b""), when
    return True


@pytest.mark.parametrize(("option", "first", "step"), [("nofile", 4, 1), ("as", 20_000_000, 2_000_000)])
def test_too_little_for_python_and_a_little_more(runtime: Runtime, option: str, first: int, step: int) -> None:
    """Descriptors, memory: from as much as Python needs for its own start until the container has enough."""
    amount = first
    while runtime.call("--help", under=("prlimit", f"--{option}={amount}")).code != 0:
        amount += step
    if option == "as":
        amount += step  # where memory lies, and so how much of it is needed, is chance
    for tried in range(40):
        when = f"{option} {amount + tried * step}"
        if succeeds_or_fails_well(runtime, when, under=("prlimit", f"--{option}={amount + tried * step}")):
            break
    else:
        pytest.fail(f"{when} is still too little")
    all_is_well(runtime)


@pytest.mark.as_user("root has no limit on processes")
def test_no_more_processes(runtime: Runtime) -> None:
    said = runtime.refusal(runtime.run("true", under=("prlimit", "--nproc=1")))
    assert "Resource temporarily unavailable" in said


@pytest.mark.step(6)
def test_no_room_in_a_file(runtime: Runtime, tmp_path: Path) -> None:
    store = tmp_path / "state" / "store"
    words = [*runtime.command, "import", str(image.small_tar()), "new"]
    limited = runtime.popen(words, env={"MYDOCKER_ROOT": str(store)}, under=("prlimit", "--fsize=100000")).end()
    assert "File too large" in runtime.refusal(limited)
    store_is_whole(runtime, store)


@pytest.mark.step(6)
@pytest.mark.as_root("only root can mount a small disk")
def test_a_full_disk(runtime: Runtime, tmp_path: Path) -> None:
    """What does not fit leaves no trace: an import, or a container, of which something has to be kept."""
    big = tmp_path / "big.tar"
    image.write(big, [image.file("data", b"x" * 9_000_000)])
    script = f"""
        mount -t tmpfs -o size=5m small "$MYDOCKER_ROOT"
        "$@" import {big} big; echo "import $?"
        "$@" images -q; ls -A "$MYDOCKER_ROOT/tmp"
        "$@" import {image.small_tar()} small >/dev/null; echo "import $?"
        cat /dev/zero > "$MYDOCKER_ROOT/filling" 2>/dev/null
        "$@" run small echo hi; echo "run $?"
        "$@" import {image.small_tar()} again; echo "import $?"
        rm "$MYDOCKER_ROOT/filling"
        "$@" rmi small >/dev/null; echo "rmi $?"
        "$@" images -q; ls -A "$MYDOCKER_ROOT/tmp"
    """
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    result = runtime.popen(runtime.command, under=under, env={"MYDOCKER_ROOT": str(tmp_path / "state")}).end()
    assert result.text.split("\n") == ["import 125", "import 0", "run 125", "import 125", "rmi 0"], result.err
    said = result.err.decode().splitlines()
    assert len(said) == 3 and all("No space left on device" in line for line in said)


@pytest.mark.step(6)
@pytest.mark.as_root("only root can mount a small disk")
def test_a_disk_that_a_container_fills(runtime: Runtime, tmp_path: Path) -> None:
    """By writing, and by a small change to a large file, which has to be copied up: it hears of it, and nobody else."""
    large, modest = tmp_path / "large.tar", " ".join(runtime.modest)
    image.write(large, [*image.busybox(), image.file("large", b"x" * 3_000_000)])
    script = f"""
        mount -t tmpfs -o size=8m small "$MYDOCKER_ROOT"
        "$@" import {large} large >/dev/null
        "$@" run {modest} large sh -c 'cat /dev/zero > /big; rm /big; echo more > /more && cat /more'; echo "run $?"
        "$@" run {modest} large sh -c 'yes > /big; echo more >> /large'; echo "run $?"
        "$@" run {modest} large wc -c /large; ls -A "$MYDOCKER_ROOT/{runtime.layers}"
    """
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    result = runtime.popen(runtime.command, under=under, env={"MYDOCKER_ROOT": str(tmp_path / "state")}).end()
    assert result.text.split("\n") == ["more", "run 0", "run 1", "3000000 /large"], result.err
    said = result.err.decode().splitlines()
    assert len(said) == 3 and all("No space left on device" in line for line in said)
    assert not any(line.startswith(runtime.name) for line in said), "the container's own words"


@pytest.mark.as_root("only root can mount")
@pytest.mark.parametrize(
    "change",
    [
        "mount -t tmpfs none /proc",
        "mount -t tmpfs none /sys",
        "mount -t tmpfs none /dev",
        "touch $TMPDIR/file && mount --bind $TMPDIR/file /dev/null && rm $TMPDIR/file",
        "mkdir $TMPDIR/gone && cd $TMPDIR/gone && rmdir $TMPDIR/gone",
        "umount --lazy /sys/fs/cgroup",
    ],
)
def test_a_strange_host(runtime: Runtime, change: str) -> None:
    script = f'{change} && exec "$@"'
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    succeeds_or_fails_well(runtime, change, under=under)


@pytest.mark.step(6)
@pytest.mark.parametrize("damage", ["a file", "not json", "of another kind", "unwritable"])
def test_a_store_that_is_none(runtime: Runtime, tmp_path: Path, damage: str) -> None:
    root = tmp_path / "state" / "store"
    if damage == "a file":
        root.write_text("")
    elif damage == "unwritable":
        root = Path("/proc/1/store")
    else:
        (root / "images").mkdir(parents=True)
        (root / "images/names.json").write_text("half" if damage == "not json" else "[]")
        if runtime.user is not None:
            for path in (root, root / "images"):
                os.chown(path, runtime.user, runtime.user)
    for words in (["run", "new", "true"], ["images"], ["import", str(image.small_tar()), "new"], ["rmi", "new"]):
        result = runtime.call(*words, env={"MYDOCKER_ROOT": str(root)})
        assert result.code in ((1, 125) if words[0] == "rmi" else (125,)), f"{words[0]}, {damage}: {result}"
        runtime.refusal(result, result.code)


# ---- many at once ----------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.as_root("as root is as good")
def test_fifty_at_once_some_of_them_killed(runtime: Runtime) -> None:
    """A fifth each: succeed, end with a code of their own, find no command, are killed early, are killed late."""
    chance = random.Random(runtime.step)
    commands = {0: ["true"], 7: ["sh", "-c", "exit 7"], 127: ["no-such-command"]}
    expected = [code for code in (0, 7, 127, -1, -2) for _ in range(10)]
    chance.shuffle(expected)
    options = usual_options(runtime)
    started = [runtime.start(*commands.get(code, ["sleep", "60"]), options=options) for code in expected]
    for one, code in zip(started, expected, strict=True):
        if code < 0:
            time.sleep(chance.uniform(0, 0.02) if code == -1 else chance.uniform(0, 0.2))
            one.kill()
    for one, code in zip(started, expected, strict=True):
        result = one.end()
        assert result.code == (code if code >= 0 else 137), result
        assert (result.err == b"") == (code != 127)
    host.wait_until(lambda: not host.contained(), "all containers are gone")
    all_is_well(runtime)
