"""Images of real servers, built by Podman from Debian's packages: tests/step09/servers has a folder for each.

We fetch a small Debian and each image's packages, and keep them in .cache/servers. The rest needs no network.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import debian, session
from tests.support.runtime import Missing, Runtime

PACKAGES = {"nginx": "nginx-light", "redis": "redis-server", "postgres": "postgresql", "python": "python3-pip"}
FETCHED = session.REPOSITORY / ".cache" / "servers"
CONTEXTS = session.REPOSITORY / "tests" / "step09" / "servers"
# What mmdebstrap does at the end, with its own apt: fetch a package, and all that the new Debian lacks for it.
FETCH = """
    set -e
    export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
    apt-get install --yes --no-install-recommends --download-only --option Dir::Cache::archives='{folder}' {package}
    rm -rf '{folder}/lock' '{folder}/partial'
"""


def fetch(folder: Path) -> None:
    """Fetch all that is needed into a new folder. The folder gets its name when it is complete."""
    half = folder.with_name(f".{os.urandom(6).hex()}.part")
    try:
        hooks = []
        for name, package in PACKAGES.items():
            (half / name / "partial").mkdir(parents=True)
            hooks.append("--customize-hook=" + FETCH.format(folder=half / name, package=package))
        debian.make(half / "debian.tar", *hooks)
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def built(podman: Runtime, name: str, place: Path) -> None:
    """Build an image with Podman, in a new folder below `place`. The folder is removed at the end."""
    if not FETCHED.exists():
        session.once("servers", lambda _: fetch(FETCHED))
    if not asked(podman, "images", "-q", "localhost/debian"):
        asked(podman, "import", FETCHED / "debian.tar", "localhost/debian")
    context = place / f"context-{name}"
    shutil.copytree(CONTEXTS / name, context)
    shutil.copytree(FETCHED / name, context / "packages")
    asked(podman, "build", "--quiet", "--network", "none", "--tag", f"localhost/{name}", context)
    shutil.rmtree(context)


def saved(podman: Runtime, name: str, place: Path, form: str) -> Path:
    """Save an image in the folder `place`. `form` is a format of Podman's archives, or `oci`: skopeo makes a folder."""
    archive = place / f"{name}.tar"
    asked(podman, "save", "--quiet", "--output", archive, *(["--format", form] if form != "oci" else []), name)
    if form != "oci":
        return archive
    if not shutil.which("skopeo"):
        raise Missing("skopeo is not installed")
    words = ["skopeo", "--insecure-policy", "copy", "--quiet", f"docker-archive:{archive}", f"oci:{place / name}"]
    subprocess.run(words, check=True, timeout=100)
    return place / name


def asked(runtime: Runtime, *words: str | Path, under: Sequence[str] = ()) -> str:
    """Return what a runtime's command prints. It may take longer than the tests' other commands."""
    command = [*under, *runtime.command, *map(str, words)]
    out, err = (started := runtime.popen(command)).communicate(timeout=200)
    assert started.returncode == 0, f"{command}: {err.decode()[-2000:]}"
    return str(out.decode().strip())
