"""Step 3: the image `busybox` makes itself from what the machine has: nothing needs to be downloaded to begin."""

import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.fresh import Fresh
from tests.support.runtime import Runtime
from tests.support.store import import_tiny, left, named, own_store

pytestmark = [pytest.mark.ours_alone("Podman has no such image")]

TOOLS = "sh ls cat ps id hostname mount grep sed tr head sleep ldd bash env".split()  # of a machine without a busybox


@pytest.fixture
def bare(runtime: Runtime, tmp_path: Path) -> Runtime:
    """With an empty store."""
    return replace(own_store(runtime, tmp_path), image="busybox")


@pytest.fixture
def poor(bare: Runtime, tmp_path: Path) -> Runtime:
    """With an empty store, on a machine that has no busybox: that is, none on the PATH."""
    (tmp_path / "path").mkdir()
    for name in TOOLS:
        if found := shutil.which(name):
            (tmp_path / "path" / name).symlink_to(found)
    return replace(bare, environment={**bare.environment, "PATH": str(tmp_path / "path")})


def test_from_a_static_busybox(bare: Runtime, fresh: Fresh) -> None:
    word = fresh.word()
    first = bare.run("echo", word)
    assert (first.code, first.out) == (0, f"{word}\n".encode())
    said = bare.refusal(first, 0)  # that is: one line
    assert "busybox" in said and (shutil.which("busybox") or "") in said
    second = bare.run("echo", "hi")
    assert (second.code, second.out, second.err) == (0, b"hi\n", b"")
    if bare.step >= 6:
        assert [*named(bare)] == ["busybox:latest"]


def test_what_is_in_it(bare: Runtime, fresh: Fresh) -> None:
    one, two = fresh.number(100, 999), fresh.number(100, 999)
    script = "hostname > /tmp/h; ps; id; ls -d /root /etc /home; cat /etc/passwd | wc -l;"
    script += f" awk 'BEGIN {{print {one}*{two}}}'; vi --help"
    result = bare.run("sh", "-c", script)
    assert result.code in (0, 1)
    for expected in (b"1 root", b"uid=0(root) gid=0(root)", b"/etc\n/home\n/root\n", b"\n%d\n" % (one * two)):
        assert expected in result.out
    assert bare.output("stat", "-c", "%a", "/", "/tmp", "/root", "/etc/passwd").split() == [
        "755",
        "1777",
        "700",
        "644",
    ]


@pytest.mark.step(8)
@pytest.mark.as_root("-u is root's")
def test_it_has_an_ordinary_user(bare: Runtime) -> None:
    assert bare.output("id", options=["-u", "nobody"]) == "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)"
    assert bare.run("sh", "-c", "echo > /tmp/file", options=["-u", "nobody"]).code == 0
    assert bare.run("sh", "-c", "echo > /etc/file", options=["-u", "nobody"]).code != 0


def test_whatever_the_umask(bare: Runtime) -> None:
    assert bare.run("true", umask=0o077).code == 0
    modes = bare.output("stat", "-c", "%a", "/", "/etc", "/etc/passwd", "/usr/bin", "/var/tmp", "/bin/busybox").split()
    assert modes == ["755", "755", "644", "755", "1777", "755"]


def test_from_the_machines_own_tools(poor: Runtime) -> None:
    """With the libraries that they need: sh, ls, ps, id work inside."""
    first = poor.run("sh", "-c", "ls -d /etc; id -u; ps; echo $0 | sed s/sh/done/")
    assert first.code == 0, first.err
    assert "programs of this machine" in poor.refusal(first, 0)
    lines = first.out.decode().splitlines()
    assert lines[:2] == ["/etc", "0"] and lines[-1] == "done"
    assert any("ps" in line for line in lines[2:-1])


def test_a_busybox_that_needs_libraries_is_none(poor: Runtime, tmp_path: Path) -> None:
    """It would not run without them; the machine's own tools are taken, with theirs."""
    shutil.copy(shutil.which("ls") or "", tmp_path / "path/busybox")
    assert poor.output("sh", "-c", "echo hi") == "hi"


def test_a_busybox_that_is_a_script_is_none(poor: Runtime, tmp_path: Path) -> None:
    (tmp_path / "path/busybox").write_text('#!/bin/sh\nexec /opt/busybox/busybox "$@"\n')
    (tmp_path / "path/busybox").chmod(0o755)
    assert poor.output("sh", "-c", "echo hi") == "hi"


def test_without_even_a_shell(bare: Runtime, tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    lost = replace(bare, environment={**bare.environment, "PATH": str(tmp_path / "path")})
    assert "shell" in lost.refusal(lost.run("true"))
    assert left(tmp_path / "state") == []


@pytest.mark.as_root("only root can mount a small disk")
def test_on_a_full_disk(bare: Runtime) -> None:
    """The line names the store, which is full, and not the busybox that does not fit in."""
    store = bare.environment["MYDOCKER_ROOT"]
    script = f'mkdir -p {store}; mount -t tmpfs -o size=64k small {store}; "$@"; code=$?; ls {store}/*; exit $code'
    result = bare.run("true", under=("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"))
    said = bare.refusal(result)
    assert said.startswith(store) and "No space left on device" in said
    assert {line.rpartition("/")[2] for line in result.text.split()} <= {"images:", "tmp:"}, "nothing is left"


def test_20_at_once_make_it_once(bare: Runtime) -> None:
    started = [bare.start("echo", "hi") for _ in range(20)]
    results = [each.end() for each in started]
    assert {(result.code, result.out) for result in results} == {(0, b"hi\n")}
    assert sorted(result.err != b"" for result in results) == [False] * 19 + [True]
    if bare.step >= 6:
        assert len(bare.call("images", "-q").text.split()) == 1


@pytest.mark.step(6)
def test_ones_own_of_that_name_is_not_replaced(bare: Runtime) -> None:
    import_tiny(bare, "busybox")
    bare.refusal(bare.run("sh"), 127)
    assert bare.call("rmi", "busybox").code == 0
    assert bare.output("echo", "hi") == "hi"  # and now it is made


def test_other_tags_are_not_made(bare: Runtime) -> None:
    assert "busybox:1" in bare.refusal(bare.call("run", "busybox:1", "true"))
    assert replace(bare, image="busybox:latest").output("echo", "hi") == "hi"


def test_interrupted_it_is_made_by_the_next(bare: Runtime, tmp_path: Path) -> None:
    for delay in ("0.09", "0.11", "0.13"):
        bare.popen(bare.words(["true"]), under=("timeout", "-s", "KILL", delay)).end()
    assert bare.output("echo", "hi") == "hi"
    assert len(left(tmp_path / "state")) == 1


def test_the_hosts_files_stay_as_they_are(bare: Runtime) -> None:
    """It is a copy: what a container does to it, it does not do to the machine's busybox."""
    program = Path(shutil.which("busybox") or "")
    before = program.stat()
    bare.run("sh", "-c", "chmod 4777 /bin/busybox; mv /bin/busybox /bin/other")
    after = program.stat()
    assert (after.st_mode, after.st_ino, after.st_nlink) == (before.st_mode, before.st_ino, before.st_nlink)
    assert stat.S_IMODE(after.st_mode) == 0o755 and os.access(program, os.X_OK)
