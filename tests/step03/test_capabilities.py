"""Step 3: root inside is less than root: Docker's capabilities (capabilities(7)), less the one to make devices."""

from pathlib import Path

import pytest

from tests.support import host, image
from tests.support.host import capabilities
from tests.support.runtime import Runtime
from tests.support.store import imported

CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP = 0, 1, 3, 4, 5, 6, 7, 8
NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, AUDIT_WRITE, SETFCAP = 10, 13, 18, 29, 31
# And MKNOD, 27. But we have no device cgroup that would forbid to open what is made.
DOCKERS = {CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP}
DOCKERS |= {NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, AUDIT_WRITE, SETFCAP}
NONE: set[int] = set()
ROOT = {"Eff": DOCKERS, "Prm": DOCKERS, "Bnd": DOCKERS, "Inh": NONE, "Amb": NONE}
USER = {"Eff": NONE, "Prm": NONE, "Bnd": DOCKERS, "Inh": NONE, "Amb": NONE}


def without_mknod(runtime: Runtime, *options: str) -> list[str]:
    return [*(["--cap-drop", "MKNOD"] if runtime.podman else []), *options]


@pytest.mark.parametrize("options", [[], ["-t"]], ids=["", "-t"])
def test_root_has_dockers(runtime: Runtime, options: list[str]) -> None:
    status = runtime.output("cat", "/proc/self/status", options=without_mknod(runtime, *options))
    assert capabilities(status) == ROOT


def test_the_host_sees_the_same(runtime: Runtime) -> None:
    started = runtime.start("sh", "-c", "echo ready; sleep 60", options=without_mknod(runtime))
    assert started.line() == "ready"
    assert capabilities(Path(f"/proc/{host.init().pid}/status").read_text()) == ROOT


@pytest.mark.step(8)
@pytest.mark.as_root("-u is root's")
@pytest.mark.parametrize("user", ["alice", "1000:0", "4242:4242"])
def test_an_ordinary_user_has_none(runtime: Runtime, user: str) -> None:
    status = runtime.output("cat", "/proc/self/status", options=without_mknod(runtime, "-u", user))
    assert capabilities(status) == USER


@pytest.mark.step(8)
@pytest.mark.as_root("only root has any to hand down")
@pytest.mark.parametrize("user", ["root", "alice"])
def test_the_callers_are_not_handed_down(runtime: Runtime, user: str) -> None:
    """Ambient ones would survive a change of user, and exec."""
    under = ("setpriv", "--inh-caps=+sys_admin,+net_admin,+chown", "--ambient-caps=+sys_admin,+net_admin,+chown")
    status = runtime.output("cat", "/proc/self/status", options=without_mknod(runtime, "-u", user), under=under)
    assert capabilities(status) == (ROOT if user == "root" else USER)


@pytest.mark.step(8)
@pytest.mark.as_root("-u is root's")
def test_a_setuid_program_does_not_regain_the_others(runtime: Runtime, tmp_path: Path) -> None:
    """What the bounding set is for: else root's programs would have all that root has."""
    members = [*image.busybox(), *image.python()]
    for info, _ in members:
        if info.name == "usr/bin/python3":
            info.mode = 0o4755
    own = imported(runtime, tmp_path, members)
    script = "import os; print(os.getresuid(), open('/proc/self/status').read())"
    found = own.output("python3", "-I", "-S", "-c", script, options=without_mknod(own, "-u", "alice"))
    assert found.startswith("(1000, 0, 0)")
    assert capabilities(found) == ROOT


def test_what_root_can_do_and_what_not(runtime: Runtime) -> None:
    """Install software, serve on a low port, become others; not change what is the machine's."""
    succeeded = runtime.probe("root_powers", options=["--cap-add", "NET_RAW"] if runtime.podman else [])
    others = [] if runtime.rootless else ["file_of_another", "process_of_another"]  # the caller is the only user then
    assert succeeded == ["low_port", "raw_socket", *others, "chroot"]
