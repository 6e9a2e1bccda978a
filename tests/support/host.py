"""What a runtime can leave behind on the host, and which of that is ours.

Several tests run at once, each in a worker process of its own. A worker that is root has mounts, network and cgroups
to itself (own_host.py); nobody else could change the machine's. Processes are told apart by their ancestors (a worker
is the reaper of its runtimes' orphans), files by their paths, and cgroups that workers share by the processes in them.
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
    """Make our descendants' orphans our children, not those of the system's init: PR_SET_CHILD_SUBREAPER, prctl(2)."""
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
        """Return its PIDs in the PID namespaces below ours: none for a process of the host."""
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
    """Return all living processes below this worker."""
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
    """Return our descendants that are in a PID namespace of their own."""
    return [process for process in descendants() if process.inner_pids()]


def init() -> Process:
    """Return PID 1 of the only container that the test runs now."""
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
    """Yield all mounts except Podman's: its storage, which it mounts on itself, and short-lived ones of its runc."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" {session.worker()}/podman/" not in line and "/runc." not in line:
            yield line


def cgroups() -> Iterator[str]:
    """Yield our cgroups, except Podman's, and except `mydocker`, the runtimes' parent, which may stay if empty."""
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
    """Yield the links, the addresses and routes of IPv4 and IPv6, and whether the host forwards packets."""
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
    """Yield every rule after its table and chain, except Podman's own rules: these come and go with other tests."""
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
    """Yield the entries of the test's own directories, and those of /tmp, /run … that have a name of ours."""
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
    """Return what is new since `before`, and what is gone."""
    found = []
    for kind in before:
        new = sorted(after[kind] - before[kind])
        found += [Change("left behind", kind, entry) for entry in new if kind != "cgroup" or not used_by_others(entry)]
        if kind in ("mount", "network", "firewall"):  # the others end by themselves
            found += [Change("gone", kind, entry) for entry in sorted(before[kind] - after[kind])]
    return found


def leaks(before: State, files: list[Path], grace: float = GRACE) -> list[Change]:
    """Return what is still not as it was after `grace` seconds; earlier if all is as it was."""
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
    """Reap dead orphans that have become our children, as an init does. Only between tests: then nobody else waits."""
    for process in processes():
        if process.state == "Z" and process.parent == os.getpid():
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def clear(left: list[Change]) -> None:
    """Remove what a failed test has left, so that the next test does not fail because of it."""
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
    """Return the five sets of capabilities, from the text of /proc/PID/status (proc(5))."""
    found = re.findall(r"^Cap(\w+):\s*([0-9a-f]+)$", status, re.MULTILINE)
    return {name: {number for number in range(64) if int(mask, 16) >> number & 1} for name, mask in found}
