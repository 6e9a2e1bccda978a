"""Step 6: commit makes an image, or an archive, of what a container's files are at one moment: whole, and no more."""

import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support import host, image, oracle, strace
from tests.support.faults import REASONS, can_fail, failed_well, recorded, sample, store_is_whole
from tests.support.fresh import Fresh
from tests.support.image import Member, file, folder, hard, link
from tests.support.runtime import Missing, Result, Runtime, Started, Word
from tests.support.store import imported, named, shell
from tests.support.terminal import Terminal
from tests.support.tree import Entry, inside, seen

OURS = pytest.mark.ours_alone("Podman words it differently")
FREEZER = pytest.mark.as_root("a user has a freezer only where a cgroup is delegated")


# ---- helpers ---------------------------------------------------------------------------------------------------------


@dataclass
class Box:
    """A container that has done what it was told, and waits."""

    id: str
    init: host.Process
    started: Started

    def answers(self) -> bool:
        """Whether it runs: it says again what it is told."""
        assert self.started.stdin
        self.started.stdin.write(b"hello\n")
        self.started.stdin.flush()
        return self.started.line() == "hello"

    def frozen(self) -> bool:
        """What the kernel says of its cgroup (freezer-subsystem.rst, cgroup-v2.rst)."""
        for line in Path(f"/proc/{self.init.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "freezer":
                return Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").read_text() == "FROZEN\n"
        return "frozen 1" in Path(f"/sys/fs/cgroup{path}/cgroup.events").read_text()


@contextmanager
def box(runtime: Runtime, script: str = "", *, ends: bool = True, options: tuple[Word, ...] = ()) -> Iterator[Box]:
    """Its id is its host name. (`hostname` may not be in its image, but busybox is.)"""
    before = {process.pid for process in host.contained()}
    script = f"set -e; {script}\n/bin/busybox hostname; exec cat"
    started = runtime.start("sh", "-c", script, options=["-i", *options], stdin=subprocess.PIPE)
    id = started.line()
    assert id, started.end().err
    (init,) = (one for one in host.contained() if one.inner_pids() == [1] and one.pid not in before)
    yield Box(id, init, started)
    if ends:
        assert started.end(b"").code == 0


def commit(runtime: Runtime, box: Box, *words: Word) -> str:
    """What a commit that succeeds prints. Without a freezer it says so, once."""
    result = (
        runtime.call("commit", *words[:-1], box.id, words[-1]) if len(words) == 1 else runtime.call("commit", *words)
    )
    assert result.code == 0, result.err
    if not runtime.podman:
        assert (result.err == b"") == has_freezer(runtime), result.err
        assert result.err.count(b"\n") <= 1
    return result.text


def has_freezer(runtime: Runtime) -> bool:
    return not runtime.rootless


def files(tmp_path: Path, id: str) -> dict[bytes, Entry]:
    """The tree `t` of an image in the test's own store."""
    return seen(tmp_path / "state/images" / id / "rootfs/t")


def listed(runtime: Runtime) -> set[str]:
    return {*runtime.call("images", "-q").text.split()}


def powerful() -> Member:
    """A file with attributes, among them a capability: cap_net_raw+ep, as setcap(8) would give it."""
    info, data = file("t/powerful", b"x", 0o4755)
    info.pax_headers = {
        "SCHILY.xattr.user.note": "precious",
        "SCHILY.xattr.security.capability": "\x01\0\0\x02\0\x20" + "\0" * 14,
        "mtime": "1234567890.123456789",
    }
    return info, data


LONG = "/".join(["l" * 90] * 4)
ODD = r"""
cd /t
rm gone; rm -r emptied; mkdir emptied; echo new > emptied/new; mv moved moved-away; echo more >> changed
chmod 600 hidden/file; /bin/busybox chmod 4711 powerful; rm replaced; mkdir replaced
echo two > fresh; /bin/busybox ln fresh link; /bin/busybox ln -s nowhere symbolic; /bin/busybox mkfifo -m 640 fifo
/bin/busybox truncate -s 9G /huge; echo end >> /huge; /bin/busybox truncate -s 4M $(printf 'h\303\266le')
echo odd > $(printf 'not\377utf8'); /bin/busybox mkdir -p LONG; echo deep > LONG/file
/bin/busybox truncate -s 1M LONG/holes
""".replace("LONG", LONG)


def changed_image(runtime: Runtime, tmp_path: Path) -> Runtime:
    """An image for ODD to change."""
    names = ("t/gone", "t/emptied/old", "t/moved/file", "t/changed", "t/hidden/file", "t/replaced", "t/kept/file")
    folders = [folder(name) for name in ("t", "t/emptied", "t/moved", "t/hidden", "t/kept")]
    return imported(runtime, tmp_path, [*shell(), *folders, *(file(name, name.encode()) for name in names), powerful()])


# ---- what is kept, and what is not -----------------------------------------------------------------------------------


def test_the_image_has_the_containers_files(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """What was deleted is gone, what is mounted is left out, and a new container finds the rest."""
    word = fresh.word()
    own = imported(runtime, tmp_path, [*shell(), folder("old"), file("old/one", b"1"), file("two", b"2")])
    (tmp_path / "here/volume").mkdir()
    (tmp_path / "here/volume/secret").write_text("of the host")
    script = f"rm /two; rm -r /old; mkdir /old; echo {word} > /old/three; echo x > /dev/shm/x"
    with box(own, script, options=("-v", f"{tmp_path}/here/volume:/mnt/volume")) as container:
        made = f"made-{os.urandom(4).hex()}"
        result = own.call("commit", "-q", container.id[:10], made)
        assert result.code == 0
        assert container.answers()
        new = replace(own, image=made)
        found = new.output(
            "sh", "-c", "echo /two /old/* /mnt/volume/* /dev/shm/*; cat /old/three; ls /mnt /proc/self/fd"
        )
    assert found.split()[:5] == ["/two", "/old/three", "/mnt/volume/*", "/dev/shm/*", word]
    assert "volume" in found.split()[5:]
    shutil.rmtree(tmp_path / "here/volume")
    if runtime.podman:
        assert own.call("rmi", made).code == 0


def test_modes_links_and_times_are_kept(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """And owners, as far as there are several; of what the image had and of what the container made."""
    mode, time, name = f"{fresh.number(0o400, 0o777):o}", f"{fresh.number(10**9, 2 * 10**9)}", f"made-{fresh.word()}"
    own = imported(runtime, tmp_path, [*image.busybox(), file("data/old", b"old"), file("data/kept", b"kept")])
    script = f"cd /data; chmod {mode} old; echo new > new; ln new same; ln -s old link; touch -d @{time} new"
    with box(own, script) as container:
        result = own.call("commit", "-q", container.id, name)
        assert result.code == 0, result.err
        assert container.answers()
    look = "cd /data; stat -c '%n %a %h' old kept; readlink link; stat -c '%Y %h' new same; cat new"
    found = replace(own, image=name).output("sh", "-c", look)
    assert found.splitlines() == [f"old {mode} 1", "kept 644 1", "old", f"{time} 2", f"{time} 2", "new"]
    assert runtime.podman or own.call("images", "-q").text.count("\n") == 1
    assert own.call("rmi", name).code == 0


def test_the_container_goes_on(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """What it writes afterwards is in the next image, not in the one before."""
    own, words, names = imported(runtime, tmp_path, shell()), [fresh.word(), fresh.word()], [fresh.word(), fresh.word()]
    started = own.start(
        "sh", "-c", "echo $HOSTNAME; while read word; do echo $word >> /log; echo $word; done", options=["-i"], stdin=-1
    )
    id = started.line()
    assert started.stdin
    for word, name in zip(words, names, strict=True):
        started.stdin.write(f"{word}\n".encode())
        started.stdin.flush()
        assert started.line() == word
        assert own.call("commit", "-q", id, name).code == 0
    assert started.end(b"").code == 0
    assert [replace(own, image=name).output("cat", "/log").split() for name in names] == [words[:1], words]
    assert own.call("rmi", *names).code == 0


@pytest.mark.long
@OURS
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.zst"])
def test_an_archive_that_is_imported_again(runtime: Runtime, tmp_path: Path, ending: str, fresh: Fresh) -> None:
    own, word, name = imported(runtime, tmp_path, [*shell(), file("gone", b"x")]), fresh.word(), fresh.word()
    archive = tmp_path / f"tmp/out{ending}"
    with box(own, f"/bin/busybox rm /gone; mkdir /made; echo {word} > /made/file") as container:
        assert own.call("commit", container.id, "-o", str(archive)).code == 0
    start = archive.read_bytes()[:4]
    assert (start[:2] == b"\x1f\x8b", start == b"\x28\xb5\x2f\xfd") == (ending == ".tar.gz", ending == ".tar.zst")
    assert own.call("import", str(archive), name).code == 0
    assert replace(own, image=name).output("sh", "-c", "cat /made/file; ls /gone 2>/dev/null; true") == word
    archive.unlink()


@OURS
def test_images_of_images(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """Each stands alone: those that it was made of are removed."""
    own, words = imported(runtime, tmp_path, shell()), [fresh.word() for _ in range(3)]
    for word in words:
        with box(own, f"echo {word} >> /log") as container:
            assert own.call("commit", "-q", container.id, word).code == 0
        assert own.image and own.call("rmi", own.image).code == 0
        own = replace(own, image=word)
    assert own.output("cat", "/log").split() == words
    assert [f"{words[-1]}:latest"] == [*named(own)]


@OURS
def test_everything_of_a_file_is_kept(runtime: Runtime, tmp_path: Path) -> None:
    """In an image, and in an archive of each kind, imported again. Mount points are there, and empty."""
    own = changed_image(runtime, tmp_path)
    archives = [tmp_path / "tmp" / f"out.tar{ending}" for ending in ("", ".gz", ".zst")]
    with box(own, ODD) as container:
        real = seen(Path(f"/proc/{container.init.pid}/root/t"))
        images = [commit(own, container, "-q", container.id, "made")]
        printed = [commit(own, container, container.id[:11], "-o", str(archive)) for archive in archives]
    assert real[b"h\xc3\xb6le"].holes and len(real[b"link"].names) == 2
    assert real[b"powerful"].mode == 0o4711 and {*dict(real[b"powerful"].attributes)} >= {"user.note"}
    images += [own.call("import", str(archive), "again").text for archive in archives]
    for id in images:
        assert files(tmp_path, id) == real
        rootfs = tmp_path / "state/images" / id / "rootfs"
        huge = (rootfs / "huge").stat()
        assert huge.st_size == 9 * 2**30 + 4 and huge.st_blocks < 100
        assert [[*(rootfs / name).iterdir()] for name in ("proc", "sys", "dev")] == [[], [], []]
    sizes = [archive.stat().st_size for archive in archives]
    assert sizes[0] > sizes[1] and sizes[0] > sizes[2] and sizes[0] < 10_000_000, "no holes in it"
    for line, archive in zip(printed, archives, strict=True):
        assert re.fullmatch(rf"{re.escape(str(archive))} [\d.]+[kM]B", line)
        archive.unlink()


EDGE = (*range(92, 104), 255)  # bytes: about what a name's field holds


def edges() -> Iterator[Member]:
    """Files of which something is at the edge of what a header of the old form can say, or of a record's length."""
    yield folder("t")
    yield file(f"t/{' ' * 20}", b"as blank as a checksum before it is there")
    info, data = file("t/equals", b"")
    info.pax_headers = {"SCHILY.xattr.user.a%3Db%253D": "c=d"}
    yield info, data
    for length in EDGE:
        yield file(f"t/{'f' * length}", b"f")
        yield folder(f"t/{'d' * length}")
        yield link(f"t/link{length}", "l" * length)
        yield hard(f"t/{'h' * length}", f"t/{'f' * length}")
    yield file(f"t/{'d' * 98}/{'ü' * 9}\udcff", b"longer, and not in UTF-8")
    for size in (0, 1, 511, 512, 513, 2**18 - 1, 2**18, 2**18 + 1):
        yield file(f"t/size{size}", os.urandom(size))
    times = ("-2", "-1.5", "-0.000000001", "0", "0.000000001", "1.999999999", f"{8**11 - 1}", f"{8**11}", f"{8**11}.5")
    for number, time in enumerate(times):
        info, data = file(f"t/time{number}", b"")
        info.pax_headers = {"mtime": time}
        yield info, data
    for owner in (0o7777776, 0o7777777, 0o10000000, 2**31):
        info, data = file(f"t/owner{owner}", b"")
        info.uid, info.gid = owner, owner + 1
        yield info, data
    for length in (*range(64, 80), *range(964, 980)):
        info, data = file(f"t/attribute{length}", b"")
        info.pax_headers = {"SCHILY.xattr.user.a": "=" * length}
        yield info, data


def extracted(archive: Path, target: Path) -> dict[bytes, Entry]:
    """What GNU tar makes of the tree `t` of an archive."""
    target.mkdir()
    words = ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--file", str(archive), "-C", str(target), "t"]
    subprocess.run(words, check=True)
    return seen(target / "t")


@OURS
@pytest.mark.as_root("a user has one owner alone")
def test_what_no_old_header_holds(runtime: Runtime, tmp_path: Path) -> None:
    """GNU tar, Python's tarfile and our import read the same in the archive, and it is what the image has."""
    own = imported(runtime, tmp_path, [*shell(), *edges()])
    archive = tmp_path / "tmp/out.tar"
    with box(own, f"/bin/busybox truncate -s 1M /t/{'s' * 100}") as container:
        root = f"/proc/{container.init.pid}/root"
        before = seen(Path(root, "t"))
        commit(own, container, container.id, "-o", str(archive))
        compare = ["tar", "--compare", "--xattrs", "--file", str(archive), "--directory", root, "t"]
        done = subprocess.run(compare, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len({each.modified for each in before.values()}) > 8 and len({each.owner for each in before.values()}) == 5
    assert before[b"equals"].attributes == {("user.a=b%3D", b"c=d")}
    found = extracted(archive, tmp_path / "tmp/extracted")
    assert {name: replace(each, holes=False) for name, each in found.items()} == {
        name: replace(each, holes=False) for name, each in before.items()
    }
    shutil.rmtree(tmp_path / "tmp/extracted")
    with tarfile.open(archive) as opened:
        names = {os.fsencode(name).removeprefix(b"t/") for name in opened.getnames() if name.startswith("t/")}
    assert names == {*before}
    assert files(tmp_path, own.call("import", str(archive), "again").text) == before
    archive.unlink()


@OURS
@pytest.mark.as_root("Podman is asked as root only")
def test_podman_takes_our_archives_and_we_take_its(runtime: Runtime, tmp_path: Path) -> None:
    try:
        podman = oracle.podman(tmp_path / "here")
    except Missing as missing:
        pytest.skip(str(missing))
    own = changed_image(runtime, tmp_path)
    archive, back = tmp_path / "tmp/out.tar.gz", tmp_path / "tmp/back.tar"
    script = ODD.replace("-s 9G", "-s 9M")  # Podman writes the holes out
    with box(own, script) as container:
        real = seen(Path(f"/proc/{container.init.pid}/root/t"))
        commit(own, container, container.id, "-o", str(archive))
    theirs = replace(podman, image=f"localhost/ours-{os.urandom(4).hex()}")
    assert theirs.image
    try:
        assert theirs.call("import", str(archive), theirs.image).code == 0
        with inside(theirs) as root:
            assert told(seen(root / "t")) == told(real)
            id = (root / "etc/hostname").read_text().strip()
            assert theirs.call("export", "-o", str(back), id).code == 0
    finally:
        theirs.call("rmi", theirs.image)
    assert told(files(tmp_path, own.call("import", str(back), "back").text)) == told(real)
    archive.unlink()
    back.unlink()


def told(tree: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """What Podman keeps of a tree: no holes, and times in seconds."""
    return {name: replace(each, holes=False, modified=each.modified // 10**9) for name, each in tree.items()}


@pytest.mark.long
@OURS
@pytest.mark.as_root("as root is as good")
def test_ten_deep(runtime: Runtime, tmp_path: Path) -> None:
    """Each image stands alone: its ancestors are gone, and what it consists of is what the first does."""
    own = imported(runtime, tmp_path, shell())
    (first,) = (tmp_path / "state/images").glob("*/")
    parts = sorted(path.name for path in first.iterdir())
    for number in range(10):
        with box(own, f"echo {number} >> /log; echo > /file-{number}; rm -f /file-{number - 1}") as container:
            commit(own, container, "-q", container.id, f"level-{number}")
        assert own.image and own.call("rmi", own.image).code == 0
        own = replace(own, image=f"level-{number}")
    assert own.output("sh", "-c", "cat /log; echo /file-*").split() == [*"0123456789", "/file-9"]
    (last,) = (tmp_path / "state/images").glob("*/")
    assert sorted(path.name for path in last.iterdir()) == [*parts, "settings.json"]


# ---- what is said ----------------------------------------------------------------------------------------------------


@OURS
def test_what_it_prints(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    with box(own, "echo hello > /new") as container:
        name, id, size = commit(own, container, container.id, "lab/made:1").split()
        assert (name, size) == ("lab/made:1", own.call("images").text.split(id)[1].split("\n")[0].split()[-1])
        assert commit(own, container, "-q", container.id, "made") in listed(own)
        screen = Terminal(
            [*own.command, "commit", container.id, "made"], env=own.environment, cwd=own.directory, user=own.user
        )
        own.started.append(screen)
        screen.expect(r"committing.*made:latest [0-9a-f]{12} [\d.]+MB")
        assert screen.end() == 0


@OURS
def test_which_container_is_meant(runtime: Runtime, tmp_path: Path) -> None:
    """Not known, or not one alone: what there is, in one line."""
    own = imported(runtime, tmp_path, shell())
    with ExitStack() as running:
        boxes = [running.enter_context(box(own))]
        while len({each.id[0] for each in boxes}) == len(boxes):
            boxes.append(running.enter_context(box(own)))
        *others, two = boxes
        one = next(each for each in others if each.id[0] == two.id[0])
        for wrong in ("nonesuch", "", one.id + "0", "/", "../images", one.id[0]):
            said = own.refusal(own.call("commit", wrong, "made"))
            assert f"{wrong!r}" in said
            assert runtime.step >= 7 or (one.id in said and two.id in said)  # then it tells their names
            assert ("several" in said) == (wrong == one.id[0])
        shared = next(n for n in range(13) if one.id[:n] != two.id[:n])
        assert commit(own, two, "-q", two.id[:shared], "made") in listed(own)
    if runtime.step == 6:
        assert "none" in own.refusal(own.call("commit", one.id, "made"))


@OURS
def test_words_that_make_no_sense(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    place = tmp_path / "tmp"
    (place / "folder.tar").mkdir()
    with box(own) as container:
        for words, reason in (
            ([], "give one"),
            (["Not/A/Name", "-o", f"{place}/x.tar"], "Not/A/Name"),
            (["made", "-o", f"{place}/x.zip"], ".tar.zst"),
            (["Not/A/Name"], "Not/A/Name"),
            (["-o", f"{place}/x.zip"], ".tar.zst"),
            (["-o", f"{place}/.tar"], ".tar.zst"),
            (["-o", f"{place}/folder.tar"], "directory"),
            (["-o", f"{place}/none/x.tar"], f"{place}/none/x.tar': give"),
            (["-o", "/proc/x.tar"], "/proc"),
        ):
            result = own.call("commit", container.id, *words)
            said = result.err.decode().splitlines()
            assert result.code == 125 and reason in said[-1], words
            assert len(said) == 1 or not has_freezer(own)
        old = place / "x.tar"
        old.write_text("old")
        commit(own, container, container.id, "-o", str(old))
        assert own.call("import", str(old), "made").code == 0
    assert sorted(path.name for path in place.iterdir()) == ["folder.tar", "x.tar"]
    old.unlink()
    (place / "folder.tar").rmdir()


@OURS
def test_a_store_given_by_a_relative_path(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    own = replace(own, environment={**own.environment, "MYDOCKER_ROOT": "../state"})
    with box(own) as container:
        commit(own, container, "-q", container.id, "made")
        layer = tmp_path / "state" / runtime.layers / container.id
        assert not list(layer.rglob("images")), "a store in the store"
    assert replace(own, image="made").output("echo", "hi") == "hi"


# ---- standing still --------------------------------------------------------------------------------------------------


@dataclass
class Waiting:
    """A commit that waits half-way, to tell what it does: nobody reads its standard error, a pipe that is full."""

    started: Started
    reading: int

    def go_on(self) -> Result:
        with open(self.reading, "rb") as pipe:
            os.set_blocking(self.reading, True)
            pipe.read()
        return self.started.end()


def waiting(runtime: Runtime, *words: Word) -> Waiting:
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * (size - 250))  # room for the first line or two
    tell = {"MYDOCKER_EXPLAIN": "1"}
    started = runtime.popen([*runtime.command, "commit", *words], env=tell, stderr=writing)
    os.close(writing)
    return Waiting(started, reading)


@OURS
@FREEZER
@pytest.mark.v2
def test_killed_while_the_container_stands_still(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    before = listed(own)
    with box(own) as container:
        for number in (signal.SIGKILL, signal.SIGTERM):
            begun = waiting(own, container.id, "made")
            host.wait_until(container.frozen, "it stands still")
            begun.started.send_signal(number)
            if number == signal.SIGTERM:
                begun.go_on()
            else:
                begun.started.wait()
                os.close(begun.reading)
            host.wait_until(lambda: not container.frozen(), "it goes on")
            assert container.answers()
    assert listed(own) == before
    store_is_whole(own, tmp_path / "state")


@OURS
@FREEZER
@pytest.mark.v2
def test_two_at_once(runtime: Runtime, tmp_path: Path) -> None:
    """The end of the first does not let the container go on under the second."""
    own = imported(runtime, tmp_path, shell())
    with box(own) as container:
        first = waiting(own, container.id, "first")
        host.wait_until(container.frozen, "it stands still")
        second = waiting(own, container.id, "second")
        assert first.go_on().code == 0
        host.wait_until(container.frozen, "it stands still again")
        assert second.started.running()
        assert second.go_on().code == 0
        assert container.answers()
    for name in ("first", "second"):
        assert replace(own, image=name).output("echo", "hi") == "hi"


@OURS
@pytest.mark.as_user("what stands still does not end")
@pytest.mark.parametrize("how", ["ends", "killed"])
def test_a_container_that_ends_meanwhile(runtime: Runtime, tmp_path: Path, how: str) -> None:
    """Its files stay until they have been read."""
    own = imported(runtime, tmp_path, [*shell(), file("file", b"the image's")])
    with box(own, "rm /file; echo mine > /new", ends=False) as container:
        begun = waiting(own, "-q", container.id, "made")
        layer = tmp_path / "state" / runtime.layers / container.id
        host.wait_until(lambda: held_by_two(layer), "the commit has begun")
        if how == "ends":
            assert container.started.stdin
            container.started.stdin.close()
            host.wait_until(lambda: container.init.pid not in [one.pid for one in host.contained()], "it ends")
        else:
            container.started.kill()
            container.started.wait()
            assert own.run("true").code == 0  # which sweeps
        assert begun.go_on().code == 0
    assert replace(own, image="made").output("sh", "-c", "echo /file* /new; cat /new") == "/file* /new\nmine"


def held_by_two(directory: Path) -> bool:
    """Whether two hold a shared lock on it, the container's runtime and a commit: /proc/locks in proc(5)."""
    inode = f":{directory.stat().st_ino} "
    lines = [line for line in Path("/proc/locks").read_text().splitlines() if inode in line and "FLOCK" in line]
    return len(lines) >= 2


# ---- whatever goes wrong ---------------------------------------------------------------------------------------------


@OURS
@pytest.mark.as_root("without root, `/` cannot be made shared")
def test_nothing_is_mounted_where_mounts_are_shared(runtime: Runtime, tmp_path: Path) -> None:
    """As in step01/test_namespaces.py: systemd makes `/` shared."""
    own = imported(runtime, tmp_path, shell())
    script = 'mount --make-rshared /; "$@" && cat /proc/self/mountinfo'
    with box(own) as container:
        words = ("commit", container.id, "made")
        result = own.call(*words, under=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert b"shared:" in result.out and b"/merged" not in result.out


@OURS
def test_a_directory_where_the_archive_should_be(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    (tmp_path / "out.tar").mkdir()
    with box(own) as container:
        said = own.refusal(own.call("commit", container.id, "-o", str(tmp_path / "out.tar")))
    assert str(tmp_path / "out.tar") in said and ".part" not in said


@pytest.mark.long
@OURS
@pytest.mark.parametrize("call, error", [("pidfd_open", "EMFILE"), ("sendto", "ENOBUFS")])
def test_a_worker_that_cannot_begin_holds_nothing_up(runtime: Runtime, tmp_path: Path, call: str, error: str) -> None:
    """It has inherited what keeps the guards waiting."""
    own = imported(runtime, tmp_path, shell())
    with box(own) as container:
        words = [*own.command, "commit", container.id, "-o", str(tmp_path / "out.tar")]
        last = [point for point in recorded(own, tmp_path / "state/trace", words) if point.call.name == call][-1]
        assert own.popen(words, under=last.sabotage(f"error={error}")).end().code == 125


@pytest.mark.long
@OURS
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["signal=KILL", "signal=TERM", "error"])
@pytest.mark.parametrize("kind", ["image", "archive"])
def test_a_commit_fails_at_any_call(runtime: Runtime, tmp_path: Path, fault: str, kind: str) -> None:
    """The image is there, whole and with its name, or it is not; so is the archive; and the container goes on."""
    try:
        strace.program()
    except Missing as missing:
        pytest.skip(str(missing))
    own = imported(runtime, tmp_path, [*shell(), folder("t"), file("t/old", b"old")])
    archive = tmp_path / "tmp/out.tar"
    root = tmp_path / "state"
    with box(own, "rm /t/old; echo new > /t/new") as container:
        words = [*own.command, "commit", "-q", container.id, *(["-o", str(archive)] if kind == "archive" else ["made"])]
        moments = recorded(own, tmp_path / "state/trace", words)
        if fault == "error":
            moments = [point for point in moments if can_fail(point)]
        elif fault == "signal=TERM":
            moments = [point for point in moments if not point.inside]
        archive.unlink(missing_ok=True)
        there = listed(own)
        for point in sample(moments, 2 if runtime.rootless else 4, f"{runtime.step} {fault} {kind}"):
            what = f"error={REASONS.get(point.call.name, 'EPERM')}" if fault == "error" else fault
            result = own.popen(words, under=point.sabotage(what)).end()
            before, there = there, listed(own)
            if result.code == 0 and kind == "image":
                assert {result.text} == there - before, point
                assert {*files(tmp_path, result.text)} == {b"new"}, point
            elif result.code == 0:
                assert own.call("import", str(archive), "again").code == 0, point
                there = listed(own)
            elif result.code in (137, 143) and not point.inside:
                assert len(there - before) <= 1, point
            else:
                if has_freezer(own):
                    failed_well(own, result, point)
                named = json.loads((root / "images/names.json").read_text()).values()
                assert there - before <= {*named}, point
            assert {*os.listdir(tmp_path / "tmp")} <= {"out.tar"}, point
            archive.unlink(missing_ok=True)
            assert container.answers(), point
    store_is_whole(own, root)


@OURS
@pytest.mark.as_root("only root can mount a small disk")
def test_a_full_disk(runtime: Runtime, tmp_path: Path) -> None:
    """The image's place, or the archive's: no trace is left of either, and the container goes on."""
    own = replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": str(tmp_path / "state")}, image="small")
    words = own.words(["sh", "-c", "hostname; read _; echo went on"], ["-i"])
    script = f"""
        mount -t tmpfs -o size=8m small "$MYDOCKER_ROOT"; mount -t tmpfs -o size=300k small "$TMPDIR"
        mkfifo "$MYDOCKER_ROOT/in" "$MYDOCKER_ROOT/out"
        "$@" import {image.small_tar()} small >/dev/null
        {shlex.join(map(os.fsdecode, words))} <"$MYDOCKER_ROOT/in" >"$MYDOCKER_ROOT/out" &
        exec 3>"$MYDOCKER_ROOT/in" 4<"$MYDOCKER_ROOT/out"
        read id <&4
        "$@" commit $id -o "$TMPDIR/x.tar"; echo "commit $?"; ls -A "$TMPDIR"
        head -c 5m /dev/zero > "$MYDOCKER_ROOT/filling" 2>/dev/null
        "$@" commit $id made; echo "commit $?"; ls -A "$MYDOCKER_ROOT/tmp"
        rm "$MYDOCKER_ROOT/filling"
        "$@" commit $id made >/dev/null; echo "commit $?"
        echo >&3; cat <&4; wait
    """
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    result = own.popen(own.command, under=under).end()
    assert result.text.split("\n") == ["commit 125", "commit 125", "commit 0", "went on"], result
    said = result.err.decode().splitlines()
    assert len(said) == 2 and all("No space left on device" in line for line in said), said
    assert f"{tmp_path}/state/tmp/" in said[1], "it is the store that is full, not the container"
