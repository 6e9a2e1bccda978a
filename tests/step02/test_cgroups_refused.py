"""A limit that makes no sense, or that this machine cannot give, is refused in one line before anything starts."""

import os
import re

import pytest

from tests.support import cgroup
from tests.support.fresh import Fresh
from tests.support.runtime import Result, Runtime

pytestmark = [pytest.mark.as_root("the others have test_cgroups_rootless.py")]

PROCESSORS = os.cpu_count() or 1
NONSENSE = {  # to Podman as well
    "--memory": ["x", "-50m", "50x", "50mm", "nan", "inf", "1e3m", "1..5g", ".m", "m", " 50m", "0x40m"],
    "--cpus": ["", "x", "inf", "0,5", "1.5.5"],
    "--cpu-shares": ["", "x", "-1", "1.5", "1k", "99999999999999999999"],
    "--cpuset-cpus": ["x", "-1", "3-1", "1,,2", "0-", "0 1", "0-1-2", ",", "0;1", "nan", "0-99"],
    "--pids-limit": ["", "x", "1.5", "1k", "99999999999999999999"],
}
IMPOSSIBLE = {  # Podman takes them for another value, or for none
    "--memory": ["", "1", "5m", "6143k", "0.001g", "0.5b", "9" * 18 + "g", "9" * 30, "\u0665\u0660m"],
    "--cpus": ["-1", "0.001", "nan", "-inf", "1e400", "1e9", f"{PROCESSORS}.01", f"{PROCESSORS + 1}"],
    "--cpu-shares": ["1", "262145"],
    "--cpuset-cpus": [f"{PROCESSORS}", f"0-{PROCESSORS}", "0,4096", "0-9999999", "99999999999999999999"],
    "--pids-limit": ["-20", "9999999999"],
}
UNLIMITED = {
    "--memory": ["0"],
    "--cpus": ["0"],
    "--cpu-shares": ["0"],
    "--cpuset-cpus": [""],
    "--pids-limit": ["0", "-1"],
}
VALID = {"--memory": "64m", "--cpus": "1", "--cpu-shares": "512", "--cpuset-cpus": "0", "--pids-limit": "50"}
NEEDED = {"memory": "--memory", "cpu": "--cpus", "cpuset": "--cpuset-cpus", "pids": "--pids-limit"}


def each(values: dict[str, list[str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("option", "value"), [(name, value) for name in values for value in values[name]])


@pytest.mark.same("cgroups/limits.py")
@each(NONSENSE)
def test_nonsense(runtime: Runtime, option: str, value: str) -> None:
    said = runtime.refusal(runtime.run("true", options=[f"{option}={value}"]))
    assert runtime.podman or option in said


def test_values_that_make_sense(runtime: Runtime, fresh: Fresh) -> None:
    """What is asked for is what the kernel is told, whatever the number."""
    memory, shares, pids = fresh.number(16, 900), fresh.number(2, 9000), fresh.number(5, 5000)
    with cgroup.held(runtime, "-m", f"{memory}m", "--cpu-shares", f"{shares}", "--pids-limit", f"{pids}") as container:
        assert container.read("memory.limit_in_bytes", "memory.max") == f"{memory << 20}"
        assert container.read("pids.max", "pids.max") == f"{pids}"
        if cgroup.version("cpu") == 1:  # version 2 has weights, by a curve: see test_cgroups_v2.py
            assert container.read("cpu.shares", "cpu.weight") == f"{shares}"


@each(UNLIMITED)
def test_no_limit(runtime: Runtime, option: str, value: str) -> None:
    """As Docker writes it. (Without a limit nothing is to be looked at but that it runs.)"""
    assert runtime.run("true", options=[f"{option}={value}"]).code == 0
    if not runtime.podman:
        told = runtime.run("true", options=["--explain", f"{option}={value}"]).err.decode()
        assert not re.search("echo .*(max|limit_in_bytes|quota|shares|weight)\n", told), told


@pytest.mark.same("cgroups/limits.py")
@pytest.mark.ours_alone("Podman takes these for another value, or for no limit")
@each(IMPOSSIBLE)
def test_more_or_less_than_there_is(runtime: Runtime, option: str, value: str) -> None:
    assert option in runtime.refusal(runtime.run("true", options=[f"{option}={value}"]))


@pytest.mark.ours_alone("--explain")
@pytest.mark.parametrize("option", IMPOSSIBLE)
def test_nothing_has_begun(runtime: Runtime, option: str) -> None:
    """Nothing was made and nobody was born before the last of five limits was refused."""
    limits = VALID | {option: IMPOSSIBLE[option][-1]}
    result = runtime.run("true", options=["--explain", *(f"{name}={value}" for name, value in limits.items())])
    *told, refusal = result.err.decode().splitlines()
    assert result.code == 125 and option in refusal
    assert not [line for line in told if re.search(r"clone|fork|unshare|[0-9a-f]{12}", line)]


HOW_TO_MISS_IT = ["umount -l {}", "mount -t tmpfs none {}", "mount -o remount,bind,ro {}"]


@pytest.mark.ours_alone("Podman falls back on what it finds elsewhere")
@pytest.mark.skipif(cgroup.version() == 2, reason="here all controllers have one tree: see test_cgroups_v2.py")
@pytest.mark.parametrize("controller", cgroup.CONTROLLERS)
@pytest.mark.parametrize("how", HOW_TO_MISS_IT)
def test_a_controller_is_missing(runtime: Runtime, controller: str, how: str) -> None:
    """Not mounted, hidden or not to be written: no limit of its kind, and no file or directory where it should be."""
    where = cgroup.trees()[controller]
    script = f'{how.format(where)}; "$@" || code=$?; ls {where} | grep -x mydocker || :; exit $code'
    option = NEEDED[controller]
    result = runtime.run("true", options=[option, VALID[option]], under=("unshare", "-m", "sh", "-ec", script, "sh"))
    assert repr(controller) in runtime.refusal(result)
    assert result.out == b"" or "ro" in how


@pytest.mark.ours_alone("Podman falls back on what it finds elsewhere")
@pytest.mark.parametrize("how", HOW_TO_MISS_IT)
def test_without_a_limit_no_controller_is_needed(runtime: Runtime, how: str, fresh: Fresh) -> None:
    word = fresh.word()
    script = "; ".join(how.format(where) for where in {*cgroup.trees().values()}) + '; exec "$@"'
    result = runtime.run("echo", word, under=("unshare", "-m", "sh", "-ec", script, "sh"))
    assert result == Result(0, f"{word}\n".encode(), b"")
