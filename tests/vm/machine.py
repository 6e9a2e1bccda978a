"""Run one command in a small virtual machine that has cgroup v2 and nothing else.

    python tests/vm/machine.py [--timeout SECONDS] [--env K=V]... [--kvm] [-t] COMMAND [ARG...]

The command sees the host's files at the same paths, is root, and may write anywhere: nothing of it reaches the host.
Its output is ours and so is its exit code; 124: time is up; 125: the machine itself failed. See README.md beside this.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO

INIT = Path(__file__).resolve().with_name("init.sh")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
META_PACKAGE = "linux-image-amd64"
TOOLS = {  # program: the Debian package it comes from
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "mkfs.ext4": "e2fsprogs",
    "setpriv": "util-linux",
}
# What init.sh needs before it can reach the host's files. All others are loaded on demand, once /lib/modules is there.
BOOT_MODULES = ["virtio_pci", "virtio_blk", "virtio_console", "9pnet_virtio", "9p", "crc32c_generic", "ext4", "overlay"]
# Of the kernel package: the kernel, and its modules without the drivers for real hardware (110 of 400 MB).
KERNEL_FILES = [
    "./boot/vmlinuz-*",
    "./lib/modules/*/modules.*",
    *(f"./lib/modules/*/kernel/{directory}" for directory in ("arch", "crypto", "fs", "lib", "net")),
    *(f"./lib/modules/*/kernel/drivers/{directory}" for directory in ("block", "char", "net/[!ew]*", "virtio")),
]
MEMORY, CPUS, DISK, SWAP = "3G", "2", 4 << 30, 128 << 20  # disks are sparse files
KVM = Path("/dev/kvm")
KVM_PATIENCE = 20  # seconds: where it works, the kernel is up in two


@dataclass(frozen=True)
class Guest:
    """Whom we do not trust. The machine then has these of the host's directories, read-only, and no other file."""

    directories: dict[str, Path]  # the path inside: the directory outside
    files: dict[str, bytes]
    links: dict[str, str]
    start: str  # the directory in which the command is started


class MachineError(Exception):
    """The machine could not be built or did not come up; the text is for the user."""


def tool(name: str) -> str:
    """Return the path of a program, which for an ordinary user may be in /usr/sbin and so not in $PATH."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}")
    if not found:
        raise MachineError(f"{name} not found; install the Debian packages {' '.join(sorted(TOOLS.values()))}")
    return found


def run_tool(*command: str | Path, cwd: Path | None = None, stdin: bytes = b"", fds: Sequence[int] = ()) -> bytes:
    """Run a program of the host to its end and return its output."""
    try:
        return subprocess.run(command, cwd=cwd, input=stdin, pass_fds=fds, check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise MachineError(f"{command[0]} not found") from None
    except subprocess.CalledProcessError as error:
        complaint = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {error.returncode}"]
        raise MachineError(f"{shlex.join(map(str, command))}: {complaint[-1]}") from None


# ── The kernel, fetched once ──────────────────────────────────────────────────────────────────────────────────────────


def kernel() -> Path:
    """Return the directory with Debian's kernel (boot/, lib/modules/), fetched and unpacked if it is not there yet.

    The package is unpacked and never installed, which would change what this computer boots.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "mydocker-vm"
    cache.mkdir(parents=True, exist_ok=True)
    ready, new = cache / "kernel", cache / "kernel.new"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            try:
                unpack_kernel(new)
            except MachineError as error:
                raise MachineError(f"{error} (needed: a Debian amd64, or its sources, and apt-get update)") from None
            new.rename(ready)
    return ready


def unpack_kernel(target: Path) -> None:
    """Fetch the kernel package that META_PACKAGE stands for and unpack it into `target`."""
    print("machine: fetching Debian's kernel (70 MB, once)", file=sys.stderr)
    description = run_tool("apt-cache", "show", "--no-all-versions", META_PACKAGE).decode()
    depends = next(line for line in description.splitlines() if line.startswith("Depends:"))
    run_tool("apt-get", "download", depends.split()[1], cwd=target)
    (package,) = target.glob("*.deb")
    archive = run_tool("dpkg-deb", "--fsys-tarfile", package)
    run_tool("tar", "-x", "--no-same-owner", "--wildcards", *KERNEL_FILES, cwd=target, stdin=archive)
    package.unlink()
    (modules,) = (target / "lib/modules").iterdir()
    run_tool(tool("busybox"), "depmod", "-b", target, modules.name)


# ── One machine ───────────────────────────────────────────────────────────────────────────────────────────────────────


def boot_modules(modules: Path) -> list[str]:
    """Return the files of BOOT_MODULES and of all they depend on, each after what it depends on (modules.dep(5))."""
    depends = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        name, _, others = line.partition(":")
        depends[Path(name).name.partition(".ko")[0]] = [name, *others.split()]
    in_order = [name for module in BOOT_MODULES for name in reversed(depends[module])]
    return list(dict.fromkeys(in_order))


def initrd(modules: Path, command: str, guest: Guest | None = None) -> bytes:
    """Make the initial RAM disk: busybox, init.sh, the modules to reach the host's files, and this run's command."""
    busybox = Path(tool("busybox"))
    if b"/ld-linux" in busybox.read_bytes()[:4096]:
        raise MachineError(f"{busybox} is not static; install the Debian package {TOOLS['busybox']}")
    with tempfile.TemporaryDirectory(prefix="mydocker-vm-") as name:
        tree = Path(name)
        for directory in ("bin", "dev", "proc", "sys", "lib/modules"):
            (tree / directory).mkdir(parents=True)
        shutil.copy(busybox, tree / "bin/busybox")
        shutil.copy(INIT, tree / "init")
        (tree / "init").chmod(0o755)
        files = boot_modules(modules)
        for file in files:
            shutil.copy(modules / file, tree / "lib/modules")
        (tree / "modules").write_text("".join(f"{Path(file).name}\n" for file in files))
        settings = {"MODULES": str(modules.parent), "PROJECT": str(Path.cwd()), "VENV": str(Path(sys.prefix).resolve())}
        (tree / "settings").write_bytes(os.fsencode("".join(f"{k}={shlex.quote(v)}\n" for k, v in settings.items())))
        (tree / "command").write_bytes(os.fsencode(command))
        if guest:
            put_in(tree, guest)
        names = "\n".join(str(path.relative_to(tree)) for path in tree.rglob("*"))
        return run_tool(busybox, "cpio", "-o", "-H", "newc", cwd=tree, stdin=names.encode())


def put_in(tree: Path, guest: Guest) -> None:
    """What init.sh makes the root file system of: the files themselves, and a list of what to mount where."""
    for place, data in guest.files.items():
        file = tree / "files" / place.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    for place, target in guest.links.items():
        link = tree / "files" / place.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    (tree / "directories").write_text("".join(f"guest{n} {place}\n" for n, place in enumerate(guest.directories)))


def shell_command(arguments: list[str], environment: list[str], terminal: bool, start: str) -> str:
    """Return the shell script that runs the user's command: in the directory `start`, in an environment of its own."""
    variables = [f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", *environment]
    lines = [f"cd {shlex.quote(start)} || exit 125"]
    if terminal:
        size = os.get_terminal_size(0)
        lines.append(f"stty rows {size.lines} cols {size.columns}")
        variables.append(f"TERM={os.environ.get('TERM', 'linux')}")
    return "\n".join([*lines, f"exec env -i {shlex.join(variables)} {shlex.join(arguments)}", ""])


@dataclass
class Files:
    """What qemu reads and writes: files without a name, so that they go with us however we end."""

    initrd: IO[bytes]
    disk: IO[bytes]
    swap: IO[bytes]
    log: IO[bytes]
    result: IO[bytes]

    def descriptors(self) -> list[int]:
        return [file.fileno() for file in vars(self).values()]


def path(file: IO[bytes]) -> str:
    """Return the name by which a process that inherits `file` can open it (proc_pid_fd(5))."""
    return f"/proc/self/fd/{file.fileno()}"


def share(tag: str, directory: Path) -> tuple[str, ...]:
    """The words that give the machine a directory of the host's, read-only. In a path, qemu takes `,,` for a comma."""
    place = str(directory).replace(",", ",,")
    return (
        *("-fsdev", f"local,id={tag},path={place},security_model=none,readonly=on,multidevs=remap"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    )


def qemu_command(image: Path, files: Files, terminal: bool, guest: Guest | None, kvm: bool) -> list[str]:
    """Return the command that boots the machine. setpriv(1) asks the kernel to end qemu when we die, even by SIGKILL.

    Without KVM unless asked: it is often missing, or broken, in the containers and clouds where tests run.
    """
    shared = {"host": Path("/")}
    if guest:
        shared = {f"guest{number}": directory for number, directory in enumerate(guest.directories.values())}
    # Of one who is not trusted: root may not read or change the kernel, and qemu may start nothing.
    distrust = () if guest is None else ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny")
    return [
        *(tool("setpriv"), "--pdeathsig", "KILL", tool("qemu-system-x86_64")),
        *("-accel", "kvm" if kvm else "tcg", "-cpu", "max", "-smp", CPUS, "-m", MEMORY),
        *("-nodefaults", "-display", "none", "-no-reboot", *distrust),
        *("-kernel", str(image), "-initrd", path(files.initrd)),
        *("-append", f"console=ttyS0 panic=-1 mitigations=off{' lockdown=confidentiality' if guest else ''}"),
        *("-serial", f"file:{path(files.log)}", "-serial", f"file:{path(files.result)}"),
        *(word for tag, directory in shared.items() for word in share(tag, directory)),
        *("-drive", f"if=virtio,format=raw,cache=unsafe,file={path(files.disk)}"),
        *("-drive", f"if=virtio,format=raw,cache=unsafe,file={path(files.swap)}"),
        *("-device", "virtio-serial-pci"),
        *("-device", f"{'virtconsole' if terminal else 'virtserialport'},chardev=output"),
        *("-chardev", f"{'stdio,signal=off' if terminal else 'file,path=/dev/stdout'},id=output"),
    ]


def kvm_works() -> bool:
    """Whether a kernel comes up under KVM. There are machines where it hangs, so it is tried, for a limited time.

    A kernel without a root file system panics at once, and `panic=-1` with `-no-reboot` then ends qemu.
    """
    if not os.access(KVM, os.R_OK | os.W_OK):
        return False
    (image,) = (kernel() / "boot").iterdir()
    words = [tool("qemu-system-x86_64"), "-accel", "kvm", "-cpu", "max", "-m", "512M", "-nodefaults", "-no-reboot"]
    words += ["-display", "none", "-kernel", str(image), "-append", "panic=-1"]
    try:
        return subprocess.run(words, capture_output=True, timeout=KVM_PATIENCE).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def fast() -> bool:
    """Whether there is KVM, which is told."""
    works = kvm_works()
    slow = "the processor is emulated, so Python is some ten times slower: /dev/kvm is missing, closed to you or broken"
    print(f"machine: {'with KVM' if works else slow}", file=sys.stderr)
    return works


def to_stdout(chunk: bytes) -> None:
    os.write(1, chunk)


def run(
    arguments: list[str],
    environment: list[str],
    timeout: float,
    terminal: bool = False,
    guest: Guest | None = None,
    kvm: bool = False,
    hear: Callable[[bytes], None] = to_stdout,
) -> int:
    """Boot a machine, run the command in it, pass its output on while it runs, and return its exit code."""
    for name in TOOLS:
        tool(name)
    debian = kernel()
    (image,) = (debian / "boot").iterdir()
    (modules,) = (debian / "lib/modules").iterdir()
    start = guest.start if guest else str(Path.cwd())
    if guest:
        guest = replace(guest, directories={**guest.directories, "/usr/lib/modules": modules.parent})
    with ExitStack() as stack:
        files = Files(*(stack.enter_context(tempfile.TemporaryFile(dir="/var/tmp")) for _ in fields(Files)))
        files.initrd.write(initrd(modules, shell_command(arguments, environment, terminal, start), guest))
        files.initrd.flush()
        files.disk.truncate(DISK)
        files.swap.truncate(SWAP)
        run_tool(tool("mkfs.ext4"), "-q", "-O", "^has_journal", path(files.disk), fds=files.descriptors())
        command = qemu_command(image, files, terminal, guest, kvm)
        timed_out = watch(command, files.descriptors(), timeout, terminal, hear)
        # init.sh wrote "started" when it was ready to run the command, and then the command's exit code.
        result = files.result.read(100).split()
        if len(result) == 2:
            return int(result[1])
        if not (timed_out and result):
            files.log.seek(max(0, os.fstat(files.log.fileno()).st_size - 4000))
            sys.stderr.write(files.log.read().decode(errors="replace"))
        if timed_out:
            print(f"machine: not done after {timeout:g} seconds", file=sys.stderr)
            return 124
        raise MachineError("the virtual machine ended before the command did; the end of its kernel's log is above")


def watch(
    command: list[str], descriptors: list[int], timeout: float, terminal: bool, hear: Callable[[bytes], None]
) -> bool:
    """Run qemu to its end, or to the end of its time, and tell whether its time was up."""
    before = termios.tcgetattr(0) if terminal else None
    stdin, stdout = (None, None) if terminal else (subprocess.DEVNULL, subprocess.PIPE)
    qemu = subprocess.Popen(command, stdin=stdin, stdout=stdout, pass_fds=descriptors)
    timer = threading.Timer(timeout, qemu.kill)
    timer.daemon = True  # never a reason to stay
    timer.start()
    try:
        while qemu.stdout and (chunk := os.read(qemu.stdout.fileno(), 65536)):
            hear(chunk)
        qemu.wait()
        return timer.finished.is_set()
    finally:
        timer.cancel()
        qemu.kill()
        qemu.wait()
        if before:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a command in a virtual machine with cgroup v2 only.")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="then end it, code 124 (600)")
    parser.add_argument("--env", action="append", default=[], metavar="K=V", help="set a variable; may be repeated")
    parser.add_argument("--kvm", action="store_true", help="use KVM if it really works, and tell whether it does")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command this terminal (for a shell)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    options = parser.parse_args()
    if not options.command:
        parser.error("which command?")
    if options.tty and not os.isatty(0):
        parser.error("-t needs a terminal")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # an exception, so that every `finally` is heeded
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return run(options.command, options.env, options.timeout, options.tty, kvm=options.kvm and fast())
    except BrokenPipeError:  # nobody reads our output any more
        return 128 + signal.SIGPIPE
    except (MachineError, OSError) as error:
        print(f"machine: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
