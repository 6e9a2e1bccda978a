"""Images of a test's own, in stores of their own; and what a runtime tells of those that it has."""

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
    """The same runtime with a store of the test's own, empty. Podman keeps its one: it has room for more names."""
    return replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": str(tmp_path / "state")})


def sheltered(runtime: Runtime, tmp_path: Path) -> tuple[str, ...]:
    """The words before a command that may go wrong: root's files are read-only there, but for the test's own directory.

    A runtime that an archive can lead astray shall fail a test, and not ruin the machine."""
    if runtime.podman or runtime.rootless:
        return ()
    script = f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro / && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def unpacked(runtime: Runtime, archive: Path, root: Path) -> None:
    """A directory with what is in the archive: what steps 3 to 5 run instead of an image."""
    script = 'mkdir -m 755 "$2" && tar -xf "$1" -C "$2" -p'
    made = runtime.popen(["sh", "-c", script, "sh", str(archive), str(root)]).end()
    assert made.code == 0, made.err.decode()


def imported(runtime: Runtime, tmp_path: Path, members: Iterable[Member] | Path) -> Runtime:
    """The same runtime with an image of its own, of these members or of this archive, in a store of its own."""
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
    """The least image that runs a script."""
    program = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    names = "cat echo grep id ls mkdir pwd sh sleep stat touch true"
    return [file("bin/busybox", program, 0o755), *(link(f"bin/{name}", "busybox") for name in names.split())]


def tiny() -> Path:
    """An archive with one small file: enough of an image where nothing is run in it."""
    return session.once("tiny.tar", lambda path: image.write(path, [file("hello", b"hello\n")]))


def import_tiny(runtime: Runtime, name: str) -> str:
    result = runtime.call("import", str(tiny()), name)
    assert result.code == 0, result.err.decode()
    return result.text


def table(runtime: Runtime) -> list[list[str]]:
    """What `images` prints, by its columns, without the heading."""
    heading, *lines = runtime.call("images").text.splitlines()
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S+(?: \S+)*", heading)]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines]


def named(runtime: Runtime) -> dict[str, str]:
    """The ids by `name:tag`."""
    return {f"{name}:{tag}": id for name, tag, id, *_ in table(runtime)}


def left(store: Path) -> list[Path]:
    """What is kept of images, whole or half: directories beside the files that list them."""
    places = [store / place for place in ("images", "tmp") if (store / place).exists()]
    return [entry for place in places for entry in place.iterdir() if entry.is_dir()]
