"""Where we are: who we are, in which container or virtual machine, and what is mounted. Only files are read here."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

# What /sys/class/dmi/id says, and whose virtual machine that is. The first that is found counts.
VENDORS = {
    "VMware": "VMware",
    "innotek": "VirtualBox",
    "VirtualBox": "VirtualBox",
    "Parallels": "Parallels",
    "Apple Virtualization": "Apple Virtualization",
    "Virtual Machine": "Hyper-V",
    "Amazon EC2": "Amazon EC2",
    "Google Compute": "Google Cloud",
    "Xen": "Xen",
    "bhyve": "bhyve",
    "OpenStack": "OpenStack",
    "KVM": "KVM",
    "QEMU": "QEMU",
}
SYS_ADMIN = 21  # the number of CAP_SYS_ADMIN in linux/capability.h


def text(path: str) -> str:
    """A file's text, "" if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def sysctl(name: str) -> str:
    """A kernel setting by its dotted name, "" where this kernel has none: sysctl(8)."""
    return text(f"/proc/sys/{name.replace('.', '/')}")


def status(name: str) -> str:
    """A field of /proc/self/status: proc(5)."""
    found = re.search(rf"^{name}:\s*(.*)$", text("/proc/self/status"), re.MULTILINE)
    return found[1] if found else ""


@dataclass(frozen=True)
class Mount:
    """A line of /proc/self/mountinfo."""

    device: str
    target: str
    options: set[str]
    kind: str
    details: set[str]  # the options of the file system: for cgroup version 1 its controllers


def mounts() -> list[Mount]:
    """What is mounted here, the latest last: proc(5)."""
    found = []
    for line in text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, details) = before.split(), after.split(" ", 2)
        found.append(Mount(fields[2], fields[4], {*fields[5].split(",")}, kind, {*details.split(",")}))
    return found


def kind_of(path: Path) -> str:
    """The type of the file system that `path`, or what is there of it, is on."""
    device = os.stat(nearest(path)).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    return next((mount.kind for mount in mounts() if mount.device == name), "a file system")


def nearest(path: Path) -> Path:
    """The path itself, or the nearest directory above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def store() -> Path | None:
    """Where the steps keep images and containers; None if there is no home directory for it."""
    if chosen := os.environ.get("MYDOCKER_ROOT"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/mydocker")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return None if data.startswith("~") else Path(data, "mydocker")


@dataclass(frozen=True)
class Place:
    """Who and where we are."""

    root: bool = field(default_factory=lambda: os.geteuid() == 0)
    container: str = field(default_factory=lambda: container())
    machine: str = field(default_factory=lambda: machine())
    chroot: bool = field(default_factory=lambda: all(mount.target != "/" for mount in mounts()))
    seccomp: bool = field(default_factory=lambda: status("Seccomp") == "2")
    mapped: bool = field(default_factory=lambda: text("/proc/self/uid_map").split() != ["0", "0", "4294967295"])
    powerful: bool = field(default_factory=lambda: bool(int(status("CapEff") or "0", 16) >> SYS_ADMIN & 1))
    store: Path | None = field(default_factory=store)


# The inodes of the namespaces that the machine started with: linux/proc_ns.h.
FIRST = {"uts": 0xEFFFFFFE, "ipc": 0xEFFFFFFF, "pid": 0xEFFFFFFC}


def container() -> str:
    """The container that we are in, "" if there is no sign of one: as systemd-detect-virt(1) looks for it.

    A machine may have been made from a container's files, sign included. So its own namespaces are looked at too.
    """
    if not (others := {kind for kind, inode in FIRST.items() if os.stat(f"/proc/self/ns/{kind}").st_ino != inode}):
        return ""
    if Path("/run/.containerenv").exists():
        return "Podman" + (" without root" if "rootless=1" in text("/run/.containerenv") else "")
    if Path("/.dockerenv").exists():
        return "Docker"
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "Kubernetes"
    variables = dict(entry.partition("=")[::2] for entry in text("/proc/1/environ").split("\0"))
    if name := variables.get("container") or text("/run/systemd/container"):
        return name
    above = re.search(r"docker|kubepods|containerd|libpod|lxc", text("/proc/1/cgroup"))
    if above:
        return above[0]
    return "of an unknown kind" if "pid" in others and not Path("/run/WSL").exists() else ""


def machine() -> str:
    """The kind of machine: WSL, a virtual one, or "" for a real one."""
    release = os.uname().release
    if "microsoft" in release.lower():
        return "WSL 1" if "Microsoft" in release else "WSL 2"
    told = " ".join(
        text(f"/sys/class/dmi/id/{name}")
        for name in ("product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version")
    )
    if vendor := next((name for sign, name in VENDORS.items() if sign in told), ""):
        return f"a virtual machine ({vendor})"
    if (kind := text("/sys/hypervisor/type")) and kind != "none":
        return f"a virtual machine ({kind})"
    if Path("/proc/device-tree/hypervisor").exists() or re.search(r"^flags.*\bhypervisor\b", cpu(), re.MULTILINE):
        return "a virtual machine"
    return ""


def cpu() -> str:
    """What the kernel tells of the processors."""
    return text("/proc/cpuinfo")
