"""Looking into a container: inspect, stats, ps --filter."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import host
from tests.support.fresh import Fresh
from tests.support.runtime import Runtime
from tests.support.terminal import Terminal

PATIENT = ("sh", "-c", "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done")


def rows(runtime: Runtime, *options: str) -> dict[str, list[str]]:
    """What `ps` shows: the cells of each line, by name."""
    lines = runtime.says("ps", *options).splitlines()
    return {line.split()[-1]: re.split(r" {2,}", line) for line in lines[1:]}


def ready(runtime: Runtime, container: str) -> None:
    host.wait_until(lambda: b"ready" in runtime.call("logs", container).out, "the command has come so far")


def described(runtime: Runtime, container: str) -> Any:
    (found,) = json.loads(runtime.says("inspect", container))
    return found


def test_inspect(runtime: Runtime, fresh: Fresh) -> None:
    name = f"looked.{fresh.word()}"
    container = runtime.detach(*PATIENT, options=["--name", name, "-w", "/tmp"])
    ready(runtime, container)
    running = described(runtime, name)
    assert running["Id"] == container
    assert running["Name"] == name
    assert [running["Path"], *running["Args"]] == [*PATIENT]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", running["Created"])
    state = running["State"]
    assert (state["Status"], state["Running"], state["Pid"]) == ("running", True, host.init().pid)
    runtime.says("stop", container)
    state = described(runtime, container)["State"]
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("exited", False, 0, 5)
    assert state["FinishedAt"] >= state["StartedAt"]


@pytest.mark.ours_alone("our words for a machine without a cgroup")
@pytest.mark.v2
def test_stats(runtime: Runtime, fresh: Fresh) -> None:
    limits = [] if runtime.rootless else ["-m", "64m"]
    busy, idle = fresh.word(), fresh.word()
    spinning = runtime.detach("sh", "-c", "while :; do :; done & wait", options=["--name", busy, *limits])
    runtime.detach("sleep", "60", options=["--name", idle])
    lines = runtime.says("stats", "--no-stream").splitlines()
    cells = {row[1]: row for row in (re.split(r"   +", line) for line in lines)}
    assert [*cells] == ["NAME", idle, busy]
    assert cells["NAME"] == ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "PIDS"]
    assert cells[busy][0] == spinning
    if runtime.rootless:
        assert cells[busy][2] == "--" and cells[busy][5] == "--"
    else:
        assert float(cells[busy][2].rstrip("%")) > float(cells[idle][2].rstrip("%")) + 1
        assert re.fullmatch(r"[\d.]+(k|M)?B / 67.1MB", cells[busy][3])
        assert 0 < float(cells[busy][4].rstrip("%")) < 100
        assert (cells[busy][5], cells[idle][5]) == ("2", "1")
    assert len(runtime.says("stats", "--no-stream", idle).splitlines()) == 2
    nothing = runtime.call("stats", "--no-stream", "no-such")
    runtime.refusal(nothing, 1)
    assert nothing.out.startswith(b"CONTAINER ID") and nothing.out.count(b"\n") == 1


@pytest.mark.ours_alone("a table of ours")
@pytest.mark.as_root("as root is as good")
def test_stats_at_a_terminal(runtime: Runtime) -> None:
    """A table that stays in its place until Ctrl-C, or until the last container has ended."""
    container = runtime.detach("sleep", "60", options=["--name", "watched"])
    screen = Terminal(
        [*runtime.command, "stats", "watched"], env=runtime.environment, cwd=runtime.directory, columns=120
    )
    runtime.started.append(screen)
    screen.expect("watched.*\x1b.*watched")
    screen.send("\x03")
    assert screen.end() == 130
    assert screen.settings() == screen.before
    runtime.says("kill", container)


@pytest.mark.long
def test_filters(runtime: Runtime, fresh: Fresh) -> None:
    code, database = fresh.number(1, 124), f"data{fresh.word()}base"
    first = runtime.detach("sh", "-c", f"exit {code}", options=["--name", "web-old", "-v", "held:/data"])
    second = runtime.detach("sleep", "60", options=["--name", "web-new", "-v", "/tmp:/there"])
    runtime.detach("sleep", "60", options=["--name", database])
    runtime.says("wait", "web-old")
    image = runtime.image or ""
    cases: dict[tuple[str, ...], set[str]] = {
        ("name=web",): {"web-old", "web-new"},
        ("name=^web-new$",): {"web-new"},
        ("name=^old",): set(),
        **({} if runtime.podman else {("name=^/web-new$",): {"web-new"}}),
        ("name=old$", "name=^data.*e$"): {"web-old", database},
        ("status=exited",): {"web-old"},
        ("status=exited", "status=running"): {"web-old", "web-new", database},
        ("status=running", "name=web"): {"web-new"},
        (f"id={first}",): {"web-old"},
        (f"id={first[:10]}", f"id={second[:10]}"): {"web-old", "web-new"},
        (f"exited={code}",): {"web-old"},
        ("exited=0",): set(),
        (f"ancestor={f'localhost/{image}' if runtime.podman else image}",): {"web-old", "web-new", database},
        ("ancestor=other",): set(),
        **({} if runtime.podman else {(f"ancestor={image}:latest",): {"web-old", "web-new", database}}),
        (f"ancestor={described(runtime, first)['Image']}",): {"web-old", "web-new", database},
        ("volume=held",): {"web-old"},
        **({} if runtime.podman else {("volume=/data", "volume=/there"): {"web-old", "web-new"}}),
    }
    for filters, names in cases.items():
        words = [word for each in filters for word in ("--filter", each)]
        assert {*rows(runtime, "-a", *words)} == names, filters
    assert {*rows(runtime, "--filter", "name=web")} == {"web-new"}
    assert {*rows(runtime, "--filter", "status=exited")} == {"web-old"}, "-a goes without saying"
    for wrong in ("color=red", "status=tired", *([] if runtime.podman else ["name=(", "exited=x", "name"])):
        runtime.refusal(runtime.call("ps", "--filter", wrong))
    if not runtime.podman:
        assert [*rows(runtime, "-a")] == [database, "web-new", "web-old"], "the newest first"
        assert runtime.says("ps", "-aq").split()[-1] == first


def test_inspect_has_dockers_shape(runtime: Runtime, fresh: Fresh) -> None:
    """What scripts written for Docker ask for."""
    memory, pids, value = fresh.number(16, 500), fresh.number(10, 900), f"{fresh.word()} {fresh.word()}"
    limits = [
        "-m",
        f"{memory}m",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        f"{pids}",
    ]
    options = ["-v", "held:/data:ro", "-v", "/tmp:/there", "-e", f"KEY={value}", *([] if runtime.rootless else limits)]
    container = runtime.detach("sleep", "60", options=["--name", "shape", *options])
    found = described(runtime, container)
    wanted = [memory << 20, 500000000, 512, "0", pids] if not runtime.rootless else [0, 0, 0, "", 0]
    keys = ("Memory", "NanoCpus", "CpuShares", "CpusetCpus", "PidsLimit")
    if not (runtime.podman and runtime.rootless):
        assert [found["HostConfig"][key] for key in keys] == wanted
    mounts = {each["Destination"]: each for each in found["Mounts"]}
    volume, bind = mounts["/data"], mounts["/there"]
    assert (volume["Type"], volume["Name"], volume["RW"]) == ("volume", "held", False)
    assert (bind["Type"], bind["Source"], bind["RW"]) == ("bind", "/tmp", True)
    assert Path(volume["Source"]).is_absolute()
    environment = found["Config"]["Env"]
    assert f"KEY={value}" in environment
    assert any(each.startswith("PATH=/usr/local/sbin:") for each in environment)
    assert found["Config"]["Image"].split("/")[-1].split(":")[0] == (runtime.image or "").split("/")[-1].split(":")[0]
    assert found["State"]["FinishedAt"].startswith("0001-01-01T00:00:00Z")
