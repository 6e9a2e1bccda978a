"""The container's own root: pivot_root, /proc, /sys and /dev. Mounts are made inside the container's mount namespace:
the host never sees them, and the kernel removes them with the last process in that namespace.

The chapter begins with chroot(2) and breaks out of it. chroot changes where the paths of one process begin.
pivot_root(2) changes the root of the whole mount namespace; then the old root can be unmounted. No trick with paths
can reach files that are not mounted.
"""

import os
from pathlib import Path

from . import terminal
from .lib import linux
from .lib.errors import ContainerError
from .lib.linux import MNT, MS

SAFE = MS.MS_NOSUID | MS.MS_NODEV | MS.MS_NOEXEC
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
# Docker's lists. Masked: files that show the host's kernel and hardware, or (kcore) its memory.
MASKED = """
    /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi
    /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware
""".split()
# Read-only: through these, root could change or trigger something for the whole machine.
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


def enter(rootfs: Path) -> None:
    """Make the directory `rootfs` the root of this mount namespace, set it up, and unmount the host's files.

    All mounts must be private already: if the new root or its parent mount is shared, pivot_root fails (EINVAL).
    """
    linux.mount(str(rootfs), str(rootfs), None, MS.MS_BIND | MS.MS_REC)  # the new root must be a mount point
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    linux.chdir(str(rootfs))
    linux.pivot_root(".", ".")
    # The host's root is now mounted on top of ours. Until we unmount it, "/dev" is the container's, and "dev", relative
    # to the working directory, is the host's. It must stay until all is mounted: without root, the kernel lets us
    # mount a /proc or /sys only while another one can be seen (mount_namespaces(7)).
    os.fchdir(host)
    os.close(host)
    mount_all()
    make_devices()
    linux.umount(".", MNT.MNT_DETACH)
    linux.chdir("/")
    if not os.path.samefile("/", "/.."):
        raise ContainerError(
            "the host's files are still mounted: something changed the image while it was being started"
        )
    hide()


def mount_all() -> None:
    """Mount the kernel's own file systems, and a tmpfs each for /dev and /dev/shm."""
    mount_new("proc", "/proc", "proc", SAFE)
    mount_new("sysfs", "/sys", "sysfs", SAFE | MS.MS_RDONLY)
    if os.path.exists("sys/fs/cgroup/cgroup.controllers"):  # the host has only cgroup v2
        mount_new("cgroup2", "/sys/fs/cgroup", "cgroup2", SAFE | MS.MS_RDONLY)
    mount_new("tmpfs", "/dev", "tmpfs", MS.MS_NOSUID, "mode=755,size=65536k")
    linux.mkdir("/dev/pts", 0o755)
    terminal.mount_devpts()
    mount_new("shm", "/dev/shm", "tmpfs", SAFE, "mode=1777,size=65536k")
    mount_new("mqueue", "/dev/mqueue", "mqueue", SAFE)


def mount_new(source: str, target: str, kind: str, flags: MS, data: str | None = None) -> None:
    """Mount a file system on a directory, which is made if the image lacks it.

    Refuse a symbolic link in the image. With a link to "/" we would mount on top of the host's root: then our umount
    would remove that new mount, and the host's files would stay.
    """
    if not os.path.lexists(target):
        linux.mkdir(target, 0o755)
    if os.path.islink(target) or not os.path.isdir(target):
        raise ContainerError(f"the image's {target} is not a directory, so nothing can be mounted there")
    linux.mount(source, target, kind, flags, data)


def make_devices() -> None:
    """Fill /dev. A user namespace does not permit mknod(2): there we bind-mount the host's devices instead.

    Root makes new devices: if the container's root ran chmod on a bind-mounted /dev/null, the host's would change.
    """
    for name, (major, minor) in DEVICES.items():
        try:
            linux.mknod(f"/dev/{name}", major, minor)
            os.chmod(f"/dev/{name}", 0o666)  # mknod applies the umask
        except PermissionError:
            bind_file(f"dev/{name}", f"/dev/{name}")
    for name, target in LINKS.items():
        linux.symlink(target, f"/dev/{name}")


def bind_file(source: str, target: str) -> None:
    """Bind-mount the file `source` on the file `target`. A missing target is made first, as an empty file."""
    os.close(os.open(target, os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644))
    linux.mount(source, target, None, MS.MS_BIND)


def name_host(hostname: str) -> None:
    """Give the container its own /etc/hostname and /etc/hosts, in memory, unless something else is mounted there.

    We write them in /dev and bind-mount them. Then we remove their names in /dev: the mounts keep the files.
    """
    texts = {"hostname": f"{hostname}\n", "hosts": f"127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost\n"}
    mounted = {line.split()[4] for line in Path("/proc/self/mountinfo").read_bytes().splitlines()}
    for name, text in texts.items():
        target = Path("/etc", name)
        possible = os.access("/etc", os.W_OK) or target.exists()  # else a volume at /etc is read-only
        if possible and not target.is_symlink() and os.fsencode(target) not in mounted:
            Path("/dev", name).write_text(text)
            bind_file(f"/dev/{name}", str(target))
            Path("/dev", name).unlink()


def hide() -> None:
    """Mask some files of /proc and /sys, and make others read-only."""
    for path in filter(os.path.exists, MASKED):
        if os.path.isdir(path):
            linux.mount("tmpfs", path, "tmpfs", SAFE | MS.MS_RDONLY)
        else:
            linux.mount("/dev/null", path, None, MS.MS_BIND)
    for path in filter(os.path.exists, READ_ONLY):
        # A bind mount copies all flags. Only a remount can change them, and it must repeat the flags that stay.
        linux.mount(path, path, None, MS.MS_BIND | MS.MS_REC)
        linux.mount(None, path, None, SAFE | MS.MS_RDONLY | MS.MS_REMOUNT | MS.MS_BIND)
