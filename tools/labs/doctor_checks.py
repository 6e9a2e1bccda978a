"""The doctor's checks: each gives facts, and for a bad one the steps that it stops and what to do about it."""

import errno
import importlib.metadata
import importlib.util
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tools.labs import doctor_trials as trials
from tools.labs.doctor_place import Place, kind_of, mounts, nearest, sysctl
from tools.labs.doctor_trials import Refusal, Refused

REPOSITORY = Path(__file__).resolve().parents[2]
PLACE = Place()
ALL = range(1, 10)
OLDEST = (5, 12)  # Linux: the first with mount_setattr(2)
ROOM = 500 << 20  # bytes: enough for images of one's own
AS_ROOT = "work as root (sudo make …)"
LIMITED = {"CLONE_NEWNS": "mnt"}  # its limit is not called "ns"
VM = "use a virtual machine, or a machine of your own"
UNABLE = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, errno.EREMOTE, errno.ESTALE)


@dataclass(frozen=True)
class Fact:
    """One line: what it is about and what was found; the steps that it stops, or of which it leaves a part out."""

    topic: str
    found: str
    stops: tuple[int, ...] = ()
    weakens: tuple[int, ...] = ()
    remedy: str = ""


def bad(topic: str, found: str, steps: Iterable[int], remedy: str) -> Fact:
    """What stops these steps."""
    return Fact(topic, found, tuple(steps), (), remedy)


def part(topic: str, found: str, steps: Iterable[int], remedy: str) -> Fact:
    """What leaves a part of these steps out."""
    return Fact(topic, found, (), tuple(steps), remedy)


def all_facts() -> list[Fact]:
    """Every check, in the order in which a step would meet what is wrong."""
    facts = [fact for check in (python, packages, machine, user, kernel) for fact in check()]
    found = isolated(namespaces, ALL)
    facts += found
    if not any(fact.stops for fact in found):  # else nothing more could be tried
        facts += isolated(step_one, ALL)
        facts += isolated(cgroups, range(2, 10))
        facts += isolated(roots, range(3, 10))
        facts += isolated(joining, range(8, 10))
    return [*facts, *isolated(network, [9])]


def isolated(check: Callable[[], list[Fact]], steps: Iterable[int]) -> list[Fact]:
    """Have a child do a check: a call that is not allowed may cost the caller its life (SIGSYS).

    A check without an answer stops these steps.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        try:
            os.close(reading)
            os.write(writing, pickle.dumps(check()))
        except Exception as error:
            os.write(writing, pickle.dumps([failed(check, steps, repr(error))]))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    _, how = os.waitpid(pid, 0)
    if told:
        return [fact for fact in pickle.loads(told) if isinstance(fact, Fact)]
    died = f"killed by {signal.Signals(os.WTERMSIG(how)).name}" if os.WIFSIGNALED(how) else "it died"
    return [failed(check, steps, died)]


def failed(check: Callable[[], list[Fact]], steps: Iterable[int], how: str) -> Fact:
    """What is told of a check that has no answer."""
    return bad(check.__name__.replace("_", " "), f"this could not be checked: {how}", steps, VM)


# ---- what is installed -----------------------------------------------------------------------------------------------


def python() -> list[Fact]:
    """The interpreter, and whether it can make a virtual environment."""
    version = ".".join(map(str, sys.version_info[:3]))
    lacking = [name for name in ("venv", "ensurepip", "pip") if importlib.util.find_spec(name) is None]
    return [Fact("Python", f"{version}, {sys.executable}" + (f"; without {', '.join(lacking)}" if lacking else ""))]


def packages() -> list[Fact]:
    """What the steps import, in .venv or else here."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = dict(re.findall(r"([\w.-]+)(.*)", "\n".join(project["dependencies"])))
    own = REPOSITORY / ".venv/bin/python"
    versions = installed_in(own, [*wanted]) if own.exists() else installed([*wanted])
    where = ".venv" if own.exists() else sys.executable
    told = ", ".join(f"{name} {versions.get(name) or 'missing'}" for name in wanted)
    if all(satisfies(versions.get(name, ""), limits) for name, limits in wanted.items()):
        return [Fact("packages", f"{told} ({where})")]
    needed = ", ".join(f"{name} {limits}" for name, limits in wanted.items())
    if can_install():
        return [Fact("packages", f"{told} ({where}); `make run` installs them into .venv: {needed}")]
    found = "the packages are missing, and this Python has neither venv with ensurepip nor pip to install them"
    return [bad("packages", found, ALL, "apt-get install python3-venv (other systems: Python's venv and pip)")]


def installed(names: list[str]) -> dict[str, str]:
    """The versions of packages that this interpreter has."""
    versions = {name: [each.version for each in importlib.metadata.distributions(name=name)] for name in names}
    return {name: found[0] for name, found in versions.items() if found}


def installed_in(interpreter: Path, names: list[str]) -> dict[str, str]:
    """The versions that another interpreter has; none if it cannot even start."""
    script = f"""
import importlib.metadata, json
versions = {{name: [each.version for each in importlib.metadata.distributions(name=name)] for name in {names!r}}}
print(json.dumps({{name: found[0] for name, found in versions.items() if found}}))
"""
    try:
        done = subprocess.run([interpreter, "-c", script], capture_output=True, text=True, timeout=20)
        return {str(name): str(version) for name, version in json.loads(done.stdout).items()}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}


def satisfies(version: str, limits: str) -> bool:
    """Whether a version is within limits such as ">=0.26,<0.29"."""
    if not version:
        return False
    bounds = re.findall(r"(>=|<)([\d.]+)", limits)
    return all((numbers(version) >= numbers(bound)) == (operator == ">=") for operator, bound in bounds)


def numbers(version: str) -> list[int]:
    """A version's numbers, to be compared."""
    return [int(number) for number in re.findall(r"\d+", version)]


def can_install() -> bool:
    """Whether tools/setup.sh could make .venv: with venv and ensurepip, with a pip from outside, or by apt-get."""
    has = {name for name in ("venv", "ensurepip", "pip") if importlib.util.find_spec(name)}
    return "venv" in has and (len(has) > 1 or (PLACE.root and shutil.which("apt-get") is not None))


# ---- where we are ----------------------------------------------------------------------------------------------------


def machine() -> list[Fact]:
    """In which container, on which machine."""
    inside = f"inside a container ({PLACE.container}), on " if PLACE.container else ""
    return [Fact("machine", f"{inside}{PLACE.machine or 'a real machine, or one that hides it'}")]


def user() -> list[Fact]:
    """Who we are."""
    who = f"user {os.geteuid()}, not root" if not PLACE.root else "root"
    if PLACE.root and PLACE.mapped:
        who += " of a user namespace, not of the machine"
    if PLACE.root and not PLACE.powerful:
        who += ", without CAP_SYS_ADMIN"
    return [Fact("user", who + ("; a seccomp filter watches the system calls" if PLACE.seccomp else ""))]


def kernel() -> list[Fact]:
    """The kernel's version. What it can do is tried later."""
    release = os.uname().release
    new_enough = tuple(numbers(release)[:2]) >= OLDEST
    return [Fact("kernel", f"Linux {release}" + ("" if new_enough else "; older than 5.12, which all steps need"))]


# ---- namespaces ------------------------------------------------------------------------------------------------------


def namespaces() -> list[Fact]:
    """A child in all new namespaces at once, as each step makes it."""
    topic = "namespaces" if PLACE.root else "user namespaces"
    refusal = trials.attempt(lambda: None, trials.flags(PLACE.root))
    if refusal is None:
        return [Fact(topic, "a child gets new ones of all kinds")]
    if not refusal.what.startswith("clone3"):
        return [bad(topic, f"{refusal}", ALL, reason(refusal)[1])]
    refused = trials.refused_namespaces(PLACE.root)
    single = f"; of all kinds only {refused[0]} is refused" if len(refused) == 1 else ""
    why, remedy = reason(refusal, refused[0] if single else "CLONE_NEWUSER")
    return [bad(topic, f"{why}{single}", ALL, remedy)]


def reason(refusal: Refusal, kind: str = "") -> tuple[str, str]:
    """Why the kernel refuses a `kind` of namespaces, or mounts in them, and the remedy."""
    error, told = refusal.error, str(refusal)
    if error == errno.ENOSPC and kind:
        limit = f"user.max_{LIMITED.get(kind, kind.removeprefix('CLONE_NEW').lower())}_namespaces"
        return f"{told} (the limit {limit} is reached)", f"sudo sysctl {limit}=15000"
    if error == errno.ENOSYS:
        if tuple(numbers(os.uname().release)[:2]) < OLDEST:
            return f"{told} (the kernel is too old)", "boot Linux 5.12 or newer"
        return f"{told} (a seccomp filter hides the call)", without_filter()
    if PLACE.chroot:
        return f"{told} (we are in a chroot, where the kernel refuses it)", "leave the chroot"
    if not PLACE.root and error in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EUSERS):
        if sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1":
            setting = "kernel.apparmor_restrict_unprivileged_userns"
            return f"{told} (AppArmor forbids it)", f"sudo sysctl {setting}=0, or {AS_ROOT}"
        if sysctl("kernel.unprivileged_userns_clone") == "0":
            setting = "kernel.unprivileged_userns_clone"
            return f"{told} (switched off)", f"sudo sysctl {setting}=1, or {AS_ROOT}"
    if PLACE.root and not PLACE.powerful and error == errno.EPERM:
        return f"{told} (this root lacks CAP_SYS_ADMIN)", without_filter()
    if PLACE.seccomp and error == errno.EPERM:
        return f"{told} (a seccomp filter refuses it)", without_filter()
    return told, without_filter() if PLACE.container else VM


def without_filter() -> str:
    """What to do about a filter, or capabilities that are missing."""
    if PLACE.container in ("Podman", "Podman without root", "Docker", "docker", "libpod"):
        engine = "docker" if "ocker" in PLACE.container else "podman"
        return f"start the outer container with {engine} run --privileged"
    if PLACE.container:
        return f"have the outer container started with more rights (privileged), or {VM}"
    return f"start again from a plain terminal, or {VM}"


def step_one() -> list[Fact]:
    """The container of step 1, and the cgroup namespace that all others have too."""
    flags = trials.flags(PLACE.root)
    facts = []
    if refusal := trials.attempt(trials.on_the_hosts_files, flags):
        steps = (1, 2) if refusal.what.startswith("mount /") else ALL
        facts.append(bad("/proc, /dev/pts", *mounting(refusal, steps)))
    else:
        facts.append(Fact("/proc, /dev/pts", "a container can mount its own, and has its own name and loopback device"))
    if refusal := trials.attempt(trials.unshare(trials.NEWCGROUP), flags):
        why, remedy = reason(refusal, "CLONE_NEWCGROUP")
        facts.append(bad("cgroup namespace", why, range(2, 10), remedy))
    return facts


def mounting(refusal: Refusal, steps: Iterable[int]) -> tuple[str, Iterable[int], str]:
    """Why something cannot be mounted: the words, the steps, the remedy."""
    for top in ("/proc", "/sys"):
        covered = sorted({each.target for each in mounts() if each.target.startswith(f"{top}/")})
        if refusal.what == f"mount {top}" and refusal.error == errno.EPERM and covered:
            why = f"{refusal} (here {covered[0]} and others are covered, as container engines do)"
            unmask = (
                "start the outer container with podman run --security-opt unmask=ALL (docker: systempaths=unconfined)"
            )
            return why, steps, unmask if PLACE.container else f"unmount what is mounted below {top}, or {AS_ROOT}"
    why, remedy = reason(refusal)
    return why, steps, remedy


# ---- limits ----------------------------------------------------------------------------------------------------------


def cgroups() -> list[Fact]:
    """Which limits can be set."""
    found = trials.cgroups(PLACE.root)
    versions = " and ".join(f"version {version}" for version in sorted(found.versions)) or "none mounted"
    if found.refusal and found.refusal.what.startswith(("clone3", "enter")):
        remedy = without_filter() if PLACE.container else AS_ROOT
        return [bad("cgroups", f"a container cannot be put into a cgroup: {found.refusal}", range(2, 10), remedy)]
    missing = [name for name in trials.LIMITS if name not in found.controllers]
    if not missing:
        return [Fact("cgroups", f"{versions}; limits can be set on {', '.join(trials.LIMITS)}")]
    return [
        part("cgroups", f"no limits can be set on {', '.join(missing)} (cgroups: {versions})", [2], delegation(found))
    ]


def delegation(found: trials.Cgroups) -> str:
    """How one comes to the controllers that are missing."""
    if found.crowded:
        return f"move the processes of {found.crowded} into a cgroup below it, so that it can hand controllers down"
    if PLACE.root:
        return without_filter() if PLACE.container else "switch the controllers on in the kernel (cgroup_enable=…)"
    if found.versions == {1} or not Path("/run/systemd/system").exists():
        return AS_ROOT
    return f"work in a shell from systemd-run --user --scope -p Delegate=yes $SHELL, or {AS_ROOT}"


# ---- files -----------------------------------------------------------------------------------------------------------


def roots() -> list[Fact]:
    """The store, a root of its own (step 3), a layer over it (from step 4 on), and volumes (from 5 on)."""
    later = range(3, 10)
    if PLACE.store is None:
        return [bad("store", "you have no home directory to keep images in", later, "set MYDOCKER_ROOT to a directory")]
    kind, free = kind_of(PLACE.store), shutil.disk_usage(nearest(PLACE.store)).free
    few = "; little: images of your own may need more" if free < ROOM else ""
    facts = [Fact("store", f"{PLACE.store} on {kind}, {free >> 20:,} MB free{few}")]
    try:
        with trials.workshop(PLACE.store) as place:
            facts += in_the_store(place, kind)
    except Refused as refused:
        return [bad("store", str(refused), later, "set MYDOCKER_ROOT to a directory where you may write")]
    return facts


def in_the_store(place: Path, kind: str) -> list[Fact]:
    """Roots of both kinds, from what is in `place`."""
    flags = trials.flags(PLACE.root)
    plain = trials.attempt(partial(trials.in_a_root_of_its_own, place / "lower"), flags)
    (place / "lower/bin/program").chmod(0o755)
    layer = trials.attempt(partial(trials.on_a_layer, place), flags)
    if plain and layer and plain.what == layer.what:
        return [bad("a root of its own", *rooting(plain, range(3, 10)))]
    facts = [Fact("a root of its own", "pivot_root, /proc, /sys, /dev and masks work")]
    if plain:
        facts = [bad("a root of its own", *rooting(plain, [3]))]
    if layer:
        return [*facts, bad("overlay", *layering(layer, kind))]
    facts.append(Fact("overlay", f"a layer can be mounted on {kind}"))
    if volume := trials.attempt(partial(trials.on_a_layer, emptied(place), True), flags):
        facts.append(bad("volumes", *mounting(volume, range(5, 10))))
    return facts


def emptied(place: Path) -> Path:
    """The same place, for another layer: a work directory is not to be used twice."""
    for name in ("upper", "work"):
        trials.remove_tree(place / name)
        (place / name).mkdir()
    return place


def rooting(refusal: Refusal, steps: Iterable[int]) -> tuple[str, Iterable[int], str]:
    """Why there is no root of its own."""
    if refusal.what.startswith("execute"):
        why = f"{PLACE.store} is on a file system from which no program may be executed (noexec)"
        return why, steps, "set MYDOCKER_ROOT to a directory elsewhere"
    if refusal.what.startswith("mount /dev/mqueue") and refusal.error == errno.ENODEV:
        return f"{refusal}", steps, "boot a kernel with POSIX message queues (CONFIG_POSIX_MQUEUE)"
    if refusal.what == "pivot_root" and refusal.error == errno.EINVAL:
        return f"{refusal} (the root here is a chroot or the first initramfs)", steps, VM
    return mounting(refusal, steps)


def layering(refusal: Refusal, kind: str) -> tuple[str, Iterable[int], str]:
    """Why there is no layer."""
    steps = range(4, 10)
    if refusal.what not in ("mount merged", "setxattr"):
        return rooting(refusal, steps)
    if refusal.error == errno.ENODEV:
        return "this kernel has no overlayfs", steps, "sudo modprobe overlay"
    if refusal.error in UNABLE:
        why = f"{PLACE.store} is on {kind}, which cannot carry a container's layer ({refusal})"
        return why, steps, "set MYDOCKER_ROOT to a directory on ext4, xfs, btrfs or tmpfs"
    return mounting(refusal, steps)


# ---- exec and networks -----------------------------------------------------------------------------------------------


def joining() -> list[Fact]:
    """A second process in a container that runs, and the settings of a new network namespace."""
    flags = trials.flags(PLACE.root)
    facts = []
    if refusal := trials.attempt(lambda: None, flags, meanwhile=lambda pid: trials.join(pid, flags)):
        why, _, remedy = mounting(refusal, [8])
        facts.append(Fact("exec", why, (8,), (9,), remedy))
    if refusal := trials.attempt(trials.settings_of_the_network, flags):
        facts.append(bad("/proc/sys", f"the network's settings cannot be changed: {refusal}", [9], writable()))
    else:
        facts.append(Fact("/proc/sys", "the settings of a new network can be changed"))
    return facts


def writable() -> str:
    """How /proc/sys comes to be writable."""
    if PLACE.container:
        return without_filter()
    return "mount -o remount,rw /proc/sys (or umount it, if something read-only lies upon it)"


def network() -> list[Fact]:
    """What step 9 changes on the host, tried in a network of our own where it can be."""
    topic = "networks"
    try:
        trials.load_nftables()
    except Refused:
        found = "libnftables is missing, the library of nft"
        fact = bad if PLACE.root else part
        return [fact(topic, found, [9], "apt-get install libnftables1 (Fedora, Arch: the package nftables)")]
    if not PLACE.root:
        return [part(topic, "only root may connect a container to the host's network", [9], AS_ROOT)]
    refusal = trials.attempt(trials.rights_over_the_hosts_network) or trials.attempt(
        trials.bridge_and_rules, trials.NEWNET
    )
    if refusal is None:
        return [Fact(topic, "a bridge, veth pairs and nftables rules can be made")]
    return [bad(topic, str(refusal), [9], connecting(refusal))]


def connecting(refusal: Refusal) -> str:
    """What to do where no network can be made."""
    if refusal.what.startswith("write to /proc/sys"):
        return writable()
    if refusal.error == errno.EOPNOTSUPP or refusal.what.startswith("nftables"):
        return "sudo modprobe bridge veth nf_tables nft_nat nft_masq, or boot a kernel that has these modules"
    return without_filter() if PLACE.container else VM
