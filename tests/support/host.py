"""The host, as far as a runtime can leave something behind on it; and which of that is ours.

Several tests run at once, each in a worker process of its own. A worker that is root has mounts, network and cgroups
to itself (own_host.py); nobody else could change the machine's. Processes are attributed by their ancestry (a worker is
the reaper of all that its runtimes orphan), files by their path, a cgroup that workers share by the processes in it.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support import session

# The C library keeps signals 32 and 33 to itself: signal(2) refuses them to every program, ours and Podman's alike. So
# they are inherited as they are, and some caller far above may have ignored them. As a mask, as in /proc/PID/status.
LIBC_OWN = 1 << 31 | 1 << 32
State = dict[str, frozenset[str]]
GRACE = 10.0 * session.SLOWNESS  # seconds; the kernel and Podman finish some things after the exit that we see


def adopt_orphans() -> None:
    """PR_SET_CHILD_SUBREAPER of prctl(2): what our descendants orphan becomes our child, not the system's init's."""
    ctypes.CDLL(None).prctl(36, 1)


@dataclass(frozen=True)
class Process:
    pid: int
    began: int  # clock ticks since boot: tells it from a later process of the same number
    parent: int
    state: str
    name: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.name})"

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def inner_pids(self) -> list[int]:
        """Its numbers in the PID namespaces below ours; none for a process of the host."""
        with suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text()
            if found := re.search(r"^NSpid:(.*)$", status, re.MULTILINE):
                return [int(number) for number in found[1].split()[1:]]
        return []


def processes() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                fields = rest.split()
                yield Process(int(entry.name), int(fields[19]), int(fields[1]), fields[0], name)


def descendants() -> list[Process]:
    """All living processes below this worker."""
    children: dict[int, list[Process]] = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process)
    found, queue = [], [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += [process for process in below if process.state != "Z"]
        queue += [process.pid for process in below]
    return found


def contained() -> list[Process]:
    """Our descendants that live in a PID namespace of their own."""
    return [process for process in descendants() if process.inner_pids()]


def init() -> Process:
    """The PID 1 of the one container that the test has running."""
    (found,) = (process for process in contained() if process.inner_pids() == [1])
    return found


def wait_until(true: Callable[[], object], what: str, patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience * session.SLOWNESS
    while not true():
        assert time.monotonic() < deadline, f"not within {patience} seconds: {what}"
        time.sleep(0.01)


# ---- what there is ---------------------------------------------------------------------------------------------------


def state(files: list[Path]) -> State:
    found = {"process": frozenset(map(str, descendants())), "file": frozenset(temporary_files(files))}
    if os.geteuid() == 0:
        found |= {"mount": frozenset(mounts()), "network": frozenset(network()), "firewall": frozenset(firewall())}
    return {**found, "cgroup": frozenset(cgroups())}


def mounts() -> Iterator[str]:
    """But for Podman's storage, which it mounts on itself, and what its runc mounts for a moment, of itself."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" {session.worker()}/podman/" not in line and "/runc." not in line:
            yield line


def cgroups() -> Iterator[str]:
    """Our cgroups, but for Podman's and for the parent of a runtime's, which may stay when it is empty."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup"):
            top = before.split()[4]
            for path, folders, _ in os.walk(top):
                folders[:] = [name for name in folders if not name.startswith("libpod")]
                if path not in (top, f"{top}/mydocker") and os.stat(path).st_uid == os.geteuid():
                    yield path


def used_by_others(cgroup: str) -> bool:
    with suppress(OSError):
        inside = Path(cgroup, "cgroup.procs").read_text().split()
        return bool(inside) and not {str(process.pid) for process in descendants()} & {*inside}
    return False


def network() -> Iterator[str]:
    """Links, addresses and routes of both families, and whether the host forwards."""
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        yield f"link {line.partition(':')[0].strip()}"
    for table in ("fib_trie", "route", "if_inet6", "ipv6_route"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines():
                yield f"{table} " + (line if table != "ipv6_route" else line[:70] + line.split()[-1])
    for family in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        with suppress(OSError):
            yield f"{family} = {Path('/proc/sys/net', family).read_text().strip()}"


def firewall() -> Iterator[str]:
    """Every rule, behind its table and chain; not Podman's own, which come and go with other tests."""
    if nft := shutil.which("nft", path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
        listed = subprocess.run([nft, "--stateless", "list", "ruleset"], capture_output=True, text=True).stdout
        table = chain = ""
        for line in map(str.strip, listed.splitlines()):
            if line.startswith("table "):
                table = line.removesuffix(" {")
            elif line.startswith("chain "):
                chain = line.removesuffix(" {")
            elif line not in ("", "}") and "NETAVARK" not in chain + line:
                yield f"{table}, {chain}: {line}"


def temporary_files(files: list[Path]) -> Iterator[str]:
    """What is in the directories that the test set aside, and in those of the system under a name of ours."""
    for place in files:
        if place.exists():
            yield from map(str, place.iterdir())
    for system in ("/tmp", "/var/tmp", "/run", "/dev/shm"):
        with suppress(OSError):
            for name in os.listdir(system):
                if re.search("mydocker|step0", name) and not re.fullmatch(r"mydocker-\w+-\w{8}", name):  # mkdtemp's
                    yield f"{system}/{name}"


# ---- what has changed ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    how: str
    kind: str
    entry: str

    def __str__(self) -> str:
        return f"{self.how}: {self.kind} {self.entry}"


def changes(before: State, after: State) -> list[Change]:
    """Every kind of thing that has come, or that is gone."""
    found = []
    for kind in before:
        new = sorted(after[kind] - before[kind])
        found += [Change("left behind", kind, entry) for entry in new if kind != "cgroup" or not used_by_others(entry)]
        if kind in ("mount", "network", "firewall"):  # the others end by themselves
            found += [Change("gone", kind, entry) for entry in sorted(before[kind] - after[kind])]
    return found


def leaks(before: State, files: list[Path], grace: float = GRACE) -> list[Change]:
    """What is not as it was, from now until everything has had its time to settle."""
    deadline = time.monotonic() + grace
    reap()
    found = changes(before, state(files))
    while found and time.monotonic() < deadline:
        time.sleep(0.02)
        reap()
        now = changes(before, state(files))
        found = [change for change in found if change in now]  # what others make meanwhile is not ours
    return found


def reap() -> None:
    """Wait for orphans that have come to us and died, as an init does. Called between tests: nobody else waits then."""
    for process in processes():
        if process.state == "Z" and process.parent == os.getpid():
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def clear(left: list[Change]) -> None:
    """Take away what a failed test has left, so that the next does not fail for it too."""
    ours = {str(process): process for process in descendants()}
    for change in sorted(left, key=str, reverse=True):  # a cgroup's children before their parent
        if change.how == "gone":
            continue
        if change.kind == "process" and change.entry in ours:
            ours[change.entry].signal(signal.SIGKILL)
        elif change.kind == "cgroup":
            with suppress(OSError):
                os.rmdir(change.entry)
        elif change.kind == "mount":
            subprocess.run(["umount", "--lazy", change.entry.split()[4]], check=False, capture_output=True)


def capabilities(status: str) -> dict[str, set[int]]:
    """The five sets, from /proc/PID/status (proc(5))."""
    found = re.findall(r"^Cap(\w+):\s*([0-9a-f]+)$", status, re.MULTILINE)
    return {name: {number for number in range(64) if int(mask, 16) >> number & 1} for name, mask in found}
