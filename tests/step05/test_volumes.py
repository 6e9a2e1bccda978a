"""Step 5: volumes show files of the host in a container, outlive it, and are no way out of it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import host, strace
from tests.support.faults import REASONS, can_fail, failed_well, sample
from tests.support.fresh import Fresh
from tests.support.image import Member, file, folder, link
from tests.support.runtime import Missing, Runtime, Word
from tests.support.store import imported, shell, sheltered

OURS = pytest.mark.ours_alone("Podman words it differently")


def volumes(*specifications: Word) -> list[Word]:
    return [word for specification in specifications for word in ("-v", specification)]


def made(runtime: Runtime, path: Path) -> Path:
    """A directory of the host's that is the caller's own."""
    path.mkdir()
    if runtime.user is not None:
        os.chown(path, runtime.user, runtime.user)
    return path


@pytest.fixture
def source(runtime: Runtime, tmp_path: Path) -> Path:
    return made(runtime, tmp_path / "state/source")


@pytest.fixture
def name(runtime: Runtime, tmp_path: Path) -> Iterator[str]:
    """The name of a volume in the store that tests share."""
    yield tmp_path.name
    runtime.call("volume", "rm", tmp_path.name)


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


# ---- what is the host's is seen, and stays ---------------------------------------------------------------------------


@pytest.mark.step(4, until=4)
def test_what_a_container_writes_is_gone_with_it(runtime: Runtime, tmp_path: Path) -> None:
    runtime.refusal(runtime.run("true", options=volumes(f"{tmp_path}:/data")))
    runtime.output("sh", "-c", "mkdir /data && echo mine > /data/file")
    assert runtime.run("cat", "/data/file").code == 1


def test_a_directory(runtime: Runtime, source: Path, fresh: Fresh) -> None:
    """Seen at a place that the image lacks, written to by a container and found by the next; relative to the caller."""
    old, mine = fresh.word(), fresh.word()
    (source / "old").write_text(f"{old}\n")
    script = f"cd /new/place; cat old; stat -c '%a %u' /new; mkdir sub; echo {mine} > sub/file; rm old"
    seen = runtime.output("sh", "-c", script, options=volumes(f"{source}/../source/:/new//place/.:rw"))
    assert seen.splitlines() == [old, "755 0"]
    assert contents(source) == {"sub/file": f"{mine}\n"}
    assert (source / "sub").stat().st_uid == (runtime.user or 0)
    again = runtime.output("cat", "/a/file", "/b", options=volumes("./sub:/a", "./sub/file:/b"), cwd=source)
    assert again == f"{mine}\n{mine}"


def test_a_file(runtime: Runtime, source: Path, fresh: Fresh) -> None:
    """At a place that the image lacks, and upon a file of the image's."""
    one, other, mine = fresh.word(), fresh.word(), fresh.word()
    for name, text in (("one", one), ("other", other)):
        (source / name).write_text(text)
        (source / name).chmod(0o666)
    script = f"cat /etc/new/one /etc/group; stat -c %F /etc/new/one; echo {mine} > /etc/group"
    options = volumes(f"{source}/one:/etc/new/one", f"{source}/other:/etc/group")
    assert runtime.output("sh", "-c", script, options=options) == f"{one}{other}regular file"
    assert contents(source) == {"one": one, "other": f"{mine}\n"}
    assert "staff" in runtime.output("cat", "/etc/group"), "the image's own is as it was"


@pytest.mark.parametrize("name", ["hosts", "hostname"])
def test_a_file_of_the_users_own_in_etc(runtime: Runtime, source: Path, name: str, fresh: Fresh) -> None:
    """It stands in place of the one that a container is given."""
    address = f"192.0.2.{fresh.number(1, 254)}"
    (source / "own").write_text(f"{address} {fresh.word()}\n")
    seen = runtime.output("cat", f"/etc/{name}", options=volumes(f"{source}/own:/etc/{name}"))
    assert (source / "own").read_text().strip() in seen


@pytest.mark.ours_alone("Podman wants it to be there")
def test_a_directory_that_is_missing_is_made(runtime: Runtime, source: Path) -> None:
    """Also by two at once: both see that it is missing, then wait a little before they make it."""
    options = volumes("./new/deep:/one", "../source/.:/all", f"{source}/other/:/two")
    try:
        under = [strace.program(), "--quiet=all", "-o", "/dev/null", "-P", str(source / "other"), "-e", "trace=/mkdir"]
        under.append("--inject=/mkdir:delay_enter=300000")
    except Missing as missing:
        pytest.skip(str(missing))
    started = [
        runtime.start("touch", f"/one/{n}", f"/two/{n}", options=options, cwd=source, under=under) for n in (1, 2)
    ]
    for each in started:
        assert each.end().err == b""
    assert {*contents(source)} == {"new/deep/1", "new/deep/2", "other/1", "other/2"}


def test_odd_names(runtime: Runtime, source: Path, fresh: Fresh) -> None:
    odd = ["a b", "ünï 卷", "line\nline", "-x", "a,b", "quo'te\"", "back\\slash", "$(x)*", "x" * 255]
    names: list[bytes] = [*map(os.fsencode, odd), *([] if runtime.podman else [b"\xff\xfe"])]
    texts = [fresh.word() for _ in names]
    for content, each in zip(texts, names, strict=True):
        place = os.fsencode(source) + b"/" + each
        os.mkdir(place)
        Path(os.fsdecode(place), "file").write_text(content)
    options = volumes(*(os.fsencode(source) + b"/" + each + b":/at/" + each for each in names))
    seen = runtime.output("sh", "-c", 'for each in "$@"; do cat "/at/$each/file"; done', "sh", *names, options=options)
    assert seen == "".join(texts)


@pytest.mark.parametrize("order", [1, -1])
def test_one_within_another(runtime: Runtime, tmp_path: Path, order: int, fresh: Fresh) -> None:
    """Whatever the order in which they are given; the place of the inner one is made in the outer one."""
    outer, inner = made(runtime, tmp_path / "state/outer"), made(runtime, tmp_path / "state/inner")
    one, two = fresh.word(), fresh.word()
    options = volumes(*[f"{outer}:/x", f"{inner}:/x/deep/y"][::order])
    runtime.output("sh", "-c", f"echo {one} > /x/file; echo {two} > /x/deep/y/file", options=options)
    assert contents(outer) == {"file": f"{one}\n"} and (outer / "deep/y").is_dir()
    assert contents(inner) == {"file": f"{two}\n"}


# ---- :ro, and what mounts are like -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "code"), [("z", 0), ("rw,Z", 0), ("ro,z", 1), ("Z,ro", 1)])
def test_selinux_modes_are_accepted(runtime: Runtime, source: Path, mode: str, code: int, fresh: Fresh) -> None:
    name = fresh.word()
    assert runtime.run("touch", f"/d/{name}", options=volumes(f"{source}:/d:{mode}")).code == code
    assert [*contents(source)] == ([] if code else [name])


@pytest.mark.parametrize("mode", ["ro,rw", "x", "ro,x", "ro:z", "z,"])
def test_modes_that_mean_nothing(runtime: Runtime, source: Path, mode: str) -> None:
    runtime.refusal(runtime.run("true", options=volumes(f"{source}:/d:{mode}")))


def test_read_only(runtime: Runtime, source: Path, fresh: Fresh) -> None:
    """Whatever root of the container tries, or root of a user namespace made inside."""
    old, mine = fresh.word(), fresh.word()
    (source / "file").write_text(old)
    (source / "file").chmod(0o666)
    remount = "mount -o remount,bind,rw /d; umount /d"
    tries = [
        *("touch /d/new", "echo >> /d/file", "rm /d/file", "chmod 600 /d/file", "echo >> /f", "truncate -s 0 /f"),
        *(f"{remount}; touch /d/new", f"unshare -Urm sh -c '{remount}; touch /d/new'"),
    ]
    script = 'cat /d/file; for try in "$@"; do sh -c "$try" 2>/dev/null && echo "$try"; done'
    script += f"; echo {mine} > /w/file"
    options = volumes(f"{source}:/d:ro", f"{source}/file:/f:ro", f"{source}:/w")
    assert runtime.output("sh", "-c", script, "sh", *tries, options=options) == old
    assert contents(source) == {"file": f"{mine}\n"}


def with_a_mount_below(source: Path, content: str) -> tuple[str, ...]:
    """The words before a command: `source` is a mount that is shared, as systemd shares all, and has one below it."""
    script = f"mount --bind {source} {source} && mount --make-rshared {source} && mkdir -p {source}/below && "
    script += f'mount -t tmpfs none {source}/below && echo {content} > {source}/below/file && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


@pytest.mark.as_root("only root can mount")
def test_propagation_is_private(runtime: Runtime, source: Path, fresh: Fresh) -> None:
    """Neither do mounts made inside reach the host, nor those made outside the container."""
    word = fresh.word()
    options, under = volumes(f"{source}:/d"), with_a_mount_below(source, word)
    result = runtime.output("sh", "-c", "cat /d/below/file; cat /proc/self/mountinfo", options=options, under=under)
    first, *mounts = result.splitlines()
    assert first == word
    fields = [line.split(" - ")[0].split() for line in mounts]
    ours = [each for each in fields if f"{each[4]}/".startswith("/d/")]
    assert sorted(each[4] for each in ours) == ["/d", "/d/below"]
    assert all(len(each) == 6 for each in ours), "no shared:N and no master:N after the six"


@pytest.mark.as_root("only root can mount")
@pytest.mark.ours_alone("Podman's Debian 12 leaves what is mounted below writable")
def test_read_only_is_what_is_mounted_below_too(runtime: Runtime, source: Path, fresh: Fresh) -> None:
    word = fresh.word()
    script = "cat /d/below/file; touch /d/below/new 2>&1; touch /w/below/new && ls /d/below"
    options = volumes(f"{source}:/d:ro", f"{source}:/w")
    seen = runtime.output("sh", "-c", script, options=options, under=with_a_mount_below(source, word))
    assert seen.splitlines() == [word, "touch: /d/below/new: Read-only file system", "file", "new"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device file")
def test_device_files_do_not_work(runtime: Runtime, source: Path) -> None:
    for path, number in ((source / "zero", 5), (source / "sub/zero", 5)):
        path.parent.mkdir(exist_ok=True)
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, number))
        path.chmod(0o666)
    options = volumes(f"{source}:/d", f"{source}:/r:ro")
    if runtime.podman:  # needs to be asked
        options = volumes(f"{source}:/d:nodev", f"{source}:/r:ro,nodev")
    script = "for path in /d/zero /d/sub/zero /r/zero; do head -c 1 $path && echo opened; done; head -c 1 /dev/zero"
    result = runtime.run("sh", "-c", script, options=options)
    assert (result.code, result.out) == (0, b"\0")
    assert result.err.count(b"Permission denied") == 3


# ---- DST leads nowhere but into the container ------------------------------------------------------------------------


def test_links_in_the_image_lead_to_places_in_the_container(
    runtime: Runtime, tmp_path: Path, source: Path, fresh: Fresh
) -> None:
    outside, word = made(runtime, tmp_path / "state/outside"), fresh.word()
    (outside / "file").write_text("of the host")
    (source / "file").write_text(word)
    links: dict[str, str] = {
        "absolute": f"{outside}/absolute",  # beside the others: Podman mounts in any order
        "upwards": f"../../../../../../../..{outside}/up",
        "etc/chain": "../one",
        "one": "/etc/two",
        "etc/two": f"{outside}/chain",
        "dangling": f"{outside}-2/file",
    }
    members: list[Member] = [*shell(), folder("etc"), *(link(path, target) for path, target in links.items())]
    own = imported(runtime, tmp_path, members)
    targets = ["/absolute", "/upwards", "/etc/chain/sub"]
    options = volumes(*(f"{source}:{target}" for target in targets))
    script = 'for path in "$@"; do cat $path; done; echo new > /absolute/new'
    real = [f"{outside}/absolute", f"{outside}/up", f"{outside}/chain/sub"]
    paths = [f"{path}/file" for path in (*targets, *real)]
    if not runtime.podman:  # which follows a link before `..`, and wants a link to lead to something
        options += volumes(f"{source}:/absolute/../made", f"{source}/file:/dangling")
        paths += ["/made/file", f"{outside}-2/file"]
    seen = own.output("sh", "-c", script, "sh", *paths, options=options, under=sheltered(runtime, tmp_path))
    assert seen == word * len(paths)
    assert [*outside.iterdir()] == [outside / "file"] and not (tmp_path / "state/outside-2").exists()
    assert contents(source) == {"file": word, "new": "new\n"}


@OURS
def test_cve_2019_19921_links_to_what_must_not_be_covered(runtime: Runtime, tmp_path: Path, source: Path) -> None:
    """An image with a link at /proc, or a volume there, had runc write its labels to a file that only looked like one
    of /proc. A volume of ours may not cover /proc, /sys or /dev, wherever links of the image lead."""
    targets = ["/", "..", "/proc", "/sys/fs", "/dev", "/proc/1/root", "/proc/self/cwd", "/proc/self/fd/3", "loop"]
    targets = [*targets, "/bin/busybox"]
    names = ["loop" if target == "loop" else f"link-{number}" for number, target in enumerate(targets)]
    own = imported(runtime, tmp_path, [*shell(), *map(link, names, targets)])
    for each in names:
        result = own.run("echo", "runs", options=volumes(f"{source}:/{each}"), under=sheltered(runtime, tmp_path))
        assert f"/{each}" in own.refusal(result)
    assert list(source.iterdir()) == []


@pytest.mark.ours_alone("it takes too long to ask Podman as often")
def test_cve_2021_30465_links_that_another_container_changes(runtime: Runtime, tmp_path: Path, source: Path) -> None:
    """It shares a volume that holds the DST of another one, and makes of a directory there a link to the host's, after
    runc has looked and before it mounts. When ours looks, no path leads to the host any more."""
    outside = made(runtime, tmp_path / "state/outside")
    shared = made(runtime, tmp_path / "state/shared")
    script = f"cd /s; echo ready; while :; do mkdir x; rm -r x; ln -s {outside} x; rm x; ln -s /proc/1/root{outside} x"
    racer = runtime.start("sh", "-c", f"{script}; rm x; done 2>/dev/null", options=volumes(f"{shared}:/s"))
    assert racer.line() == "ready"
    under = sheltered(runtime, tmp_path)
    for _ in range(8):
        options = volumes(f"{shared}:/s", f"{source}:/s/x/deep")
        result = runtime.run("sh", "-c", "echo new > /s/x/deep/new; true", options=options, under=under)
        if result.code != 0:
            runtime.refusal(result)
        assert list(outside.iterdir()) == []
    assert racer.running()


@pytest.mark.long
@pytest.mark.ours_alone("Podman mounts otherwise")
@pytest.mark.parametrize(("target", "leads"), [("dev", "/"), ("sys", "/proc"), ("kernel", "/sys")])
def test_cve_2021_30465_a_link_after_the_look(
    runtime: Runtime, tmp_path: Path, source: Path, target: str, leads: str
) -> None:
    """The same race, won each time: the directory becomes a link when the place was found and the mount is yet to come.

    A volume that lay upon /dev would bring a `null` of its own, such as a link to /proc/self/exe, for us to open. So
    we look once more when it lies there, at the mount itself."""
    shared = made(runtime, tmp_path / "state/shared")
    (source / "null").symlink_to("/proc/self/exe")
    try:
        under = [strace.program(), "--quiet=all", "-f", "-o", "/dev/null", "-e", "trace=move_mount"]
        under.append("--inject=move_mount:delay_enter=1s:when=2")
    except Missing as missing:
        pytest.skip(str(missing))
    options = volumes(f"{shared}:/s", f"{source}:/s/x/{target}")
    started = runtime.start("readlink", "/proc/self/fd/0", options=options, under=under)
    host.wait_until(lambda: (shared / "x" / target).exists(), "the place of the second is made")
    (shared / "x").rename(shared / "before")
    (shared / "x").symlink_to(leads)
    said = runtime.refusal(started.end())
    assert f"/s/x/{target}" in said and os.path.join(leads, target) in said


@pytest.mark.ours_alone("Podman takes a terminal of the host's devpts")
def test_cve_2025_52565_a_volume_in_place_of_terminals(runtime: Runtime, source: Path) -> None:
    """It brings a /dev/pts/0 that leads to core_pattern, for the runtime to bind on /dev/console. A terminal of ours is
    one that the kernel calls so, and what is read-only in /proc is so before a volume comes."""
    for name in ("ptmx", "0", "1"):
        (source / name).symlink_to("/proc/sys/kernel/core_pattern")
    result = runtime.run("sh", "-c", ": >> /dev/console", options=["-t", *volumes(f"{source}:/dev/pts")])
    runtime.refusal(result)


# ---- what is refused -------------------------------------------------------------------------------------------------

BAD = """
    /tmp :/x /tmp: : /tmp:x /tmp:./x data:x /tmp:/x:rx /tmp:/x:ro:rw /tmp:/x:ro,rw /tmp:/ /tmp:/.. /tmp:/x/.. data:/
    /tmp:/proc /tmp:/sys/fs data:/dev .hidden:/x -x:/x dätä:/x da*:/x data\N{ARABIC-INDIC DIGIT ONE}:/x
    /dev/null:/x /dev/null/x:/x
""".split()
BAD += ["", "da ta:/x", "data\n:/x", "a" * 256 + ":/x", f"/{'a' * 256}:/x", "/tmp:/" + "a" * 256]


@OURS
@pytest.mark.as_root("before anybody's rights matter")
def test_bad_specifications(runtime: Runtime, tmp_path: Path) -> None:
    """Each has a line of its own, that tells which one it was; none leaves anything behind."""
    before = runtime.call("volume", "ls", "-q").text
    lines = [runtime.refusal(runtime.run("echo", "runs", options=volumes(bad))) for bad in BAD]
    assert len({*lines}) == len(lines)
    for pair in (["/tmp:/x", "data:/x/"], ["data:/x", "data:/x", "/tmp:/y"], ["/tmp:/a//b", "/tmp:/a/c/../b"]):
        assert "two volumes at /" in runtime.refusal(runtime.run("echo", "runs", options=volumes(*pair)))
    assert runtime.call("volume", "ls", "-q").text == before


@OURS
def test_a_file_upon_a_directory_and_the_other_way_round(runtime: Runtime, source: Path, fresh: Fresh) -> None:
    (source / "file").touch()
    for specification in (f"{source}:/etc/passwd", f"{source}/file:/etc", f"{source}:/etc/passwd/{fresh.word()}"):
        result = runtime.run("echo", "runs", options=volumes(specification))
        assert specification.partition(":")[2] in runtime.refusal(result)


@OURS
@pytest.mark.as_user("root may read everything")
def test_a_source_that_cannot_be_read(runtime: Runtime, source: Path) -> None:
    for path in ("closed/inner", "no-entry"):
        made(runtime, source / path.partition("/")[0])
    (source / "closed/inner").mkdir()
    (source / "closed").chmod(0)
    (source / "no-entry").chmod(0o444)
    (source / "file").touch(mode=0)
    for path in ("closed", "closed/inner", "closed/new", "no-entry", "file"):
        said = runtime.refusal(runtime.run("echo", "runs", options=volumes(f"{source}/{path}:/x")))
        assert str(source / path) in said
    (source / "closed").chmod(0o755)
    assert [*(source / "closed").iterdir()] == [source / "closed/inner"]


# ---- volumes of the store --------------------------------------------------------------------------------------------


def test_a_named_volume_outlives_its_container(runtime: Runtime, name: str, fresh: Fresh) -> None:
    """It is made by its first use, found by every later one, and its name is all that one needs to know."""
    word, other = fresh.word(), f"{name}-{fresh.word()}"
    options = volumes(f"{name}:/data", f"{other}:/other")
    runtime.output("sh", "-c", f"echo {word} > /data/file; echo {word}{word} > /other/file", options=options)
    assert runtime.output("cat", "/x/y/file", options=volumes(f"{name}:/x/y:ro")) == word
    assert {name, other} <= {*runtime.says("volume", "ls", "-q").split()}
    assert runtime.says("volume", "rm", other) == other
    assert other not in runtime.says("volume", "ls", "-q").split()
    assert runtime.run("cat", "/other/file", options=options).code == 1, "a new one, and empty"
    assert runtime.says("volume", "rm", other) == other


FILLED: list[Member] = [
    folder("data", 0o1770, user=1000),
    *(file("data/file", b"of the image", 0o640), folder("data/closed", 0o500), file("data/closed/inner", b"inner")),
    *(link("data/link", "/data/file"), link("to-data", "data")),
]


@pytest.mark.step(6)
def test_a_volume_begins_with_what_the_image_has(runtime: Runtime, tmp_path: Path, name: str) -> None:
    """The first time, with all that a file system knows of files, whatever the caller's umask; and also where a link
    leads to it. From then on it is as the containers leave it, also in one of another image."""
    own = imported(runtime, tmp_path, [*shell(), *FILLED])
    masked = () if runtime.podman else ("sh", "-c", 'umask 077; exec "$@"', "sh")
    look = "stat -c '%n %a %u' . file closed; readlink link; cat file closed/inner"
    seen = f". 1770 {0 if runtime.rootless else 1000}\nfile 640 0\nclosed 500 0\n/data/file\nof the imageinner"
    change = "echo new > file; rm -r closed link"
    for number, place in enumerate(["/data", "/to-data"]):
        options = volumes(f"{name}-{number}:{place}")
        if runtime.podman and place == "/to-data":  # where it takes the link's own mode
            look, seen = "true", ""
        assert own.output("sh", "-c", f"cd $0; {look}; {change}", place, options=options, under=masked) == seen
    empty = own.output("sh", "-c", "stat -c '%a %u' /x; ls -A /x", options=volumes(f"{name}:/x"), under=masked)
    assert empty == "755 0"
    other = imported(runtime, tmp_path, [*shell(), file("data/file", b"other"), file("data/more", b"more")])
    for each in (own, other):
        options = volumes(f"{name}-0:/data:ro", f"{name}-1:/other")
        assert each.output("sh", "-c", "ls /data /other; cat /data/* /other/*", options=options) == (
            "/data:\nfile\n\n/other:\nfile\nnew\nnew"
        )
    assert own.call("volume", "rm", f"{name}-0", f"{name}-1").code == 0


@OURS
def test_volume_ls_and_rm(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    own = imported(runtime, tmp_path, shell())
    one, two, three = f"A_{fresh.word()}", f"b.{fresh.word()}", f"c-{fresh.word()}"
    assert own.call("volume", "ls").text.split() == ["DRIVER", "VOLUME", "NAME"]
    assert own.call("volume", "ls", "-q").out == b""
    own.output("touch", "/a/file", options=volumes(f"{two}:/b", f"{one}:/a", f"{three}:/c"))
    assert [line.split() for line in own.call("volume", "ls").text.splitlines()[1:]] == [
        ["local", one],
        ["local", two],
        ["local", three],
    ]
    assert own.call("volume", "ls", "-q").text.split() == [one, two, three]
    result = own.call("volume", "rm", three, "nonesuch", one, one)
    assert (result.code, result.text.split()) == (1, [three, one])
    assert all("no such volume" in line and two in line for line in result.err.decode().splitlines())
    assert own.call("volume", "ls", "-q").text == two
    assert own.run("ls", "/a/file", options=volumes(f"{one}:/a")).code == 1
    assert own.call("volume").code == 125


@OURS
def test_a_volumes_name_cannot_reach_outside_the_store(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    own.output("touch", "/x/kept", options=volumes("x:/x"))
    before = sorted((tmp_path / "state").rglob("*"))
    outside = ["../images", "../volumes/x", "x/data", str(tmp_path / "state"), ".", "..", "", "/", "*", "x/.", "x\n"]
    result = own.call("volume", "rm", "--", *outside, under=sheltered(runtime, tmp_path))
    assert (result.code, result.out) == (1, b"")
    assert result.err.count(b": no such volume; there are: x\n") == result.err.count(b"\n") == len(outside)
    assert sorted((tmp_path / "state").rglob("*")) == before


def test_a_volume_of_two_containers_at_once(runtime: Runtime, name: str, fresh: Fresh) -> None:
    """One reads what the other writes; neither end alone makes the volume free."""
    script, word = "echo ready; read _; cat /d/file", fresh.word()
    writer = runtime.start(
        "sh", "-c", f"echo {word} > /d/file; echo ready; read _", options=["-i", "-v", f"{name}:/d"], stdin=-1
    )
    assert writer.line() == "ready"
    reader = runtime.start("sh", "-c", script, options=["-i", "-v", f"{name}:/d:ro"], stdin=-1)
    assert reader.line() == "ready"
    for each, seen in ((reader, word), (writer, "")):
        said = runtime.refusal(runtime.call("volume", "rm", name), 2 if runtime.podman else 1)
        assert name in said and ("in use" in said or "being used" in said)
        assert each.end(b"\n").text == seen
    assert runtime.call("volume", "rm", name).text == name


@pytest.mark.step(6)
@pytest.mark.ours_alone("Podman may copy into a volume that another container of it uses")
def test_a_new_volume_of_many_containers_at_once(runtime: Runtime, tmp_path: Path, name: str) -> None:
    """The image's files are copied once, and who comes meanwhile waits until they are whole."""
    members = [*shell(), *(file(f"data/{number}", b"x" * 5000) for number in range(300))]
    own = imported(runtime, tmp_path, members)
    script = "cd /data; set -- *; echo $#; stat -c %s * | grep -c 5000; read _"
    options = ["-i", *volumes(f"{name}:/data")]
    started = [own.start("sh", "-c", script, options=options, stdin=-1) for _ in range(4)]
    assert [each.line() for each in started for _ in range(2)] == ["300"] * 8
    assert [each.end(b"\n").err for each in started] == [b""] * 4


@pytest.mark.ours_alone("a container of Podman's outlives `podman run`")
def test_data_outlives_a_runtime_that_was_killed(runtime: Runtime, tmp_path: Path, source: Path, name: str) -> None:
    """What sweeps up the dead container takes away its layer, with the places of its volumes in it and its links to
    them, and nothing of the volumes."""
    for path in ("deep/sub", "empty"):
        (source / path).mkdir(parents=True)
        (source / path / "file").write_text("kept")
    kept = contents(source)
    script = f"cp -r /d/. /n; ln -s {source} /link; mkdir /x; ln -s /d /x/link; echo ready; sleep 60"
    options = volumes(f"{source}:/d", f"{source}/empty/file:/etc/group", f"{name}:/n", f"{source}/deep:/n/place")
    if runtime.user is not None:
        for each in source.rglob("*"):
            os.chown(each, runtime.user, runtime.user)
    started = runtime.start("sh", "-c", script, options=options)
    assert started.line() == "ready"
    assert "in use" in runtime.refusal(runtime.call("volume", "rm", name), 1)
    started.kill()
    started.wait()
    host.wait_until(lambda: not host.contained(), "the container ends")
    runtime.sweep()
    state = Path(runtime.environment["MYDOCKER_ROOT"])
    assert list((state / runtime.layers).iterdir()) == []
    assert contents(source) == kept
    assert runtime.output("sh", "-c", "cd /n; find . -name file | sort", options=volumes(f"{name}:/n")) == (
        "./deep/sub/file\n./empty/file"
    )
    assert runtime.call("volume", "rm", name).code == 0


@pytest.mark.long
@pytest.mark.step(6)
@pytest.mark.ours_alone("what breaks our runtime is of no interest in Podman")
@pytest.mark.parametrize("fault", ["signal=KILL", "error"])
def test_the_filling_of_a_volume_fails_at_any_call(runtime: Runtime, tmp_path: Path, fault: str) -> None:
    """The volume is there, whole, or it is not there."""
    own, trace = imported(runtime, tmp_path, [*shell(), *FILLED]), tmp_path / "state/trace"
    words = own.words(["true"], volumes("new:/data"))
    try:
        recording = strace.recording(trace)
    except Missing as missing:
        pytest.skip(str(missing))
    for under in ((), recording):  # a first one, which leaves Python's compiled files in place
        assert own.popen(words, under=under).end().code == 0
        assert own.call("volume", "rm", "new").code == 0
    moments = [point for point in strace.points(trace) if fault != "error" or can_fail(point)]
    whole = {"file": "of the image", "closed/inner": "inner"}
    for point in sample(moments, 5 if runtime.rootless else 8, f"{runtime.step} {fault}"):
        what = f"error={REASONS.get(point.call.name, 'EPERM')}" if fault == "error" else fault
        result = own.popen(words, under=point.sabotage(what)).end()
        if result.code not in (0, 137):
            failed_well(own, result, point)
        host.wait_until(lambda: not host.contained(), "the container ends")
        for path in (tmp_path / "state/volumes").iterdir():
            assert contents(path / "data") == whole, point
            assert own.call("volume", "rm", path.name).text == "new"
    assert own.output("cat", "/data/file", options=volumes("new:/data")) == "of the image"
    assert list((tmp_path / "state/tmp").iterdir()) == []


def test_a_read_only_volume_at_etc(runtime: Runtime, source: Path, fresh: Fresh) -> None:
    """The names that the runtime gives a container find no place there, and that is no failure; or they find files."""
    word = fresh.word()
    (source / "file").write_text(word)
    if not runtime.podman:  # which fails
        assert runtime.output("cat", "/etc/file", options=volumes(f"{source}:/etc:ro")) == word
    assert contents(source) == {"file": word}
    for name in ("hosts", "hostname", "resolv.conf"):
        (source / name).write_text("of the host")
    hosts = runtime.output("cat", "/etc/hosts", options=volumes(f"{source}:/etc:ro"))
    assert "localhost" in hosts and "of the host" not in hosts
    assert (source / "hosts").read_text() == "of the host"
