"""Make the image `busybox` from programs of this machine, so that a reader can begin without a download."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from ..lib.errors import ContainerError, complain

# The programs of the image if this machine has no busybox.
TOOLS = """
    sh ls cat echo ps id hostname env pwd mkdir rmdir rm cp mv ln touch chmod chown mount umount head tail grep sed wc
    sort uniq cut tr sleep kill date df du find stat test true false tty uname which whoami printf readlink seq dd tee
    ip vi less more ping nc
""".split()
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/hostname": "",
    "etc/hosts": "",
    "etc/group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n",
}
FOLDERS = "bin dev etc home mnt proc root run sys tmp usr/bin var/tmp".split()


def make(root: Path) -> None:
    """Make the image's root file system in the directory `root`, which appears only when it is complete."""
    half = root.with_name(f".{root.name}")
    shutil.rmtree(half, ignore_errors=True)  # left by a runtime that was killed
    before = os.umask(0o022)  # the caller's may hide new files from others; all users in the image must see them
    try:
        origin = fill(half)
        half.rename(root)
    finally:
        os.umask(before)
        shutil.rmtree(half, ignore_errors=True)
    complain(f"made the image 'busybox' from {origin}")


def fill(root: Path) -> str:
    """Make the root file system in a new directory. Returns what it was made from."""
    root.mkdir()
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    for folder, mode in (("", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777)):
        (root / folder).chmod(mode)
    for name, text in FILES.items():
        (root / name).write_text(text)
    busybox = shutil.which("busybox")
    if busybox and is_static(busybox):
        install_busybox(Path(busybox), root)
        return f"this machine's {busybox}"
    copied = [name for name in TOOLS if install_tool(name, root)]
    return f"{len(copied)} programs of this machine and their libraries, as it has no static busybox"


def install_busybox(busybox: Path, root: Path) -> None:
    """Copy busybox, one program with many names, and make a symbolic link for each name."""
    shutil.copy(busybox, root / "bin/busybox")
    for name in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")


def install_tool(name: str, root: Path) -> bool:
    """Copy a program, and its libraries to where it looks for them. False if this machine lacks the program."""
    program = shutil.which(name)
    if program is None:
        if name == "sh":
            raise ContainerError("this machine has no shell to make an image from: run a directory (./DIR)")
        return False
    shutil.copy(program, root / "bin" / name)
    for library in libraries(program):
        target = root / library.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    return True


def is_static(program: str) -> bool:
    """Whether a file is a program (not a script) that needs no libraries."""
    with open(program, "rb") as file:
        return file.read(4) == b"\x7fELF" and not libraries(program)


def libraries(program: str) -> list[str]:
    """Return the shared libraries of a program, and its loader: ldd(1)."""
    listed = subprocess.run(["ldd", program], check=False, capture_output=True, text=True, env={"LC_ALL": "C"}).stdout
    return re.findall(r"(/\S+) \(0x", listed)
