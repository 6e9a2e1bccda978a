"""Without root there are no limits, unless the system has handed over a part of its cgroups: see test_cgroups_v2.py."""

import pytest

from tests import cgroup
from tests.runtime import Result, Runtime

pytestmark = [
    pytest.mark.step(2),
    pytest.mark.ours_alone("Podman is asked as root only"),
    pytest.mark.as_user("root has limits anyway"),
]
LIMITS = ["--cpus=1", "--cpu-shares=512", "--cpuset-cpus=0", "--pids-limit=50"]


@pytest.mark.parametrize("limit", [pytest.param("--memory=64m", marks=pytest.mark.v2), *LIMITS])
def test_a_limit_is_refused_with_the_remedy(runtime: Runtime, limit: str) -> None:
    said = runtime.refusal(runtime.run("true", options=[limit]))
    assert "as root" in said and "Delegate=yes" in said


@pytest.mark.v2
def test_without_a_limit_none_is_needed(runtime: Runtime) -> None:
    """Even though root has been here before, and has left its directory `mydocker`."""
    for tree in {cgroup.trees()[name if cgroup.version(name) == 1 else ""] for name in cgroup.CONTROLLERS}:
        (tree / "mydocker").mkdir(exist_ok=True)
    assert runtime.run("true") == Result(0, b"", b"")
