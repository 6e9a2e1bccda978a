"""Step 4: a container writes into a layer of its own; nothing that it does reaches the image."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import host, image, strace
from tests.support.fresh import Fresh
from tests.support.image import Member, file, folder, link
from tests.support.runtime import PROBES, Missing, Runtime
from tests.support.store import imported, own_store, shell, tiny, unpacked

LAYERS = pytest.mark.ours_alone("where the layers are is each runtime's own affair")


def tree() -> Iterator[Member]:
    """An image to be spoiled: something for each way to change a file."""
    yield from image.busybox()
    for name in ("dev", "proc", "sys"):  # or the runtime makes them
        yield folder(name)
    for name in ("written", "cut", "removed", "moved", "chmod", "chown", "touched", "linked", "replaced"):
        yield file(f"data/{name}", b"of the image\n")
    second, _ = file("data/second", b"")
    second.type, second.linkname = tarfile.LNKTYPE, "data/linked"
    yield second, b""
    yield link("data/pointer", "written")
    for name in ("emptied", "gone", "renewed", "renamed", "closed"):
        yield folder(f"data/{name}")
        yield file(f"data/{name}/inner", b"of the image\n")
    yield file("data/large", b"x" * 3_000_000)


SPOIL = """
    cd /data && echo mine >> written && : > cut && rm removed && mv moved elsewhere && chmod 4700 chmod
    chown 0:0 chown && touch -d '2001-01-01 00:00:00' touched && ln linked third && echo mine > third
    rm replaced && mkdir replaced && rm pointer && ln -s cut pointer
    rm emptied/* && rm -r gone && rm -r renewed && mkdir renewed && echo > renewed/new && mv renamed other
    chmod 0 closed && dd if=/dev/zero of=large bs=1 count=1 conv=notrunc 2>/dev/null
    mkdir -p /new/folder && echo > /new/folder/file && rm /etc/group && rm -r /home && chmod 700 / || exit 1
    echo spoiled
"""
LOOK = """
    find / -xdev -mindepth 1 ! -path '/dev*' ! -path '/proc*' ! -path '/sys*' ! -path '/run*' ! -path '/etc*' -exec \\
        stat -c '%n %F %a %u:%g %s %Y %N' {} +
    find /data /bin/busybox -type f -exec md5sum {} +
"""


def fingerprint(rootfs: Path) -> dict[str, tuple[int, ...]]:
    """All that a change of a file would change, by its path."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (rootfs, *rootfs.rglob("*")):
        info = path.lstat()
        found[str(path)] = (info.st_mode, info.st_uid, info.st_nlink, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    return found


def containers(runtime: Runtime) -> list[Path]:
    """The directories of the containers: of those that run, and what others have left."""
    place = Path(runtime.environment["MYDOCKER_ROOT"], runtime.layers)
    return [*place.iterdir()] if place.exists() else []


# ---- what a container changes, and for whom --------------------------------------------------------------------------


def test_nothing_that_is_done_inside_changes_the_image(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """Write, delete, rename, chmod, link: the container itself sees it, the next one finds all as it was."""
    content = fresh.word()
    own = imported(runtime, tmp_path, [*tree(), file("data/drawn", content.encode())])
    rootfs = next((tmp_path / "state").rglob("rootfs"), None)  # Podman's is elsewhere
    there = fingerprint(rootfs) if rootfs else {}
    before = own.output("sh", "-c", LOOK)
    assert "/data/large regular file 644" in before
    assert f"{hashlib.md5(content.encode()).hexdigest()}  /data/drawn" in before.splitlines()
    inside, spoiled = own.output("sh", "-c", f"{SPOIL}\n{LOOK}").split("spoiled\n")
    assert inside == ""
    assert own.output("sh", "-c", LOOK) == before
    assert not rootfs or fingerprint(rootfs) == there

    lines = {*spoiled.splitlines()}
    names = {line.split()[0] for line in lines if line.startswith("/data")}
    assert names.isdisjoint(f"/data/{name}" for name in ("removed", "moved", "gone", "emptied/inner", "renamed"))
    assert names >= {f"/data/{name}" for name in ("elsewhere", "third", "renewed/new", "other/inner", "closed/inner")}
    assert "/data/renewed/inner" not in names, "a directory made anew is empty"
    assert "/home" not in spoiled and "/new/folder/file" in spoiled
    assert "regular file 4700 0:0 13 " in next(line for line in lines if line.startswith("/data/chmod "))
    assert next(line for line in lines if line.startswith("/data/touched ")).split()[-2] == "978307200"
    assert sum(line.startswith("/data/large regular file 644 0:0 3000000 ") for line in lines) == 1
    assert len({line.split()[0] for line in lines if line.endswith(("  /data/linked", "  /data/third"))}) == 1


def rootfs_of(own: Runtime, tmp_path: Path) -> Path:
    """The directory on the host that is the image."""
    if own.step < 6:
        return Path(str(own.image))
    (rootfs,) = (tmp_path / "state").rglob("rootfs")
    return rootfs


@LAYERS
def test_the_root_directory_is_the_images(runtime: Runtime, tmp_path: Path) -> None:
    """Owner, mode and time of `/` come from the upper layer, and must be those of the image."""
    own = imported(runtime, tmp_path, tree())
    rootfs = rootfs_of(own, tmp_path)
    rootfs.chmod(0o1751)
    os.utime(rootfs, (978307200, 978307200))
    owner = (0, 0) if own.rootless else (7, 8)
    if not own.rootless:
        os.chown(rootfs, *owner)
    assert own.output("stat", "-c", "%a %u %g %Y", "/", umask=0o077) == "1751 {} {} 978307200".format(*owner)


# ---- the layers, seen from the host ----------------------------------------------------------------------------------


@LAYERS
def test_the_layers_from_outside(runtime: Runtime, tmp_path: Path) -> None:
    """Whiteouts, opaque directories, files copied up whole; at the end all is gone."""
    own = imported(runtime, tmp_path, tree())
    rootfs = rootfs_of(own, tmp_path)
    script = f"grep ' / / ' /proc/self/mountinfo; {SPOIL}\nread _"
    running = own.start("sh", "-c", script, options=["-i"], stdin=-1)
    mounted, answer = running.line(), running.line()
    assert answer == "spoiled" and " - overlay " in mounted and "nodev" in mounted.split()[5]
    assert ("userxattr" in mounted) == runtime.rootless
    (directory,) = containers(own)
    upper = directory / "upper"
    assert (directory / "lower").resolve() == rootfs.resolve()
    assert [*(directory / "merged").iterdir()] == [], "it is mounted in the container's namespace only"
    assert not any(str(directory) in line for line in host.mounts())
    for name in ("removed", "moved", "gone"):
        mark = (upper / "data" / name).lstat()
        assert stat.S_ISCHR(mark.st_mode) and mark.st_rdev == 0, f"{name}: a whiteout"
        assert (rootfs / "data" / name).exists()
    kind = "user" if runtime.rootless else "trusted"
    assert os.getxattr(upper / "data/renewed", f"{kind}.overlay.opaque") == b"y"
    assert (upper / "data/large").stat().st_size == 3_000_000
    assert not (upper / "bin").exists(), "what nobody writes to is not copied"
    assert running.end(b"\n").code == 0
    assert containers(own) == []


RESISTS = """
    name=$(printf %0250d 0)
    for i in $(seq 40); do mkdir $name && cd -P $name && echo > file || exit 1; done; chmod 0 . ..
    mkdir /many && cd /many && seq 3000 | xargs touch && seq 300 | sed s/^/d/ | xargs mkdir
    rm -r /usr /home && mkdir /home && mkdir -p /shut/inner/most && touch /shut/inner/most/file
    chmod 0 /shut/inner/most/file /shut/inner/most /shut/inner && chmod 555 /shut / && mkfifo /tmp/pipe
    ln -s / /tmp/out && mkdir -m 0 /root/none && printf 'x' > "/tmp/$(printf 'a\\nb\\377')" && echo made
"""


@LAYERS
def test_a_layer_goes_however_it_resists(runtime: Runtime) -> None:
    """Directories that nobody may enter, deeper than a path can say, thousands of files, whiteouts."""
    result = runtime.run("sh", "-c", RESISTS)
    assert (result.code, result.text, result.err) == (0, "made", b"")
    assert containers(runtime) == []


@LAYERS
@pytest.mark.parametrize("code", [3, 127])
def test_a_layer_goes_however_the_container_ends(runtime: Runtime, code: int) -> None:
    words = {3: ["sh", "-c", "echo > /file; exit 3"], 127: ["no-such-command"]}[code]
    assert runtime.run(*words).code == code
    assert containers(runtime) == []


@pytest.mark.long
@LAYERS
def test_a_layer_goes_whatever_signals_come_meanwhile(runtime: Runtime, fresh: Fresh) -> None:
    """A window that changes its size is one, too."""
    code = fresh.number(1, 124)
    script = f"mkdir /many && cd /many && seq 5000 | xargs mkdir && echo ready && exit {code}"
    terminal = runtime.terminal("sh", "-c", script)
    terminal.expect("ready\r\n")
    host.wait_until(lambda: not host.contained(), "its command has ended")
    with suppress(ProcessLookupError):
        for number in [signal.SIGWINCH, signal.SIGTERM] * 100:
            terminal.send_signal(number)
            time.sleep(0.01)
    assert (terminal.end(), terminal.seen) == (code, b"")
    assert containers(runtime) == []


@LAYERS
@pytest.mark.step(8)
def test_a_layer_goes_with_a_container_that_cannot_begin(runtime: Runtime) -> None:
    assert runtime.run("true", options=["-u", "no-such-user"]).code == 125
    assert containers(runtime) == []


# ---- killed ----------------------------------------------------------------------------------------------------------


@LAYERS
@pytest.mark.parametrize("command", ["run", "rmi"])
def test_the_layer_of_a_killed_runtime_is_swept(runtime: Runtime, tmp_path: Path, command: str) -> None:
    """By the next run, and by who wants room: rmi. Not swept is the layer of a container that lives."""
    own = imported(runtime, tmp_path, image.small_tar())
    living = own.start("sh", "-c", "echo mine > /file; echo ready; read _; cat /file", options=["-i"], stdin=-1)
    assert living.line() == "ready"
    killed = own.start("sh", "-c", "mkdir /shut; echo > /shut/file; chmod 0 /shut; rm -r /home; echo ready; sleep 60")
    assert killed.line() == "ready"
    assert len(containers(own)) == 2
    killed.kill()
    killed.wait()
    host.wait_until(
        lambda: len([one for one in host.contained() if one.inner_pids() == [1]]) == 1, "the container dies"
    )
    assert len(containers(own)) == 2
    if command == "run" or runtime.step < 6:
        assert own.run("true").code == 0
    else:
        own.refusal(own.call("rmi", "no-such-image"), 1)
    assert len(containers(own)) == 1
    assert living.end(b"\n").text == "mine"
    assert containers(own) == []
    own.sweep()  # the cgroup


# ---- where the store may be ------------------------------------------------------------------------------------------


@LAYERS
def test_paths_that_look_like_options(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """To overlayfs, commas and colons separate, backslashes escape."""
    word = fresh.word()
    odd = tmp_path / "state" / "a:b,c d\\e\\,f,upperdir=x\\054\\:\"'%s\n\\"
    own = replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": str(odd)})
    if own.step >= 6:
        assert own.call("import", str(image.small_tar()), "test").code == 0
    script = f"rm -r /home && mkdir /home && echo {word} > /home/file && cat /home/*"
    assert own.output("sh", "-c", script) == word
    assert containers(own) == []


UNABLE = {
    "overlay": 'mkdir l u w && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay "$MYDOCKER_ROOT"',
    "ramfs": 'mount -t ramfs ramfs "$MYDOCKER_ROOT"',  # it has no extended attributes
    "vfat": 'truncate -s 64M disk && mkfs.vfat disk >/dev/null && mount -o loop disk "$MYDOCKER_ROOT"',
}


@LAYERS
@pytest.mark.as_root("only root can mount these")
@pytest.mark.parametrize("kind", UNABLE)
def test_a_file_system_that_cannot_carry_a_layer(runtime: Runtime, tmp_path: Path, kind: str) -> None:
    """As inside another container. One line names it, and says what to do."""
    if kind == "vfat" and not ("vfat" in Path("/proc/filesystems").read_text() and shutil.which("mkfs.vfat")):
        pytest.skip("no vfat here")
    plain = tmp_path / "plain.tar"
    image.write(plain, [member for member in shell() if not member[0].issym()])
    name, importing = "own", f'"$@" import {plain} own >&2'
    if runtime.step < 6:
        name, importing = str(tmp_path / "root"), "true"
        unpacked(runtime, plain, tmp_path / "root")
    (tmp_path / "state/store").mkdir()
    # What is mounted goes with the mount namespace, but the loop device's file only after that.
    script = f"""
        {UNABLE[kind]} || exit 77
        {importing} || exit 78
        "$@" run {" ".join(runtime.modest)} {name} /bin/busybox true; code=$?
        ls -A "$MYDOCKER_ROOT/{runtime.layers}" 2>/dev/null; exit $code
    """
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    env = {"MYDOCKER_ROOT": str(tmp_path / "state/store")}
    result = runtime.popen(runtime.command, under=under, env=env, cwd=tmp_path / "state").end()
    if result.code == 77:
        pytest.skip(f"{kind} cannot be mounted here: {result.err.decode().strip()}")
    *_, said = result.err.decode().splitlines()
    assert (result.code, result.out) == (125, b""), result
    assert said.startswith(f"{runtime.name}: ") and f" is on {kind}, " in said and "set MYDOCKER_ROOT" in said


@LAYERS
def test_a_file_system_without_links(runtime: Runtime) -> None:
    """As vfat: what it says of a symbolic link is all that can be seen of it here."""
    try:
        inject = ("-o", "/dev/null", "-e", "inject=symlink,symlinkat:error=EPERM:when=1")
        under = (strace.program(), "--quiet=all", *inject)
    except Missing as missing:
        pytest.skip(str(missing))
    said = runtime.refusal(runtime.run("true", under=under))
    assert "set MYDOCKER_ROOT" in said
    assert containers(runtime) == []


@LAYERS
@pytest.mark.as_user("it takes a runtime that other users can execute")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a namespace many users")
def test_as_root_of_a_user_namespace(runtime: Runtime, tmp_path: Path) -> None:
    """As inside a rootless container: root, but not the one to whom trusted.* belongs."""
    own = replace(own_store(runtime, tmp_path), user=None, image="own")
    under = (sys.executable, str(PROBES / "userns_root.py"), str(runtime.user))
    if own.step >= 6:
        assert own.call("import", str(image.small_tar()), "own", under=under).code == 0
    else:
        own = replace(own, image=runtime.image)
    script = "rm -r /home && mkdir /home && ls /home && echo mine > /home/file && rm /bin/false && ls /home"
    assert own.output("sh", "-c", script, under=under) == "file"
    assert containers(own) == []


# ---- who uses an image -----------------------------------------------------------------------------------------------


@LAYERS
@pytest.mark.step(6)
def test_many_containers_of_one_image(runtime: Runtime, tmp_path: Path) -> None:
    """All at once: each sees its own files, and the image cannot be removed before the last has ended."""
    own = imported(runtime, tmp_path, image.small_tar())
    assert own.image
    script = "echo $0 > /mine; rm /bin/orphan; echo ready; read _; cat /mine; ls /bin/nonsense /bin/orphan"
    several = [own.start("sh", "-c", script, str(number), options=["-i"], stdin=subprocess.PIPE) for number in range(4)]
    assert [one.line() for one in several] == ["ready"] * 4
    assert len(containers(own)) == 4
    for number, one in enumerate(several):
        assert "in use" in own.refusal(own.call("rmi", own.image), 1)
        assert one.end(b"\n").text == f"{number}\n/bin/nonsense"
    assert own.call("rmi", own.image).code == 0
    assert own.call("import", str(tiny()), "next").code == 0
