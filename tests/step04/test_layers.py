"""Step 4: one kind of change at a time: the container that makes it sees it, the next one finds the image as it was."""

from pathlib import Path

import pytest

from tests.support import host, image
from tests.support.fresh import Fresh
from tests.support.image import file, folder, hard
from tests.support.runtime import Runtime
from tests.support.store import imported

pytestmark = pytest.mark.same("overlay.py", "rootfs.py")
OURS = pytest.mark.ours_alone("what a runtime keeps for a container is its own affair")


@pytest.fixture
def word(fresh: Fresh) -> str:
    """What the image's files hold."""
    return fresh.word()


@pytest.fixture
def own(runtime: Runtime, tmp_path: Path, word: str) -> Runtime:
    """The runtime, with an image that is there to be changed."""
    data = f"{word}\n".encode()
    files = [file(f"data/{name}", data) for name in ("one", "two", "folder/inner", "folder/deep/inner")]
    large = file("data/large", data.ljust(3_000_000, b"x"))
    return imported(runtime, tmp_path, [*image.busybox(), *files, hard("data/same", "data/two"), large])


def seen(own: Runtime, script: str) -> list[str]:
    return own.output("sh", "-c", f"cd /data; {script}").split()


def test_a_new_file(own: Runtime, word: str, fresh: Fresh) -> None:
    name, content = fresh.word(), fresh.word()
    script = f"echo {content} > {name}; mkdir /{name}; echo {content} > /{name}/{name}; cat {name} /{name}/{name}"
    assert seen(own, script) == [content, content]
    assert seen(own, f"ls -d {name} /{name} 2>/dev/null; cat one") == [word]


def test_a_changed_file(own: Runtime, word: str, fresh: Fresh) -> None:
    more, other = fresh.word(), fresh.word()
    assert seen(own, f"echo {more} >> one; echo {other} > two; cat one two") == [word, more, other]
    assert seen(own, "cat one two") == [word, word]


def test_one_byte_of_a_large_file(own: Runtime, word: str, fresh: Fresh) -> None:
    """It is copied up whole; the rest of it is as it was."""
    at = fresh.number(1000, 2_900_000)
    change = f"printf A | dd of=large bs=1 seek={at} conv=notrunc 2>/dev/null"
    script = f"{change}; stat -c %s large; head -c {len(word)} large; echo; tail -c +{at} large | head -c 3"
    assert seen(own, script) == ["3000000", word, "xAx"]
    assert seen(own, "grep -c A large || true") == ["0"]


def test_a_removed_file(own: Runtime, word: str) -> None:
    assert seen(own, "rm one; ls; cat same") == ["folder", "large", "same", "two", word]
    assert seen(own, "ls; cat one") == ["folder", "large", "one", "same", "two", word]


def test_a_removed_directory(own: Runtime, word: str) -> None:
    script = "rm -r folder /home; ls; ls -d /home 2>/dev/null; cat two"
    assert seen(own, script) == ["large", "one", "same", "two", word]
    assert seen(own, "cat folder/inner folder/deep/inner; ls -d /home") == [word, word, "/home"]


def test_a_directory_made_anew_is_empty(own: Runtime, word: str, fresh: Fresh) -> None:
    """It has the name of one of the image's, and nothing of what was in that."""
    name = fresh.word()
    assert seen(own, f"rm -r folder; mkdir folder; touch folder/{name}; find folder -mindepth 1") == [f"folder/{name}"]
    assert seen(own, "cat folder/inner folder/deep/inner") == [word, word]


def test_a_file_where_a_directory_was(own: Runtime, word: str, fresh: Fresh) -> None:
    """And the other way round."""
    content, name = fresh.word(), fresh.word()
    script = f"rm -r folder one; echo {content} > folder; mkdir one; touch one/{name}; cat folder; ls one"
    assert seen(own, script) == [content, name]
    assert seen(own, "cat folder/inner one") == [word, word]


def test_a_renamed_file(own: Runtime, word: str, fresh: Fresh) -> None:
    name = fresh.word()
    assert seen(own, f"mv one {name}; mv two one; cat {name} one; ls") == [
        *[word, word],
        *sorted(["folder", "large", "one", "same", name]),
    ]
    assert seen(own, "ls") == ["folder", "large", "one", "same", "two"]


def test_a_renamed_directory(own: Runtime, word: str, fresh: Fresh) -> None:
    """A directory of the image's may not be renamed as such (EXDEV): mv(1) then copies, and removes the old one."""
    name = fresh.word()
    script = f"mv folder {name}; cat {name}/inner {name}/deep/inner; ls -d folder 2>/dev/null; true"
    assert seen(own, script) == [word, word]
    assert seen(own, f"ls -d {name} 2>/dev/null; cat folder/inner") == [word]


def test_mode_and_time(own: Runtime, fresh: Fresh) -> None:
    mode, time = f"{fresh.number(0o400, 0o777):o}", f"{fresh.number(10**9, 2 * 10**9)}"
    look = "stat -c '%a %Y' one"
    before = seen(own, look)
    assert seen(own, f"chmod {mode} one; touch -d @{time} one; {look}") == [mode, time]
    assert seen(own, look) == before


def test_links(own: Runtime, word: str, fresh: Fresh) -> None:
    """A hard link to a file of the image's is one file with it; a symbolic link leads where it says."""
    content, name = fresh.word(), fresh.word()
    script = f"ln one {name}; echo {content} > one; ln -s {name} pointer; cat {name} pointer; stat -c %h one"
    assert seen(own, script) == [content, content, "2"]
    assert seen(own, f"ls -d {name} pointer 2>/dev/null; cat one") == [word]


def test_several_at_once(own: Runtime, word: str, fresh: Fresh) -> None:
    """Each of them has changed the same file, and sees its own."""
    contents = [fresh.word() for _ in range(4)]
    script = "cd /data; echo $0 > one; mkdir -p $0; echo ready; read _; cat one two; ls"
    started = [own.start("sh", "-c", script, each, options=["-i"], stdin=-1) for each in contents]
    assert [each.line() for each in started] == ["ready"] * 4
    for each, content in zip(started, contents, strict=True):
        names = sorted(["folder", "large", "one", "same", "two", content])
        assert each.end(b"\n").text.split() == [content, word, *names]


@OURS
def test_the_mode_of_the_root_directory(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """It comes from the upper layer, and must be that of the image, whatever the caller's umask."""
    mode = 0o1700 + fresh.number(0, 0o77)
    own = imported(runtime, tmp_path, [folder("./", mode), *image.busybox()])
    assert own.output("stat", "-c", "%a %u", "/", umask=0o077) == f"{mode:o} 0"


@OURS
@pytest.mark.step(4, until=5)  # from step 6 on, where the image's files are is each runtime's own affair
def test_the_files_of_the_image_are_not_touched(own: Runtime, word: str, fresh: Fresh) -> None:
    """Seen from the host: neither content nor times, not even of a file that is opened for writing or only read."""
    data, name = Path(str(own.image), "data"), fresh.word()
    before = {path: path.lstat()[:9] for path in sorted(data.parent.rglob("*"))}
    script = f": >> one; cat two; chmod 700 folder; echo > folder/{name}; rm same; find /data -name {name}"
    assert seen(own, script) == [word, f"/data/folder/{name}"]
    assert {path: path.lstat()[:9] for path in sorted(data.parent.rglob("*"))} == before


# ---- nothing is kept -------------------------------------------------------------------------------------------------


def kept(own: Runtime) -> set[str]:
    """All that is in the store, but for a directory at its top that is still empty: made for what may come."""
    top = Path(own.environment["MYDOCKER_ROOT"])
    empty = {path for path in top.iterdir() if path.is_dir() and not any(path.iterdir())}
    return {str(path) for path in top.rglob("*") if path not in empty}


@OURS
@pytest.mark.parametrize("end", ["exit", "not found", "signal"])
def test_nothing_is_kept_of_a_container_that_has_ended(own: Runtime, end: str, fresh: Fresh) -> None:
    """Directories that nobody may enter are no hindrance."""
    own.output("true")
    before, code = kept(own), fresh.number(1, 124)
    change = "cd /data; rm -r folder; mkdir -p shut/inner; touch shut/inner/x; chmod 0 shut/inner shut"
    if end == "exit":
        assert own.run("sh", "-c", f"{change}; exit {code}").code == code
    elif end == "not found":
        assert own.run("no-such-command").code == 127
    else:
        started = own.start("sh", "-c", f"{change}; echo ready; sleep 60")
        assert started.line() == "ready"
        assert kept(own) > before, "while it runs there is its layer"
        host.init().signal(9)
        assert started.end().code == 137
    assert kept(own) == before


@OURS
def test_the_layer_of_a_killed_runtime_goes_with_the_next_run(own: Runtime, fresh: Fresh) -> None:
    """But not that of a container that lives."""
    own.output("true")
    before, content = kept(own), fresh.word()
    living = own.start("sh", "-c", f"echo {content} > /file; echo ready; read _; cat /file", options=["-i"], stdin=-1)
    assert living.line() == "ready"
    killed = own.start("sh", "-c", "echo > /file; echo ready; sleep 60")
    assert killed.line() == "ready"
    killed.kill()
    killed.wait()
    host.wait_until(lambda: len([one for one in host.contained() if one.inner_pids() == [1]]) == 1, "it dies")
    own.output("true")
    assert living.end(b"\n").text == content
    own.output("true")
    assert kept(own) == before
