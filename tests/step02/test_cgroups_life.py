"""A container's cgroup is there as long as the container, in every tree; and then it is gone, whatever happened."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cgroup, host, rootless
from tests.support.cgroup import Held, held
from tests.support.runtime import Result, Runtime, Started

pytestmark = [pytest.mark.as_root("the others have test_cgroups_rootless.py")]
ours_alone = pytest.mark.ours_alone("how Podman keeps house is its own affair")


def assert_gone(directories: dict[str, Path]) -> None:
    assert not [path for path in directories.values() if path.exists()]


# ---- the ordinary end ------------------------------------------------------------------------------------------------


@pytest.mark.v2
def test_gone_after_the_end(runtime: Runtime) -> None:
    with held(runtime, "-m", "64m") as container:
        assert all(path.is_dir() for path in container.directories.values())
    assert_gone(container.directories)


@pytest.mark.v2
def test_gone_after_a_violent_end(runtime: Runtime) -> None:
    container = Held(runtime, "-m", "64m").ready()
    container.init.signal(signal.SIGKILL)
    assert container.end().code == 137
    assert_gone(container.directories)


@pytest.mark.parametrize(
    ("command", "code"),
    [("false", 1), ("no-such-program", 127), ("/tmp", 126), ("dd if=/dev/zero of=/dev/null bs=160M", 137)],
)
def test_gone_after_a_failure(runtime: Runtime, command: str, code: int) -> None:
    """That nothing is left behind is what the fixture asserts after every test."""
    assert runtime.run(*command.split(), options=["-m", "50m"]).code == code
    (runtime.directory / "oom").unlink(missing_ok=True)  # Podman's conmon wrote it


@ours_alone
@pytest.mark.skipif(cgroup.version() == 2, reason="here there is but one tree")
def test_nothing_in_a_tree_without_our_controllers(runtime: Runtime) -> None:
    """In a hybrid system, version 2 limits nothing of ours; and systemd has a tree of its own."""
    with held(runtime, "-m", "64m") as container:
        name = container.directories["memory"].name
        found = {tree for tree in cgroup.trees().values() if [*tree.glob(f"*/{name}")]}
    later = {"freezer": 6, "cpuacct": 7}
    ours = [*cgroup.CONTROLLERS, *(name for name, step in later.items() if runtime.step >= step)]
    assert found == {cgroup.trees()[controller] for controller in ours if controller in cgroup.trees()}


# ---- what is left behind in it ---------------------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host's."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.v2
@ours_alone
def test_processes_left_in_it_are_killed(runtime: Runtime, stranger: subprocess.Popen[bytes]) -> None:
    with held(runtime) as container:
        for directory in container.directories.values():
            (directory / "cgroup.procs").write_text(str(stranger.pid))
    assert_gone(container.directories)
    assert stranger.wait(1) == -signal.SIGKILL


@pytest.mark.v2
@ours_alone
def test_cgroups_made_below_it_are_removed(runtime: Runtime, stranger: subprocess.Popen[bytes]) -> None:
    """Nested ones, with a process in the innermost."""
    with held(runtime) as container:
        for directory in {*container.directories.values()}:
            innermost = directory / "a" / "b b" / "ö"
            innermost.mkdir(parents=True)
            (directory / "another").mkdir()
            if (
                cgroup.version("cpuset") == 2 or directory != container.directories["cpuset"]
            ):  # where it takes nobody yet
                (innermost / "cgroup.procs").write_text(str(stranger.pid))
    assert_gone(container.directories)
    assert stranger.wait(1) == -signal.SIGKILL


@pytest.mark.step(2, until=2)
def test_cgroups_made_from_inside_are_removed(runtime: Runtime) -> None:
    """At this step the container's root sees the host's /sys/fs/cgroup, and may write there."""
    script = "for tree in /sys/fs/cgroup/memory /sys/fs/cgroup; do mkdir -p $tree/mydocker/$HOSTNAME/a/b && exit; done"
    assert runtime.run("sh", "-c", script) == Result(0, b"", b"")


# ---- the runtime is killed -------------------------------------------------------------------------------------------


@pytest.mark.v2
@ours_alone
def test_swept_by_the_next_run(runtime: Runtime, stranger: subprocess.Popen[bytes]) -> None:
    container = Held(runtime, "-m", "64m").ready()
    directory = container.directories["memory"]
    (directory / "nested").mkdir()
    (directory / "nested" / "cgroup.procs").write_text(str(stranger.pid))
    container.started.kill()
    container.end()
    assert runtime.run("true").code == 0
    assert_gone(container.directories)


@pytest.mark.long
@ours_alone
def test_only_the_dead_are_swept(runtime: Runtime) -> None:
    """Of twenty containers ten lose their runtimes; while twenty more start and end, all sweeping, the rest live on."""
    containers = [Held(runtime, "--pids-limit", "10") for _ in range(20)]
    for container in containers:
        container.ready()
    dead, living = containers[::2], containers[1::2]
    for container in dead:
        container.started.kill()
    for started in [runtime.start("true") for _ in range(20)]:
        assert started.end() == Result(0, b"", b"")
    for container in dead:
        container.end()
        assert_gone(container.directories)
    for container in living:
        assert cgroup.directories(container.init.pid) == container.directories
        assert container.end() == Result(0, b"", b"")
        assert_gone(container.directories)


@ours_alone
def test_nobody_else_can_hold_up_root(runtime: Runtime) -> None:
    """Who may read a directory may lock it: so that must not be what other runs wait for, or not be for all to read."""
    assert runtime.run("true").code == 0
    trees = {cgroup.trees()[name if cgroup.version(name) == 1 else ""] for name in cgroup.CONTROLLERS}
    command = ("flock", "--no-fork")
    holders = [subprocess.Popen([*command, tree / "mydocker", "sleep", "60"], user=rootless.USER) for tree in trees]
    time.sleep(0.2)
    try:
        assert runtime.run("true") == Result(0, b"", b"")
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


@pytest.mark.long
@ours_alone
def test_killed_while_others_start(runtime: Runtime) -> None:
    """Killed at any moment, also between making a cgroup and locking it: no other run fails for that."""
    began = time.monotonic()
    assert runtime.run("true").code == 0
    whole = time.monotonic() - began
    bystanders: list[Started] = []
    for moment in range(30):
        victim = runtime.start("true", options=["-m", "64m"])
        bystanders.append(runtime.start("true", options=["-m", "64m"]))
        time.sleep(whole * moment / 30)
        victim.kill()
        victim.wait()
    assert [started.end() for started in bystanders] == [Result(0, b"", b"")] * 30
    assert runtime.run("true").code == 0
    host.wait_until(lambda: not host.descendants(), "all victims are gone")
