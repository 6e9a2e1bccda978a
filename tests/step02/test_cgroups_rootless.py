"""Without root there are no limits, unless the system has handed over a part of its cgroups: see test_cgroups_v2.py."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import cgroup, rootless
from tests.support.fresh import Fresh
from tests.support.runtime import Result, Runtime

pytestmark = [
    pytest.mark.ours_alone("Podman is asked as root only"),
    pytest.mark.as_user("root has limits anyway"),
]
LIMITS = ["--cpus=1", "--cpu-shares=512", "--cpuset-cpus=0", "--pids-limit=50"]


@pytest.mark.parametrize("limit", [pytest.param("--memory=64m", marks=pytest.mark.v2), *LIMITS])
def test_a_limit_is_refused_with_the_remedy(runtime: Runtime, limit: str) -> None:
    said = runtime.refusal(runtime.run("true", options=[limit]))
    assert "as root" in said and "Delegate=yes" in said


@pytest.mark.v2
def test_without_a_limit_none_is_needed(runtime: Runtime, fresh: Fresh) -> None:
    """Even though root has been here before, and has left its directory `mydocker`."""
    for tree in {cgroup.trees()[name if cgroup.version(name) == 1 else ""] for name in cgroup.CONTROLLERS}:
        (tree / "mydocker").mkdir(exist_ok=True)
    word = fresh.word()
    assert runtime.run("echo", word) == Result(0, f"{word}\n".encode(), b"")


@pytest.fixture
def two() -> Iterator[tuple[Path, Path]]:
    """Two empty cgroups of version 2 (in a hybrid system there is such a tree, too)."""
    if "" not in cgroup.trees() or os.geteuid() != 0:
        pytest.skip("no tree of version 2 here, or no right to write in it")
    here, there = (cgroup.trees()[""] / f"{name}-of-{os.getpid()}" for name in ("here", "there"))
    here.mkdir()
    there.mkdir()
    yield here, there
    here.rmdir()
    there.rmdir()


def test_a_tree_that_does_not_show_the_callers_own_place(runtime: Runtime, two: tuple[Path, Path]) -> None:
    """As in a container that sees only a part of its host's tree."""
    here, there = two
    user = f"setpriv --reuid={rootless.USER} --regid={rootless.USER} --clear-groups"
    script = f'echo 0 > {here}/cgroup.procs; mount --bind {there} {here.parent}; exec {user} "$@"'
    under = ("unshare", "-m", "sh", "-ec", script, "sh")
    assert replace(runtime, user=None).run("true", under=under) == Result(0, b"", b"")
