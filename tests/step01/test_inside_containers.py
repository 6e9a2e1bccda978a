"""Inside another container: each refusal of the kernel's is told in one line, which says who forbids it and what to
type. With that it works. Podman is the container around; a share is run always, all with MYDOCKER_TEST_LABS=all.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import outer, rootless, session
from tests.support.outer import NO_FILTER, NO_MASKS
from tests.support.runtime import HOST_ENVIRONMENT, Missing

STEPS = {int(path.name[4:6]): path.name for path in session.REPOSITORY.glob("step[0-9][0-9]_*")}
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="Podman is asked as root only"),
    pytest.mark.skipif("config.option.runtime", reason="about our own steps"),
]
in_full = pytest.mark.skipif(os.environ.get("MYDOCKER_TEST_LABS") != "all", reason="only with MYDOCKER_TEST_LABS=all")

# Runs each command (a list in JSON) and prints their exit codes and what they say, but that they have made an image.
EACH = """
import json, re, subprocess, sys
commands = [[sys.executable, "-m", *json.loads(each)] for each in sys.argv[1:]]
done = [subprocess.run(each, capture_output=True, text=True) for each in commands]
print(json.dumps([[each.returncode, re.sub(".*made the image.*\\n", "", each.stderr)] for each in done]))
"""
COMMANDS = {
    1: [STEPS[1], "run", "true"],
    2: [STEPS[2], "run", "-m", "64m", "true"],
    3: [STEPS[3], "run", "busybox", "true"],
    4: [STEPS[4], "run", "busybox", "true"],
    8: [STEPS[8], "run", "--rm", "busybox", "true"],
    9: [STEPS[9], "run", "--rm", "busybox", "true"],
}
ADMIN, ALL, PRIVILEGED = ("--cap-add", "SYS_ADMIN"), ("--cap-add", "all"), ("--privileged",)
NETWORK = ("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN")
USER = ("-u", str(rootless.USER))
EVERYWHERE = dict.fromkeys(COMMANDS, "clone3(")
NO_LIMITS = {2: "cgroup controller"}
NO_PROC = dict.fromkeys(COMMANDS, 'mount("proc", "/proc"') | {9: "/proc/sys/net"}
ROWS: list[tuple[tuple[str, ...], dict[int, str], bool]] = [
    # the options of the container around; what is refused in which steps (the others work); whether it is in the share
    ((), EVERYWHERE | NO_LIMITS, True),
    (NO_FILTER, EVERYWHERE | NO_LIMITS, False),
    ((*NO_FILTER, *NO_MASKS), EVERYWHERE | NO_LIMITS, False),
    (ADMIN, dict.fromkeys(COMMANDS, "ip link set lo up: ") | NO_LIMITS | {8: "ip link", 9: "ip link add"}, True),
    (NETWORK, NO_LIMITS | {9: "/proc/sys/net"}, False),
    (ALL, NO_LIMITS | {9: "/proc/sys/net"}, False),
    ((*NO_FILTER, *ALL), NO_LIMITS | {9: "/proc/sys/net"}, False),
    ((*ALL, *NO_MASKS), NO_LIMITS, False),
    ((*NO_FILTER, *NO_MASKS, *NETWORK), NO_LIMITS, False),
    (PRIVILEGED, {}, True),
    (USER, NO_PROC | NO_LIMITS, False),
    ((*USER, *NO_FILTER), NO_PROC | NO_LIMITS, True),
    ((*USER, *ADMIN), NO_PROC | NO_LIMITS, False),
    ((*USER, *NO_FILTER, *ALL), NO_PROC | NO_LIMITS, False),
    ((*USER, *NO_FILTER, *NO_MASKS), NO_LIMITS, True),
    ((*USER, *PRIVILEGED), NO_LIMITS, False),
]


def told(tmp_path: Path, options: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
    """What each of the steps does in there: its number, its exit code, what it says."""
    python, libraries, packages = sys.executable, "", session.REPOSITORY
    store = tmp_path / "state" / "store"
    store.mkdir(parents=True)
    try:
        if "-u" in options:
            os.chown(store, rootless.USER, rootless.USER)
            python, libraries = rootless.interpreter()
            packages = rootless.packages(packages)
        path = ":".join(filter(None, [str(packages), libraries]))
        environment = {**HOST_ENVIRONMENT, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/"}
        environment |= {"MYDOCKER_ROOT": str(store)}
        prefix = outer.podman(tmp_path, environment, tmp_path / "state", options)
    except Missing as missing:
        pytest.skip(str(missing))
    words = map(json.dumps, COMMANDS.values())
    done = subprocess.run(
        [*prefix, python, "-c", EACH, *words], capture_output=True, text=True, timeout=100 * session.SLOWNESS
    )
    assert done.returncode == 0, done.stderr
    for number, (code, said) in zip(COMMANDS, json.loads(done.stdout), strict=True):
        yield number, code, said


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        pytest.param(options, refused, id=" ".join(options) or "as it is", marks=() if share else in_full)
        for options, refused, share in ROWS
    ],
)
def test_what_is_refused_and_what_to_type(tmp_path: Path, options: tuple[str, ...], refused: dict[int, str]) -> None:
    for number, code, said in told(tmp_path, options):
        if number not in refused:
            assert (code, said) == (0, ""), f"step {number}"
            continue
        assert code == 125 and said.startswith(f"{STEPS[number]}: ") and said.count("\n") == 1, said
        assert refused[number] in said
        assert "--privileged" in said or (number == 2 and "-u" in options and "as root" in said), said
