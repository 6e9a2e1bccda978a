"""The command's arguments arrive exactly as they were given."""

import os

import pytest

from tests.support.fresh import Fresh
from tests.support.runtime import Runtime, Word, probe

ODD = [
    "two words",
    "  edges ",
    "",
    "'single'",
    '"double"',
    "$HOME",
    "`id`",
    "back\\slash",
    "*",
    "a\nb\n",
    "\t",
    "~",
    "é€😀",
]


def arrived(runtime: Runtime, *arguments: Word) -> list[bytes]:
    result = runtime.run(*probe("arguments"), *arguments)
    assert result.code == 0, result.err
    return result.out.split(b"\0")[:-1]


def test_odd_ones(runtime: Runtime, fresh: Fresh) -> None:
    words = [*ODD, *(f"{word}{fresh.word()}{word}" for word in ODD)]
    assert arrived(runtime, *words) == [os.fsencode(word) for word in words]


@pytest.mark.ours_alone("Podman hands them to runc as JSON, which has no such bytes")
def test_bytes_that_are_not_utf8(runtime: Runtime) -> None:
    assert arrived(runtime, b"\xff\xfe", b"caf\xe9") == [b"\xff\xfe", b"caf\xe9"]


def test_thousands(runtime: Runtime) -> None:
    many = [b"%d" % number for number in range(5000)]
    assert arrived(runtime, *many) == many


def test_a_long_one(runtime: Runtime) -> None:
    assert arrived(runtime, b"x" * 100_000) == [b"x" * 100_000]


def test_options_stop_at_the_command(runtime: Runtime) -> None:
    words = ["-i", "-t", "--hostname", "box", "--no-such-option", "--help", "--", "-"]
    assert arrived(runtime, *words) == [word.encode() for word in words]


def test_two_dashes_end_the_options(runtime: Runtime, fresh: Fresh) -> None:
    word = fresh.word()
    assert runtime.output("echo", "-i", "--", word, options=["--"]) == f"-i -- {word}"


def test_the_program_sees_the_name_it_was_called_by(runtime: Runtime) -> None:
    assert runtime.output("sh", "-c", "echo $0") == "sh"


@pytest.mark.ours_alone("the words are ours")
def test_a_command_that_is_not_here(runtime: Runtime) -> None:
    """Of a later step, Docker's alone, or mistyped: one line that helps."""
    later = {"volume": 5, "import": 6, "ps": 7, "exec": 8, "network": 9}
    for word, step in later.items():
        if step > runtime.step:
            assert f"comes with step {step}" in runtime.refusal(runtime.call(word, "x"))
    assert "commit" in runtime.refusal(runtime.call("build", "."))
    assert "import" in runtime.refusal(runtime.call("pull", "debian"))
    assert "'run'" in runtime.refusal(runtime.call("rnu", "x"))


@pytest.mark.parametrize("words", [["-i=true"], ["--interactive=true"], ["-i=true", "--tty=false"]])
def test_switches_with_a_value(runtime: Runtime, words: list[str], fresh: Fresh) -> None:
    """As Docker's users write them; what comes after the command is the command's."""
    typed = fresh.word().encode()
    assert runtime.run("cat", options=words, input=typed).out == typed
    assert runtime.run("echo", "-i=true", "--tty=false", options=words).text == "-i=true --tty=false"


@pytest.mark.ours_alone("Podman takes any word as a host name")
def test_a_value_that_looks_like_a_switch(runtime: Runtime) -> None:
    assert "hostname" in runtime.refusal(runtime.run("true", options=["--hostname", "-i=false"]))
    assert runtime.run("echo", "-i=true", options=["--hostname=box"]).text == "-i=true"


def test_a_switch_that_is_off(runtime: Runtime) -> None:
    assert runtime.run("cat", options=["-i=false"], input=b"typed").out == b""
