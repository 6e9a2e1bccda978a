"""Limits do what they say: measured by what becomes of a program that wants more. Version 1 and version 2 alike."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import cgroup, host
from tests.support.cgroup import EVERY_LIMIT, Held, assert_said_why, complaints, eat, held
from tests.support.fresh import Fresh
from tests.support.runtime import Result, Runtime, Started, probe

pytestmark = [pytest.mark.as_root("the others have test_cgroups_rootless.py")]

PROCESSORS = sorted(os.sched_getaffinity(0))


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.v2
def test_too_much_memory(runtime: Runtime) -> None:
    """160 MB is too much even with as much swap as memory, and less than with all of this machine's swap."""
    result = runtime.run(*eat(160), options=["-m", "50m"])
    assert (result.code, result.out) == (137, b"")
    assert_said_why(runtime, result)


@pytest.mark.v2
def test_enough_memory(runtime: Runtime) -> None:
    result = runtime.run(*eat(30), options=["-m", "50m"])
    assert result.code == 0 and not complaints(runtime, result)


def test_no_limit_on_memory(runtime: Runtime) -> None:
    assert runtime.run(*eat(160)).code == 0


def test_the_limit_is_for_all_processes_together(runtime: Runtime) -> None:
    """Not one takes as much as the limit. Some child is killed; the container's own process lives to tell."""
    result = runtime.run(*probe("memory"), "30", "6", options=["-m", "50m"])
    assert result.code == 0 and int(result.text) > 0
    assert_said_why(runtime, result)


def test_small_processes_within_the_limit(runtime: Runtime) -> None:
    result = runtime.run(*probe("memory"), "2", "6", options=["-m", "50m"])
    assert (result.code, result.text) == (0, "0") and not complaints(runtime, result)


@pytest.mark.v2
def test_a_child_killed_for_memory(runtime: Runtime, fresh: Fresh) -> None:
    """The shell lives on and decides the exit code. What it was is told all the same."""
    code = fresh.number(1, 124)
    result = runtime.run("sh", "-c", f"{' '.join(eat(160))}; echo $?; exit {code}", options=["-m", "50m"])
    assert (result.code, result.text) == (code, "137")
    assert_said_why(runtime, result)


@pytest.mark.ours_alone("Podman says nothing in any case")
def test_killed_but_not_for_memory(runtime: Runtime) -> None:
    container = Held(runtime, "-m", "50m").ready()
    container.init.signal(signal.SIGKILL)
    assert container.end() == Result(137, b"", b"")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("67108864", 64 << 20),
        ("67108864b", 64 << 20),
        ("65536k", 64 << 20),
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64mb", 64 << 20),
        ("1.5g", 1536 << 20),
        ("0.0625g", 64 << 20),
    ],
)
def test_units_of_memory(runtime: Runtime, text: str, size: int) -> None:
    with held(runtime, "-m", text) as container:
        assert int(container.read("memory.limit_in_bytes", "memory.max")) == size


@pytest.mark.v2
def test_swap_is_limited_with_memory(runtime: Runtime) -> None:
    """As much swap as memory. Version 1 counts both together."""
    with held(runtime, "-m", "50m") as container:
        try:
            swap = int(container.read("memory.memsw.limit_in_bytes", "memory.swap.max"))
        except FileNotFoundError:
            pytest.skip("this kernel does not count swap")
    assert swap == (100 if cgroup.version() == 1 else 50) << 20


@pytest.mark.ours_alone("Podman's init takes more")
def test_the_least_memory_is_enough_to_start(runtime: Runtime) -> None:
    assert runtime.run("true", options=["-m", "6m"]) == Result(0, b"", b"")


# ---- CPU time --------------------------------------------------------------------------------------------------------


def spinner(runtime: Runtime, *options: str, processes: int = 1) -> Started:
    """A container that will use all the CPU time it can get."""
    started = runtime.start(*probe("spin"), str(processes), options=["-i", *options], stdin=subprocess.PIPE)
    assert started.line() == "ready", started.end()
    return started


def spin(spinners: list[Started], seconds: float) -> list[float]:
    """Have them be busy all at the same time; the seconds of CPU time that each got."""
    begin = time.monotonic() + 0.1
    for started in spinners:
        assert started.stdin
        started.stdin.write(f"{begin} {begin + seconds}\n".encode())
        started.stdin.flush()
    used = [float(started.line()) for started in spinners]
    assert [started.poll() for started in spinners] == [None] * len(spinners)
    return used


@pytest.mark.v2
def test_half_a_cpu(runtime: Runtime) -> None:
    """Of each tenth of a second at most half; and wherever it was stopped, it had had that half.

    A busy machine gives it less, and then it is stopped less often, which breaks neither bound. If it does not get so
    much that it has to be stopped at all, a smaller part will show it: even a very busy machine gives that.
    """
    for cpus in (0.5, 0.5, 0.2, 0.1, 0.05, 0.05):
        started = spinner(runtime, "--cpus", f"{cpus}", processes=2)
        statistics = cgroup.directories(host.init().pid)["cpu"] / "cpu.stat"
        before = number_in(statistics, "nr_throttled")
        (used,) = spin([started], 1.5)
        stopped = number_in(statistics, "nr_throttled") - before
        assert started.end(b"").code == 0
        assert cpus * 0.1 * stopped - 0.1 < used < cpus * 1.5 + 0.1
        if stopped:
            return
    pytest.fail("it was never stopped")


def number_in(file: Path, name: str) -> int:
    words = file.read_text().split()
    return int(words[words.index(name) + 1])


@pytest.mark.v2
def test_shares_are_weights(runtime: Runtime) -> None:
    """Two that want the same processor share it by these weights, however much others leave of it.

    In version 2's weights, 1024 to 256 is 100 to 35: see test_cgroups_v2.py.
    """
    same = ("--cpuset-cpus", str(PROCESSORS[-1]))
    spinners = [spinner(runtime, *same, "--cpu-shares", shares) for shares in ("1024", "256")]
    much, little = spin(spinners, 2)
    for started in spinners:
        assert started.end(b"").code == 0
    fair = 4 if cgroup.version("cpu") == 1 else 100 / 35
    assert 0.7 * fair < much / little < 1.5 * fair


@pytest.mark.parametrize(
    "wanted", [pytest.param(f"{PROCESSORS[-1]}", marks=pytest.mark.v2), f"{PROCESSORS[0]}-{PROCESSORS[-1]}"]
)
def test_only_these_processors(runtime: Runtime, wanted: str) -> None:
    allowed = runtime.output("grep", "Cpus_allowed_list", "/proc/self/status", options=["--cpuset-cpus", wanted])
    assert allowed.split() == ["Cpus_allowed_list:", wanted]
    first, _, last = wanted.partition("-")
    with held(runtime, "--cpuset-cpus", wanted) as container:
        assert os.sched_getaffinity(container.init.pid) == {*range(int(first), int(last or first) + 1)}


# ---- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.v2
def test_one_process_more_is_refused(runtime: Runtime, fresh: Fresh) -> None:
    limit = fresh.number(10, 80)
    assert runtime.probe("processes", "processes", options=["--pids-limit", f"{limit}"]) == [limit, "EAGAIN"]


def test_threads_count_as_processes(runtime: Runtime, fresh: Fresh) -> None:
    limit = fresh.number(10, 80)
    found = runtime.probe("processes", "threads", options=["--pids-limit", f"{limit}"])
    assert found == [limit, "can't start new thread"]


def test_a_fork_bomb(runtime: Runtime) -> None:
    """A thousand at most, should the limit fail. The shell dies of it; the machine does not notice."""
    bomb = "bomb() { [ $1 = 0 ] || { bomb $(($1 - 1)) & bomb $(($1 - 1)) & wait; }; }; bomb 9"
    started = runtime.start("sh", "-c", bomb, options=["--pids-limit", "20"])
    most = 0
    while started.poll() is None:
        most = max(most, len(host.contained()))
    assert most <= 20
    assert b"fork" in started.end().err


def test_no_limit_on_processes(runtime: Runtime) -> None:
    assert runtime.probe("processes", "processes") == [101, ""]


# ---- where the process is --------------------------------------------------------------------------------------------


@pytest.mark.v2
def test_the_container_is_alone_in_its_cgroup(runtime: Runtime) -> None:
    """The runtime is not in it, and nothing that it starts: a limit of 6 MB is not meant for Python."""
    with held(runtime, "-m", "64m") as container:
        for directory in container.directories.values():
            inside = (directory / "cgroup.procs").read_text().split()
            assert str(container.init.pid) in inside and {*map(int, inside)} <= {
                found.pid for found in host.contained()
            }
        runtimes_own = cgroup.directories(container.started.pid)
        assert not {*runtimes_own.values()} & {*container.directories.values()}


@pytest.mark.step(1, until=1)
def test_without_a_cgroup_of_its_own(runtime: Runtime) -> None:
    assert runtime.output("cat", "/proc/self/cgroup") == Path("/proc/self/cgroup").read_text().strip()


@pytest.mark.v2
@pytest.mark.ours_alone("Docker and Podman do so with version 2 only")
def test_the_container_does_not_see_where_it_is(runtime: Runtime) -> None:
    lines = runtime.output("cat", "/proc/self/cgroup").splitlines()
    assert lines and {line.split(":", 2)[2] for line in lines} == {"/"}


@pytest.mark.ours_alone("of Podman, this would trace the wrong process")
def test_limits_hold_from_the_first_instruction_on(runtime: Runtime) -> None:
    """Every write of the runtime takes a tenth of a second: a command that does not wait for them is unlimited."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    slowly = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=write", "-e", "inject=write:delay_enter=100000")
    result = runtime.run("sh", "-c", "(:); echo free", options=["--pids-limit", "1"], under=slowly)
    assert result.code == 2 and result.out == b"" and b"fork" in result.err


@pytest.mark.v2
def test_limits_write_no_files(runtime: Runtime) -> None:
    """A runtime that takes version 2 for version 1 writes a plain file where it stands, and limits nothing."""
    places = (runtime.directory, Path("/sys/fs/cgroup"))
    before = {name for place in places for name in place.iterdir()}
    with held(runtime, *EVERY_LIMIT) as container:
        assert container.read("memory.limit_in_bytes", "memory.max") == f"{64 << 20}"
        assert container.read("cpu.cfs_quota_us", "cpu.max").split()[0] == "100000"
        assert container.read("cpu.shares", "cpu.weight") == ("512" if cgroup.version("cpu") == 1 else "59")
        assert container.read("cpuset.cpus", "cpuset.cpus") == "0"
        assert container.read("pids.max", "pids.max") == "50"
    after = {name for place in places for name in place.iterdir()}
    assert after - before <= {Path("/sys/fs/cgroup/mydocker")}


@pytest.mark.v2
@pytest.mark.ours_alone("it is we who look for what is mounted ourselves")
def test_a_tree_mounted_twice(runtime: Runtime, tmp_path: Path) -> None:
    """As in a chroot, or a container given the host's /sys: the same cgroups at another path."""
    script = f'mount --rbind /sys/fs/cgroup {tmp_path}/tmp; exec "$@"'
    result = runtime.run(*eat(160), options=["-m", "50m"], under=("unshare", "-m", "sh", "-ec", script, "sh"))
    assert result.code == 137
    assert_said_why(runtime, result)
