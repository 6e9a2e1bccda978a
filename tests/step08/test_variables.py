"""Step 8: -e and --env-file, for `run` and for `exec`."""

from pathlib import Path

import pytest

from tests.support.background import background, output
from tests.support.fresh import Fresh
from tests.support.runtime import Runtime

FILE = b"""\
# a remark

FROM_FILE=1
  INDENTED=kept in full  \t
EMPTY=
CALLERS
NOBODYS
BOTH=file
QUOTED="as it is" # too
WINDOWS=line\r
"""
WANTED = {
    "FROM_FILE": "1",
    "INDENTED": "kept in full  \t",
    "EMPTY": "",
    "CALLERS": "of the caller",
    "BOTH": "option",
    "QUOTED": '"as it is" # too',
    "WINDOWS": "line",
    "EQUALS": "a=b=c",
    "LINES": "one\ntwo",
    "HOME": "/elsewhere",
}
OPTIONS = ["-e", "BOTH=early", "--env-file", "file", "--env", "BOTH=option", "-e", "EQUALS=a=b=c", "-e", "NOBODYS"]
OPTIONS += ["-e", "LINES=one\ntwo", "-e", "HOME=/elsewhere"]


def variables(told: str) -> dict[str, str]:
    lines = told.split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def write(runtime: Runtime, tmp_path: Path) -> dict[str, object]:
    """The file in a place of its own, and how to call the runtime there."""
    (tmp_path / "state" / "file").write_bytes(FILE)
    return {"cwd": tmp_path / "state", "env": {"CALLERS": "of the caller"}}


def test_of_run_and_of_exec(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    caller, drawn = write(runtime, tmp_path), fresh.word()
    wanted, given = WANTED | {"DRAWN": drawn}, [*OPTIONS, "-e", f"DRAWN={drawn}"]
    ask = ("cat", "/proc/self/environ")
    found = variables(runtime.output(*ask, options=given, **caller))
    assert {name: found.get(name) for name in wanted} == wanted
    assert "NOBODYS" not in found and "SECRET" not in found
    with background(runtime, options=["-e", "OF_RUN=1", "-e", "BOTH=run"]) as name:
        found = variables(output(runtime, name, *ask, options=given, **caller))
        assert {name: found.get(name) for name in wanted} == wanted
        assert found["OF_RUN"] == "1", "exec starts from the container's"
        found = variables(output(runtime, name, *ask))
        assert found["OF_RUN"] == "1" and found["BOTH"] == "run" and "FROM_FILE" not in found
        if not runtime.podman:
            assert b'"OF_RUN=1"' in runtime.call("inspect", name).out


@pytest.mark.ours_alone("Podman takes the mark for a part of the name; Docker does not")
def test_a_file_that_begins_with_a_byte_order_mark(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    first, second = fresh.word(), fresh.word()
    (tmp_path / "here" / "marked").write_text(f"\ufeffFIRST={first}\nSECOND={second}\n")
    found = runtime.output("sh", "-c", "echo $FIRST $SECOND", options=["--env-file", "marked"])
    assert found == f"{first} {second}"
    (tmp_path / "here" / "marked").unlink()


def test_the_path_of_the_option_counts(runtime: Runtime, fresh: Fresh) -> None:
    word = fresh.word()
    script = f"printf '#!/bin/sh\\necho {word}\\n' > /tmp/tool; chmod +x /tmp/tool; tail -f /dev/null"
    with background(runtime, "sh", "-c", script) as name:
        options = ["-e", "PATH=/tmp:/bin"]
        output(runtime, name, "sh", "-c", "until test -x /tmp/tool; do sleep 0.05; done")
        assert output(runtime, name, "tool", options=options) == word
        assert runtime.call("exec", name, "tool").code == 127


@pytest.mark.ours_alone("Podman words it differently")
def test_what_is_none(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    (tmp_path / "here" / "wrong").write_text("A B=1\n")
    (tmp_path / "here" / "zero").write_text("A=1\0\n")
    missing = fresh.word()
    files = ["wrong", "zero", missing, "/"]
    for options in (["-e", "=1"], ["-e", ""], *(["--env-file", file] for file in files)):
        said = runtime.refusal(runtime.run("true", options=options))
        assert "-e" in said and (options[1] != missing or missing in said)
    for name in ("wrong", "zero"):
        (tmp_path / "here" / name).unlink()


@pytest.mark.step(7, until=7)
def test_the_step_before_knows_none(runtime: Runtime) -> None:
    assert "-e" in runtime.refusal(runtime.run("true", options=["-e", "A=1"]))
