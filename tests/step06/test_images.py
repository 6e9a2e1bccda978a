"""Step 3: images have names, are listed, run and removed by them, and no word typed for a name leads astray."""

import os
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import host, image
from tests.support.fresh import Fresh
from tests.support.image import file, folder
from tests.support.runtime import Result, Runtime
from tests.support.store import import_tiny, imported, left, named, own_store, shell, sheltered, table, tiny
from tests.support.terminal import Terminal

OURS = pytest.mark.ours_alone("Podman words it differently")


# ---- names -----------------------------------------------------------------------------------------------------------

GOOD = """
    a 0 debian:12 a.b a_b a__b a---b library/debian x/y/z:1 app:V1.0_x-y app:_ cafe 123456789abc
""".split()
BAD = [
    "",
    "A",
    "Debian",
    "/x",
    "x/",
    "a//b",
    ".",
    "..",
    "../x",
    "a/../b",
    "a:b:c",
    "a:",
    ":b",
    "a b",
    " a",
    "a\n",
    "a\nb",
    "_a",
    "a_",
]
BAD += [
    "a___b",
    "a..b",
    "-x",
    "a-",
    "ä",
    "a\u0660",
    "a:.t",
    "a:-t",
    "a:t/x",
    "a:ü",
    "a" * 256,
    "a:" + "t" * 129,
    "a" * 100_000,
]


def test_good_names(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """As Docker writes them: lower case words joined by one of `.` `_` `__` `-`…, with slashes between, and a tag."""
    own = own_store(runtime, tmp_path)
    names = [*GOOD, "n" * 240, f"app:{'t' * 128}", f"{fresh.word()}/{fresh.word()}:{fresh.word()}"]
    for name in names:
        import_tiny(own, name)
    if not runtime.podman:  # which writes localhost/ before them
        assert {*named(own)} == {name if ":" in name else f"{name}:latest" for name in names}
    assert own.call("rmi", *names).code == 0


@pytest.mark.as_root("before anybody's rights matter")
@pytest.mark.ours_alone("Podman lets some of them pass, as names of transports and registries")
def test_bad_names(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    for name in BAD:
        own.refusal(own.call("import", "--", str(tiny()), name))
    assert own.call("images", "-q").out == b""


@OURS
@pytest.mark.parametrize("command", ["run", "rmi"])
def test_a_name_cannot_reach_outside_the_store(runtime: Runtime, tmp_path: Path, command: str) -> None:
    outside = tmp_path / "state/outside/rootfs"
    (outside / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", outside / "bin/sh")
    own = replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": str(tmp_path / "state/store")})
    if runtime.user is not None:
        os.chown(tmp_path / "state", runtime.user, runtime.user)
    import_tiny(own, "here")
    paths = ["../../outside", str(outside.parent), ".", ".."]  # to `run`, these are directories
    for name in [*(paths if command == "rmi" else []), "", "*", "[0-9a-f]*", "here/../../../outside"]:
        result = own.call(command, name, under=sheltered(runtime, tmp_path))
        own.refusal(result, 125 if command == "run" else 1)
    assert (outside / "bin/sh").exists()
    assert {*named(own)} == {"here:latest"}


# ---- listing ---------------------------------------------------------------------------------------------------------


@OURS
def test_images_in_a_pipe(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """Plain columns, nothing cut, newest first; the image whose name was given away has none."""
    own = own_store(runtime, tmp_path)
    assert own.call("images").text.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert own.call("images", "-q") == Result(0, b"", b"")
    one, long = fresh.word(), f"a-name-much-longer-than-any-column-of-a-table/of-{fresh.word()}"
    ids = [import_tiny(own, name) for name in (one, f"{long}:v2", one)]
    assert all(re.fullmatch("[0-9a-f]{12}", id) for id in ids)
    assert [row[:3] for row in table(own)] == [
        [one, "latest", ids[2]],
        [long, "v2", ids[1]],
        ["<none>", "<none>", ids[0]],
    ]
    assert all(re.fullmatch(r"\d+ seconds? ago", row[3]) and row[4] == "6B" for row in table(own))
    assert own.call("images", "-q").text.splitlines() == [*reversed(ids)]


@OURS
def test_images_on_a_terminal(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    id = import_tiny(own, "one")
    screen = Terminal([*own.command, "images"], env=own.environment, cwd=own.directory, user=own.user)
    own.started.append(screen)
    assert screen.end() == 0
    assert b"\x1b[1m" in screen.seen, "the heading is bold"
    shown = re.sub(r"\x1b\[[\d;]*m", "", screen.seen.decode())
    assert re.search(rf"REPOSITORY +TAG +IMAGE ID +CREATED +SIZE.*\bone +latest +{id} +.*ago +6B", shown, re.DOTALL)


@OURS
def test_a_reader_who_has_seen_enough(runtime: Runtime, tmp_path: Path) -> None:
    """`images | head -1`: no word about it."""
    own = own_store(runtime, tmp_path)
    import_tiny(own, "one")
    reading, writing = os.pipe()
    os.close(reading)
    result = own.popen([*own.command, "images"], stdout=writing).end()
    os.close(writing)
    assert result.err == b""


@OURS
def test_a_list_that_cannot_be_written(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    with Path("/dev/full").open("w") as full:
        own.refusal(own.popen([*own.command, "images"], stdout=full).end())


# ---- which image is meant --------------------------------------------------------------------------------------------


def test_run_by_name_by_id_and_by_the_ids_beginning(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    word = fresh.word()
    own = imported(runtime, tmp_path, [*shell(), file("word", word.encode())])
    (id,) = {*own.call("images", "-q", *([own.image] if runtime.podman and own.image else [])).text.split()}
    for reference in (own.image, f"{own.image}:latest", id, id[:6]):
        assert replace(own, image=reference).output("cat", "/word") == word


@OURS
def test_a_beginning_of_several_ids(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    ids: dict[str, str] = {}
    while (id := import_tiny(own, f"image-{len(ids)}"))[0] not in ids:
        ids[id[0]] = id
    for command, code in (("run", 125), ("rmi", 1)):
        said = own.refusal(own.call(command, id[0]), code)
        assert ids[id[0]] in said and id in said
    shared = next(length for length in range(13) if id[:length] != ids[id[0]][:length])
    assert own.call("rmi", id[:shared]).code == 0
    assert id not in own.call("images", "-q").text


@OURS
def test_a_name_that_looks_like_an_id_is_a_name(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    other = import_tiny(own, "other")
    id = import_tiny(own, other[:4])
    assert own.call("rmi", other[:4]).text.splitlines() == [f"Untagged: {other[:4]}:latest", f"Deleted: {id}"]
    assert own.call("images", "-q").text == other


@OURS
def test_an_image_that_is_not_there(runtime: Runtime, tmp_path: Path) -> None:
    """What to do: one of those that are."""
    own = own_store(runtime, tmp_path)
    assert "nonesuch" in own.refusal(own.call("run", "nonesuch", "true"))
    import_tiny(own, "one")
    for reference in ("nonesuch", "one:2", "0" * 12, "0" * 13):
        said = own.refusal(own.call("run", reference, "true"))
        assert reference in said and "one:latest" in said
        own.refusal(own.call("rmi", reference), 1)


@OURS
def test_run_without_a_command_begins_a_shell(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """Podman too needs to be told when the image, imported from a tar, does not say."""
    own = imported(runtime, tmp_path, shell())
    word = fresh.word()
    assert own.run(options=["-i"], input=f"echo {word} from $0".encode()).text == f"{word} from sh"


# ---- rmi -------------------------------------------------------------------------------------------------------------


@OURS
def test_rmi_does_what_it_can(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    own = own_store(runtime, tmp_path)
    first, second = fresh.word(), fresh.word()
    one, two = import_tiny(own, first), import_tiny(own, second)
    result = own.call("rmi", first, "nonesuch", two[:7])
    assert result.out.decode().splitlines() == [
        f"Untagged: {first}:latest",
        f"Deleted: {one}",
        f"Untagged: {second}:latest",
        f"Deleted: {two}",
    ]
    assert "nonesuch" in own.refusal(result, 1)
    assert own.call("images", "-q").out == b""


@OURS
def test_rmi_with_force_does_not_mind_what_is_not_there(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    result = own.call("rmi", "-f", "nonesuch")
    assert (result.code, result.out) == (0, b"") and b"nonesuch" in result.err


def test_an_image_in_use_is_not_removed(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    own = imported(runtime, tmp_path, shell())
    assert own.image
    running = [own.start("sh", "-c", "echo ready; cat", options=["-i"], stdin=-1) for _ in range(2)]
    assert [started.line() for started in running] == ["ready", "ready"]
    for started in running:
        said = own.refusal(own.call("rmi", own.image), 2 if runtime.podman else 1)
        assert "in use" in said and (own.image in said or runtime.podman)
        word = fresh.word()
        assert own.output("echo", word) == word
        assert started.end(b"").code == 0
    assert own.call("rmi", own.image).code == 0
    assert own.image not in own.call("images").text


@OURS
def test_the_container_was_killed_so_its_image_is_free(runtime: Runtime, tmp_path: Path) -> None:
    """Neither a lock nor a mount outlives the runtime."""
    own = imported(runtime, tmp_path, shell())
    assert own.image
    started = own.start("sh", "-c", "echo ready; sleep 60")
    assert started.line() == "ready"
    started.kill()
    started.wait()
    host.wait_until(lambda: not host.contained(), "the container ends")
    assert own.call("rmi", own.image).code == 0
    assert own.call("images", "-q").out == b""
    import_tiny(own, "next")
    replace(own, image="next").run()  # it sweeps the cgroup


@OURS
def test_a_name_given_to_another_image_while_a_container_runs(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """The container keeps the files that it began with, and those stay as long as it does."""
    before, after = fresh.word(), fresh.word()
    own = imported(runtime, tmp_path, [*shell(), file("which", before.encode())])
    assert own.image
    (old,) = named(own).values()
    running = own.start("sh", "-c", "echo ready; read _; cat /which", options=["-i"], stdin=-1)
    assert running.line() == "ready"
    image.write(tmp_path / "image.tar", [*shell(), file("which", after.encode())])
    new = own.call("import", str(tmp_path / "image.tar"), own.image).text
    assert own.output("cat", "/which") == after
    assert own.call("images", "-q").text.split() == [new, old]
    assert old in own.refusal(own.call("rmi", old), 1)
    assert running.end(b"\n").text == before
    assert own.call("rmi", old).text == f"Deleted: {old}"


@OURS
def test_rmi_takes_away_what_resists(runtime: Runtime, tmp_path: Path) -> None:
    """Directories that nobody may enter or write to."""
    resisting = [folder("closed", 0o000), folder("closed/inner", 0o500), file("closed/inner/file", b"x", 0o000)]
    own = imported(runtime, tmp_path, resisting)
    assert own.image and own.call("rmi", own.image).code == 0
    assert left(tmp_path / "state") == []


@OURS
@pytest.mark.as_root("only root makes a PID namespace without more ado")
def test_what_a_killed_rmi_has_left_is_swept(runtime: Runtime, tmp_path: Path) -> None:
    """Half-removed trees, also where the next runtime has the PID of the killed one, as in a container of its own."""
    own = own_store(runtime, tmp_path)
    import_tiny(own, "one")
    (tmp_path / "state/tmp/0123456789ab/.removing-1-1/a/b").mkdir(parents=True)
    (tmp_path / "state/tmp/0123456789ab/.removing-1-2/a/b").mkdir(parents=True)
    result = own.call("rmi", "one", under=["unshare", "--pid", "--fork", "--mount-proc"])
    assert (result.code, result.err) == (0, b"")
    assert left(tmp_path / "state") == []


# ---- the store -------------------------------------------------------------------------------------------------------


@OURS
@pytest.mark.parametrize("name", ["../state/relative", "../state/a b:c\nd,e\\f=ü", "../state/not/yet/there"])
def test_the_store_may_be_anywhere(runtime: Runtime, tmp_path: Path, name: str) -> None:
    """Also where a path, to a mount, looks like options."""
    path = name if name.endswith("relative") else str(tmp_path / "here" / name)
    own = replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": path}, image="own")
    image.write(tmp_path / "image.tar", shell())
    assert own.call("import", str(tmp_path / "image.tar"), "own").code == 0
    assert own.output("echo", "hi") == "hi"
    assert stat.S_IMODE((tmp_path / "here" / name).stat().st_mode) == 0o700
    assert own.call("rmi", "own").code == 0


@OURS
def test_nobody_else_may_enter_the_store(runtime: Runtime, tmp_path: Path) -> None:
    """An image's setuid programs would be theirs to run. Whatever the umask."""
    own = replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": str(tmp_path / "state/store")})
    assert own.call("import", str(tiny()), "one", umask=0).code == 0
    assert stat.S_IMODE((tmp_path / "state/store").stat().st_mode) == 0o700


@OURS
def test_nobody_else_may_enter_what_is_in_a_directory_of_the_users(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    (tmp_path / "state").chmod(0o755)
    assert own.call("import", str(tiny()), "one", umask=0).code == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()} == {0o700}


@OURS
@pytest.mark.parametrize("obstacle", ["a file", "below a file", "nowhere to write", "a link to nowhere"])
def test_no_place_for_a_store(runtime: Runtime, tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/nonexistent/place")
    places = ["file", "file/below", "/proc/store", "link"]
    place = tmp_path / places[["a file", "below a file", "nowhere to write", "a link to nowhere"].index(obstacle)]
    own = replace(runtime, environment={**runtime.environment, "MYDOCKER_ROOT": str(place)})
    for words in (["images"], ["run", "one", "true"], ["import", str(tiny()), "one"]):
        assert str(place) in own.refusal(own.call(*words))
    assert str(place) in own.refusal(own.call("rmi", "one"), 125)


@OURS
@pytest.mark.as_user("root may go everywhere")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that is another's")
def test_a_store_of_somebody_elses(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    (tmp_path / "state").chmod(0o700)
    os.chown(tmp_path / "state", 0, 0)
    for words in (["images"], ["run", "one", "true"], ["import", str(tiny()), "one"], ["rmi", "one"]):
        assert "ermission denied" in own.refusal(own.call(*words))


@OURS
@pytest.mark.as_user("root's store is not in a home directory")
def test_the_users_own_store(runtime: Runtime, tmp_path: Path) -> None:
    """$XDG_DATA_HOME/mydocker, else ~/.local/share/mydocker; and a user without a home is told what to set."""
    plain = {name: value for name, value in runtime.environment.items() if name not in ("MYDOCKER_ROOT", "HOME")}
    for variables, place in (
        ({"HOME": str(tmp_path / "state")}, "state/.local/share/mydocker"),
        ({"HOME": "/nonexistent", "XDG_DATA_HOME": str(tmp_path / "state/data")}, "state/data/mydocker"),
        ({"HOME": str(tmp_path / "state"), "XDG_DATA_HOME": ""}, "state/.local/share/mydocker"),
    ):
        own = replace(runtime, environment={**plain, **variables})
        import_tiny(own, "one")
        assert (tmp_path / place / "images").is_dir()
    homeless = replace(runtime, environment=plain)
    if runtime.user is not None:  # a number that no account has
        assert "MYDOCKER_ROOT" in homeless.refusal(homeless.call("images"))


@OURS
def test_a_damaged_store(runtime: Runtime, tmp_path: Path) -> None:
    """As a power cut, or a careless hand, may leave it: no traceback."""
    own = own_store(runtime, tmp_path)
    import_tiny(own, "one")
    for content in ("", "{", "\0" * 100):
        (tmp_path / "state/images/names.json").write_text(content)
        assert "names.json" in own.refusal(own.call("run", "one", "true"))


@OURS
def test_a_store_that_takes_more_memory_than_there_is(runtime: Runtime, tmp_path: Path) -> None:
    own = own_store(runtime, tmp_path)
    import_tiny(own, "one")
    (tmp_path / "state/images/names.json").write_text("{" + " " * 200_000_000)
    assert "memory" in own.refusal(own.call("images", under=("prlimit", "--as=200000000")))


# ---- several at once -------------------------------------------------------------------------------------------------


@OURS
def test_imports_of_one_name_at_once(runtime: Runtime, tmp_path: Path) -> None:
    """One has the name in the end; the others are whole images without one."""
    own = own_store(runtime, tmp_path)
    started = [own.popen([*own.command, "import", str(tiny()), "one"]) for _ in range(8)]
    ids = [each.end().text for each in started]
    assert {*own.call("images", "-q").text.split()} == {*ids} and len({*ids}) == 8
    assert sorted(row[0] for row in table(own)) == ["<none>"] * 7 + ["one"]


@OURS
@pytest.mark.long
def test_everything_at_once(runtime: Runtime, tmp_path: Path) -> None:
    """Images come and go while containers start: each command does its work, or says in one line what is not there."""
    own = imported(runtime, tmp_path, shell())
    assert own.image
    started = [
        (own.popen([*own.command, *words]), words)
        for _ in range(3)
        for words in (
            ["import", str(tmp_path / "image.tar"), own.image],
            own.words(["true"])[len(own.command) :],
            ["import", str(tiny()), "other"],
            ["rmi", "other"],
            ["images"],
        )
    ]
    for each, words in started:
        result = each.end()
        if words[0] == "rmi" and result.code:
            said = own.refusal(result, 1)
            assert "no such image" in said, said
        else:
            assert (result.code, result.err) == (0, b""), words
    assert [*(tmp_path / "state/tmp").iterdir()] == []


@OURS
def test_killed_rmi(runtime: Runtime, tmp_path: Path) -> None:
    """Whenever an rmi is killed: the image is there, whole, or it is gone; the next command takes the rest away."""
    members = [*shell(), *(file(f"many/{number}/{number}", b"x") for number in range(300))]
    own = imported(runtime, tmp_path, members)
    assert own.image
    for delay in (0.07, 0.1):
        assert own.call("import", str(tmp_path / "image.tar"), own.image).code == 0
        own.popen([*own.command, "rmi", own.image], under=["timeout", "-s", "KILL", str(delay)]).end()
        if f"{own.image}:latest" in named(own):
            assert len(own.output("ls", "/many").split()) == 300
    import_tiny(own, "next")
    assert [*(tmp_path / "state/tmp").iterdir()] == []
