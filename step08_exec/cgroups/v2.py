"""cgroup version 2: one tree for all controllers (kernel: admin-guide/cgroup-v2.rst)."""

import math
import os
from contextlib import suppress
from pathlib import Path

from ..lib import linux
from ..lib.errors import INSIDE, OUTER
from .hierarchy import CONTROLLERS, Hierarchy, make_directory, mounted
from .limits import Limits

PERIOD = 100_000  # microseconds: with a limit of 0.5 CPUs a container may run 50,000 of each 100,000


def find() -> list[Hierarchy]:
    """Return the tree of version 2, if it is mounted and lets us use one of our controllers."""
    found = []
    for root, _ in mounted("cgroup2"):
        with suppress(OSError):  # we may not write to it, or not see it: it gives no limits
            parent = delegated(root)
            if not controllers_in(parent, "controllers"):
                continue
            base = make_directory(parent / "mydocker")
            controllers = hand_down(parent) & hand_down(base)
            if controllers and os.access(base, os.W_OK):
                found.append(Hierarchy(base, 2, controllers))
    return found


def settings(limits: Limits) -> list[tuple[str, str, object]]:
    """Return what to set here: a controller, a file in the container's directory, a value. None is no limit.

    As in Docker, a container may use as much swap as memory.
    """
    return [
        ("memory", "memory.max", limits.memory),
        ("memory", "memory.swap.max", limits.memory),
        ("cpu", "cpu.max", limits.cpus and f"{round(limits.cpus * PERIOD)} {PERIOD}"),
        ("cpu", "cpu.weight", limits.cpu_shares and shares_to_weight(limits.cpu_shares)),
        ("cpuset", "cpuset.cpus", limits.cpuset_cpus),
        ("pids", "pids.max", limits.pids if limits.pids != -1 else None),
    ]


def shares_to_weight(shares: int) -> int:
    """Convert version 1's cpu.shares (2 … 1024 … 262144) to version 2's cpu.weight (1 … 100 … 10000).

    runc uses this curve through the three points since 1.3.2: log10(weight) is quadratic in log2(shares). Before, it
    used a straight line, which turned the default of 1024 into 39 (opencontainers/runc issue 4772).
    """
    power = math.log2(shares)
    return math.ceil(10 ** ((power**2 + 125 * power) / 612 - 7 / 34))


def delegated(root: Path) -> Path:
    """Return our part of the version 2 tree: for root all of it, else our topmost ancestor that we may write to.

    A systemd user manager gives its user such a subtree ("Delegation" in cgroup-v2.rst).
    """
    if os.geteuid() == 0:
        return root
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(root / line.removeprefix("0::/") for line in lines if line.startswith("0::"))
    writable = [folder for folder in (own, *own.parents) if os.access(folder / "cgroup.procs", os.W_OK)]
    return writable[-1] if writable else own


def hand_down(directory: Path) -> set[str]:
    """Version 2: let the children of `directory` use its controllers. Returns the controllers that they can use.

    A cgroup with processes of its own cannot do that ("No Internal Process Constraint" in cgroup-v2.rst). The kernel
    would still hand down some controllers, but then refuse processes in the children.
    """
    if has_processes(directory):
        return set()
    for controller in sorted(controllers_in(directory, "controllers") - controllers_in(directory, "subtree_control")):
        with suppress(OSError):
            linux.write_file(directory / "cgroup.subtree_control", f"+{controller}")
    return controllers_in(directory, "subtree_control")


def has_processes(directory: Path) -> bool:
    """Whether a version 2 cgroup has processes of its own. The root cgroup may have some: it has no cgroup.type."""
    return (directory / "cgroup.type").exists() and bool((directory / "cgroup.procs").read_text().strip())


def controllers_in(directory: Path, name: str) -> set[str]:
    """Return which of our controllers the file cgroup.`name` of a version 2 cgroup lists."""
    return CONTROLLERS & set((directory / f"cgroup.{name}").read_text().split())


def remedy() -> str:
    """Return what the user can do if a controller is missing."""
    parents = [delegated(root) for root, _ in mounted("cgroup2")]
    if blocked := [parent for parent in parents if os.access(parent, os.W_OK) and has_processes(parent)]:
        return f"{blocked[0]} has processes of its own, so it can hand nothing down; move them to a cgroup below it"
    if os.geteuid() != 0:
        return "run as root, or in a shell from 'systemd-run --user --scope -p Delegate=yes $SHELL'"
    return OUTER if INSIDE else "it is switched off in the kernel"
