"""Version 2 alone: controllers are handed down the tree, parts of it can be given away, swap is counted apart."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import cgroup, host, rootless
from tests.support.cgroup import CONTROLLERS, assert_said_why, eat, held
from tests.support.runtime import Result, Runtime

if cgroup.version() == 1:
    pytest.skip("this machine has cgroup v1; `make test-v2` runs these in one that has v2", allow_module_level=True)

pytestmark = [
    pytest.mark.v2,
    pytest.mark.ours_alone("runc 1.1 and Podman 4.3 do some of it otherwise"),
]
as_root = pytest.mark.as_root("root's own way")
as_user = pytest.mark.as_user("what is done for those who are not root")

TOP = cgroup.trees()[""]


def handed_down(directory: Path) -> set[str]:
    return {*(directory / "cgroup.subtree_control").read_text().split()}


def hand_down(directory: Path, *controllers: str) -> None:
    (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


@pytest.fixture
def part() -> Iterator[Path]:
    """A cgroup that may use all our controllers, and hands none of them down yet. In it an empty one, `leaf`."""
    hand_down(TOP, *CONTROLLERS)
    directory = TOP / f"part-of-{os.getpid()}"
    (directory / "leaf").mkdir(parents=True)
    yield directory
    host.wait_until(lambda: "populated 0" in (directory / "cgroup.events").read_text(), "nobody is left in it")
    for path, _, _ in os.walk(directory, topdown=False):
        os.rmdir(path)


# ---- numbers ---------------------------------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (256, 35), (1024, 100), (65536, 3023), (262144, 10000)])
def test_shares_become_weights(runtime: Runtime, shares: int, weight: int) -> None:
    """The least, the usual and the most are the same in both; between them, the curve that runc draws since 1.3.2."""
    with held(runtime, "--cpu-shares", f"{shares}") as container:
        assert container.read("cpu.shares", "cpu.weight") == f"{weight}"


@as_root
def test_as_much_swap_as_memory(runtime: Runtime) -> None:
    """80 MB fit into 50 MB of memory and 50 MB of swap. (That 160 do not, test_cgroups.py has shown.)"""
    assert len(Path("/proc/swaps").read_text().splitlines()) > 1
    assert runtime.run(*eat(80), options=["-m", "50m"]).code == 0


@as_root
@pytest.mark.parametrize("how", ["umount -l {}", "mount -t tmpfs none {}", "mount -o remount,bind,ro {}"])
def test_nothing_to_limit_with(runtime: Runtime, how: str) -> None:
    under = ("unshare", "-m", "sh", "-ec", f'{how.format(TOP)}; exec "$@"', "sh")
    assert "'memory'" in runtime.refusal(runtime.run("true", options=["-m", "64m"], under=under))
    assert runtime.run("true", under=under) == Result(0, b"", b"")


# ---- down the tree ---------------------------------------------------------------------------------------------------


def as_if_at_the_root(part: Path, leaf: str) -> tuple[str, ...]:
    """As in a container: all that one sees of the tree is `part`, as if it were the root; one is in its `leaf`."""
    inside = f'umount {TOP}; mount -t cgroup2 none {TOP}; echo 0 > {TOP}/{leaf}/cgroup.procs; exec "$@"'
    script = f"echo 0 > {part}/cgroup.procs; exec unshare -C -m sh -ec '{inside}' sh \"$@\""
    return ("sh", "-ec", script, "sh")


@as_root
def test_what_the_root_hands_down_stays(runtime: Runtime) -> None:
    before = handed_down(TOP)
    assert runtime.run("true").code == 0
    assert before <= handed_down(TOP) <= before | {*CONTROLLERS}


@as_root
def test_controllers_are_handed_down(runtime: Runtime, part: Path) -> None:
    """By somebody who finds none handed down, in a part of the tree that looks like all of it."""
    with held(runtime, "-m", "64m", "--cpus", "0.5", under=as_if_at_the_root(part, "leaf")) as container:
        assert {path.parent for path in container.directories.values()} == {part / "mydocker"}
        assert container.read("memory.limit_in_bytes", "memory.max") == f"{64 << 20}"
        assert container.read("cpu.cfs_quota_us", "cpu.max") == "50000 100000"
        assert handed_down(part) == handed_down(part / "mydocker") == {*CONTROLLERS}
        assert cgroup.directories(container.started.pid)["memory"] == part / "leaf"
    assert not [path for path in (part / "mydocker").iterdir() if path.is_dir()]


@as_root
def test_processes_in_the_way(runtime: Runtime, part: Path) -> None:
    """A cgroup with processes of its own cannot hand memory down. Nobody must be worse off for our having tried."""
    under = as_if_at_the_root(part, ".")
    runtime.refusal(runtime.run("true", options=["-m", "64m"], under=under))
    runtime.refusal(runtime.run("true", options=["--cpus", "0.5"], under=under))
    assert runtime.run("true", under=under) == Result(0, b"", b"")
    assert handed_down(part) == set()


@as_root
def test_only_some_controllers_have_come_down(runtime: Runtime, part: Path) -> None:
    hand_down(part, "memory")
    for name in ("one", "another"):
        (part / name / "leaf").mkdir(parents=True)
    result = runtime.run("true", options=["--cpus", "0.5"], under=as_if_at_the_root(part / "one", "leaf"))
    assert "'cpu'" in runtime.refusal(result)
    result = runtime.run(*eat(160), options=["-m", "50m"], under=as_if_at_the_root(part / "another", "leaf"))
    assert result.code == 137


# ---- a part of the tree that belongs to a user -----------------------------------------------------------------------


@pytest.fixture
def delegated(part: Path) -> Path:
    """ "Delegation" in cgroup-v2.rst; systemd does it for each user's own manager."""
    for path in (part, *(part / f"cgroup.{name}" for name in ("procs", "subtree_control", "threads")), part / "leaf"):
        os.chown(path, rootless.USER, rootless.USER)
    os.chown(part / "leaf" / "cgroup.procs", rootless.USER, rootless.USER)
    return part


def in_cgroup(directory: Path) -> tuple[str, ...]:
    """Only root can put a process there from outside. Then it becomes the user."""
    user = f"setpriv --reuid={rootless.USER} --regid={rootless.USER} --clear-groups"
    script = f'echo 0 > {directory}/cgroup.procs; exec {user} "$@"'
    return ("sh", "-ec", script, "sh")


@as_user
def test_limits_for_a_user(runtime: Runtime, delegated: Path) -> None:
    by_root = replace(runtime, user=None)
    result = by_root.run(*eat(160), options=["-m", "50m"], under=in_cgroup(delegated / "leaf"))
    assert result.code == 137
    assert_said_why(runtime, result)
    limits = ("--cpus", "0.5", "--cpuset-cpus", "0", "--pids-limit", "20")
    with held(by_root, *limits, under=in_cgroup(delegated / "leaf")) as container:
        assert {path.parent for path in container.directories.values()} == {delegated / "mydocker"}
        assert container.read("cpu.cfs_quota_us", "cpu.max") == "50000 100000"
        assert container.read("cpuset.cpus", "cpuset.cpus") == "0"
        assert container.read("pids.max", "pids.max") == "20"
    assert not [path for path in (delegated / "mydocker").iterdir() if path.is_dir()]


@as_user
def test_a_user_in_the_way(runtime: Runtime, delegated: Path) -> None:
    """The shell that is to use it sits right in it, which version 2 does not allow together with limits for others."""
    by_root, under = replace(runtime, user=None), in_cgroup(delegated)
    for limit in (("-m", "64m"), ("--pids-limit", "20")):
        runtime.refusal(by_root.run("true", options=limit, under=under))
    assert by_root.run("true", under=under) == Result(0, b"", b"")
    assert handed_down(delegated) == set()
