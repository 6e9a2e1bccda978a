"""What watches over the host must itself be seen to bark: one leak of each kind, made on purpose."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import host, own_host, session
from tests.support.host import State

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the tests are not run by root")


@pytest.fixture
def before(tmp_path: Path) -> State:
    return host.state([tmp_path / "tmp"])


def left(before: State, tmp_path: Path) -> list[str]:
    """What is seen at once. Beside ours there may be what other workers are just making."""
    return [str(change) for change in host.leaks(before, [tmp_path / "tmp"], grace=0)]


def nothing_left(before: State, tmp_path: Path) -> bool:
    return host.leaks(before, [tmp_path / "tmp"]) == []


def test_nothing_left(before: State, tmp_path: Path) -> None:
    subprocess.run(["true"], check=True)
    assert nothing_left(before, tmp_path)


def test_a_process_left(before: State, tmp_path: Path) -> None:
    """Orphaned twice over, in a session of its own: as far away as a daemon goes."""
    subprocess.run(["sh", "-c", "setsid sh -c 'sleep 61 & echo' & wait"], check=True, stdout=subprocess.DEVNULL)

    def seen() -> bool:
        return any(re.fullmatch(r"left behind: process \d+ \(sleep\)", line) for line in left(before, tmp_path))

    host.wait_until(seen, "the watch tells of it")
    host.clear(host.leaks(before, [tmp_path / "tmp"], grace=0.5))
    assert nothing_left(before, tmp_path)


def test_a_dead_orphan_is_waited_for(before: State, tmp_path: Path) -> None:
    def dead() -> list[host.Process]:
        return [process for process in host.processes() if process.state == "Z" and process.parent == os.getpid()]

    subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)
    host.wait_until(dead, "the orphan died in our care")
    assert nothing_left(before, tmp_path)
    assert not dead()


def test_a_file_left(before: State, tmp_path: Path) -> None:
    (tmp_path / "tmp" / "forgotten").touch()
    assert f"left behind: file {tmp_path}/tmp/forgotten" in left(before, tmp_path)
    (tmp_path / "tmp" / "forgotten").unlink()
    assert nothing_left(before, tmp_path)


@needs_root
@pytest.mark.parametrize("occupied", [False, True])
def test_a_cgroup_left(before: State, tmp_path: Path, occupied: bool) -> None:
    with cgroup() as path, subprocess.Popen(["sleep", "61"]) as sleeper:
        try:
            if occupied:
                (path / "cgroup.procs").write_text(str(sleeper.pid))
            assert f"left behind: cgroup {path}" in left(before, tmp_path)
        finally:
            sleeper.kill()


@needs_root
def test_a_cgroup_that_others_use_is_theirs(before: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cgroup() as path, subprocess.Popen(["sleep", "61"]) as sleeper:
        (path / "cgroup.procs").write_text(str(sleeper.pid))
        with monkeypatch.context() as patch:
            patch.setattr(host, "descendants", list)  # nobody is ours
            assert f"left behind: cgroup {path}" not in left(before, tmp_path)
        sleeper.kill()


@contextmanager
def cgroup() -> Iterator[Path]:
    """A cgroup in the first hierarchy there is."""
    mounts = (line.partition(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    top = next((before.split()[4] for before, _, after in mounts if after.startswith("cgroup")), None)
    if top is None:
        pytest.skip("no cgroup file system is mounted")
    path = Path(top, f"left-{secrets.token_hex(6)}")  # not where the runtimes that run beside us would sweep it
    path.mkdir()
    try:
        yield path
    finally:
        host.wait_until(lambda: not (path / "cgroup.procs").read_text(), "the cgroup is empty")
        path.rmdir()


@needs_root
@pytest.mark.parametrize("kind", ["mnt", "net", "cgroup"])
def test_a_worker_has_a_host_of_its_own(kind: str) -> None:
    assert os.readlink(f"/proc/self/ns/{kind}") != os.readlink(f"/proc/{os.getppid()}/ns/{kind}")


def test_nobody_is_in_the_cgroups_of_a_worker_but_its_own(tmp_path: Path) -> None:
    ours = {os.getpid(), *(process.pid for process in host.descendants())}
    for tree in own_host.trees():
        if tree.kind == "cgroup" and os.geteuid() == 0:
            assert {*map(int, (tree.place / "cgroup.procs").read_text().split())} <= ours, tree


def in_a_host_of_its_own(change: str) -> str:
    """What the watch says of a change to mounts or network, made by a shell in namespaces of its own."""
    script = f"""
import subprocess
from tests.support import host
before = host.state([])
subprocess.run({change!r}, shell=True, check=True)
print(*host.leaks(before, [], grace=0.1), sep="\\n")
"""
    words = [
        "unshare",
        "--mount",
        "--net",
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
        sys.executable,
        "-c",
        script,
    ]
    return subprocess.run(words, cwd=session.REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout


@needs_root
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("mount -t tmpfs none /mnt", "left behind: mount .* /mnt "),
        ("umount -l /sys", "gone: mount .* /sys "),
        ("ip link add left0 type bridge", "left behind: network link left0"),
        ("ip link del lo 2>/dev/null; ip link set lo down", "gone: network .*127.0.0.1"),
        ("ip addr add 10.9.8.7/24 dev lo", "left behind: network .*10.9.8.7"),
        ("ip route add 10.9.8.0/24 dev lo", "left behind: network route lo.*0008090A"),
        ("cd /proc/sys/net/ipv4; echo $((1 - $(cat ip_forward))) > ip_forward", "left behind: network ipv4/ip_forward"),
    ],
)
def test_the_hosts_mounts_and_network(change: str, told: str) -> None:
    assert re.search(told, in_a_host_of_its_own(change))
