"""Step 6: how an image wants to be run, and what of it `run` and `commit` leave as it is."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import image, layers
from tests.support.fresh import Fresh
from tests.support.layers import Files, docker, loaded, tarred
from tests.support.runtime import Runtime
from tests.support.store import own_store, shell, unpacked

OURS = pytest.mark.ours_alone("ours alone")
VARIABLES = ["PATH=/bin", "A=b c", "EMPTY=", "EQUALS=x=y", "LINES=1\n2", "ÜNÏ=ü", "HOME=/somewhere", "A=last"]


def made(config: dict[str, Any] | None) -> Files:
    return docker([tarred(shell())], config)


# ---- run -------------------------------------------------------------------------------------------------------------


def test_entrypoint_and_command(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """The words typed are instead of Cmd, and follow Entrypoint. With --entrypoint the image says nothing any more."""
    first, word = fresh.word(), fresh.word()
    own = loaded(runtime, tmp_path, made({"Entrypoint": ["echo", first], "Cmd": ["image's", word]}))
    assert own.output() == f"{first} image's {word}"
    assert own.output("my", "words") == f"{first} my words"
    assert own.output("/bin/busybox", options=["--entrypoint", "cat"]).startswith("\x7fELF")
    assert own.output(options=["--entrypoint", "echo"]) == ""
    assert own.output("echo", "this", options=["--entrypoint", ""]) == "this"
    assert own.output("-c", "echo $0 $1", "x", "-c", options=["--entrypoint=sh"]) == "x -c"


def test_one_without_the_other(runtime: Runtime, tmp_path: Path) -> None:
    own = loaded(runtime, tmp_path, made({"Cmd": ["echo", "cmd"], "Entrypoint": None}))
    assert own.output() == "cmd"
    assert own.output("echo", "mine") == "mine"
    assert own.output("mine", options=["--entrypoint", "echo"]) == "mine"
    own = loaded(runtime, tmp_path, made({"Entrypoint": ["echo", "entry"], "Cmd": []}))
    assert own.output() == "entry"
    assert own.output("echo") == "entry echo"


@OURS
def test_an_image_that_says_nothing(runtime: Runtime, tmp_path: Path) -> None:
    """Then it is a shell, as before. Podman wants to be told."""
    nothing: list[dict[str, Any] | None] = [None, {}, {"Cmd": None}, {"Cmd": []}]
    for config in nothing:
        own = loaded(runtime, tmp_path, made(config))
        assert own.run(options=["-i"], input=b"echo hi from $0").text == "hi from sh"


@OURS
def test_a_directory_has_no_settings(runtime: Runtime, tmp_path: Path) -> None:
    """Whatever lies beside it."""
    root = tmp_path / "state/root"
    image.write(tmp_path / "flat.tar", shell())
    unpacked(runtime, tmp_path / "flat.tar", root)
    (tmp_path / "state/settings.json").write_text('{"Cmd": ["false"], "Env": ["A=b"]}')
    result = replace(runtime, image=str(root)).run(options=["-i"], input=b"echo $0$A")
    assert (result.text, result.err) == ("sh", b"")


def test_variables(runtime: Runtime, tmp_path: Path) -> None:
    """Among them the PATH in which the command is found. Of two of one name the last counts."""
    own = loaded(runtime, tmp_path, made({"Env": VARIABLES}))
    env = dict(line.split("=", 1) for line in own.run("cat", "/proc/self/environ").out.decode().split("\0") if line)
    wanted = {"PATH": "/bin", "EMPTY": "", "EQUALS": "x=y", "LINES": "1\n2", "ÜNÏ": "ü", "HOME": "/somewhere"}
    assert {name: env.get(name) for name in wanted} == wanted
    assert env["A"] == "last" and env["HOSTNAME"]
    nowhere = loaded(runtime, tmp_path, made({"Env": ["PATH=/nowhere"]}))
    nowhere.refusal(nowhere.run("cat"), 127)


@pytest.mark.parametrize("folder", ["/etc", "/not/there"])
def test_the_directory_to_begin_in(runtime: Runtime, tmp_path: Path, folder: str) -> None:
    """Made if the image lacks it: an entrypoint may do `chown -R me .`, and must not do it to all of the container."""
    result = loaded(runtime, tmp_path, made({"WorkingDir": folder})).run("pwd")
    assert (result.text, result.err) == (folder, b"")


@pytest.mark.ours_alone("Podman's line is another")
def test_a_directory_to_begin_in_that_is_a_file(runtime: Runtime, tmp_path: Path) -> None:
    own = loaded(runtime, tmp_path, made({"WorkingDir": "/bin/busybox"}))
    assert "/bin/busybox" in own.refusal(own.run("pwd"), 126)


@pytest.mark.step(6, until=7)
def test_the_user_is_for_later(runtime: Runtime, tmp_path: Path) -> None:
    """Until step 8 brings -u, a line tells that it is not followed."""
    result = loaded(runtime, tmp_path, made({"User": "1000"})).run("id", "-u")
    assert (result.text, result.code) == ("0", 0)
    assert result.err.count(b"\n") == 1 and b"'1000'" in result.err
    for root in ("root", "0"):
        assert loaded(runtime, tmp_path, made({"User": root})).run("true").err == b""


# ---- commit ----------------------------------------------------------------------------------------------------------


def committed(runtime: Runtime, *command: str, options: tuple[str, ...] = ()) -> Runtime:
    """The same runtime with an image of a container that was started so: the command tells its host name, and waits."""
    started = runtime.start(*command, options=["-i", *options], stdin=subprocess.PIPE)
    id = started.line()
    assert id, started.end().err
    name = f"made-{os.urandom(4).hex()}"
    assert runtime.call("commit", "-q", id, name).code == 0
    assert started.end(b"\n").code == 0
    return replace(runtime, image=name)


CONFIG = {"Entrypoint": ["sh", "-c"], "Cmd": ["false"], "Labels": {"of": "the image"}, "ExposedPorts": {"80/tcp": {}}}
SCRIPT = "/bin/busybox hostname; echo $A; read _"
OTHER = ("sh", "-c", "/bin/busybox hostname; cat")
BUSYBOX = ("--entrypoint", "/bin/busybox")


def test_commit_keeps_how_the_container_was_run(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """Its command too, as in Docker: so the image of `run IMAGE sh` begins a shell."""
    word = fresh.word()
    first = committed(loaded(runtime, tmp_path, made(CONFIG | {"Env": [f"A=b {word}"]})), SCRIPT)
    assert first.output(options=["-i", "-h", "box"], input=b"\n") == f"box\nb {word}"
    assert first.output("echo $A again") == f"b {word} again"
    second = committed(first, *OTHER, options=BUSYBOX)
    assert second.output("echo", "x") == "x"
    assert second.output(options=["-i", "-h", "box"], input=word.encode()) == f"box\n{word}"


def test_what_commit_notes(runtime: Runtime, tmp_path: Path) -> None:
    """For whoever the image goes to: also what no step of ours follows."""
    first = committed(loaded(runtime, tmp_path, made(CONFIG)), SCRIPT)
    kept = layers.settings(first, first.image or "")
    assert (kept["Entrypoint"], kept["Cmd"]) == (["sh", "-c"], [SCRIPT])
    assert kept["Labels"]["of"] == "the image" and kept["ExposedPorts"] == {"80/tcp": {}}
    second = committed(first, *OTHER, options=BUSYBOX)
    kept = layers.settings(second, second.image or "")
    assert (kept["Entrypoint"], kept["Cmd"]) == (["/bin/busybox"], [*OTHER])


@OURS
def test_a_damaged_list_of_settings(runtime: Runtime, tmp_path: Path) -> None:
    own = replace(own_store(runtime, tmp_path), image="one")
    assert loaded(runtime, tmp_path, made({"Cmd": ["true"]})).run().code == 0
    (kept,) = (tmp_path / "state/images").glob("*/settings.json")
    kept.write_text("{")
    names = (tmp_path / "state/images/names.json").read_text().split('"')
    assert "settings.json" in own.refusal(replace(own, image=names[1]).run())
