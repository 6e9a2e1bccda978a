"""The image `busybox`, made from what this machine has, so that a reader needs no download to begin."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from ..lib.errors import ContainerError, complain

# Without a busybox: enough of a system to look around in.
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
    """Make the image's root file system in the directory `root`, which is there when it is whole, and not before."""
    half = root.with_name(f".{root.name}")
    shutil.rmtree(half, ignore_errors=True)  # left by a runtime that was killed
    before = os.umask(0o022)  # the caller's may hide new files from others; the image's users must see theirs
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
    """Copy the one program that is all programs, and a symbolic link for each of its names."""
    shutil.copy(busybox, root / "bin/busybox")
    for name in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")


def install_tool(name: str, root: Path) -> bool:
    """Copy a program and the libraries it is linked with to where it will look for them. False if there is none."""
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
    """Whether a file is a program, no script, and needs no libraries."""
    with open(program, "rb") as file:
        return file.read(4) == b"\x7fELF" and not libraries(program)


def libraries(program: str) -> list[str]:
    """The shared libraries of a program, its loader included: ldd(1)."""
    listed = subprocess.run(["ldd", program], check=False, capture_output=True, text=True, env={"LC_ALL": "C"}).stdout
    return re.findall(r"(/\S+) \(0x", listed)
