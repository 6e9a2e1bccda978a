"""Which namespaces a container gets, and who its root is outside (namespaces(7), user_namespaces(7))."""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from .lib import explain, linux
from .lib.errors import INSIDE, ContainerError, sentence
from .lib.linux import CLONE, MS

# Asked before the clone: inside, the caller is 0.
ROOTLESS = os.geteuid() != 0


def flags() -> CLONE:
    """The namespaces to make: all that isolate, and without root the user namespace that permits the others."""
    wanted = CLONE.CLONE_NEWNS | CLONE.CLONE_NEWUTS | CLONE.CLONE_NEWIPC | CLONE.CLONE_NEWPID | CLONE.CLONE_NEWNET
    return wanted | CLONE.CLONE_NEWUSER if ROOTLESS else wanted


def map_caller_to_root(pid: int) -> None:
    """Map the caller to root (0) in the user namespace of process `pid`. Nobody else is mapped.

    The kernel wants this order: without root, setgroups(2) must be given up before gid_map may be written. Otherwise
    a member of a group that is denied something could leave that group (CVE-2014-8989).
    """
    linux.write_file(f"/proc/{pid}/uid_map", f"0 {os.geteuid()} 1")
    linux.write_file(f"/proc/{pid}/setgroups", "deny")
    linux.write_file(f"/proc/{pid}/gid_map", f"0 {os.getegid()} 1")


def make_mounts_private() -> None:
    """Let nobody outside see what is mounted from here on: mount_namespaces(7).

    A new mount namespace is a copy whose mounts still belong to the host's peer groups where `/` is shared, and
    systemd shares it. Unless they are made private first, our /proc lands on the host's.
    """
    with refusal_explained():  # on Ubuntu AppArmor allows an unprivileged user namespace, and then refuses this
        linux.mount(None, "/", None, MS.MS_REC | MS.MS_PRIVATE)


def bring_up_loopback() -> None:
    """Switch on `lo`, the only device of a new network namespace: netdevice(7), SIOCSIFFLAGS."""
    set_flags, up = 0x8914, 0x1
    explain.line("ip link set lo up")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, set_flags, struct.pack("16sh22x", b"lo", up))
        except OSError as error:
            raise OSError(error.errno, f"ip link set lo up: {error.strerror}") from None


@contextmanager
def refusal_explained() -> Iterator[None]:
    """Turn the kernel's refusal of new namespaces into ContainerError, with the remedy."""
    try:
        yield
    except OSError as error:
        raise ContainerError(remedy(error)) from None


def remedy(error: OSError) -> str:
    """Why the kernel refuses, and what to do."""
    if error.errno == errno.ENOSPC:
        limit = "user.max_user_namespaces" if ROOTLESS else "user.max_*_namespaces"
        return f"the limit on namespaces is reached: raise it (as root) with 'sysctl {limit}=15000'; see namespaces(7)"
    if error.errno not in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EUSERS, errno.ENOSYS):
        return sentence(error)
    if INSIDE and (not ROOTLESS or error.errno == errno.ENOSYS):  # as engines of containers answer clone3
        return sentence(error)
    if not ROOTLESS:
        return f"{sentence(error)}: this root may not make namespaces"
    if linux.read_file("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1\n":
        reason = "AppArmor forbids it: 'sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0'"
    elif linux.read_file("/proc/sys/kernel/unprivileged_userns_clone") == "0\n":
        reason = "switched off: 'sudo sysctl kernel.unprivileged_userns_clone=1'"
    elif INSIDE:
        return sentence(error)
    else:
        reason = f"{sentence(error)} (inside a chroot?)"
    return f"without root a container needs a user namespace; {reason}, or run as root"
