"""What a command inherits: a fresh environment, three streams, and nothing else of its caller's."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import host
from tests.support.fresh import Fresh
from tests.support.runtime import Runtime

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(runtime: Runtime, **more: object) -> dict[str, str]:
    lines = runtime.run("cat", "/proc/self/environ", **more).out.decode().split("\0")[:-1]  # type: ignore[arg-type]
    found = dict(line.split("=", 1) for line in lines)
    if runtime.podman:
        assert found.pop("container") == "podman"
        assert found.pop("TERM") == "xterm"
    return found


def test_the_environment_is_a_fresh_one(runtime: Runtime, fresh: Fresh) -> None:
    name = fresh.word()
    assert environment(runtime, options=["--hostname", name]) == {"PATH": PATH, "HOME": "/root", "HOSTNAME": name}


@pytest.mark.ours_alone("Podman sets TERM in any case")
def test_a_terminal_adds_term(runtime: Runtime, fresh: Fresh) -> None:
    name = fresh.word()
    found = environment(runtime, options=["-t", "--hostname", name])
    assert found == {"PATH": PATH, "HOME": "/root", "HOSTNAME": name, "TERM": "xterm"}


def test_hostname_is_what_the_container_is_called(runtime: Runtime) -> None:
    name, told = runtime.output("sh", "-c", "cat /proc/sys/kernel/hostname; echo $HOSTNAME").split()
    assert name == told


def test_the_callers_path_does_not_matter(runtime: Runtime, tmp_path: Path) -> None:
    """A command is looked up where the container's PATH says."""
    program = tmp_path / "only-on-the-host"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    runtime.refusal(runtime.run("only-on-the-host", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}), 127)


@pytest.mark.parametrize("options", [[], ["-i"], ["-t"]])
def test_cve_2024_21626_open_descriptors_do_not_leak(
    runtime: Runtime, tmp_path: Path, options: list[str], fresh: Fresh
) -> None:
    """Leaky Vessels: runc left a directory of the host's open, and from there a path leads all over the host.

    Init closes every descriptor above the standard streams before it does anything else."""
    own = fresh.number(3, 900)
    (tmp_path / "file").write_text("secret")
    with (tmp_path / "file").open() as file:
        folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        inherited = (file.fileno(), folder, os.dup2(folder, 200))
        try:
            found = runtime.probe("descriptors", str(own), options=options, pass_fds=inherited)
            assert found == [0, 1, 2, own]
        finally:
            os.close(folder)
            os.close(200)


def signals(runtime: Runtime, *, under: Sequence[str] = ()) -> dict[str, int]:
    lines = runtime.output("cat", "/proc/self/status", under=under).splitlines()
    fields = dict(line.split(":\t", 1) for line in lines)
    return {name: int(fields[name], 16) & ~host.LIBC_OWN for name in ("SigIgn", "SigBlk")}


def test_no_signal_is_ignored_or_blocked(runtime: Runtime) -> None:
    assert signals(runtime) == {"SigIgn": 0, "SigBlk": 0}


@pytest.mark.parametrize("habit", ["nohup", "env --ignore-signal=PIPE,INT,QUIT,TERM,CHLD"])
def test_what_the_caller_ignores_is_not_inherited(runtime: Runtime, habit: str) -> None:
    assert signals(runtime, under=habit.split())["SigIgn"] == 0


@pytest.mark.ours_alone("Podman passes them on")
def test_what_the_caller_blocks_is_not_inherited(runtime: Runtime) -> None:
    assert signals(runtime, under=["env", "--block-signal=TERM,USR1,CHLD,HUP"])["SigBlk"] == 0


def test_the_umask_is_dockers(runtime: Runtime) -> None:
    assert runtime.output("sh", "-c", "umask", umask=0o077) == "0022"


@pytest.mark.ours_alone("Podman fails: conmon wants to know where it is")
def test_a_caller_in_a_deleted_directory(runtime: Runtime, tmp_path: Path) -> None:
    under = ("sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh")
    assert runtime.output("echo", "hi", under=under) == "hi"


def test_a_caller_in_a_directory_closed_to_it(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    word = fresh.word()
    under = ("sh", "-c", f'cd {tmp_path} && mkdir closed && cd closed && chmod 0 . && exec "$@"', "sh")
    assert runtime.output("echo", word, under=under) == word
    (tmp_path / "closed").chmod(0o700)


def test_nothing_is_written_where_the_caller_stands(runtime: Runtime) -> None:
    before = set(runtime.directory.iterdir())
    assert runtime.run("true").code == 0
    assert set(runtime.directory.iterdir()) == before
