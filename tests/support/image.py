"""The image for tests: static busybox, the host's Python with its libraries, a few users. The tar has some 15 MB."""

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.support import session

PYTHON = "/usr/bin/python3"  # the distribution's own: not one that lives in somebody's home directory
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
bob:x:1001:1001:Bob:/home/bob:/bin/sh
"""
GROUP = """\
root:x:0:
alice:x:1000:
bob:x:1001:
staff:x:50:alice
"""
# What the probes import; the image holds these modules, what they import themselves, and nothing else of Python.
MODULES = (
    "array contextlib ctypes encodings.idna encodings.latin_1 errno fcntl functools grp json mmap os pathlib pty pwd "
    "re resource select selectors shutil signal socket stat struct subprocess sys tempfile termios threading time "
    "traceback"
)


def tar() -> Path:
    """Return the archive of the image with Python, for tests that use probes."""
    return session.once("image.tar", lambda path: write(path, [*busybox(), *python()]))


def small_tar() -> Path:
    """Return the archive of the image without Python, one megabyte, for tests that import an image of their own."""
    return session.once("small.tar", lambda path: write(path, busybox()))


def write(path: Path, members: "Iterator[Member] | list[Member]") -> None:
    with tarfile.open(path, "w") as archive:
        for info, data in members:
            info.uname = info.gname = ""
            archive.addfile(info, io.BytesIO(data))


Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes, mode: int = 0o644) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    return info, data


def folder(name: str, mode: int = 0o755, user: int = 0) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, user, user
    return info, b""


def link(name: str, target: str) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    return info, b""


def busybox() -> Iterator[Member]:
    program = shutil.which("busybox") or "/bin/busybox"
    for name in ("bin", "etc", "home", "usr", "usr/bin"):
        yield folder(name)
    yield folder("tmp", 0o1777)
    yield folder("root", 0o700)
    yield folder("home/alice", 0o755, user=1000)
    yield file("etc/passwd", PASSWD.encode())
    yield file("etc/group", GROUP.encode())
    yield file("bin/nonsense", b"neither #! nor ELF\n", 0o755)
    yield file("bin/orphan", b"#!/no/such/interpreter\n", 0o755)
    yield file("bin/busybox", Path(program).read_bytes(), 0o755)
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in sorted({*applets} - {"busybox"}):
        yield link(f"bin/{name}", "busybox")


def python() -> Iterator[Member]:
    program = Path(PYTHON).resolve()
    ask = f"import sys, {MODULES.replace(' ', ', ')}\nfor module in list(sys.modules.values()):\n"
    ask += "  print(getattr(module, '__file__', None), getattr(module, '__cached__', None), sep='\\n')"
    told = subprocess.run([program, "-I", "-S", "-c", ask], capture_output=True, text=True, check=True).stdout
    files = {Path(name) for name in told.splitlines() if name.startswith("/")}
    compiled = [program, *(path for path in files if path.suffix == ".so")]
    libraries = subprocess.run(["ldd", *compiled], capture_output=True, text=True, check=True).stdout
    files |= {Path(name) for name in re.findall(r"(/\S+) \(0x", libraries)}
    yield file("usr/bin/python3", program.read_bytes(), 0o755)
    for path in sorted(files):
        info, data = file(str(path).lstrip("/"), path.read_bytes(), 0o755)
        info.mtime = int(path.stat().st_mtime)  # the compiled files beside the sources are only valid for this time
        yield info, data


def hard(name: str, target: str) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info, b""
