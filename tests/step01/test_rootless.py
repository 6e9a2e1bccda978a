"""Where the system does not let an unprivileged user make namespaces, one line names the cause and the remedy."""

from pathlib import Path

import pytest

from tests.support import image, strace
from tests.support.rootless import UNPRIVILEGED, limited, prepared
from tests.support.runtime import Missing, Runtime

pytestmark = [
    pytest.mark.ours_alone("Podman is asked as root only"),
    pytest.mark.as_user("root needs no user namespace"),
]


def test_user_namespaces_used_up(runtime: Runtime) -> None:
    said = runtime.refusal(runtime.run("true", under=limited("user")))
    assert "user.max_user_namespaces" in said and "sysctl" in said


@pytest.mark.parametrize("kind", ["uts", "ipc", "pid", "mnt", "net"])
def test_other_namespaces_used_up(runtime: Runtime, kind: str) -> None:
    said = runtime.refusal(runtime.run("true", under=limited(kind)))
    assert "limit" in said and "sysctl" in said


def test_processes_used_up(runtime: Runtime) -> None:
    runtime.refusal(runtime.run("true", under=("prlimit", "--nproc=1")))


def test_user_namespaces_forbidden(runtime: Runtime, tmp_path: Path) -> None:
    """clone(2) answers EPERM within a chroot as it does where a system forbids user namespaces altogether."""
    (tmp_path / "root").mkdir()
    under = prepared(f'mount --rbind / {tmp_path}/root; set -- chroot {tmp_path}/root "$@"')
    said = runtime.refusal(runtime.run("true", under=(*under, *UNPRIVILEGED)))
    assert "user namespace" in said and "as root" in said


@pytest.mark.parametrize("call", ["clone3", "unshare", "mount"])
def test_the_first_call_that_is_refused_has_the_remedy(runtime: Runtime, call: str) -> None:
    """Where AppArmor restricts user namespaces (Ubuntu 24.04), clone succeeds, and the first call inside is denied."""
    if call == "unshare" and runtime.step < 2:
        pytest.skip("step 1 does not unshare anything")
    try:
        under = (strace.program(), "--quiet=all", "-f", "-o", "/dev/null", f"--inject={call}:error=EPERM:when=1")
    except Missing as missing:
        pytest.skip(str(missing))
    said = runtime.refusal(runtime.run("true", under=under))
    assert "needs a user namespace" in said and "as root" in said


def test_cve_2014_8989_setgroups_stays_denied(runtime: Runtime) -> None:
    """A member of a group that may not see a file left that group in a user namespace, and saw it.

    Linux lets nobody write gid_map who has not given up setgroups(2) before, and so do we."""
    ask = "import os\ntry: os.setgroups([])\nexcept PermissionError: print('denied')"
    assert runtime.output("python3", "-c", ask) == "denied"


@pytest.mark.step(1, until=2)  # from step 3 on, the host's files are not seen at all
def test_no_more_rights_on_the_hosts_files_than_before(runtime: Runtime) -> None:
    assert runtime.run("cat", "/etc/shadow").code == 1
    assert runtime.run("sh", "-c", f"echo >> {image.PYTHON}").code != 0


@pytest.mark.step(9)
def test_networks(runtime: Runtime) -> None:
    """None by default; whatever else is asked for, a line says why not and what to do."""
    seen = runtime.call("run", "--rm", "test", "sh", "-c", "ip -o link | grep -c eth")
    assert seen.text == "0" and seen.err == b""
    for options in (["--network", "bridge"], ["--network", "host"]):
        assert "only root" in runtime.refusal(runtime.run("true", options=options))
    published = runtime.run("true", options=["-p", "8080:80"])
    assert published.code == 0 and b"ignored" in published.err
    for words in (["create", "x"], ["rm", "x"], ["connect", "x", "y"], ["disconnect", "x", "y"]):
        assert "only root" in runtime.refusal(runtime.call("network", *words))
    assert runtime.call("network", "ls", "-q").out == b""
