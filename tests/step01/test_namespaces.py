"""Step 1: what a container sees of the machine, and what the machine sees of it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import host
from tests.support.fresh import Fresh
from tests.support.runtime import Runtime

NEW = ["uts", "ipc", "pid", "mnt", "net"]


def test_every_container_has_namespaces_of_its_own(runtime: Runtime) -> None:
    script = f"for name in {' '.join(NEW)}; do readlink /proc/self/ns/$name; done; sleep 60"
    started = [runtime.start("sh", "-c", script) for _ in range(2)]
    one, other = ([each.line() for _ in NEW] for each in started)
    hosts = [os.readlink(f"/proc/self/ns/{name}") for name in NEW]
    assert len({*one, *other, *hosts}) == 3 * len(NEW)
    first = [process.pid for process in host.contained() if process.inner_pids() == [1]]
    seen = [[os.readlink(f"/proc/{pid}/ns/{name}") for name in NEW] for pid in first]
    assert sorted(seen) == sorted([one, other]), "the host sees them in the same"


# ---- processes -------------------------------------------------------------------------------------------------------


def test_the_command_is_process_1(runtime: Runtime) -> None:
    assert runtime.output("sh", "-c", "echo $$") == "1"


def test_only_the_containers_processes_are_seen(runtime: Runtime, fresh: Fresh) -> None:
    more = fresh.number(1, 30)
    script = f"for i in $(seq {more}); do sleep 60 & done; cd /proc; set -- [0-9]*; echo $1 $#"
    assert runtime.output("sh", "-c", "cd /proc; echo [0-9]*") == "1"
    assert runtime.output("sh", "-c", script) == f"1 {more + 1}"


@pytest.mark.step(1, until=2)  # from step 3 on, the whole file system is another
def test_proc_is_mounted_over_the_hosts(runtime: Runtime) -> None:
    mounts = runtime.output("cat", "/proc/self/mountinfo").splitlines()
    last = [line for line in mounts if line.split()[4] == "/proc"][-1]
    assert " - proc proc " in last
    assert {"nosuid", "nodev", "noexec"} <= {*last.split()[5].split(",")}


@pytest.mark.as_root("without root, `/` cannot be made shared")
def test_the_hosts_mounts_stay_untouched_where_they_are_shared(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """systemd makes `/` shared: a mount made in another namespace then appears on the host too, unless one takes care.

    The book's readers lost their /proc to this. The 'host' is a mount namespace of the test's own here.
    """
    before, after, code = tmp_path / "before", tmp_path / "after", fresh.number(1, 124)
    script = f'cat /proc/self/mountinfo > {before}; "$@"; code=$?; cat /proc/self/mountinfo > {after}; exit $code'
    # `unshare` itself makes everything private first: else what is shared would be shared with the real host
    under = ("unshare", "--mount", "sh", "-c", f"mount --make-rshared /; {script}", "sh")
    assert runtime.run("sh", "-c", f"exit {code}", under=under).code == code
    one, other = (
        [line for line in path.read_text().splitlines() if "/podman/" not in line] for path in (before, after)
    )
    assert other == one
    assert any("shared:" in line for line in one)


# ---- host name -------------------------------------------------------------------------------------------------------


def hostname(runtime: Runtime, *options: str) -> str:
    return runtime.output("cat", "/proc/sys/kernel/hostname", options=options)


def test_the_hostname_is_the_containers_id(runtime: Runtime) -> None:
    one, other = hostname(runtime), hostname(runtime)
    assert re.fullmatch("[0-9a-f]{12}", one)
    assert one != other


@pytest.mark.parametrize("shape", ["{}", "Web-1.{}.org", "{:x<64}"], ids=["short", "of a domain", "long"])
def test_a_hostname_of_ones_own(runtime: Runtime, shape: str, fresh: Fresh) -> None:
    name = shape.format(fresh.word())
    mine = Path("/proc/sys/kernel/hostname").read_text()
    assert hostname(runtime, "--hostname", name) == name
    assert Path("/proc/sys/kernel/hostname").read_text() == mine


@pytest.mark.ours_alone("Podman lets most of them pass")
@pytest.mark.parametrize("name", ["x" * 65, "two words", "-dash", "dash-", "a..b", "line\nbreak", "a/b", "ü"])
def test_no_hostname(runtime: Runtime, name: str) -> None:
    assert "--hostname" in runtime.refusal(runtime.run("true", options=["--hostname", name]))


def test_the_empty_hostname_means_the_default(runtime: Runtime) -> None:
    assert re.fullmatch("[0-9a-f]{12}", hostname(runtime, "--hostname", ""))


# ---- network ---------------------------------------------------------------------------------------------------------


def test_lo_is_the_only_device(runtime: Runtime) -> None:
    lines = runtime.output("cat", "/proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


def test_lo_carries_data(runtime: Runtime, fresh: Fresh) -> None:
    word = fresh.word()
    assert runtime.probe("loopback", word) == word


# ---- System V IPC ----------------------------------------------------------------------------------------------------


def test_shared_memory_of_the_host_is_not_seen(runtime: Runtime) -> None:
    made = subprocess.run(["ipcmk", "--shmem", "4096"], capture_output=True, text=True, check=True).stdout
    number = made.split()[-1]
    try:
        assert number in Path("/proc/sysvipc/shm").read_text().split()
        assert len(runtime.output("cat", "/proc/sysvipc/shm").splitlines()) == 1, "more than the heading"
    finally:
        subprocess.run(["ipcrm", "--shmem-id", number], check=True)


# ---- users -----------------------------------------------------------------------------------------------------------


def test_the_command_is_root_inside(runtime: Runtime) -> None:
    started = runtime.start("sh", "-c", "id -u; id -g; sleep 60")
    assert [started.line(), started.line()] == ["0", "0"]
    owner = 0 if runtime.user is None else runtime.user
    assert os.stat(f"/proc/{host.init().pid}").st_uid == (os.getuid() or owner)


@pytest.mark.ours_alone("Podman is asked as root only")
@pytest.mark.as_user("root needs no user namespace")
def test_root_inside_is_the_caller_outside(runtime: Runtime) -> None:
    user = runtime.user if runtime.user is not None else os.getuid()
    started = runtime.start("sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; sleep 60")
    assert [started.line().split() for _ in range(2)] == [["0", str(user), "1"]] * 2
    assert started.line() == "deny"
    assert os.stat(f"/proc/{host.init().pid}").st_uid == user
