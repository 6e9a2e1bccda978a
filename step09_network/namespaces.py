"""Which namespaces a container gets, and which host user its root is (namespaces(7), user_namespaces(7))."""

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

# Read before the clone: in the new user namespace our user id is 0.
ROOTLESS = os.geteuid() != 0


def flags(network: str) -> CLONE:
    """Return the namespaces to create. Without root, one is a user namespace: it permits us to create the others.

    With `network` "host" there is no network namespace.
    """
    wanted = CLONE.CLONE_NEWNS | CLONE.CLONE_NEWUTS | CLONE.CLONE_NEWIPC | CLONE.CLONE_NEWPID | CLONE.CLONE_NEWNET
    wanted &= ~CLONE.CLONE_NEWNET if network == "host" else ~CLONE(0)
    return wanted | CLONE.CLONE_NEWUSER if ROOTLESS else wanted


def map_caller_to_root(pid: int) -> None:
    """Map the caller to root (0) in the user namespace of process `pid`. Nobody else is mapped.

    The kernel demands this order: without root, setgroups(2) must be switched off before gid_map is written. Else a
    user could leave a group, and so open a file whose mode denies access to that group (CVE-2014-8989).
    """
    linux.write_file(f"/proc/{pid}/uid_map", f"0 {os.geteuid()} 1")
    linux.write_file(f"/proc/{pid}/setgroups", "deny")
    linux.write_file(f"/proc/{pid}/gid_map", f"0 {os.getegid()} 1")


def make_mounts_private() -> None:
    """Make all mounts private, so that the host does not see what we mount from here on: mount_namespaces(7).

    A new mount namespace gets copies of the host's mounts. Where `/` is shared (systemd shares it), a copy stays in
    the host's peer group: the kernel would mount our /proc on the host's /proc, too.
    """
    with refusal_explained():  # Ubuntu's AppArmor lets any user make a user namespace, but refuses this in it
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
    """Turn the kernel's refusal of new namespaces into a ContainerError that says what to do."""
    try:
        yield
    except OSError as error:
        raise ContainerError(remedy(error)) from None


def remedy(error: OSError) -> str:
    """Return why the kernel refuses, and what to do."""
    if error.errno == errno.ENOSPC:
        limit = "user.max_user_namespaces" if ROOTLESS else "user.max_*_namespaces"
        return f"the limit on namespaces is reached: raise it (as root) with 'sysctl {limit}=15000'; see namespaces(7)"
    if error.errno not in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EUSERS, errno.ENOSYS):
        return sentence(error)
    if INSIDE and (not ROOTLESS or error.errno == errno.ENOSYS):  # container engines answer clone3 with ENOSYS
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
