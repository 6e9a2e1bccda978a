"""Podman, set up so that it runs wherever the tests run: with its own storage, with runc, without systemd's cgroups."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support import image, session
from tests.support.runtime import HOST_ENVIRONMENT, Missing, Runtime

SETTINGS = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:4096", "nproc=1000:1000"]  # without CAP_SYS_RESOURCE, none may be raised
"""


def podman(directory: Path) -> Runtime:
    if not shutil.which("podman") or not shutil.which("runc"):
        raise Missing("Podman with runc is not installed")
    if os.geteuid() != 0:
        raise Missing("Podman is asked as root only")
    place = session.worker() / "podman"  # not shared: it counts mounts, and each worker has its own
    if not place.exists():
        _make(place)
    if not (place / "works").exists():
        raise Missing(f"Podman does not work here: {(place / 'complaint').read_text()}")
    return Runtime("podman", 9, _command(place), _environment(place), directory, image="test")


def _make(place: Path) -> None:
    """Import the test image into Podman, and try it."""
    place.mkdir()
    (place / "containers.conf").write_text(SETTINGS)
    for words in (("import", image.tar(), "test"), ("run", "--rm", "--network", "none", "test", "true")):
        tried = subprocess.run(
            [*_command(place), *words], env=_environment(place), capture_output=True, text=True, timeout=120
        )
        if tried.returncode != 0:
            (place / "complaint").write_text(tried.stderr.strip().rpartition("\n")[2])
            return
    (place / "works").touch()


def _command(place: Path) -> tuple[str, ...]:
    return ("podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp")


def _environment(place: Path) -> dict[str, str]:
    return {**HOST_ENVIRONMENT, "HOME": "/root", "CONTAINERS_CONF": str(place / "containers.conf")}
