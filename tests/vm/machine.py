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
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
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
PROBE = 15  # seconds in which a kernel boots with KVM, if that works


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


def initrd(modules: Path, command: str) -> bytes:
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
        names = "\n".join(str(path.relative_to(tree)) for path in tree.rglob("*"))
        return run_tool(busybox, "cpio", "-o", "-H", "newc", cwd=tree, stdin=names.encode())


def shell_command(arguments: list[str], environment: list[str], terminal: bool) -> str:
    """Return the shell script that runs the user's command: where the caller stands, in an environment of its own."""
    variables = [f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", *environment]
    lines = [f"cd {shlex.quote(str(Path.cwd()))} || exit 125"]
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


def qemu(accelerator: str) -> list[str]:
    """Return the words that start qemu. setpriv(1) asks the kernel to end it when we die, even by SIGKILL."""
    program = [tool("setpriv"), "--pdeathsig", "KILL", tool("qemu-system-x86_64")]
    return [*program, "-accel", accelerator, "-cpu", "max", "-smp", CPUS, "-m", MEMORY]


def fastest(image: Path) -> str:
    """Return "kvm" if it works, else "tcg", which emulates the processor; and say which.

    That /dev/kvm is there proves nothing: in many a cloud it refuses, or hangs. So a kernel is booted without a disk,
    which has to end in a panic and so in qemu's end.
    """
    told = "the processor is emulated, so all is some ten times slower"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        found, reason = "tcg", "there is no /dev/kvm for you"
    else:
        probe = [*qemu("kvm"), "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(image)]
        try:
            done = subprocess.run(
                [*probe, "-append", "panic=-1 quiet"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PROBE,
            )
            found = "tcg" if done.returncode else "kvm"
            reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        except subprocess.TimeoutExpired:
            found, reason = "tcg", f"it hangs: no kernel came up in {PROBE} seconds"
    print(f"machine: {'with KVM' if found == 'kvm' else f'without KVM ({reason}): {told}'}", file=sys.stderr)
    return found


def qemu_command(image: Path, files: Files, terminal: bool, accelerator: str) -> list[str]:
    """Return the command that boots the machine."""
    return [
        *qemu(accelerator),
        *("-nodefaults", "-display", "none", "-no-reboot"),
        *("-kernel", str(image), "-initrd", path(files.initrd)),
        *("-append", "console=ttyS0 panic=-1 mitigations=off"),
        *("-serial", f"file:{path(files.log)}", "-serial", f"file:{path(files.result)}"),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
        *("-drive", f"if=virtio,format=raw,cache=unsafe,file={path(files.disk)}"),
        *("-drive", f"if=virtio,format=raw,cache=unsafe,file={path(files.swap)}"),
        *("-device", "virtio-serial-pci"),
        *("-device", f"{'virtconsole' if terminal else 'virtserialport'},chardev=output"),
        *("-chardev", f"{'stdio,signal=off' if terminal else 'file,path=/dev/stdout'},id=output"),
    ]


def run(arguments: list[str], environment: list[str], timeout: float, terminal: bool, kvm: bool) -> int:
    """Boot a machine, run the command in it, pass its output on while it runs, and return its exit code.

    No KVM unless it is asked for: where tests run it is often missing, or broken. Emulation always works.
    """
    for name in TOOLS:
        tool(name)
    debian = kernel()
    (image,) = (debian / "boot").iterdir()
    (modules,) = (debian / "lib/modules").iterdir()
    accelerator = fastest(image) if kvm else "tcg"
    with ExitStack() as stack:
        files = Files(*(stack.enter_context(tempfile.TemporaryFile(dir="/var/tmp")) for _ in fields(Files)))
        files.initrd.write(initrd(modules, shell_command(arguments, environment, terminal)))
        files.initrd.flush()
        files.disk.truncate(DISK)
        files.swap.truncate(SWAP)
        run_tool(tool("mkfs.ext4"), "-q", "-O", "^has_journal", path(files.disk), fds=files.descriptors())
        timed_out = watch(qemu_command(image, files, terminal, accelerator), files.descriptors(), timeout, terminal)
        # init.sh wrote "started" when it was ready to run the command, and then the command's exit code.
        result = files.result.read().split()
        if len(result) == 2:
            return int(result[1])
        if not (timed_out and result):
            sys.stderr.write(files.log.read()[-4000:].decode(errors="replace"))
        if timed_out:
            print(f"machine: not done after {timeout:g} seconds", file=sys.stderr)
            return 124
        raise MachineError("the virtual machine ended before the command did; the end of its kernel's log is above")


def watch(command: list[str], descriptors: list[int], timeout: float, terminal: bool) -> bool:
    """Run qemu to its end, or to the end of its time, and tell whether its time was up."""
    before = termios.tcgetattr(0) if terminal else None
    stdin, stdout = (None, None) if terminal else (subprocess.DEVNULL, subprocess.PIPE)
    qemu = subprocess.Popen(command, stdin=stdin, stdout=stdout, pass_fds=descriptors)
    timer = threading.Timer(timeout, qemu.kill)
    timer.daemon = True  # never a reason to stay
    timer.start()
    try:
        while qemu.stdout and (chunk := os.read(qemu.stdout.fileno(), 65536)):
            os.write(1, chunk)
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
    parser.add_argument("--kvm", action="store_true", help="use KVM where it really works, and say whether it does")
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
        return run(options.command, options.env, options.timeout, options.tty, options.kvm)
    except BrokenPipeError:  # nobody reads our output any more
        return 128 + signal.SIGPIPE
    except (MachineError, OSError) as error:
        print(f"machine: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
