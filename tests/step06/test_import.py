"""Step 3: import makes an image of a directory or a tar archive, with all that belongs to it, and without a trap."""

import bz2
import gzip
import io
import lzma
import os
import random
import re
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import host, image, oracle, strace
from tests.support.fresh import Fresh
from tests.support.image import Member, file, folder, hard, link
from tests.support.rootless import limited
from tests.support.runtime import Missing, Result, Runtime, Started
from tests.support.store import import_tiny, imported, left, own_store, shell, sheltered, tiny
from tests.support.terminal import Terminal
from tests.support.tree import Entry, below, differences, inside, seen

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.same(
    "commands/image.py", *(f"images/{name}.py" for name in ("__init__", "copy", "unpack")), "child.py"
)

OURS = pytest.mark.ours_alone("Podman words it differently")


# ---- helpers ---------------------------------------------------------------------------------------------------------


def imported_tree(runtime: Runtime) -> dict[bytes, Entry]:
    """What became of the tree `t`."""
    with inside(runtime) as root:
        return seen(root / "t")


def as_owned_by(tree: dict[bytes, Entry], user: int) -> dict[bytes, Entry]:
    """Without root all files are the caller's own."""
    return {name: replace(each, owner=(user, user)) for name, each in tree.items()}


def without_powers(tree: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """Without what only root may give to a file: capabilities."""
    keep = {(name, value) for each in tree.values() for name, value in each.attributes if name.startswith("user.")}
    return {name: replace(each, attributes=each.attributes & keep) for name, each in tree.items()}


def without_subtleties(tree: dict[bytes, Entry]) -> dict[bytes, Entry]:
    empty = {(name, value) for each in tree.values() for name, value in each.attributes if not value}
    return {name: replace(each, holes=False, attributes=each.attributes - empty) for name, each in tree.items()}


# ---- whole: everything comes in as it was ----------------------------------------------------------------------------

FORMATS = ["v7", "ustar", "gnu", "pax"]  # in the order of what they can hold
SECOND = 10**9


def plant(top: Path, what: str) -> Path:
    """A directory tree with everything that can be difficult and that a tar of this format can hold."""
    for member, data in shell():
        path = top / member.name
        path.parent.mkdir(exist_ok=True, parents=True)
        if member.issym():
            path.symlink_to(member.linkname)
        else:
            path.write_bytes(data)
            path.chmod(0o755)
    rank = FORMATS.index(what)
    t = top / "t"
    t.mkdir()
    ordinary(t)
    if rank >= FORMATS.index("ustar"):
        (t / f"{'directory-' * 9}name" / f"{'directory-' * 4}name").mkdir(parents=True)
        (t / f"{'directory-' * 9}name" / f"{'directory-' * 4}name" / ("file-" * 15)).write_bytes(
            b"some 220 bytes of path"
        )
        os.mkfifo(t / "fifo", 0o640)
    if rank >= FORMATS.index("gnu"):
        long_and_large(t)
    if rank >= FORMATS.index("pax"):
        attributes(t)
    times(t, rank)
    return top


def ordinary(t: Path) -> None:
    for name, mode in (
        ("executable", 0o755),
        ("setuid", 0o4755),
        ("setgid", 0o2711),
        ("secret", 0o000),
        ("all", 0o7777),
    ):
        (t / name).write_bytes(name.encode())
        os.chown(t / name, 1000, 50)
        (t / name).chmod(mode)
    (t / "empty").touch()
    for name, mode in (("sticky", 0o1777), ("closed", 0o000), ("read-only", 0o555), ("empty-folder", 0o750)):
        (t / name).mkdir()
        (t / name).chmod(mode)
    (t / "read-only/file").write_bytes(b"in a directory in which nobody may write")
    (t / "closed/file").write_bytes(b"in a directory that nobody may enter")
    for name in (
        " ",
        "new\nline",
        "tab\t",
        "-dash",
        "back\\slash",
        "*?[",
        "ünï",
        "\udcff\udcfe not UTF-8",
        "'\"$(x)",
        "~",
        "...",
    ):
        (t / name).write_bytes(os.fsencode(name))
    for name, target in (
        ("absolute", "/etc/passwd"),
        ("relative", "../bin/sh"),
        ("dangling", "/no/where"),
        ("loop", "loop"),
    ):
        (t / name).symlink_to(target)
    os.chown(t / "absolute", 7, 8, follow_symlinks=False)
    (t / "out").symlink_to("../../../../../..")
    (t / "folder").mkdir()
    os.link(t / "executable", t / "hard link")
    os.link(t / "executable", t / "folder/hard link")
    os.link(t / "dangling", t / "hard link to a symbolic link")
    (t / "two blocks exactly").write_bytes(b"x" * 1024)
    (t / "a megabyte and a bit").write_bytes(random.Random(1).randbytes(2**20 + 1))


def long_and_large(t: Path) -> None:
    (t / ("n" * 255)).write_bytes(b"the longest name")
    (t / "far").symlink_to("x/" * 500)
    deep = t / "/".join(["y" * 60] * 8)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"some 500 bytes of path")
    os.link(deep / "file", deep / "hard link")
    (t / "large numbers").touch()
    os.chown(t / "large numbers", 2**31 - 1, 3_000_000)
    with (t / "one hole").open("wb") as sparse:
        sparse.truncate(2**21)
    with (t / "hole, data, hole").open("wb") as sparse:
        sparse.seek(2**20 + 5)
        sparse.write(b"data" * 1000)
        sparse.truncate(2**21)
    with (t / "many holes").open("wb") as sparse:
        for number in range(60):  # more than fit into one header of the old GNU format
            sparse.seek(number * 2**16)
            sparse.write(b"%d" % number)


def attributes(t: Path) -> None:
    os.setxattr(t / "executable", "user.text", b"a value")
    os.setxattr(t / "executable", "user.ünï", b"\0\xff\n= binary")
    os.setxattr(t / "executable", "user.empty", b"")
    os.setxattr(t / "folder", "user.of-a-folder", b"x" * 1000)
    os.setxattr(t / "secret", "user.of-a-file-that-nobody-may-read", b"y")
    # setcap cap_net_bind_service+ep: version 2, effective; permitted, inheritable: twice 32 bits
    os.setxattr(t / "setgid", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))


def times(t: Path, rank: int) -> None:
    """A time of its own for each; to the nanosecond where the format can."""
    for number, path in enumerate(sorted(below(t), reverse=True)):
        when = (1_000_000_000 + number) * SECOND
        if rank >= FORMATS.index("pax"):
            when += 123_456_789 - number
        os.utime(path, ns=(when, when), follow_symlinks=False)


@pytest.fixture
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can make files of several owners")
    return plant(tmp_path / "tree", request.param)


WRITERS = {
    "v7": ("v7", "--format=v7"),
    "ustar": ("ustar", "--format=ustar"),
    "gnu": ("gnu", "--format=gnu"),
    "gnu, sparse": ("gnu", "--format=gnu --sparse --gzip"),
    "pax": ("pax", "--format=pax --xattrs --xattrs-include=*"),
    "pax, sparse as 0.0": ("pax", "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=0.0 --gzip"),
    "pax, sparse as 0.1": ("pax", "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=0.1"),
    "pax, sparse as 1.0": ("pax", "--format=pax --xattrs --xattrs-include=* --sparse --sparse-version=1.0 --gzip"),
}


@pytest.mark.long
@pytest.mark.as_root("below")
@pytest.mark.parametrize(("planted", "options"), WRITERS.values(), ids=WRITERS, indirect=["planted"])
def test_all_formats_of_tar(runtime: Runtime, tmp_path: Path, planted: Path, options: str) -> None:
    """What GNU tar has written comes in as it was: names, modes, owners, times, links, holes, attributes."""
    if runtime.podman and options == "--format=gnu --sparse --gzip":
        pytest.skip("Podman does not know sparse files in the old GNU format")
    pack(planted, tmp_path / "archive.tar", *options.split())
    own = imported(runtime, tmp_path, tmp_path / "archive.tar")
    before, after = seen(planted / "t"), imported_tree(own)
    if "--sparse" not in options or runtime.podman:  # which fills holes, and drops attributes without a value
        before, after = map(without_subtleties, (before, after))
    assert differences(before, after) == []


@OURS
@pytest.mark.as_user("above")
@pytest.mark.parametrize("planted", ["pax"], indirect=True)
def test_without_root_all_files_are_the_callers(runtime: Runtime, tmp_path: Path, planted: Path) -> None:
    pack(planted, tmp_path / "archive.tar", *WRITERS["pax, sparse as 1.0"][1].split())
    own = imported(runtime, tmp_path, tmp_path / "archive.tar")
    user = os.getuid() if runtime.user is None else runtime.user
    before, after = map(without_powers, (seen(planted / "t"), imported_tree(own)))
    assert differences(as_owned_by(before, user), after) == []


def pack(tree: Path, archive: Path, *options: str) -> None:
    done = subprocess.run(["tar", *options, "-C", tree, "-cf", archive, "bin", "t"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@OURS
def test_times_before_1970(runtime: Runtime, tmp_path: Path) -> None:
    """Podman makes them 1970."""
    times = {"-1.5": -1_500_000_000, "-0.25": -250_000_000, "-2000000000": -2 * 10**18, "1.0000000019": 10**9 + 1}
    members = [special(time, tarfile.REGTYPE, pax_headers={"mtime": time}) for time in times]
    with inside(imported(runtime, tmp_path, [*shell(), *members])) as root:
        assert {time: (root / time).stat().st_mtime_ns for time in times} == times


@OURS
@pytest.mark.parametrize("planted", ["pax"], indirect=True)
def test_a_directory(runtime: Runtime, tmp_path: Path, planted: Path) -> None:
    """As it was; but for devices and sockets, and what is mounted in it."""
    if runtime.user is not None:  # it is the user's own directory
        for place, folders, files in os.walk(os.fsencode(planted)):
            for name in (b".", *folders, *files):
                path = os.path.join(place, name)
                mode = stat.S_IMODE(os.lstat(path).st_mode)
                os.lchown(path, runtime.user, runtime.user)
                if not os.path.islink(path):
                    os.chmod(path, mode | (0o700 if os.path.isdir(path) else 0o400))
    before = seen(planted / "t")
    own = replace(own_store(runtime, tmp_path), image="own")
    under: tuple[str, ...] = ()
    if not runtime.rootless:
        os.mknod(planted / "t/device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(planted / "t/socket", stat.S_IFSOCK | 0o666)
        os.utime(planted / "t", ns=(0, 0))
        script = f'mount -t tmpfs tmpfs {planted}/t/empty-folder; touch {planted}/t/empty-folder/mounted; exec "$@"'
        under = ("unshare", "--mount", "sh", "-c", script, "sh")
    result = own.call("import", str(planted), "own", under=under)
    assert (result.code, result.err) == (0, b"")
    found = imported_tree(own)
    if runtime.rootless:
        before, found = without_powers(before), without_powers(found)
    if under:  # the mount point shows what is mounted: its mode and times
        before, found = ({n: e for n, e in tree.items() if n != b"empty-folder"} for tree in (before, found))
    assert differences(before, found) == []


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda data: gzip.compress(data, 1),
    "gzip in two parts": lambda data: gzip.compress(data[:10_000], 1) + gzip.compress(data[10_000:], 1),
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.long
def test_all_compressions(runtime: Runtime, tmp_path: Path, compression: str, fresh: Fresh) -> None:
    """Told by the first bytes, not by the name; from a file and from standard input."""
    data, archive = fresh.bytes(100_000), tmp_path / "archive"
    image.write(tmp_path / "plain", [*shell(), file("data", data)])
    archive.write_bytes(COMPRESSIONS[compression]((tmp_path / "plain").read_bytes()))
    own = imported(runtime, tmp_path, archive)
    assert own.run("cat", "/data").out == data
    if compression in ("plain", "xz"):
        assert own.image and own.call("import", "-", own.image, input=archive.read_bytes()).code == 0
        assert own.run("cat", "/data").out == data


@OURS
def test_what_podman_exports(runtime: Runtime, tmp_path: Path) -> None:
    try:
        podman = oracle.podman(runtime.directory)
    except Missing as missing:
        pytest.skip(str(missing))
    name = f"exported-{os.urandom(4).hex()}"
    assert podman.call("create", "--network", "none", "--name", name, "test", "true").code == 0
    exported = podman.call("export", name)
    podman.call("rm", name)
    own = replace(own_store(runtime, tmp_path), image="own")
    assert own.call("import", "-", "own", input=exported.out).code == 0
    assert own.output("python3", "-c", "print(6 * 7)") == "42"
    assert own.output("stat", "-c", "%a %u", "/home/alice", "/tmp") in ("755 1000\n1777 0", "755 0\n1777 0")


def test_directories_that_are_links(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """As most distributions have them: /lib leads to /usr/lib, and packages name their files either way."""
    one, two = fresh.word(), fresh.word()
    members = [
        folder("usr/lib"),
        link("lib", "usr/lib"),
        link("lib64", "/usr/lib"),
        file("lib/a", one.encode()),
        file("lib64/b", two.encode()),
    ]
    own = imported(runtime, tmp_path, [*shell(), *members])
    assert own.output("ls", "/usr/lib").split() == ["a", "b"]
    assert own.output("cat", "/lib/b", "/lib64/a") == two + one


def test_parents_that_the_archive_does_not_name(runtime: Runtime, tmp_path: Path) -> None:
    """They are made as anybody would: for all to enter, for root to write to."""
    own = imported(runtime, tmp_path, [*shell(), file("a/b/c/file", b"x"), link("d/e/link", "/a")])
    modes = own.output("stat", "-c", "%a %u %g", "/", "/a", "/a/b", "/a/b/c", "/d", "/d/e").split("\n")
    assert {*modes[1:]} == {"755 0 0"}
    assert modes[0] in ("755 0 0", "555 0 0")  # Podman's


@pytest.mark.ours_alone("Podman says 'duplicates of file paths not supported'; GNU tar and Docker do it so")
def test_of_several_entries_of_one_name_the_last_counts(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """As in an archive to which `tar --append` has added newer files."""
    new = fresh.word()
    twice = [
        *(file("file", b"old", 0o600), file("file", new.encode(), 0o644)),
        *(folder("folder", 0o700, user=1), file("folder/kept", b"kept"), folder("folder", 0o755, user=0)),
        *(
            folder("becomes-file", 0o4700),
            folder("becomes-file/a"),
            folder("becomes-file/a/b"),
            file("becomes-file", b"file"),
        ),
        *(file("becomes-folder", b"x"), folder("becomes-folder", 0o755), file("becomes-folder/in", b"in")),
        *(folder("other", 0o755), folder("becomes-link", 0o700, user=1), link("becomes-link", "other")),
        *(link("link", "other"), folder("link", 0o755), file("link/in", b"in")),
        *(file("target", b"target"), link("link-to-file", "target"), file("link-to-file", b"a file now")),
    ]
    own = imported(runtime, tmp_path, [*shell(), *twice])
    files = "file folder/kept becomes-file becomes-folder/in link-to-file target".split()
    assert own.output("cat", *files) == f"{new}keptfileina file nowtarget"
    facts = own.output(
        "stat", "-c", "%a %u %n", "file", "folder", "becomes-file", "becomes-folder", "other"
    ).splitlines()
    assert facts == ["644 0 file", "755 0 folder", "644 0 becomes-file", "755 0 becomes-folder", "755 0 other"]
    assert own.output("stat", "-c", "%N", "becomes-link") == "'becomes-link' -> 'other'"
    assert own.output("cat", "link/in") == "in"


@pytest.mark.ours_alone("Podman says 'no such file or directory'; GNU tar does it so")
def test_a_hard_link_to_itself(runtime: Runtime, tmp_path: Path) -> None:
    """What GNU tar writes when it is given the same file twice."""
    own = imported(runtime, tmp_path, [*shell(), file("a", b"x"), hard("b", "a"), hard("a", "a"), hard("./b", "a")])
    assert own.output("stat", "-c", "%h %s", "a", "b").splitlines() == ["2 1", "2 1"]


def test_names_with_dots_in_front(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """As `tar -c .` writes them, with an entry for the root directory itself."""
    word = fresh.word()
    dotted = [(member_named(f"./{info.name}", info), data) for info, data in shell()]
    own = imported(runtime, tmp_path, [folder("./", 0o750), *dotted, folder("./a/"), file("./a//b/./c", word.encode())])
    assert own.output("cat", "/a/b/c") == word
    assert own.output("stat", "-c", "%a", "/") in ("750", "555")


def member_named(name: str, info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.name = name
    return info


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[None]:
    """After a failure, clean up what is too deep for shutil.rmtree, which recurses."""
    yield
    subprocess.run(["rm", "-rf", tmp_path / "state"], check=True)


@OURS
@pytest.mark.as_root("as a user it takes the same way")
@pytest.mark.usefixtures("deep")
def test_2000_directories_inside_each_other(runtime: Runtime, tmp_path: Path) -> None:
    """By one file alone, and by entries of their own; deeper than Python's recursion goes. And rmi removes them."""
    own = imported(runtime, tmp_path, [*shell(), file("d/" * 1999 + "file", b"deep"), folder("d/" * 1500, 0o500)])
    assert own.output("cat", "/" + "d/" * 1999 + "file") == "deep"
    assert own.image and own.call("rmi", own.image).code == 0
    assert left(tmp_path / "state") == []


@pytest.mark.long
@OURS
@pytest.mark.as_root("as a user it takes the same way")
def test_50000_files(runtime: Runtime, tmp_path: Path) -> None:
    """In memory, so that not the disk is measured; beside GNU tar, so that not the machine is."""
    archive, state = tmp_path / "many.tar", tmp_path / "state"
    image.write(archive, (file(f"{number % 100}/{number}", b"x") for number in range(50_000)))
    script = f"""
        mount -t tmpfs tmpfs {state} && mkdir {state}/tar || exit
        TIMEFORMAT=%R
        time tar -xf {archive} -C {state}/tar
        time "$@"
        find {state}/images -type f -size 1c | wc -l
    """
    own = own_store(runtime, tmp_path)
    under = ("unshare", "--mount", "bash", "-c", script, "bash")
    out, err = own.popen([*own.command, "import", str(archive), "many"], under=under).communicate(timeout=100)
    tar, ours = map(float, err.split())
    assert ours < 3 + 6 * tar
    assert out.split()[1:] == [b"50000"]


# ---- safe: nothing gets out ------------------------------------------------------------------------------------------


def special(name: str, kind: bytes, **fields: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info, b""


def way_out(outside: Path) -> dict[str, list[Member]]:
    """Archives that try to reach the directory `outside`, by what they try."""
    up = "../" * 40
    away = str(outside)
    return {
        "an absolute path": [file(f"{away}/new", b"x"), file(f"{away}/file", b"x")],
        "an absolute path with more slashes": [file(f"//{away}/new", b"x")],
        "up": [file(f"{up}{away}/new", b"x")],
        "up after a directory": [folder("a"), file(f"a/{up}{away}/new", b"x")],
        "through an absolute link": [link("l", away), file("l/new", b"x"), file("l/file", b"x")],
        "through a relative link": [link("l", f"{up}{away[1:]}"), file("l/new", b"x")],
        "through links to links": [link("l", "m"), link("m", "n/.."), link("n", f"{away}/folder"), file("l/new", b"x")],
        "through /proc": [link("l", f"/proc/self/root{away}"), file("l/new", b"x")],
        "through /proc/self/cwd": [link("l", f"/proc/self/cwd/{up}{away}"), file("l/new", b"x")],
        "onto a link": [link("l", f"{away}/file"), file("l", b"x")],
        "a directory onto a link": [link("l", away), folder("l", 0o777, user=1234)],
        "a fifo through a link": [link("l", away), special("l/new", tarfile.FIFOTYPE)],
        "a link through a link": [link("l", away), link("l/new", "x")],
        "hard link to a file": [hard("h", f"{away}/file"), file("h", b"x")],
        "hard link upwards": [hard("h", f"{up}{away}/file")],
        "hard link through a link": [link("l", away), hard("h", "l/file"), hard("l/new", "h")],
        "hard link to a link that leads out": [link("l", f"{away}/file"), hard("h", "l"), file("h", b"x")],
        "attributes through a link": [
            link("l", f"{away}/file"),
            special("l", tarfile.SYMTYPE, linkname=f"{away}/file", pax_headers={"SCHILY.xattr.user.x": "y"}),
        ],
        "the root is a link": [link(".", away), file("new", b"x")],
        "the root is a file": [file(".", b"x"), file("new", b"x")],
        "no name": [file("", b"x"), folder("")],
        "a directory called up": [folder("..", 0o777), folder("../..", 0o777), file("../new", b"x")],
        "removing through a link": [link("l", away), folder("l/folder"), file("l/folder", b"x"), file("l", b"x")],
    }


@OURS
def test_no_entry_leaves_the_image(runtime: Runtime, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("secret of the host")
    (outside / "folder/file").write_text("x")
    if runtime.user is not None:
        for path in (outside, outside / "file", outside / "folder", outside / "folder/file"):
            os.chown(path, runtime.user, runtime.user)
    before = (seen(tmp_path / "outside"), outside.stat(), sorted(tmp_path.parent.iterdir()))
    own = own_store(runtime, tmp_path)
    for attempt, members in way_out(outside).items():
        image.write(tmp_path / "evil.tar", members)
        result = own.call("import", str(tmp_path / "evil.tar"), "evil", under=sheltered(runtime, tmp_path))
        whole_or_refused(own, result, tmp_path / "state")
        after = (seen(tmp_path / "outside"), outside.stat(), sorted(tmp_path.parent.iterdir()))
        assert after[0] == before[0] and after[1][:8] == before[1][:8] and after[2] == before[2], attempt
        stolen = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
        assert not [path for path in stolen if not path.is_symlink()], attempt


@OURS
def test_cve_2019_14271_nothing_is_loaded_from_the_image(runtime: Runtime, tmp_path: Path, trace: Path) -> None:
    """`docker cp` made the container's root its own, whereupon the C library loaded a part of itself, now the
    container's, and ran it as root. What unpacks, or packs, with an image as its root has loaded all before."""
    own = imported(runtime, tmp_path, [*shell(), folder("data"), file("data/file", b"x", 0o600)])
    compressed = tmp_path / "image.tar.xz"
    compressed.write_bytes(lzma.compress((tmp_path / "image.tar").read_bytes()))
    under = strace.recording(trace)

    def unpack() -> Result:
        return own.call("import", str(compressed), "again", under=under)

    def begin_a_volume() -> Result:
        return own.run("cat", "/data/file", options=["-v", "new:/data"], under=under)

    for work in (unpack, begin_a_volume):
        assert work().code == 0
        paths = [call.path for call in strace.after(trace, "chroot")]
        assert any(path.endswith("file") for path in paths)
        assert [path for path in paths if re.search(r"\.so\b|python|\.py|/etc/|/lib/", path)] == []


def whole_or_refused(runtime: Runtime, result: Result, state: Path) -> bool:
    """Either an image and its id, or one line and nothing left. Tells which."""
    if result.code == 0:
        assert re.fullmatch(rb"[0-9a-f]{12}\n", result.out) and result.err == b""
    else:
        assert result.out == b""
        runtime.refusal(result)
    assert [*state.glob("tmp/*")] == []
    return result.code == 0


@OURS
def test_devices_are_left_out(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """An image has no business with the host's disks."""
    name = fresh.word()
    disk = {"devmajor": 254, "devminor": 0, "mode": 0o666}
    devices = [folder("d"), special("d/disk", tarfile.BLKTYPE, **disk), special("d/null", tarfile.CHRTYPE, **disk)]
    own = imported(runtime, tmp_path, [*shell(), *devices, file(f"d/{name}", b"x")])
    assert own.output("ls", "/d") == name


def header(info: tarfile.TarInfo, at: int, number: bytes) -> bytes:
    """The member's header with a number field replaced, and the checksum right."""
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[at : at + len(number)] = number
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


NUMBERS = [
    *(b"-0000001\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\x80\0\0\0\x7f" + b"\xff" * 7),  # negative, huge
    *(b"zzzzzzz\0", b"\0" * 12, b" " * 12, b"8888888"),
]
FIELDS = {"mode": 100, "uid": 108, "size": 124, "mtime": 136}


@OURS
@pytest.mark.as_root("as a user it takes the same way")
@pytest.mark.long
def test_numbers_that_are_none(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    for number in NUMBERS:
        for at in FIELDS.values():
            data = header(file("file", b"x" * 512)[0], at, number[: 8 if at < 124 else 12]) + b"x" * 512
            (tmp_path / "odd.tar").write_bytes(data + header(file("next", b"")[0], 0, b"next") + bytes(10240))
            result = own.call("import", str(tmp_path / "odd.tar"), "odd", under=sheltered(runtime, tmp_path))
            whole_or_refused(own, result, tmp_path / "state")


ODD_PAX: list[dict[str, str]] = [
    {"mtime": "nan"},
    {"mtime": "-inf"},
    {"mtime": "1e400"},
    {"mtime": "9" * 30},
    {"size": "-1"},
    {"size": "9" * 30},
    {"uid": "-5"},
    {"gid": "9" * 30},
    {"path": "zero\0byte"},
    {"path": ""},
    {"linkpath": "zero\0byte"},
    {"GNU.sparse.map": "0,1,2", "GNU.sparse.size": "10"},
    {"GNU.sparse.map": "-5,1", "GNU.sparse.size": "10"},
    {"GNU.sparse.map": "0,-1", "GNU.sparse.size": "-10"},
    {"GNU.sparse.map": "9223372036854775807,1", "GNU.sparse.size": "9223372036854775807"},
    {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9223372036854775807"},
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"},
    {"SCHILY.xattr.": "no name"},
    {"SCHILY.xattr.user." + "x" * 300: "name too long"},
    {"SCHILY.xattr.user.x": "y" * 100_000},
    {"SCHILY.xattr.nonsense": "no such kind"},
]


@OURS
@pytest.mark.as_root("as a user it takes the same way")
def test_pax_headers_that_make_no_sense(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    for headers in ODD_PAX:
        info, data = file("file", b"x" * 512)
        info.pax_headers = headers
        image.write(tmp_path / "odd.tar", [(info, data)])
        result = own.call("import", str(tmp_path / "odd.tar"), "odd", under=sheltered(runtime, tmp_path))
        whole_or_refused(own, result, tmp_path / "state")


@OURS
def test_a_header_that_unpacks_to_more_than_the_memory(runtime: Runtime, tmp_path: Path) -> None:
    """A pax header is read into memory: one of a gigabyte of zeros takes a megabyte on the wire."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 2**30
    header = gzip.compress(info.tobuf(tarfile.USTAR_FORMAT))
    (tmp_path / "bomb.tar.gz").write_bytes(header + gzip.compress(bytes(2**24), 1) * 64 + gzip.compress(bytes(10240)))
    own = own_store(runtime, tmp_path)
    result = own.call("import", str(tmp_path / "bomb.tar.gz"), "bomb", under=("prlimit", f"--as={2**29}"))
    whole_or_refused(own, result, tmp_path / "state")
    assert b"Memory" not in result.err


NO_ARCHIVES = {
    "nothing": b"",
    "text": b"no tar at all\n" * 1000,
    "a program": Path(image.PYTHON).resolve().read_bytes()[:5000],
    "gzip of text": gzip.compress(b"no tar at all\n" * 1000),
    "gzip of nothing": gzip.compress(b""),
    "xz, but only its mark": b"\xfd7zXZ\0",
    "zstd, but only its mark": b"\x28\xb5\x2f\xfd",
    "zip": b"PK\x03\x04" + bytes(100),
}


@OURS
@pytest.mark.as_root("as a user it takes the same way")
def test_no_archive_at_all(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    for what, data in NO_ARCHIVES.items():
        (tmp_path / "file").write_bytes(data)
        result = own.call("import", str(tmp_path / "file"), "none")
        assert not whole_or_refused(own, result, tmp_path / "state"), what
    assert not whole_or_refused(own, own.call("import", "-", "none", input=b""), tmp_path / "state")


@OURS
def test_no_source(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """Whatever cannot be read is named."""
    own = own_store(runtime, tmp_path)
    for source in (f"/no/such/{fresh.word()}", "", f"{tiny()}/below"):
        assert source in own.refusal(own.call("import", source, "none"))
    own.refusal(own.call("import", "-", "none", under=("sh", "-c", '"$@" <&-', "sh")))
    assert [*(tmp_path / "state").glob("tmp/*")] == []


@OURS
@pytest.mark.as_user("root may read everything")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that is another's")
def test_a_source_closed_to_the_caller(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "closed/folder").mkdir(parents=True)
    (tmp_path / "closed/folder/file").touch(0o600)
    (tmp_path / "closed.tar").touch(0o600)
    own = own_store(runtime, tmp_path)
    for source, named in (("closed", "folder/file"), ("closed.tar", "closed.tar")):
        assert named in own.refusal(own.call("import", str(tmp_path / source), "none"))
    assert [*(tmp_path / "state/tmp").iterdir()] == []


@OURS
@pytest.mark.as_user("root needs no user namespace")
def test_user_namespaces_used_up(runtime: Runtime, tmp_path: Path) -> None:
    """Without root, chroot needs one. The remedy is named as `run` names it."""
    own = own_store(runtime, tmp_path)
    said = own.refusal(own.call("import", str(tiny()), "one", under=limited("user")))
    assert "user.max_user_namespaces" in said and "sysctl" in said
    assert [*(tmp_path / "state/tmp").iterdir()] == []


@OURS
def test_a_directory_that_contains_the_store(runtime: Runtime, tmp_path: Path) -> None:
    """By whatever path it is called: or the copy would copy itself."""
    here = tmp_path / "state"
    (here / "link").symlink_to(".")
    for root in ("store", "link/store", "store/../store"):
        own = replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": f"{here}/{root}"})
        assert "store" in own.refusal(own.call("import", str(here), "none"))
    assert "store" in own.refusal(own.call("import", f"{here}/link", "none"))


# ---- broken archives -------------------------------------------------------------------------------------------------


def sample() -> bytes:
    """A small archive with one of everything, as pax: where a bit may fall over."""
    stream = io.BytesIO()
    members = [
        *(folder("a"), file("a/file", b"x" * 700), link("a/link", "file"), hard("a/hard", "a/file")),
        *(file("n" * 150, b"y" * 1500, 0o4755), special("fifo", tarfile.FIFOTYPE)),
        *(file("b/c/implicit", b"z"), folder("a", 0o700), file("ünï", b"")),
        special("x", tarfile.REGTYPE, pax_headers={"SCHILY.xattr.user.x": "\udcff", "mtime": "1.123456789"}),
        special("sparse", tarfile.REGTYPE, pax_headers={"GNU.sparse.map": "5,0", "GNU.sparse.size": "100"}),
    ]
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


Damage = Callable[[bytes, random.Random], bytes]


def one_bit_flipped(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]


def cut_short(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data.rstrip(b"\0")))]


def a_block_lost_or_doubled(data: bytes, dice: random.Random) -> bytes:
    at = 512 * dice.randrange(len(data) // 512)
    return data[:at] + data[at + 512 :] if dice.random() < 0.5 else data[: at + 512] + data[at:]


def number_changed(data: bytes, dice: random.Random) -> bytes:
    """A digit in a header, and the checksum mended: damage that is not seen at once."""
    start = dice.choice([match.start() - 257 for match in re.finditer(b"ustar", data)])
    block = bytearray(data[start : start + 512])
    block[dice.randrange(100, 148)] = dice.choice(b"01234567-\xff\x80 \0")
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return data[:start] + bytes(block) + data[start + 512 :]


@pytest.mark.long
@OURS
@pytest.mark.parametrize("damage", [one_bit_flipped, cut_short, a_block_lost_or_doubled, number_changed])
def test_damaged_archives(runtime: Runtime, tmp_path: Path, damage: Damage) -> None:
    """Damage at random, each step and each user at other places: a whole image, or one line and nothing left."""
    dice = random.Random(f"{damage.__name__} {runtime.step} {runtime.rootless}")
    plain = sample()
    damaged = [damage(plain, dice) for _ in range(4 if runtime.rootless else 24)]
    whole = number_imported(runtime, tmp_path, damaged)
    if damage is cut_short:
        assert whole == 0


def test_a_damaged_header_is_not_the_end(runtime: Runtime, tmp_path: Path) -> None:
    """Python's tarfile would say so, and half an image be taken for a whole."""
    image.write(tmp_path / "whole.tar", [file("one", b"1"), file("two", b"2"), file("three", b"3")])
    data = bytearray((tmp_path / "whole.tar").read_bytes())
    data[2 * 512 + 200] ^= 1  # in the second header: after the first and its file
    own = own_store(runtime, tmp_path)
    own.refusal(own.call("import", "-", "damaged", input=bytes(data)))
    assert left(tmp_path / "state") == []


@OURS
@pytest.mark.parametrize("place", [-8, -1], ids=["its checksum", "its length"])
def test_a_wrong_end_of_gzip(runtime: Runtime, tmp_path: Path, place: int) -> None:
    """It stands behind the end of the tar archive; a reader that stops there would not see it."""
    own = own_store(runtime, tmp_path)
    data = bytearray(gzip.compress(image.small_tar().read_bytes(), 1))
    data[place] ^= 1
    own.refusal(own.call("import", "-", "wrong", input=bytes(data)))
    assert own.call("images", "-q").out == b""


@pytest.mark.long
@OURS
@pytest.mark.as_root("as a user it takes the same way")
@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd"])
def test_damaged_compression(runtime: Runtime, tmp_path: Path, compression: str) -> None:
    dice = random.Random(f"{compression} {runtime.step}")
    packed = COMPRESSIONS[compression](sample())
    number_imported(
        runtime, tmp_path, [damage(packed, dice) for damage in (one_bit_flipped, cut_short) for _ in range(8)]
    )


def number_imported(runtime: Runtime, tmp_path: Path, archives: list[bytes]) -> int:
    """Import all: each becomes an image or is refused, the store holds no more, and the host is the same."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("x")
    before = seen(canary), {*tmp_path.iterdir()}
    own = own_store(runtime, tmp_path)
    under = sheltered(runtime, tmp_path)
    results = [own.call("import", "-", "damaged", input=data, under=under) for data in archives]
    whole = sum(whole_or_refused(own, result, tmp_path / "state") for result in results)
    assert len(own.call("images", "-q").text.split()) == whole
    assert (seen(canary), {*tmp_path.iterdir()}) == before
    return whole


# ---- interrupted -----------------------------------------------------------------------------------------------------


def half_imported(runtime: Runtime, tmp_path: Path) -> Started:
    """An import that has unpacked some files and waits for more."""
    started = runtime.popen([*runtime.command, "import", "-", "half"], stdin=subprocess.PIPE)
    assert started.stdin
    started.stdin.write(half_and_half(tmp_path)[0])
    started.stdin.flush()
    place = tmp_path / "state"
    host.wait_until(lambda: [*place.glob("tmp/*/rootfs/first")], "the first file is begun")
    return started


def half_and_half(tmp_path: Path) -> tuple[bytes, bytes]:
    """An archive in two parts; the first is more than a runtime may read before it begins."""
    image.write(tmp_path / "half.tar", [file("first", b"x" * 2**22), file("second", b"y" * 2**22)])
    data = (tmp_path / "half.tar").read_bytes()
    return data[: 3 * 2**21], data[3 * 2**21 :]


@OURS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_interrupted(runtime: Runtime, tmp_path: Path, number: signal.Signals) -> None:
    own = own_store(runtime, tmp_path)
    started = half_imported(own, tmp_path)
    started.send_signal(number)
    result = started.end()
    assert (result.code, result.out, result.err) == (128 + number, b"", b"")
    assert [*(tmp_path / "state/tmp").iterdir()] == []
    assert own.call("images", "-q").out == b""


@OURS
def test_interrupted_again_and_again(runtime: Runtime, tmp_path: Path) -> None:
    """A second Ctrl-C does not keep the runtime from removing what it has made."""
    folders = [folder(f"folder{number}") for number in range(5000)]
    image.write(tmp_path / "half.tar", [*folders, file("first", b"x" * 2**22)])
    own = own_store(runtime, tmp_path)
    started = own.popen([*own.command, "import", "-", "half"], stdin=subprocess.PIPE)
    assert started.stdin
    started.stdin.write((tmp_path / "half.tar").read_bytes()[: -(2**21)])
    started.stdin.flush()
    host.wait_until(lambda: [*(tmp_path / "state").glob("tmp/*/rootfs/first")], "the file is begun")
    while started.poll() is None:
        started.send_signal(signal.SIGINT)
        time.sleep(0.02)
    result = started.end()
    assert (result.code, result.out, result.err) == (128 + signal.SIGINT, b"", b"")
    assert [*(tmp_path / "state/tmp").iterdir()] == []


@OURS
def test_killed(runtime: Runtime, tmp_path: Path) -> None:
    """Then the next command sweeps, but not what another is at work on."""
    own = own_store(runtime, tmp_path)
    started = half_imported(own, tmp_path)
    other = half_imported(own, tmp_path)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert own.call("images", "-q").out == b""
    import_tiny(own, "next")
    assert len([*(tmp_path / "state/tmp").iterdir()]) == 1
    result = other.end(half_and_half(tmp_path)[1])
    assert result.code == 0, result.err
    assert {*own.call("images", "-q").text.split()} >= {result.text}
    assert [*(tmp_path / "state/tmp").iterdir()] == []


@OURS
def test_the_unpacking_process_is_killed(runtime: Runtime, tmp_path: Path) -> None:
    """As the kernel does when memory is short."""
    own = own_store(runtime, tmp_path)
    started = half_imported(own, tmp_path)
    (child,) = (process for process in host.descendants() if process.parent == started.pid)
    child.signal(signal.SIGKILL)
    assert "killed" in own.refusal(started.end())
    assert [*(tmp_path / "state/tmp").iterdir()] == []


@pytest.mark.long
@OURS
@pytest.mark.parametrize("source", ["archive", "directory"])
def test_told_to_end_at_any_moment(runtime: Runtime, tmp_path: Path, source: str) -> None:
    members = [file(f"{number // 100}/{number}", b"x" * 2000) for number in range(1000)]
    image.write(tmp_path / "archive", members)
    if source == "directory":
        for info, data in members:
            (tmp_path / "directory" / info.name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "directory" / info.name).write_bytes(data)
    own = own_store(runtime, tmp_path)

    def begun(started: Started) -> bool:
        """Or over already: on a busy machine that is before we have looked."""
        return bool([*(tmp_path / "state/tmp").iterdir()]) or not started.running()

    import_tiny(own, "one")
    for number, delay in (("INT", 0.0), ("TERM", 0.01), ("INT", 0.03), ("TERM", 0.05), ("KILL", 0.02)):
        started = own.popen([*own.command, "import", str(tmp_path / source), "other"])
        host.wait_until(partial(begun, started), "the import begins")
        time.sleep(delay)
        started.send_signal(signal.Signals[f"SIG{number}"])
        result = started.end()
        assert (result.code == 0) == (result.out != b"")
        assert result.err == b""
        import_tiny(own, "one")  # which sweeps
        assert [*(tmp_path / "state/tmp").iterdir()] == []


@pytest.mark.long
@OURS
@pytest.mark.parametrize("size", [2**21, 100], ids=["grows", "shrinks"])
def test_a_file_that_changes_while_it_is_copied(runtime: Runtime, tmp_path: Path, size: int) -> None:
    """It is a megabyte of hole, and is looked through for data when it changes: the copy waits there for a while."""
    own = own_store(runtime, tmp_path)
    changing = tmp_path / "directory/changing"
    changing.parent.mkdir()
    with changing.open("wb") as opened:
        opened.truncate(2**20)
    wait = ("-o", "/dev/null", "-P", str(changing), "-e", "trace=lseek", "-e", "inject=lseek:delay_enter=1s:when=1")
    started = own.popen(
        [*own.command, "import", str(changing.parent), "made"], under=(strace.program(), "-f", "-qq", *wait)
    )
    host.wait_until(lambda: held_open(changing), "the copy begins")
    with changing.open("r+b") as opened:
        opened.truncate(size)
        opened.seek(size)
        opened.write(b"x" * 5000 * (size > 100))
    result = started.end()
    if size < 2**20:
        assert "became shorter" in own.refusal(result)
        assert [*(tmp_path / "state/tmp").iterdir()] == []
        return
    assert result.code == 0, result.err
    (copy,) = (tmp_path / "state/images").glob("*/rootfs/changing")
    assert copy.read_bytes() == bytes(2**20)


def held_open(path: Path) -> bool:
    """Whether a process that this test has started has the file open."""
    for process in host.descendants():
        with suppress(OSError):
            if any(os.path.realpath(fd) == str(path) for fd in Path(f"/proc/{process.pid}/fd").iterdir()):
                return True
    return False


# ---- no room ---------------------------------------------------------------------------------------------------------


@OURS
@pytest.mark.as_root("without root, no small file system can be mounted")
@pytest.mark.parametrize("options", ["size=1m", "size=1m,nr_inodes=30"], ids=["no space", "no inodes"])
@pytest.mark.parametrize("source", ["archive", "directory"])
def test_the_disk_is_full(runtime: Runtime, tmp_path: Path, source: str, options: str) -> None:
    data = b"x" * (10_000 if "inodes" in options else 100_000)
    members = [file(f"file-{number}", data) for number in range(50)]
    image.write(tmp_path / "archive", members)
    (tmp_path / "directory").mkdir()
    for info, content in members:
        (tmp_path / "directory" / info.name).write_bytes(content)
    state = tmp_path / "state"
    script = f'mount -t tmpfs -o {options} tmpfs {state}; "$@"; code=$?; find {state}/*/ -mindepth 1; exit $code'
    own = own_store(runtime, tmp_path)
    under = ("unshare", "--mount", "sh", "-c", script, "sh")
    result = own.call("import", str(tmp_path / source), "full", under=under)
    said = own.refusal(result)
    assert "No space left" in said and "file-" in said
    assert source == "archive" or f"{state}/tmp/" in said, "it is the store that is full, not the directory"
    assert result.out == b""


@OURS
def test_a_file_larger_than_allowed(runtime: Runtime, tmp_path: Path) -> None:
    """ulimit -f: the kernel would send SIGXFSZ."""
    own = own_store(runtime, tmp_path)
    image.write(tmp_path / "large.tar", [file("large", b"x" * 100_000)])
    said = own.refusal(own.call("import", str(tmp_path / "large.tar"), "large", under=("prlimit", "--fsize=50000")))
    assert "large" in said and "too large" in said
    assert [*(tmp_path / "state/tmp").iterdir()] == []


# ---- progress --------------------------------------------------------------------------------------------------------


@OURS
def test_progress_on_a_terminal_and_ctrl_c(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o666)
    (tmp_path / "fifo").chmod(0o666)
    words = ["sh", "-c", f'exec "$@" < {tmp_path}/fifo', "sh", *own.command, "import", "-", "half"]
    screen = Terminal(words, env=own.environment, cwd=own.directory, user=own.user)
    own.started.append(screen)
    with (tmp_path / "fifo").open("wb") as writing:
        writing.write(half_and_half(tmp_path)[0])
        writing.flush()
        screen.expect("importing")
        screen.send("\x03")
        assert screen.end() == 128 + signal.SIGINT
    assert b"Traceback" not in screen.seen
    assert screen.seen.rfind(b"\x1b[?25h") > screen.seen.rfind(b"\x1b[?25l"), "the cursor stays hidden"
    assert [*(tmp_path / "state/tmp").iterdir()] == []


@OURS
@pytest.mark.parametrize("redirection", ["", "2>&-"], ids=["a pipe", "closed"])
def test_no_progress_but_on_a_terminal(runtime: Runtime, tmp_path: Path, redirection: str) -> None:
    own = own_store(runtime, tmp_path)
    result = own.call("import", str(tiny()), "one", under=("sh", "-c", f'exec "$@" {redirection}', "sh"))
    assert re.fullmatch(rb"[0-9a-f]{12}\n", result.out) and result.err == b""
