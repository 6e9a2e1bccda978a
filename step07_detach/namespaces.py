"""Which namespaces a container gets, and who its root is outside (namespaces(7), user_namespaces(7))."""

import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

from .lib import explain, linux
from .lib.errors import ContainerError, sentence
from .lib.linux import CLONE

# Asked before the clone: inside, everybody sees himself as 0.
ROOTLESS = os.geteuid() != 0


def flags() -> CLONE:
    """The namespaces to make: all that isolate, and without root the user namespace that permits the others."""
    wanted = CLONE.CLONE_NEWNS | CLONE.CLONE_NEWUTS | CLONE.CLONE_NEWIPC | CLONE.CLONE_NEWPID | CLONE.CLONE_NEWNET
    return wanted | CLONE.CLONE_NEWUSER if ROOTLESS else wanted


def map_caller_to_root(pid: int) -> None:
    """Let the caller be root (0) in the user namespace of process `pid`, and nobody else be anybody.

    The order is the kernel's: without root, setgroups(2) has to be given up before gid_map may be written, or a
    member of a group that is denied something could drop that group (CVE-2014-8989).
    """
    linux.write_file(f"/proc/{pid}/uid_map", f"0 {os.geteuid()} 1")
    linux.write_file(f"/proc/{pid}/setgroups", "deny")
    linux.write_file(f"/proc/{pid}/gid_map", f"0 {os.getegid()} 1")


def bring_up_loopback() -> None:
    """Switch on `lo`, the only device of a new network namespace: netdevice(7), SIOCSIFFLAGS."""
    set_flags, up = 0x8914, 0x1
    explain.line("ip link set lo up")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh22x", b"lo", up))


def refusal(error: OSError) -> ContainerError:
    """Why the kernel refuses new namespaces, and the remedy."""
    if error.errno == errno.ENOSPC:
        limit = "user.max_user_namespaces" if ROOTLESS else "user.max_*_namespaces"
        return ContainerError(
            f"the limit on namespaces is reached: raise it (as root) with 'sysctl {limit}=15000'; see namespaces(7)"
        )
    if error.errno not in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EUSERS, errno.ENOSYS):
        return ContainerError(sentence(error))
    if not ROOTLESS:
        return ContainerError(f"{sentence(error)}: this root may not make namespaces (inside another container?)")
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        remedy = "AppArmor forbids it: 'sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0'"
    elif _sysctl("kernel/unprivileged_userns_clone") == "0":
        remedy = "switched off: 'sudo sysctl kernel.unprivileged_userns_clone=1'"
    else:
        remedy = f"{sentence(error)} (inside a chroot or another container?)"
    return ContainerError(f"without root a container needs a user namespace; {remedy}, or run as root")


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None
