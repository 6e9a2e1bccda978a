"""Step 8: an image's user, directory and variables, what overrides them, and `inspect` of an image."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import layers
from tests.support.fresh import Fresh
from tests.support.image import file, folder
from tests.support.layers import Files, docker, loaded, tarred
from tests.support.runtime import Runtime
from tests.support.store import shell

ROOTS = pytest.mark.as_root("without root the container's only user is root")
ASK = ("sh", "-c", "id -u; id -g; pwd; echo $A $B $HOME")
USERS = [
    file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n"),
    file("etc/group", b"root:x:0:\nstaff:x:50:alice\n"),
]


def made(config: dict[str, Any]) -> Files:
    return docker([tarred([*shell(), *USERS, folder("work"), folder("home/alice", user=1000)])], config)


@ROOTS
def test_user_directory_and_variables(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """The image's, but for what the options say."""
    word = fresh.word()
    config = {"User": "alice:staff", "WorkingDir": "/work", "Env": [f"A={word}", "B=image"]}
    own = loaded(runtime, tmp_path, made(config))
    assert own.output(*ASK).split() == ["1000", "50", "/work", word, "image", "/home/alice"]
    options = ["-u", "0", "-w", "/etc", "-e", "A=mine"]
    assert own.output(*ASK, options=options).split() == ["0", "0", "/etc", "mine", "image", "/root"]
    assert own.output("pwd", options=["-w", ""]) == "/work"


@ROOTS
def test_exec_finds_them_too(runtime: Runtime, tmp_path: Path) -> None:
    config = {"User": "alice", "WorkingDir": "/work", "Env": ["A=image", "B=image"], "Cmd": ["sleep", "60"]}
    own = loaded(runtime, tmp_path, made(config | {"Entrypoint": ["/bin/busybox"]}))
    container = own.detach(options=["-e", "B=mine"])
    assert own.says("exec", container, *ASK).split() == ["1000", "1001", "/work", "image", "mine", "/home/alice"]
    found = json.loads(own.says("inspect", container))[0]
    assert [found["Path"], *found["Args"]] == ["/bin/busybox", "sleep", "60"]
    assert found["Config"]["Cmd"] == ["sleep", "60"]
    own.says("rm", "-f", *(["-t", "0"] if own.podman else []), container)


def test_a_directory_that_is_missing_is_made(runtime: Runtime, tmp_path: Path) -> None:
    assert loaded(runtime, tmp_path, made({"WorkingDir": "/not/there"})).output("pwd") == "/not/there"


@pytest.mark.ours_alone("runc refuses it")
def test_a_relative_directory_begins_at_the_root(runtime: Runtime, tmp_path: Path) -> None:
    assert loaded(runtime, tmp_path, made({"WorkingDir": "etc"})).output("pwd") == "/etc"


@pytest.mark.as_user("root may")
@pytest.mark.ours_alone("Podman is asked as root")
def test_without_root_the_images_user_is_root(runtime: Runtime, tmp_path: Path) -> None:
    """A line says so, unless it is what the user wants."""
    own = loaded(runtime, tmp_path, made({"User": "alice"}))
    result = own.run("id", "-u")
    assert result.text == "0" and b"'alice'" in result.err and result.err.count(b"\n") == 1
    assert own.run("id", "-u", options=["-u", "0"]).err == b""
    assert loaded(runtime, tmp_path, made({"User": "root:root"})).run("id", "-u").err == b""


@ROOTS
def test_commit_keeps_the_options(runtime: Runtime, tmp_path: Path) -> None:
    own = loaded(runtime, tmp_path, made({"Env": ["A=image", "B=image"]}))
    container = own.detach("sleep", "60", options=["-u", "alice", "-w", "/work", "-e", "A=mine"])
    name = f"made-{os.urandom(4).hex()}"
    assert own.call("commit", "-q", container, name).code == 0
    own.says("rm", "-f", *(["-t", "0"] if own.podman else []), container)
    new = replace(own, image=name)
    assert new.output(*ASK).split() == ["1000", "1001", "/work", "mine", "image", "/home/alice"]
    kept = layers.settings(new, name)
    assert (kept["User"], kept["WorkingDir"], kept["Cmd"]) == ("alice", "/work", ["sleep", "60"])


def test_inspect_an_image(runtime: Runtime, tmp_path: Path) -> None:
    """Under Docker's names; containers and images may be mixed."""
    config = {"User": "alice", "WorkingDir": "/work", "Env": ["A=b"], "Entrypoint": ["x"], "Cmd": ["y", "z"]}
    own = loaded(runtime, tmp_path, made(config))
    (found,) = json.loads(own.says("inspect", own.image or ""))
    assert {key: found["Config"].get(key) for key in config} == config
    assert any((own.image or "") in name for name in found["RepoTags"])
    assert (found["Architecture"], found["Os"]) == (layers.ARCHITECTURE, "linux")
    assert found["Size"] > 500_000 and found["Id"] and found["Created"][10] == "T"
    (by_id,) = json.loads(own.says("inspect", found["Id"]))
    assert by_id == found
    container = own.detach(options=["--name", "beside", "--entrypoint", "true", "-u", "0", "-w", "/"])
    both = json.loads(own.says("inspect", "beside", own.image or ""))
    assert [each["Id"] for each in both] == [container, found["Id"]]
    assert json.loads(own.call("inspect", "no-such").text or "[]") == []
    if not own.podman:
        assert "no such" in own.refusal(own.call("inspect", "No/such"), 1)
