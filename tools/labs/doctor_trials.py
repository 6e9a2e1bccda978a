"""Tries, in a child process, what the steps ask of the kernel: the same system calls in the same order.

Nothing is believed that can be tried: a setting may allow what seccomp, AppArmor or a container around us refuses. What
a child mounts is gone with its mount namespace; the directories and cgroups made here are removed again.
"""

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

from tools.labs.doctor_place import Mount, mounts

PATIENCE = 20.0  # seconds that a trial may take
# PyDLL keeps Python's lock during the call, as after clone(2) only the calling thread is left in the child.
LIBC = ctypes.PyDLL(None, use_errno=True)
NUMBERS = {"clone3": 435, "open_tree": 428, "move_mount": 429, "mount_setattr": 442}  # the same on all processors
NEW = {
    "CLONE_NEWNS": 0x00020000,
    "CLONE_NEWUTS": 0x04000000,
    "CLONE_NEWIPC": 0x08000000,
    "CLONE_NEWUSER": 0x10000000,
    "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
}
NEWUSER, NEWNET, NEWCGROUP, INTO_CGROUP = NEW["CLONE_NEWUSER"], NEW["CLONE_NEWNET"], 0x02000000, 0x200000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 0x1, 0x2, 0x4, 0x8, 0x20, 0x1000, 0x4000, 0x40000
SAFE = NOSUID | NODEV | NOEXEC
DETACH = 2  # MNT_DETACH
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
MASKED = """
    /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi
    /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware
""".split()
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
KEPT = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31}  # the capabilities that a container keeps: Docker's, less MKNOD


@dataclass(frozen=True)
class Refusal:
    """What was tried and refused, and with which errno(3); 0 if it was no answer of the kernel's."""

    what: str
    error: int = 0

    def __str__(self) -> str:
        return f"{self.what}: {os.strerror(self.error)}" if self.error else self.what


class Refused(Exception):
    """Carries a Refusal out of what was tried."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@contextmanager
def trying(what: str) -> Iterator[None]:
    """Give the kernel's refusal the name of what was tried."""
    try:
        yield
    except OSError as error:
        raise Refused(Refusal(what, error.errno or 0)) from None


def call(name: str, *arguments: object) -> int:
    """A system call, or libc's function of that name. Raises OSError."""
    try:
        function = partial(LIBC.syscall, NUMBERS[name]) if name in NUMBERS else getattr(LIBC, name)
    except AttributeError:  # an old C library
        raise OSError(38, os.strerror(38)) from None
    result = int(function(*(os.fsencode(each) if isinstance(each, str) else each for each in arguments)))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# ---- a child that tries ----------------------------------------------------------------------------------------------


def flags(root: bool) -> int:
    """The namespaces of a container. Without root the user namespace is what permits the others."""
    return sum(NEW.values()) - (NEWUSER if root else 0)


def names(wanted: int) -> str:
    """Flags as strace(1) shows them."""
    return "|".join(name for name, flag in NEW.items() if wanted & flag) or "0"


def clone(wanted: int, cgroup: int | None = None) -> int:
    """fork(2) into new namespaces, and into a `cgroup` of version 2 if the descriptor of one is given: clone3(2)."""
    all_flags = wanted | (INTO_CGROUP if cgroup is not None else 0)
    arguments = struct.pack("=11Q", all_flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, cgroup or 0)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(LIBC.syscall(ctypes.c_long(NUMBERS["clone3"]), arguments, ctypes.c_size_t(len(arguments))))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid


def attempt(
    work: Callable[[], object],
    wanted: int = 0,
    cgroup: int | None = None,
    meanwhile: Callable[[int], object] | None = None,
) -> Refusal | None:
    """Have a child in new namespaces do `work`. Returns what was refused, None if all went well.

    When the child is done, and before it ends, `meanwhile` may do something with its PID.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with its:
            try:
                pid = clone(wanted, cgroup)
            except OSError as error:
                into = " into a cgroup" if cgroup is not None else ""
                return Refusal(f"clone3({names(wanted)}){into}", error.errno or 0)
            if pid == 0:
                ours.close()
                at_work(work, its)
        try:
            return supervised(pid, ours, wanted, meanwhile)
        except Refused as refused:
            return refused.refusal
        finally:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def at_work(work: Callable[[], object], channel: socket.socket) -> NoReturn:
    """The child's side: wait until its user is mapped, do it, tell, and wait to be killed."""
    try:
        if channel.recv(2) == b"go":
            try:
                work()
                answer: list[object] = []
            except Refused as refused:
                answer = [refused.refusal.what, refused.refusal.error]
            except BaseException as error:
                answer = [repr(error), 0]
            channel.send(json.dumps(answer).encode())
            channel.recv(2)
    finally:
        os._exit(0)


def supervised(
    pid: int, channel: socket.socket, wanted: int, meanwhile: Callable[[int], object] | None
) -> Refusal | None:
    """The parent's side."""
    with trying("pidfd_open"):
        os.close(os.pidfd_open(pid))
    if wanted & NEWUSER:
        map_caller_to_root(pid)
    channel.send(b"go")
    channel.settimeout(PATIENCE)
    try:
        answer = channel.recv(4096)
    except TimeoutError:
        return Refusal(f"no answer after {PATIENCE:.0f} seconds")
    if not answer:
        _, how = os.waitpid(pid, 0)
        return Refusal(f"the child was killed by {signal.Signals(os.WTERMSIG(how)).name}" if how else "the child died")
    if told := json.loads(answer):
        return Refusal(*told)
    if meanwhile:
        meanwhile(pid)
    return None


def map_caller_to_root(pid: int) -> None:
    """Let the caller be root in the child's user namespace: user_namespaces(7)."""
    for name, line in {"uid_map": f"0 {os.geteuid()} 1", "setgroups": "deny", "gid_map": f"0 {os.getegid()} 1"}.items():
        with trying(f"write to /proc/PID/{name}"):
            Path(f"/proc/{pid}/{name}").write_text(line)


def unshare(wanted: int) -> Callable[[], None]:
    """Work for a child: move to new namespaces itself."""

    def work() -> None:
        with trying("unshare(CLONE_NEWCGROUP)" if wanted == NEWCGROUP else f"unshare({names(wanted)})"):
            call("unshare", wanted)

    return work


def refused_namespaces(root: bool) -> list[str]:
    """Which kinds of namespaces are refused, each tried alone. Without root all of them need a user namespace."""
    user = 0 if root else NEWUSER
    kinds = {name: flag for name, flag in NEW.items() if not (root and flag == NEWUSER)}
    return [name for name, flag in kinds.items() if attempt(lambda: None, flag | user)]


# ---- a container, furnished as the steps do --------------------------------------------------------------------------


def on_the_hosts_files() -> None:
    """What step 1 does inside, up to its command."""
    begin()
    mount("proc", "/proc", "proc", SAFE)
    mount_devpts()
    finish()


def begin() -> None:
    """Let go of the caller, and of its mounts."""
    with trying("close_range"):
        call("close_range", ctypes.c_uint(1 << 20), ctypes.c_uint(2**32 - 1), 0)  # where nothing is open
    os.setsid()
    with trying("make the mounts private"):
        call("mount", None, "/", None, REC | PRIVATE, None)


def finish() -> None:
    """Network and name."""
    with trying("switch on the loopback device"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 1))
    with trying("sethostname"):
        call("sethostname", "box", 3)


def mount(source: str, target: str, kind: str | None, options: int, data: str | None = None) -> None:
    """mount(2), told by its target."""
    with trying(f"mount {target}" if kind else f"bind {target}"):
        call("mount", source, target, kind, options, data)


def mount_devpts() -> None:
    """Terminals of the container's own. Group 5 is `tty`; in a user namespace of one user there is no such group."""
    group = ",gid=5" if not USER else ""
    mount("devpts", "/dev/pts", "devpts", NOSUID | NOEXEC, f"newinstance,ptmxmode=0666,mode=0620{group}")


USER = os.geteuid()  # outside: inside, it is 0


def in_a_root_of_its_own(root: Path) -> None:
    """What step 3 does: the directory is bound upon itself, and becomes the root."""
    unshare(NEWCGROUP)()  # without root, /sys/fs/cgroup can be mounted only in one's own
    begin()
    mount(str(root), str(root), None, BIND | REC)
    enter(root)


def on_a_layer(directory: Path, volume: bool = False) -> None:
    """What steps 4 and later do: the root is an overlay. With a `volume`, as from step 5 on: a mount is carried in."""
    unshare(NEWCGROUP)()
    begin()
    picked = pick_up(directory) if volume else None
    os.chdir(directory)
    with trying("setxattr"):
        try:
            os.setxattr("work", "trusted.overlay.try", b"")
            marks = ""
        except PermissionError:
            os.setxattr("work", "user.overlay.try", b"")
            marks = ",userxattr"
    mount("overlay", "merged", "overlay", NODEV, f"lowerdir=lower,upperdir=upper,workdir=work{marks}")
    enter(directory / "merged", picked)


def pick_up(directory: Path) -> int:
    """A copy of a mount, to be put down in the container: open_tree(2), mount_setattr(2)."""
    with trying("open_tree"):
        picked = call("open_tree", -100, str(directory), 0x1 | 0x80000 | 0x8000)
    with trying("mount_setattr"):
        call("mount_setattr", picked, "", 0x1000 | 0x8000, struct.pack("4Q", 0x4 | 0x1, 0, 0, 0), 32)
    return picked


def enter(root: Path, picked: int | None = None) -> None:
    """pivot_root(2), the kernel's own file systems, devices, a volume, and what hides the host."""
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.chdir(root)
    with trying("pivot_root"):
        call("pivot_root", ".", ".")
    os.fchdir(host)
    os.close(host)
    mount("proc", "/proc", "proc", SAFE)
    mount("sysfs", "/sys", "sysfs", SAFE | RDONLY)
    if os.path.exists("sys/fs/cgroup/cgroup.controllers"):
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", SAFE | RDONLY)
    mount("tmpfs", "/dev", "tmpfs", NOSUID, "mode=755,size=65536k")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"/dev/{name}")
    mount_devpts()
    mount("shm", "/dev/shm", "tmpfs", SAFE, "mode=1777,size=65536k")
    mount("mqueue", "/dev/mqueue", "mqueue", SAFE)
    make_devices()
    with trying("let go of the old root"):
        call("umount2", ".", DETACH)
    os.chdir("/")
    hide()
    if picked is not None:
        with trying("move_mount"):
            call("move_mount", picked, "", -100, "/mnt", 0x4)
    finish()
    Path("/dev/hosts").write_text("127.0.0.1\tlocalhost\n")
    mount("/dev/hosts", "/etc/hosts", None, BIND)
    with trying("execute a program of the image"):
        if not os.access("/bin/program", os.X_OK):
            raise PermissionError(13, os.strerror(13))
    drop_capabilities()


def make_devices() -> None:
    """Device files, or the host's where mknod(2) is not permitted."""
    for name, numbers in DEVICES.items():
        with trying(f"make /dev/{name}"):
            try:
                os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(*numbers))
            except PermissionError:
                Path(f"/dev/{name}").touch()
                call("mount", f"dev/{name}", f"/dev/{name}", None, BIND, None)


def hide() -> None:
    """Mask some of /proc and /sys, and make some read-only."""
    for path in filter(os.path.exists, MASKED):
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", SAFE | RDONLY)
        else:
            mount("/dev/null", path, None, BIND)
    for path in filter(os.path.exists, READ_ONLY):
        mount(path, path, None, BIND | REC)
        mount("none", path, None, SAFE | RDONLY | REMOUNT | BIND)


def drop_capabilities() -> None:
    """Cut the bounding set: capabilities(7)."""
    for number in range(64):
        if number not in KEPT and LIBC.prctl(23, number, 0, 0, 0) == 1:  # PR_CAPBSET_READ: we could still get it
            with trying("give up capabilities"):
                call("prctl", 24, number, 0, 0, 0)


def settings_of_the_network() -> None:
    """What step 9 writes in each new network namespace, through the host's /proc."""
    first, _, count = Path("/proc/self/gid_map").read_text().split()[-3:]
    last = min(int(first) + int(count), 2**31) - 1
    for name, value in {"ip_unprivileged_port_start": "0", "ping_group_range": f"0 {last}"}.items():
        with trying(f"write to /proc/sys/net/ipv4/{name}"):
            Path("/proc/sys/net/ipv4", name).write_text(value)


def join(pid: int, wanted: int) -> None:
    """What step 8 does: into the namespaces of a process that runs, by its pidfd (Linux 5.8). Raises Refused."""

    def work() -> None:
        target = os.pidfd_open(pid)
        with trying("setns"):
            call("setns", target, wanted)
        with trying("clone3 in the container's namespaces"):
            if (child := clone(0)) == 0:
                os._exit(0)
            os.waitpid(child, 0)

    if refusal := attempt(work):
        raise Refused(refusal)


# ---- the store -------------------------------------------------------------------------------------------------------


@contextmanager
def workshop(store: Path) -> Iterator[Path]:
    """A directory in the store, with a small image and what a layer over it needs; afterwards it is gone.

    So is the store, if it was not there before. Raises Refused.
    """
    made = [path for path in (store, *store.parents) if not path.exists()]
    place = store / f".doctor-{os.getpid()}"
    try:
        with trying(f"make a directory in {store}"):
            place.mkdir(parents=True, mode=0o700)
        furnish(place)
        yield place
    finally:
        remove_tree(place)
        for path in made:
            with suppress(OSError):  # somebody uses it by now
                path.rmdir()


def remove_tree(top: Path) -> None:
    """Remove a directory tree. The kernel leaves a directory in a layer's `work` that nobody may enter."""
    for folder, names, _ in os.walk(top):
        for name in names:
            os.chmod(Path(folder, name), 0o700)
    shutil.rmtree(top, ignore_errors=True)


def furnish(place: Path) -> None:
    """An image of empty directories and one program, and the directories of a layer."""
    with trying(f"make files in {place.parent}"):
        for name in ("lower/bin", "lower/dev", "lower/etc", "lower/mnt", "lower/proc", "lower/sys", "merged"):
            (place / name).mkdir(parents=True)
        (place / "lower/etc/hosts").touch()
        (place / "lower/bin/program").write_text("#!/bin/sh\n")
        (place / "lower/bin/program").chmod(0o755)
    with trying(f"lock a directory in {place.parent}"):
        held = os.open(place, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        os.close(held)
    for name in ("upper", "work"):
        (place / name).mkdir()


# ---- cgroups ---------------------------------------------------------------------------------------------------------

LIMITS = ("memory", "cpu", "cpuset", "pids")
CONTROLLERS = {*LIMITS, "freezer", "cpuacct"}


@dataclass
class Cgroups:
    """What can be limited here, tried with a cgroup of our own in each tree."""

    versions: set[int] = field(default_factory=set)  # which are mounted
    controllers: set[str] = field(default_factory=set)  # of those that limits need, what we can use
    crowded: str = ""  # a cgroup of version 2 that hands nothing down, as it has processes of its own
    refusal: Refusal | None = None  # why the container could not be put into what was made


def cgroups(root: bool) -> Cgroups:
    """Make a cgroup in each tree as step 2 does, set each limit, have a child enter, and remove it all again."""
    found = Cgroups()
    homes: list[tuple[Path, int]] = []
    undo: list[Callable[[], object]] = []
    try:
        for tree in trees():
            version = 2 if tree.kind == "cgroup2" else 1
            found.versions.add(version)
            with suppress(OSError):
                home, usable = (second if version == 2 else first)(tree, root, found, undo)
                homes.append((home, version))
                found.controllers |= {name for name in usable & {*LIMITS} if limited(home, name, version)}
        born = next((home for home, version in homes if version == 2), None)
        birthplace = os.open(born, os.O_RDONLY) if born else None

        def work() -> None:
            for home, version in homes:
                if version == 1:
                    with trying(f"enter the cgroup {home}"):
                        (home / "tasks").write_text("0")
            unshare(NEWCGROUP)()

        found.refusal = attempt(work, flags(root), birthplace)
        if birthplace is not None:
            os.close(birthplace)
    finally:
        for each in reversed(undo):
            with suppress(OSError):
                each()
    return found


def trees() -> list[Mount]:
    """Every tree with controllers that limits need, once, and only where it really is to be seen."""
    found: dict[str, Mount] = {}
    for each in mounts():
        if each.kind == "cgroup2" or (each.kind == "cgroup" and CONTROLLERS & each.details):
            with suppress(OSError):
                seen = os.stat(each.target).st_dev
                if f"{os.major(seen)}:{os.minor(seen)}" == each.device:
                    found.setdefault(each.device, each)
    return sorted(found.values(), key=lambda tree: tree.kind, reverse=True)


def first(tree: Mount, _root: bool, _found: Cgroups, undo: list[Callable[[], object]]) -> tuple[Path, set[str]]:
    """A cgroup of version 1, two levels down as a container's, and its controllers."""
    home = Path(tree.target)
    for name in (f"mydocker-doctor-{os.getpid()}", "container"):
        home /= name
        make_directory(home, undo)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (home / file).exists() and not (home / file).read_text().strip():
                (home / file).write_text((home.parent / file).read_text().strip())
    return home, CONTROLLERS & tree.details


def second(tree: Mount, root: bool, found: Cgroups, undo: list[Callable[[], object]]) -> tuple[Path, set[str]]:
    """The same for version 2, where each level has to hand its controllers down."""
    parent = Path(tree.target) if root else delegated(Path(tree.target))
    if not listed(parent, "controllers"):
        raise PermissionError
    usable = handed_down(parent, found, undo)
    home = parent / f"mydocker-doctor-{os.getpid()}"
    make_directory(home, undo)
    usable &= handed_down(home, found, undo)
    make_directory(home / "container", undo)
    if not usable:
        raise PermissionError
    return home / "container", usable


def make_directory(directory: Path, undo: list[Callable[[], object]]) -> None:
    """mkdir(2), to be undone."""
    directory.mkdir(mode=0o700)
    undo.append(partial(remove, directory))


def remove(directory: Path) -> None:
    """rmdir(2) says EBUSY until the kernel has let go of the last process."""
    for _ in range(100):
        with suppress(OSError):
            directory.rmdir()
            return
        time.sleep(0.01)


def delegated(top: Path) -> Path:
    """The topmost cgroup above ours that we may write to: a systemd user manager hands its user such a one."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(top / line[len("0::/") :] for line in lines if line.startswith("0::"))
    writable = [folder for folder in (own, *own.parents) if os.access(folder / "cgroup.procs", os.W_OK)]
    return writable[-1] if writable else own


def listed(directory: Path, name: str) -> set[str]:
    """Which controllers the file cgroup.`name` lists."""
    return CONTROLLERS & {*(directory / f"cgroup.{name}").read_text().split()}


def handed_down(directory: Path, found: Cgroups, undo: list[Callable[[], object]]) -> set[str]:
    """Have the cgroups below `directory` use its controllers. Returns those that they can use."""
    if (directory / "cgroup.type").exists() and (directory / "cgroup.procs").read_text().strip():
        if os.access(directory, os.W_OK):
            found.crowded = str(directory)
        return set()
    control = directory / "cgroup.subtree_control"
    for name in sorted(listed(directory, "controllers") - listed(directory, "subtree_control")):
        with suppress(OSError):
            control.write_text(f"+{name}")
            undo.append(partial(control.write_text, f"-{name}"))
    return listed(directory, "subtree_control")


# For each controller: the file and a value that makes sense, in version 1 and in version 2.
SETTINGS = {
    "memory": (("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
    "cpu": (("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
    "pids": (("pids.max", "20"), ("pids.max", "20")),
}


def limited(home: Path, controller: str, version: int) -> bool:
    """Whether this limit can be set."""
    try:
        if controller == "cpuset":
            processors = (home.parent / f"cpuset.{'effective_cpus' if version == 1 else 'cpus.effective'}").read_text()
            file, value = "cpuset.cpus", processors.replace("-", ",").split(",")[0].strip()
        else:
            file, value = SETTINGS[controller][version - 1]
        (home / file).write_text(value)
        return True
    except OSError:
        return False


# ---- networks --------------------------------------------------------------------------------------------------------

# The kinds of rules that step 9 sets: NAT, addresses of this machine, tracked connections, kinds of devices.
RULES = """
table ip doctor {
    chain publish { tcp dport 8080 dnat to 172.31.255.2:80 comment "x"; }
    chain raw { type filter hook prerouting priority raw; policy accept; iifname "doctor0" ip daddr 127.0.0.0/8 drop; }
    chain outside { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump publish; }
    chain leave { type nat hook postrouting priority srcnat; policy accept;
        ip saddr 172.31.255.0/24 oifname != "doctor0" masquerade; }
    chain forward { type filter hook forward priority filter; policy accept;
        oifname "doctor0" ct state established,related accept; oifname "doctor0" ct status dnat accept;
        meta iifkind != "bridge" meta oifkind != "bridge" drop; }
}
"""
NEWLINK, DELLINK = 16, 17  # linux/rtnetlink.h
NAME, MASTER, LINKINFO = 3, 10, 18  # linux/if_link.h
KIND, DATA, PEER = 1, 2, 1
EXCLUSIVE = 0x400 | 0x200  # NLM_F_CREATE | NLM_F_EXCL
HEAD = struct.pack("=BxHiII", 0, 0, 0, 0, 0)  # struct ifinfomsg


def load_nftables() -> ctypes.CDLL:
    """The library that nft(8) is made of. Raises Refused."""
    try:
        return ctypes.CDLL("libnftables.so.1")
    except OSError:
        raise Refused(Refusal("libnftables")) from None


def bridge_and_rules() -> None:
    """What step 9 makes on the host, made in a network namespace of our own instead."""
    library = load_nftables()
    with trying("setns"), open("/proc/self/ns/net") as namespace:  # as one that knows a container's network
        call("setns", namespace.fileno(), NEWNET)
    with trying("make a bridge"):
        netlink(NEWLINK, EXCLUSIVE, HEAD + attribute(NAME, b"doctor0\0") + linkinfo(b"bridge"))
    with trying("make a veth pair"):
        peer = attribute(DATA, attribute(PEER, HEAD + attribute(NAME, b"doctor2\0")))
        netlink(NEWLINK, EXCLUSIVE, HEAD + attribute(NAME, b"doctor1\0") + linkinfo(b"veth", peer))
    with trying("plug a veth into a bridge"):
        number = struct.pack("=I", socket.if_nametoindex("doctor0"))
        link = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex("doctor1"), 1, 1)
        netlink(NEWLINK, 0, link + attribute(MASTER, number))
    with trying("write to /proc/sys/net/ipv4/conf"):
        Path("/proc/sys/net/ipv4/conf/doctor0/route_localnet").write_text("1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    context = ctypes.c_void_p(library.nft_ctx_new(0))
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    if library.nft_run_cmd_from_buffer(context, RULES.encode()) != 0:
        said = library.nft_ctx_get_error_buffer(context).decode(errors="replace").splitlines() or ["refused"]
        raise Refused(Refusal(f"nftables: {said[0]}"))


def rights_over_the_hosts_network() -> None:
    """Whether we may change the network that we are in. To delete a link that is not there changes nothing."""
    with trying("change the host's network"), suppress(FileNotFoundError):
        try:
            netlink(DELLINK, 0, HEAD + attribute(NAME, b"doctor-none\0"))
        except OSError as error:
            if error.errno != 19:  # ENODEV: we might have
                raise
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    with trying(f"write to {forward}"):
        forward.write_text(forward.read_text())


def linkinfo(kind: bytes, data: bytes = b"") -> bytes:
    """The attributes that say what kind of link is wanted."""
    return attribute(LINKINFO, attribute(KIND, kind) + data)


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute as netlink(7) packs it."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def netlink(kind: int, more: int, body: bytes) -> None:
    """Send a message to rtnetlink(7). Raises OSError if the kernel refuses."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(body), kind, 0x1 | 0x4 | more, 0, 0) + body)
        error = -struct.unpack_from("=i", kernel.recv(1 << 16), 16)[0]
        if error:
            raise OSError(error, os.strerror(error))
