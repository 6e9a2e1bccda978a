"""Images that a test makes for itself, in stores of their own; and what a runtime says about its images."""

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tests.support import image, session
from tests.support.image import Member, file, link
from tests.support.runtime import Runtime


def own_store(runtime: Runtime, tmp_path: Path) -> Runtime:
    """Return the runtime with an empty store for this test. Podman keeps its one store: tests use different names."""
    return replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": str(tmp_path / "state")})


def sheltered(runtime: Runtime, tmp_path: Path) -> tuple[str, ...]:
    """Return the words before a risky command: the root file system is read-only for it, but not the test's directory.

    If an archive makes a runtime write outside the image, the test fails, and the machine stays as it is."""
    if runtime.podman or runtime.rootless:
        return ()
    script = f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro / && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def unpacked(runtime: Runtime, archive: Path, root: Path) -> None:
    """Unpack an archive into a new directory: steps 3 to 5 run this instead of an image."""
    script = 'mkdir -m 755 "$2" && tar -xf "$1" -C "$2" -p'
    made = runtime.popen(["sh", "-c", script, "sh", str(archive), str(root)]).end()
    assert made.code == 0, made.err.decode()


def imported(runtime: Runtime, tmp_path: Path, members: Iterable[Member] | Path) -> Runtime:
    """Return the runtime with its own store and image, which has these members, or is made from this archive."""
    archive = members if isinstance(members, Path) else tmp_path / "image.tar"
    if not isinstance(members, Path):
        image.write(archive, list(members))
    if runtime.step < 6:
        root = tmp_path / "state" / f"root-{os.urandom(6).hex()}"
        unpacked(runtime, archive, root)
        return replace(own_store(runtime, tmp_path), image=str(root))
    own = replace(own_store(runtime, tmp_path), image=f"own-{os.urandom(6).hex()}")
    assert own.image
    result = own.call("import", str(archive), own.image, under=sheltered(runtime, tmp_path))
    assert result.code == 0, result.err.decode(errors="replace")
    return own


def shell() -> list[Member]:
    """Return the members of the smallest image that can run a script."""
    program = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    names = "cat echo grep id ls mkdir pwd sh sleep stat touch true"
    return [file("bin/busybox", program, 0o755), *(link(f"bin/{name}", "busybox") for name in names.split())]


def tiny() -> Path:
    """Return an archive with one small file: a sufficient image if no container runs."""
    return session.once("tiny.tar", lambda path: image.write(path, [file("hello", b"hello\n")]))


def import_tiny(runtime: Runtime, name: str) -> str:
    result = runtime.call("import", str(tiny()), name)
    assert result.code == 0, result.err.decode()
    return result.text


def table(runtime: Runtime) -> list[list[str]]:
    """Return the table that `images` prints, as rows of columns, without the heading."""
    heading, *lines = runtime.call("images").text.splitlines()
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S+(?: \S+)*", heading)]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines]


def named(runtime: Runtime) -> dict[str, str]:
    """Return each image's id by its `name:tag`."""
    return {f"{name}:{tag}": id for name, tag, id, *_ in table(runtime)}


def left(store: Path) -> list[Path]:
    """Return what is kept of images, complete or not: all directories in `images` and `tmp`."""
    places = [store / place for place in ("images", "tmp") if (store / place).exists()]
    return [entry for place in places for entry in place.iterdir() if entry.is_dir()]
